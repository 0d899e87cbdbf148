"""Queries asked in other words: with a hint, with a wrong solution, with candidates to choose from.

The words come from the suite (``wording``), so that a model is asked in a language that it knows. For
the stages ``models``, ``rollouts``, ``curation``, ``training`` and ``evaluation``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vista.config import PLACEHOLDERS, Method, SelectMethod, SelfImprovement, Wording
from vista.errors import VistaError
from vista.records import Row


def hinted(query: Mapping[str, Any], wording: Wording) -> Row:
    """``query``, asked with its answer as a hint (STaR's rationalisation)."""
    return _asking(query, wording.hint.format(instruction=query["instruction"], answer=query["answer"]))


def refining(query: Mapping[str, Any], solution: str, wording: Wording) -> Row:
    """``query``, asked with a solution to correct (R3V's self-refine)."""
    return _asking(query, wording.refine.format(instruction=query["instruction"], solution=solution))


def selecting(query: Mapping[str, Any], candidates: Sequence[str], wording: Wording) -> Row:
    """``query``, asked with solutions to choose from, numbered from 1 (R3V's self-select)."""
    lines = [
        wording.candidate.format(number=number, solution=solution)
        for number, solution in enumerate(candidates, start=1)
    ]
    text = wording.select.format(instruction=query["instruction"], candidates="\n".join(lines))
    return _asking(query, text)


def chosen(answer: str, wording: Wording) -> str:
    """The response that chooses ``answer``."""
    return wording.chosen.format(answer=answer)


def _asking(query: Mapping[str, Any], instruction: str) -> Row:
    return {**query, "instruction": instruction}


def templates_of(method: Method) -> list[str]:
    """The names of the templates that a method's prompts and responses are made from."""
    if isinstance(method, SelectMethod):
        return ["select", "candidate"]
    sampled = method.resample.templates if isinstance(method, SelfImprovement) else ()
    return [*sampled, *trained_templates(method)]


def trained_templates(method: Method) -> list[str]:
    """Those of them that are in its training set; a hint is only sampled with."""
    reflect = method.reflect if isinstance(method, SelfImprovement) else []
    refine = ["refine"] if "refine" in reflect else []
    return [*refine, *(["select", "candidate", "chosen"] if "select" in reflect else [])]


def check_wording(tokenizer: Any, wording: Wording, names: Iterable[str], model: str) -> None:
    """Refuse templates with words that a tokenizer has no token for: a model would not see them.

    Args:
        tokenizer: One of transformers' tokenizers. Most know every text; a nano model's knows only
            the words of the corpus that it was built from.
        wording: The suite's.
        names: The templates that will be used.
        model: Named in errors.

    Raises:
        VistaError: lists the unknown words of every template.
    """
    from vista.chat import unknown_words  # images and templates take a while to import

    problems = []
    for name in dict.fromkeys(names):
        # Digits are the one thing that every tokenizer knows.
        text = getattr(wording, name).format(**dict.fromkeys(PLACEHOLDERS[name], "1"))
        if words := unknown_words(tokenizer, text):
            problems.append(f"wording.{name}: {', '.join(map(repr, words))}")
    if problems:
        raise VistaError(
            f"the tokenizer of model {model} does not know these words of the suite's wording: "
            f"{'; '.join(problems)}; write it in words that it knows (docs/methods.md has an example)"
        )
