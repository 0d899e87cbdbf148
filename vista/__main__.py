"""``vista``, and ``python -m vista``."""

from __future__ import annotations

import sys

from vista.warm import run_there


def main() -> None:
    """Run the command line, in a fork if Snakemake has a process that forks."""
    run_there(sys.argv[1:])
    from vista.cli import main as run_here

    run_here()


if __name__ == "__main__":
    main()
