"""Parts of a suite that are run one after another; part of ``load_suite``.

Each block names methods and sweeps. A suite up to a block has those of the block and of all before it, and
the same results folder, so nothing is made twice when the next block follows.
"""

from __future__ import annotations

import difflib

from vista.config.suites import Suite


def names(suite: Suite) -> list[str]:
    """What the blocks of a suite share out: its methods, and its sweeps by name."""
    plain = [name for name in suite.methods if name not in suite.swept]
    return [*plain, *dict.fromkeys(swept.sweep for swept in suite.swept.values())]


def block_of(suite: Suite, method: str) -> str | None:
    """The block that a method is in, by its own name or by that of its sweep."""
    wanted = suite.swept[method].sweep if method in suite.swept else method
    return next((block for block, named in suite.blocks.items() if wanted in named), None)


def up_to(suite: Suite, last: str) -> Suite:
    """The suite with the blocks up to ``last``, and no others."""
    listed = list(suite.blocks)
    blocks = {name: suite.blocks[name] for name in listed[: listed.index(last) + 1]}
    methods = {name: spec for name, spec in suite.methods.items() if block_of(suite, name) in blocks}
    return suite.model_copy(
        update={
            "blocks": blocks,
            "methods": methods,
            "swept": {name: swept for name, swept in suite.swept.items() if name in methods},
            "only": {name: only for name, only in suite.only.items() if name in methods},
        }
    )


def block_problems(suite: Suite, path: str) -> list[str]:
    """Methods and sweeps that are in no block, in several or unknown, one line each."""
    if not suite.blocks:
        return []
    known, problems = names(suite), []
    listed = [name for named in suite.blocks.values() for name in named]
    for block, named in suite.blocks.items():
        for name in named:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "add it there, or remove it here"
                problems.append(
                    f"{path}: blocks.{block}: {name!r} is no method or sweep of the suite; {hint}"
                )
    for name in known:
        if listed.count(name) != 1:
            where = "no block" if name not in listed else "several blocks"
            problems.append(f"{path}: blocks: {name!r} is in {where}; name it in exactly one")
    return problems


def last_problems(suite: Suite, last: str | None, path: str) -> list[str]:
    """What is wrong with ``up_to``."""
    if last is None or last in suite.blocks:
        return []
    known = ", ".join(suite.blocks) or "none: name its parts under blocks"
    return [f"{path}: up_to: the suite has no block {last!r}; it has {known}"]
