"""The truth about the train queries: which rationales are faithful, and at which token the others err.

For ``vista audit`` and ``vista prefix``. A suite has millions of rationales and few different ones, so
each is audited once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from vista.config import Suite
from vista.errors import VistaError
from vista.manifest import check_inputs
from vista.paths import Paths
from vista.records import read_queries
from vista.testbed import rationales
from vista.testbed.audit import Audit, audit
from vista.testbed.questions import Question, load
from vista.testbed.scenes import Scene

REMEMBERED = 2**19


class Truth:
    """Scenes and gold rationales of queries, by query id.

    Args:
        scenes: The ``scene`` column of each query.

    Raises:
        VistaError: a scene is none.
    """

    def __init__(self, scenes: dict[str, str]) -> None:
        self.scenes: dict[str, tuple[Scene, Question]] = {}
        for query_id, scene in scenes.items():
            try:
                self.scenes[query_id] = load(scene)
            except VistaError as error:
                raise VistaError(f"query {query_id!r}: {error}") from error
        self.gold = {
            query_id: rationales.text(rationales.rationale(*pair)) for query_id, pair in self.scenes.items()
        }
        self.audit = lru_cache(REMEMBERED)(self._audit)

    def _audit(self, query_id: str, text: str) -> Audit:
        return audit(*self._scene(query_id), text)

    def faithful(self, query_id: str, text: str) -> bool:
        """Whether a rationale is faithful to the image."""
        if self.gold.get(query_id) == text:  # as most are
            return True
        return self.audit(query_id, text).faithful

    def fault(self, query_id: str, text: str) -> rationales.Kind | None:
        """The kind of claim that a rationale has wrong first; ``None`` if it is faithful."""
        return None if self.gold.get(query_id) == text else self.audit(query_id, text).kind

    def _scene(self, query_id: str) -> tuple[Scene, Question]:
        try:
            return self.scenes[query_id]
        except KeyError as error:
            raise VistaError(
                f"query {query_id!r} of the rollouts is not among the train queries; "
                "delete the policy's rollouts and rerun"
            ) from error


def read_truth(suite: Suite, paths: Paths) -> Truth:
    """The truth about the train queries of all tasks that are trained on.

    Raises:
        VistaError: a query has no scene.
    """
    scenes: dict[str, str] = {}
    for task in dict.fromkeys(task for tasks in suite.train_sets.values() for task in tasks):
        path = paths.queries(task, "train")
        for row in read_queries(path, ["query_id", "scene"]):
            if row["scene"] is None:
                raise VistaError(
                    f"{path}: query {row['query_id']!r}: column scene is empty; what its image shows must be "
                    "known to audit rationales, so this table is for generated tasks only"
                )
            scenes[row["query_id"]] = row["scene"]
    return Truth(scenes)


def first_error(
    truth: Truth, tokenizer: Tokenizer, query_id: str, text: str, ids: Sequence[int], finished: bool = True
) -> int | None:
    """The position among a solution's tokens of its first error; ``None`` if it is faithful.

    For a rationale that breaks off too early this is the number of its tokens: the place of the end. One that
    did not end but was cut has no error there: as far as it goes it is faithful.

    Args:
        truth: Scenes and gold rationales.
        tokenizer: The policy's.
        query_id: The query that is answered.
        text: The solution, as decoded from its tokens.
        ids: Its tokens, without the one that ends it.
        finished: Whether it was ended by the policy, not by the length limit.

    Raises:
        VistaError: the tokens are not those of the text.
    """
    if truth.gold.get(query_id) == text:
        return None
    verdict = truth.audit(query_id, text)
    if verdict.offset is None or (not finished and verdict.offset == len(text.rstrip())):
        return None
    try:
        return token_at(tokenizer, ids, text, verdict.offset)
    except VistaError as error:
        raise VistaError(f"query {query_id!r}: {error}") from error


def token_at(tokenizer: Tokenizer, ids: Sequence[int], text: str, offset: int) -> int:
    """The first token whose text reaches beyond ``offset`` characters; their number if none does.

    Any tokenizer will do: where a token's text ends is the length of what it and those before it
    decode to. White space in front of a word counts as the word's.

    Args:
        tokenizer: The policy's.
        ids: Response tokens, without the end-of-turn token.
        text: What they decode to, without white space at both ends.
        offset: Characters from the start of ``text``.

    Raises:
        VistaError: the tokens do not decode to the text.
    """
    whole = tokenizer.decode(list(ids))
    if whole.strip() != text:
        raise VistaError(f"the tokens decode to {whole.strip()!r}, the text is {text!r}; rerun the rollouts")
    wanted = offset + len(whole) - len(whole.lstrip())
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer.decode(list(ids[: middle + 1]))) > wanted:
            high = middle
        else:
            low = middle + 1
    return low


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a base checkpoint.

    Raises:
        VistaError: it has no ``tokenizer.json``, or is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise VistaError(
            f"{path}: no such file; tokens cannot be told apart without the model's fast tokenizer"
        )
    check_inputs([folder])
    return Tokenizer.from_file(str(path))
