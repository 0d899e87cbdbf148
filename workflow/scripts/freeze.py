"""Freeze SFT-Seed checkpoints of the testbed for the tests: ``make freeze`` after ``make main``.

The tests ask of these, and not of a model that they would have to train, whether the testbed
shows the two faults that the paper starts from. Weights are stored as bfloat16.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from vista.engines.checkpoints import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]
FROZEN = ROOT / "tests/frozen"


def main(results: Path) -> None:
    """Copy every model's SFT-Seed of seed 0, with the manifest that says where it is from."""
    for folder in sorted(results.glob("training/*/*/sft-seed/seed0/round0")):
        checkpoint = load_checkpoint(folder)
        target = FROZEN / folder.parts[-5]
        save_checkpoint(checkpoint.model.to(torch.bfloat16), checkpoint.processor, target)
        (target / "manifest.json").write_bytes((folder / "manifest.json").read_bytes())
        print(f"froze {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results")
