"""Write environment.yml for conda users from requirements.lock: the same pins, without hashes.

Run by ``make lock``; a test holds the two files together.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADER = """\
# conda env create -f environment.yml
# Written by `make lock` from requirements.lock; do not edit.
name: vista-bench
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pins(lock: str) -> list[str]:
    """The ``name==version ; marker`` lines of a lock file, in its order."""
    found = re.findall(r"^([A-Za-z0-9][\w.\-\[\],]*==[^\s\\]+(?: ;[^\\\n]+)?)", lock, flags=re.MULTILINE)
    return [" ".join(pin.split()) for pin in found]


def environment(lock: str) -> str:
    """The text of environment.yml."""
    lines = [f"      - {pin!r}" if ";" in pin else f"      - {pin}" for pin in pins(lock)]
    return HEADER + "\n".join([*lines, "      - -e ."]) + "\n"


if __name__ == "__main__":
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (ROOT / "environment.yml").write_text(environment(lock), encoding="utf-8")
