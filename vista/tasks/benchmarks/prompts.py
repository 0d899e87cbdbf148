"""How a benchmark's questions are put to a model. Part of stage ``tasks``.

Every instruction asks for steps and for a last line that ``vista.answers.extract`` finds.
"""

from __future__ import annotations

from collections.abc import Sequence

from vista.answers import AnswerType

SYSTEM = "You are a helpful assistant. You look at the image closely and reason before you answer."

# What stands for X in the last line, by the type of the answer.
_FORMS: dict[AnswerType, str] = {
    "closed": "yes or no",
    "term": "a word or a short phrase",
    "math": "the number or formula asked for",
    "choice": "the letter of the right choice",
    "relaxed": "a number, a word or a short phrase",
}


def instruction(question: str, answer_type: AnswerType, choices: Sequence[str] | None = None) -> str:
    """The question, its choices with letters, and the form that the response should have."""
    listed = [f"{chr(ord('A') + number)}. {choice}" for number, choice in enumerate(choices or [])]
    form = (
        "Describe what matters in the image and think step by step. "
        f'Then end with one line of the form "Answer: X", where X is {_FORMS[answer_type]}.'
    )
    return "\n".join([question.strip(), *listed, form])
