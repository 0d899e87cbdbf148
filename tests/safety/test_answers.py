"""What a model or a teacher writes is compared with the answer, and is never run: nothing is compiled."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.safety.conftest import Trap
from vista.answers import extract, verify

COMPILED: list[str] = []


def witness(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "compile" and arguments[1] in ("", "<string>", "<unknown>"):
        source = arguments[0]
        COMPILED.append(source.decode() if isinstance(source, bytes) else str(source))


sys.addaudithook(witness)


@pytest.fixture(autouse=True)
def _watched() -> None:
    """What is compiled from here on, the libraries' own start aside."""
    verify("1/2 + 1", "7", "math")
    COMPILED.clear()


CALL = "__import__('os').mkdir('MARK')"
FORMS = [
    "{}",
    "${}$",
    "$1 + {}$",
    "1/2 + {}",
    "\\boxed{{{}}}",
    "$\\{{1, {}\\}}$",
    "$[1, {}]$",
    "$(1, {})$",
    "$\\frac{{1}}{{{}}}$",
    "$\\sqrt{{{}}}$",
    "$\\text{{{}}}$",
    "$\\mathrm{{{}}}$",
    "$\\operatorname{{{}}}(1)$",
    "$x_{{{}}}$",
    "$x = {}$",
    "$\\begin{{pmatrix}} 1 & {} \\end{{pmatrix}}$",
    "$1 < {}$",
    "final answer is 1/2 + {}. I hope it is correct",
    "answer = (1+1) {}",
    "1 or {}",
]
CALLS = [CALL, CALL.replace("_", "\\_"), "os.mkdir('MARK')", "Symbol('x').__class__", 'exec("x=1")']


@pytest.mark.parametrize("form", FORMS)
def test_no_answer_is_code(trap: Trap, form: str) -> None:
    for call in CALLS:
        hostile = form.format(call.replace("MARK", str(trap.mark)))
        assert not verify(hostile, "7", "math")
        assert not verify(extract(f"look\nanswer: {hostile}"), "7", "math")
        for kind in ("number", "open", "term", "relaxed", "closed", "choice"):
            verify(hostile, "yes" if kind == "closed" else "7" if kind != "choice" else "A", kind, ["a", "b"])  # type: ignore[arg-type]
    assert not trap.sprung
    assert COMPILED == []


def test_the_witness_sees_what_is_compiled() -> None:
    eval("7919 + 0")  # noqa: S307
    assert COMPILED == ["7919 + 0"]
