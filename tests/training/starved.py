r"""``vista train`` in several processes, of which the second has no memory for two examples at once.

accelerate launch --num_processes 2 --multi_gpu -m tests.training.starved train SUITE RUN
"""

from __future__ import annotations

import os
from typing import Any

from tests.starved import Starvation
from vista import cli
from vista.training import train

if __name__ == "__main__":
    load = train._load

    def starved(*asked: Any) -> Any:
        """A checkpoint, short of memory in the second process."""
        loaded = load(*asked)
        return Starvation(rows=1).of(loaded) if os.environ["RANK"] == "1" else loaded

    train._load = starved
    cli.main()
