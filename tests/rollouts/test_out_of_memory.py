"""Out of memory while a policy samples or reads solutions: smaller batches, the same rows; or one message."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.nano import ARCHITECTURES, own_checkpoint, query
from tests.rollouts.conftest import POLICY, PREFIX, SAMPLES
from tests.starved import Starvation
from vista.chat import encode_query, messages
from vista.config import Sampling, Suite
from vista.engines import checkpoints
from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.grid import rollout_files
from vista.paths import Paths
from vista.records import ROLLOUT, SCORES, Row, read_rows
from vista.resamplers.prefix import read_predictions
from vista.rollouts.cases import visual_shares
from vista.rollouts.gains import gains_rows
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.rollouts.score import attention_scores, score_rows, score_shard
from vista.segments import segments

COUNT = 24
LONG = Sampling(k=1, max_new_tokens=950)
Readers = dict[str, Callable[[Checkpoint], Any]]


def solutions(made: Checkpoint) -> tuple[list[Row], list[Row]]:
    """Queries, and a solution of random words to each, of few lengths."""
    draw = random.Random(0)
    special = {*made.forbidden_ids, *made.end_ids}
    ids = [token for token in range(len(made.processor.tokenizer)) if token not in special]
    queries = [query(number, words=5) for number in range(COUNT)]
    rows = [
        {
            **{name: asked[name] for name in ("query_id", "task")},
            **{"sample": 0, "source": "sample", "parent": None, "correct": True, "finished": number % 2 == 0},
            "token_ids": [draw.choice(ids) for _ in range(draw.choice([2, 3, 9]))],
        }
        for number, asked in enumerate(queries)
    ]
    return queries, rows


def prompts_of(made: Checkpoint) -> tuple[list[Any], list[Any], list[list[int]]]:
    queries, rows = solutions(made)
    prompts = [encode_query(made.processor, asked) for asked in queries]
    kinds = [
        segments(made.processor, messages(asked), prompt)
        for asked, prompt in zip(queries, prompts, strict=True)
    ]
    return prompts, kinds, [row["token_ids"] for row in rows]


def scores(made: Checkpoint) -> Any:
    prompts, kinds, responses = prompts_of(made)
    return attention_scores(made, prompts, kinds, responses, [0, 1, 2], COUNT)


def predictions(made: Checkpoint) -> Any:
    prompts, _, responses = prompts_of(made)
    return read_predictions(made, prompts, responses, COUNT)


READERS: Readers = {
    "scores": scores,
    "score rows": lambda made: score_rows(made, *solutions(made), "all", COUNT),
    "gains": lambda made: gains_rows(made, *solutions(made), "mean", COUNT),
    "critical tokens": predictions,
}


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_read_is_the_same_to_the_bit_where_two_rows_fit(architecture: str, what: str) -> None:
    made = own_checkpoint(architecture)
    expected = READERS[what](made)
    starved = Starvation(rows=2)
    assert READERS[what](starved.of(made)) == expected
    assert starved.failures >= 1
    assert max(rows for rows in starved.passes[-3:]) <= 2


@pytest.mark.parametrize("what", READERS)
def test_what_is_read_is_the_same_whichever_pass_fails(what: str) -> None:
    counting = Starvation()
    expected = READERS[what](counting.of(own_checkpoint("internvl")))
    assert counting.passes
    for at in range(len(counting.passes)):
        starved = Starvation(at=at)
        assert READERS[what](starved.of(own_checkpoint("internvl"))) == expected
        assert starved.failures == 1


@pytest.mark.parametrize("what", READERS)
def test_where_not_one_solution_fits_its_query_is_named(what: str) -> None:
    starved = Starvation(rows=0)
    with pytest.raises(
        VistaError, match=r"^query 'q\d+': out of memory while reading .*, even one at a time"
    ):
        READERS[what](starved.of(own_checkpoint("internvl")))
    assert starved.failures <= 5, "24 and its halves"


@pytest.mark.parametrize("what", READERS)
def test_other_errors_are_not_taken_for_a_lack_of_memory(what: str) -> None:
    starved = Starvation(at=0, error=RuntimeError("a kernel is broken"))
    with pytest.raises(RuntimeError, match="a kernel is broken"):
        READERS[what](starved.of(own_checkpoint("internvl")))
    assert len(starved.passes) == 1


def test_the_second_pass_of_gains_does_not_try_again_what_did_not_fit_in_the_first() -> None:
    starved = Starvation(rows=2)
    made = starved.of(own_checkpoint("internvl"))
    rows, passes = gains_rows(made, *solutions(made), "mean", COUNT), starved.passes
    assert len(rows) == COUNT
    assert max(passes[len(passes) // 2 + starved.failures :]) <= 2


def test_a_case_that_does_not_fit_names_its_query() -> None:
    made = Starvation(rows=0).of(own_checkpoint("internvl"))
    prompts, kinds, responses = prompts_of(made)
    with pytest.raises(VistaError, match="query 'q3': out of memory while reading attention"):
        visual_shares(made, prompts[3], kinds[3], responses[3], 1)


def files(suite: Suite, paths: Paths) -> dict[str, list[Row]]:
    """What sampling, resampling, scoring and measuring gains leave."""
    method = suite.methods["vista"]
    names = rollout_files(method)  # type: ignore[arg-type]
    sample_shard(suite, paths, POLICY, SAMPLES, 0)
    resample_shard(suite, paths, POLICY, PREFIX, 0)
    score_shard(suite, paths, POLICY, str(names.scores), 0)
    wanted = {"samples": (SAMPLES, ROLLOUT), "resamples": (PREFIX, ROLLOUT), "scores": (names.scores, SCORES)}
    return {
        kind: read_rows(paths.rollouts(POLICY.id, kind, str(name), 0, 1), schema)  # type: ignore[arg-type]
        for kind, (name, schema) in wanted.items()
    }


@pytest.mark.usefixtures("odd_is_correct")
def test_the_files_of_a_shard_are_the_same_where_little_fits(
    small: tuple[Suite, Paths], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, paths = small
    expected = files(suite, paths)
    starved, wrap = Starvation(rows=8), checkpoints.wrap
    monkeypatch.setattr(checkpoints, "wrap", lambda *loaded: starved.of(wrap(*loaded)))
    assert files(suite, paths) == expected
    assert starved.failures >= 2


COMMAND_LINE = """
import sys
from tests.engines.starved import allow
from vista import cli
from vista.engines.hf import HfEngine

prefill = HfEngine._prefill

def starved(self, requests):
    allow(0)
    return prefill(self, requests)

HfEngine._prefill = starved
cli.main()
"""


@pytest.mark.slow
def test_the_command_line_says_in_one_message_that_not_even_one_fits(
    small: tuple[Suite, Paths], root: Any
) -> None:
    suite, paths = small
    long = suite.methods["all"].model_copy(update={"rollouts": LONG})
    suite = suite.model_copy(update={"methods": {**suite.methods, "all": long}})
    paths.suite.write_text(suite.model_dump_json())
    name = rollout_files(long).samples  # type: ignore[arg-type]
    arguments = ["sample", str(paths.suite), POLICY.id, name, "0"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_LINE, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "error: query 'q" in done.stderr
    assert "out of memory while sampling, even one at a time" in done.stderr
    assert not paths.rollouts(POLICY.id, "samples", name, 0, 1).exists()
