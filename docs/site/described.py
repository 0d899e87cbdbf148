"""What mkdocstrings shows of attributes: their comments and descriptions, for ``make docs``.

Fields of settings are described by ``Field(description=…)``, other attributes by a comment above or beside
them.
"""

from __future__ import annotations

import ast
from typing import Any

from griffe import Attribute, Docstring, ExprCall, ExprKeyword, Extension


class Described(Extension):
    """Takes the description of a field, or the comment of an attribute, for its docstring."""

    def on_attribute_instance(self, *, node: Any, attr: Attribute, **_: Any) -> None:
        """Called for each attribute that has been read."""
        if attr.docstring is None and attr.parent is not None and attr.parent.is_class:
            text = described(node.value) or commented(attr)
            if text:
                attr.docstring = Docstring(text, lineno=attr.lineno, parent=attr)
            if isinstance(attr.value, ExprCall):  # not shown twice
                attr.value.arguments = [
                    each
                    for each in attr.value.arguments
                    if not (isinstance(each, ExprKeyword) and each.name == "description")
                ]


def described(value: ast.expr | None) -> str:
    """The ``description`` of a call of ``Field``."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    found = [each.value for each in keywords if each.arg == "description"]
    return str(ast.literal_eval(found[0])) if found else ""


def commented(attr: Attribute) -> str:
    """The comment at the end of an attribute's last line, or else the lines of comment above it."""
    lines = attr.lines_collection[attr.filepath]
    _, mark, beside = lines[attr.endlineno - 1].partition("  # ")
    if mark:
        return sentence(beside)
    above: list[str] = []
    for line in reversed(lines[: attr.lineno - 1]):
        if not line.strip().startswith("# "):
            break
        above.insert(0, line.strip().removeprefix("# "))
    return sentence(" ".join(above))


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""
