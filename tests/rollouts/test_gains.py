"""Log-probabilities with and without the image, against whole logits of eager attention, token by token."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.nano import ARCHITECTURES, SQUARE, STRIP, checkpoint, own_checkpoint, png, query
from tests.rollouts.conftest import POLICY, PREFIX, SAMPLES, suite_at
from vista.chat import Prompt, encode, encode_query, messages
from vista.config import Suite
from vista.engines.base import Request
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.records import GAINS, ROLLOUT, Row, read_rows
from vista.rollouts import gains
from vista.rollouts.gains import Without, gains_rows, gains_shard, mean_logprobs, without_image
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.verdicts import solution_row

every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
NAME = f"{PREFIX}+positives"


def by_hand(made: Checkpoint, prompt: Prompt, tokens: list[int], finished: bool) -> float:
    """The mean, over the tokens and perhaps the end, of log p; one softmax at a time."""
    batch = collate([prompt], [tokens], made.pad_id)
    del batch["response_mask"]
    with torch.no_grad():
        logits = made.model(**batch, use_cache=False).logits[0].double()
    found = []
    for place, wanted in enumerate([*tokens, None] if finished else tokens):
        scores = logits[len(prompt) - 1 + place].tolist()
        allowed = {token: math.exp(x) for token, x in enumerate(scores) if token not in made.forbidden_ids}
        chosen = made.end_ids if wanted is None else [wanted]
        found.append(math.log(sum(allowed[token] for token in chosen) / sum(allowed.values())))
    return sum(found) / len(found)


def solution(number: int, tokens: list[int], **changes: Any) -> Row:
    return {
        "query_id": f"q{number}",
        "task": "task",
        "sample": 0,
        "source": "sample",
        "parent": None,
        "correct": True,
        "token_ids": tokens,
        "finished": True,
        **changes,
    }


def eager(architecture: str) -> Checkpoint:
    made = own_checkpoint(architecture)
    made.model.set_attn_implementation("eager")
    return made


@every_architecture
@pytest.mark.parametrize("without", ["mean", "absent"])
def test_log_probabilities_are_those_of_the_whole_logits(architecture: str, without: Without) -> None:
    made = checkpoint(architecture)
    asked = [query(n, words=4 + n % 3, size=STRIP if n % 2 else SQUARE) for n in range(8)]
    solutions = [solution(n, [20 + (7 * n + i) % 40 for i in range(1 + n % 4)]) for n in range(8)]
    solutions[3] = solution(3, [21, 30, 25], finished=False)
    solutions[5] = solution(5, [])  # ended at once
    rows = gains_rows(made, asked, solutions, without, batch_size=3)
    slow = eager(architecture)
    for one, row, found in zip(asked, solutions, rows, strict=True):
        arguments = row["token_ids"], row["finished"]
        shown = encode_query(slow.processor, one)
        assert found["logprob"] == pytest.approx(by_hand(slow, shown, *arguments), abs=2e-5)
        bare = encode_query(slow.processor, without_image(one, without))
        assert found["logprob_without"] == pytest.approx(by_hand(slow, bare, *arguments), abs=2e-5)
        assert found["tokens"] == len(row["token_ids"]) + row["finished"]
        assert (found["query_id"], found["correct"]) == (row["query_id"], True)
    assert max(abs(found["logprob"] - found["logprob_without"]) for found in rows) > 1e-3


@every_architecture
def test_a_flat_image_keeps_the_length_and_the_positions_of_the_prompt(architecture: str) -> None:
    processor = checkpoint(architecture).processor
    for size in (SQUARE, STRIP):
        asked = query(1, size=size)
        shown, flat = (encode_query(processor, q) for q in (asked, without_image(asked, "mean")))
        assert flat.input_ids == shown.input_ids
        assert flat.token_features == shown.token_features
        grids = [name for name in shown.image_features if "grid" in name]
        assert all(torch.equal(flat.image_features[n], shown.image_features[n]) for n in grids)
        assert not torch.equal(flat.image_features["pixel_values"], shown.image_features["pixel_values"])


def test_the_flat_image_has_the_mean_colour_of_the_image() -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:, :3], pixels[:2, :, 2] = (200, 100, 0), 50
    asked = {**query(0), "images": [{"bytes": png(pixels), "path": None}] * 2}
    flat = without_image(asked, "mean")["images"]
    assert len(flat) == 2
    image = Image.open(io.BytesIO(flat[0]["bytes"]))
    assert image.size == (6, 4)
    assert image.getcolors() == [(24, (100, 50, 25))]


def test_an_absent_image_leaves_the_turns_and_their_text() -> None:
    made, asked = checkpoint("internvl"), query(0)
    bare = encode_query(made.processor, without_image(asked, "absent"))
    turns = messages(asked)
    turns[-1]["content"] = turns[-1]["content"][1:]
    assert bare.input_ids == encode(made.processor, turns, []).input_ids
    assert not bare.image_features
    assert bare.images == 0


@every_architecture
def test_what_was_sampled_has_the_log_probability_that_sampling_noted(architecture: str) -> None:
    made = checkpoint(architecture)
    asked = [query(n) for n in range(4)]
    prompts = [encode_query(made.processor, one) for one in asked]
    results = HfEngine(made, 16).sample([Request(p, list(range(5))) for p in prompts], 1.0, 60)
    rows = [
        solution_row(made.processor, one, sample, source="sample", index=index, seed=0)
        for one, samples in zip(asked, results, strict=True)
        for index, sample in enumerate(samples)
    ]
    assert {row["finished"] for row in rows} == {True, False}
    for row, found in zip(rows, gains_rows(made, asked, rows, "mean", 8), strict=True):
        total = found["logprob"] * found["tokens"]
        if row["finished"]:  # sampling notes one of the end tokens, this all of them
            assert total >= row["logprob"] - 1e-3
        else:
            assert total == pytest.approx(row["logprob"], abs=1e-3)


def test_chunks_of_the_output_embedding_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoint("qwen2.5-vl")
    prompts = [encode_query(made.processor, query(n, words=5)) for n in range(5)]
    responses = [[20 + n, 30, 31 + n] for n in range(5)]
    whole = mean_logprobs(made, prompts, responses, 8)
    monkeypatch.setattr(gains, "CHUNK", 300)
    assert mean_logprobs(made, prompts, responses, 8) == pytest.approx(whole, abs=1e-6)


def test_a_model_that_changes_its_logits_afterwards_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = own_checkpoint("internvl")
    plain = type(made.model).forward

    def capped(self: Any, **inputs: Any) -> Any:
        output = plain(self, **inputs)
        output.logits = 5.0 * torch.tanh(output.logits / 5.0)
        return output

    monkeypatch.setattr(type(made.model), "forward", capped)
    with pytest.raises(VistaError, match="changes its logits after the output embedding"):
        mean_logprobs(made, [encode_query(made.processor, query(0))], [[20]], 1)


def test_tokens_that_the_policy_cannot_say_are_named_with_the_query() -> None:
    made = checkpoint("qwen2.5-vl")
    impossible = solution(0, [20, made.forbidden_ids[0]], sample=4)
    with pytest.raises(
        VistaError, match=r"query 'q0': solution \('sample', None, 4\) has log-probability -inf"
    ):
        gains_rows(made, [query(0)], [impossible], "absent", 1)
    with pytest.raises(VistaError, match=r"query 'q0': solution .* has no tokens"):
        gains_rows(made, [query(0)], [solution(0, [], finished=False)], "absent", 1)


@pytest.fixture
def measured(small: tuple[Suite, Paths]) -> tuple[Suite, Paths]:
    """The suite, with a method that compares gains in place of attention."""
    suite, paths = small
    method = suite.methods["vista"].model_dump() | {"filter": {"kind": "vig"}}
    return suite_at(suite.results, methods={**suite.model_dump()["methods"], "vista": method}), paths


@pytest.mark.usefixtures("odd_is_correct")
def test_every_positive_of_a_shard_is_measured(measured: tuple[Suite, Paths]) -> None:
    suite, paths = measured
    sample_shard(suite, paths, POLICY, SAMPLES, 0)
    resample_shard(suite, paths, POLICY, PREFIX, 0)
    gains_shard(suite, paths, POLICY, NAME, 0)
    solutions = [
        row
        for kind, folder in (("samples", SAMPLES), ("resamples", PREFIX))
        for row in read_rows(paths.rollouts(POLICY.id, kind, folder, 0, 1), ROLLOUT)
        if row["correct"]
    ]
    output = paths.rollouts(POLICY.id, "gains", NAME, 0, 1)
    rows = read_rows(output, GAINS)
    names = ("query_id", "task", "sample", "source", "parent", "correct")
    assert [[row[n] for n in names] for row in rows] == [[row[n] for n in names] for row in solutions]
    assert {row["source"] for row in rows} == {"sample", "prefix"}
    manifest = read_manifest(output)
    assert (manifest.status, manifest.counts["solutions"]) == ("complete", len(rows))
    assert manifest.settings["without"] == "mean"


def test_a_policy_that_was_never_trained_leaves_an_empty_file(measured: tuple[Suite, Paths]) -> None:
    suite, paths = measured
    (paths.results / "models").unlink()
    paths.base("nano").mkdir(parents=True)
    Recorder("models", {}, []).write(paths.base("nano"), {}, "no-positives")
    for kind, folder in (("samples", SAMPLES), ("resamples", PREFIX)):
        path = paths.rollouts(POLICY.id, kind, folder, 0, 1)
        path.parent.mkdir(parents=True)
        path.touch()
    gains_shard(suite, paths, POLICY, NAME, 0)
    output = paths.rollouts(POLICY.id, "gains", NAME, 0, 1)
    assert read_rows(output, GAINS) == []
    assert read_manifest(output).status == "no-positives"
