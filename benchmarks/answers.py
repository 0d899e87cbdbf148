"""How long a verdict takes: ordinary responses, and hostile ones of up to a megabyte.

Run: ``python benchmarks/answers.py``. CPU milliseconds; the slowest hostile text is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from vista.answers import extract, verify

GOLDS = {
    "closed": "yes",
    "open": "red",
    "number": "7",
    "choice": "B",
    "term": "left lung",
    "math": r"5 \sqrt { 2 }",
    "relaxed": "0.5",
}
ORDINARY = {
    "closed": "The lung is opaque on the left.\n\n**Answer**: Yes, there is one.",
    "open": "row 2 is red . answer : red",
    "number": r"So 3 + 4 = 7, and $\boxed{7}$.",
    "choice": "It lies south.\n\nThe correct answer is:\n\n(B) dog",
    "term": "Answer: the left lung (pulmo sinister).",
    "math": r"Hence $x = 5\sqrt{2} \approx 7.07$. Answer: $5\sqrt{2}$",
    "relaxed": "Answer:\n0.49",
}
RUNS = [
    " ", "\n", "{", "}", r"\boxed{", r"\boxed{1}", "answer:", "the answer is ", "answer (",
    "2^", "9^(9^(", "(", "$", "**", "\\", r"\text{", r"\frac{1}{", r"\sqrt{",
    "9", "A. ", "yes or ", "a,", " and ", "12 cm ", "<answer>", "</think>", "½",
    "x=", "#", "the final correct ", "\"", " because", " (as ", "<b ", "option ", "Answer: \n",
    "1,000", "to the answer: ", "answer ", "²", "\x00", " .", "<b>", "-", "*a",
    "_a", "1/", "e1", "wait, ", ". Wait", "\n- a", "B or ", "also ", "(or ",
    "1 000 ", "If the answer would be ",
]  # fmt: skip
FORMS = ["{}", "answer: 12 {} exactly", "\\boxed{{{}}}", "<answer>{}", "The answer is {}.", "{}\nAnswer: 5"]


def milliseconds(call: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def judge(text: str, answer_type: str) -> bool:
    """What a sampled response goes through."""
    choices = ["cat", "dog"] if answer_type == "choice" else None
    return verify(extract(text), GOLDS[answer_type], answer_type, choices)


def main() -> None:
    """Print a line for each type, and the slowest hostile text."""
    for answer_type, text in ORDINARY.items():
        if not judge(text, answer_type):
            raise SystemExit(f"judged wrong: {text!r}")
        spent = milliseconds(partial(repeatedly, text, answer_type))
        print(f"{answer_type:8} {spent:6.1f} µs a response")
    hostile = []
    for run in RUNS:
        for size in (1_000_000, 1_900, 290):
            body = (run * (size // len(run) + 1))[:size]
            for form in FORMS:
                text = form.format(body)
                for answer_type in GOLDS:
                    spent = milliseconds(partial(judge, text, answer_type))
                    hostile.append((spent, f"{answer_type}, {run!r} to {size} characters in {form!r}"))
    spent, told = max(hostile)
    print(f"{len(hostile)} hostile texts, the slowest: {spent:.0f} ms ({told})")


def repeatedly(text: str, answer_type: str) -> None:
    """A thousand times, so that milliseconds are microseconds each."""
    for _ in range(1000):
        judge(text, answer_type)


if __name__ == "__main__":
    main()
