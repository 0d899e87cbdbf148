"""The one exception that stands for a mistake of the user or of the data, not of the code.

The command line prints its message without a traceback and exits with status 2.
"""

from __future__ import annotations


class VistaError(Exception):
    """Something a user can mend; the message names the file, the field or row, and the remedy."""


def fail_if(problems: list[str], heading: str) -> None:
    """Raise one ``VistaError`` that lists every problem at once, or return when there is none."""
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise VistaError(f"{heading}\n{listed}")
