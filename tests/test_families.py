"""Families as they are published, each entered in a suite with a path and nothing else.

Everything is run with the code that all models run through; what is right is written by hand in
``tests.families`` or computed the slow way: with eager attention and all logits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.families import FAMILIES, INSTRUCTION, PLAIN, SYSTEM, WIDE, save
from tests.nano import query
from vista import chat, segments
from vista.config import Hyperparameters, LocalModel, LoraTuning, ModelTraining, Suite, load_suite
from vista.engines.base import Request
from vista.engines.batching import collate
from vista.engines.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from vista.engines.hf import HfEngine
from vista.evaluation.evaluate import evaluate
from vista.grid import Run
from vista.images import open_images
from vista.manifest import read_manifest
from vista.models.build import build_model
from vista.objectives.dpo import DpoSettings
from vista.objectives.sft import SftSettings
from vista.paths import Paths
from vista.records import PREDICTION, QUERY, Row, read_rows, write_rows
from vista.resamplers.prefix import critical_tokens
from vista.rollouts.gains import Without, gains_rows, without_image
from vista.rollouts.score import attention_scores
from vista.scores import layers_read
from vista.training.fit import fit

RUN = Run("mine", "grids", "zero-shot", 0, 0)
TASK = "grid-open"
LETTER = {segments.SYSTEM: "s", segments.VISION: "v", segments.INSTRUCTION: "i"}
SFT = SftSettings(kind="sft")
HYPER = Hyperparameters(epochs=1, learning_rate=1e-3, batch_size=4, warmup=0.0, schedule="constant")

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def asked(number: int = 0, size: tuple[int, int] = PLAIN, **changes: Any) -> Row:
    return {**query(number, size=size, system=SYSTEM), "instruction": INSTRUCTION, **changes}


def two() -> list[Row]:
    """Two queries whose images, and so prompts, are of different sizes."""
    return [asked(1, PLAIN), asked(2, WIDE, instruction="So what is the answer?")]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module")
def suites(root: Path, results: Path) -> Any:
    """The suite of a family, its base checkpoint made by stage ``models``."""
    loaded = load_suite(root / "config/testbed.yaml", root=root)

    @cache
    def of(family: str) -> tuple[Suite, Paths]:
        entry = LocalModel(kind="path", path=save(family, results / family / "published"))
        changes = {"models": {"mine": entry}, "train_sets": {"grids": [TASK]}, "out_of_domain": []}
        sizes = {"eval_max_new_tokens": 6, "eval_batch_size": 2}
        suite, paths = loaded.model_copy(update={**changes, **sizes}), Paths(results / family)
        build_model(suite, paths, "mine")
        return suite, paths

    return of


@pytest.fixture
def made(suites: Any, family: str) -> Checkpoint:
    """The base checkpoint, as every stage loads it."""
    return load_checkpoint(suites(family)[1].base("mine"), device="cpu")


def tokens_of(made: Checkpoint, text: str) -> list[int]:
    return chat.gold_ids(made.processor, text)


def test_the_models_stage_checks_and_links_it(suites: Any, family: str) -> None:
    _, paths = suites(family)
    assert read_manifest(paths.base("mine")).status == "complete"
    assert (paths.base("mine") / "model.safetensors").is_symlink()


@pytest.mark.parametrize("system", [SYSTEM, None], ids=["system", "no system"])
@pytest.mark.parametrize("size", [PLAIN, WIDE], ids=["plain", "wide"])
@pytest.mark.parametrize("order", ["original", "swapped"])
def test_the_prompt_and_its_segments_are_the_familys(
    made: Checkpoint, family: str, order: chat.Order, size: tuple[int, int], system: str | None
) -> None:
    row = asked(size=size, system=system)
    prompt = chat.encode_query(made.processor, row, order)
    found = segments.segments(made.processor, chat.messages(row, order), prompt)
    pieces = FAMILIES[family].pieces(size, order == "swapped", system)
    text = "".join(piece for _, piece in pieces)
    letters = "".join(kind * len(piece) for kind, piece in pieces)
    expected = made.processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    assert made.processor.tokenizer.decode(prompt.input_ids) == text
    assert prompt.input_ids == expected["input_ids"]
    # A token that two pieces share is of the one that it begins in.
    assert [LETTER[kind] for kind in found] == [letters[start] for start, _ in expected["offset_mapping"]]


@pytest.mark.parametrize("order", ["original", "swapped"])
def test_prompts_encoded_together_are_those_encoded_one_by_one(made: Checkpoint, order: chat.Order) -> None:
    first, second = asked(0), asked(1, WIDE)
    queries = [
        *(asked(number, size) for number, size in enumerate([PLAIN, WIDE, PLAIN, PLAIN, WIDE])),
        asked(5, instruction=first["instruction"] + " " + second["instruction"]),
        asked(6, images=[*first["images"], *second["images"]]),
        asked(7, images=[*second["images"], *first["images"]]),
        asked(8, images=[]),
        asked(9, images=[], instruction="a"),
    ]
    together = chat.encode_queries(made.processor, queries, order)
    for row, prompt in zip(queries, together, strict=True):
        turns = chat.messages(row, order)
        alone = chat.encode(made.processor, turns, open_images(row))
        assert (prompt.input_ids, prompt.token_features) == (alone.input_ids, alone.token_features)
        assert (prompt.text, prompt.images) == (alone.text, alone.images)
        assert list(prompt.image_features) == list(alone.image_features)
        for name, values in prompt.image_features.items():
            assert torch.equal(values, alone.image_features[name]), name


def test_training_appends_the_token_that_closes_the_familys_turns(made: Checkpoint, family: str) -> None:
    _, tail = FAMILIES[family].pieces(PLAIN, False, SYSTEM)[-1]
    assert tail.startswith(made.processor.tokenizer.convert_ids_to_tokens(made.end_ids[0]))
    assert set(made.end_ids).isdisjoint(made.forbidden_ids)


def test_what_is_sampled_does_not_depend_on_the_batch(made: Checkpoint) -> None:
    requests = [Request(chat.encode_query(made.processor, row), [10, 11]) for row in [*two(), asked(3)]]
    requests.append(Request(requests[0].prompt, [12], tokens_of(made, "so the")))
    together = HfEngine(made, 16).sample(requests, 1.0, 8)
    alone = [HfEngine(made, 1).sample([request], 1.0, 8)[0] for request in requests]
    assert [[s.token_ids for s in samples] for samples in together] == [
        [s.token_ids for s in samples] for samples in alone
    ]


def test_what_is_sampled_in_batches_of_unequal_lengths_is_what_is_sampled_alone(made: Checkpoint) -> None:
    requests = [Request(chat.encode_query(made.processor, row), [10, 11]) for row in [*two(), asked(3)]]
    requests += [
        Request(requests[0].prompt, [12], tokens_of(made, words)) for words in ("so", "so the answer")
    ]
    together = HfEngine(replace(made, padding=True), 16).sample(requests, 1.0, 12)
    alone = [HfEngine(made, 1).sample([request], 1.0, 12)[0] for request in requests]
    for ours, expected in zip(together, alone, strict=True):
        assert [sample.token_ids for sample in ours] == [sample.token_ids for sample in expected]
        assert [sample.logprob for sample in ours] == pytest.approx(
            [sample.logprob for sample in expected], abs=1e-3
        )


def test_greedy_responses_are_those_of_transformers_own_generate(made: Checkpoint) -> None:
    for row in two():
        prompt = chat.encode_query(made.processor, row)
        batch = collate([prompt], [[]], made.pad_id)
        del batch["response_mask"]
        with torch.inference_mode():
            ids = made.model.generate(
                **batch,
                max_new_tokens=8,
                do_sample=False,
                suppress_tokens=made.forbidden_ids,
                eos_token_id=made.end_ids,
            )
        expected = [token for token in ids[0, len(prompt) :].tolist() if token not in made.end_ids]
        ((sample,),) = HfEngine(made, 4).sample([Request(prompt, [0])], 0.0, 8)
        assert sample.token_ids == expected


def test_attention_scores_are_those_of_eager_attention_summed_by_hand(
    made: Checkpoint, suites: Any, family: str
) -> None:
    rows = two()
    prompts = [chat.encode_query(made.processor, row) for row in rows]
    kinds = [
        segments.segments(made.processor, chat.messages(row), prompt)
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    response = tokens_of(made, "so the answer is 3")
    layers = attending(made)
    found = attention_scores(made, prompts, kinds, [response] * 2, layers, batch_size=2)
    eager = load_checkpoint(suites(family)[1].base("mine"), device="cpu", attention="eager")
    for prompt, kind, scores in zip(prompts, kinds, found, strict=True):
        batch = collate([prompt], [response], made.pad_id)
        del batch["response_mask"]
        with torch.inference_mode():
            attentions = eager.model(**batch, output_attentions=True).attentions
        of_layers = [attention for attention in attentions if attention is not None]
        assert len(of_layers) == len(layers)
        for layer, attention in enumerate(of_layers):
            of_token = attention[0, :, len(prompt) :, : len(prompt)].mean((0, 1))
            expected = [of_token[[k == segment for k in kind]].sum().item() for segment in range(3)]
            assert scores[layer] == pytest.approx(expected, abs=2e-5)
        assert max(map(min, scores)) > 0.01  # no segment is out of sight


def attending(made: Checkpoint) -> list[int]:
    """Layers that have attention to read: in hybrid models not all."""
    config = made.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    return sorted(set(layers_read(range(config.num_hidden_layers), kinds, "nearest")))


def test_critical_tokens_are_those_of_all_logits(made: Checkpoint) -> None:
    rows = two()
    prompts = [chat.encode_query(made.processor, row, "swapped") for row in rows]
    response = tokens_of(made, "in step 3 the answer is yes")
    found = critical_tokens(made, prompts, [response] * 2, top_k=40, batch_size=2)
    for prompt, critical in zip(prompts, found, strict=True):
        batch = collate([prompt], [response], made.pad_id)
        del batch["response_mask"]
        with torch.inference_mode():
            logits = made.model(**batch).logits[0, len(prompt) - 1 : -1].clone()
            logits[:, made.forbidden_ids] = -torch.inf
        best = logits.topk(40).indices
        outside = [i for i, token in enumerate(response) if token not in best[i]]
        assert critical is not None
        assert (critical.position, critical.replacement) == (outside[0], best[outside[0], 0].item())


def test_log_probabilities_are_those_of_all_logits(made: Checkpoint) -> None:
    rows = two()
    response = tokens_of(made, "in step 3 the answer is yes")
    solutions = [
        {**row, "sample": 0, "source": "sample", "parent": None, "correct": True, "finished": True}
        | {"token_ids": response}
        for row in rows
    ]
    ways: tuple[Without, ...] = ("mean", "absent")
    for without in ways:
        found = gains_rows(made, rows, solutions, without, batch_size=2)
        for row, gain in zip(rows, found, strict=True):
            for shown, name in ((row, "logprob"), (without_image(row, without), "logprob_without")):
                prompt = chat.encode_query(made.processor, shown)
                batch = collate([prompt], [response], made.pad_id)
                del batch["response_mask"]
                with torch.no_grad():
                    logits = made.model(**batch).logits[0, len(prompt) - 1 :].double()
                logits[:, made.forbidden_ids] = -torch.inf
                logprobs = logits.log_softmax(1)
                own = [logprobs[place, token].item() for place, token in enumerate(response)]
                own.append(logprobs[-1, made.end_ids].logsumexp(0).item())
                assert gain[name] == pytest.approx(sum(own) / len(own), abs=1e-4)


def example(row: Row, ids: list[int]) -> Row:
    return {
        "query_id": row["query_id"],
        "source": "sample",
        "images": row["images"],
        "prompt": chat.messages(row),
        "completion": chat.reply("unused"),
        "completion_ids": ids,
    }


def pair(row: Row, chosen: list[int], rejected: list[int]) -> Row:
    return {
        **{name: value for name, value in example(row, []).items() if not name.startswith("completion")},
        "chosen": chat.reply("unused"),
        "rejected": chat.reply("unused"),
        "chosen_ids": chosen,
        "rejected_ids": rejected,
        "chosen_finished": True,
        "rejected_finished": True,
    }


def mean_nll(made: Checkpoint, row: Row, ids: list[int]) -> float:
    """Mean negative log-likelihood of a response with its end token, from all logits."""
    prompt = chat.encode_query(made.processor, row)
    response = [*ids, made.end_ids[0]]
    batch = collate([prompt], [response], made.pad_id)
    del batch["response_mask"]
    with torch.inference_mode():
        logits = made.model(**batch).logits[0, len(prompt) - 1 : -1]
    return -logits.log_softmax(-1)[range(len(response)), response].mean().item()


def test_training_by_sft_has_the_papers_loss_and_survives_saving(
    made: Checkpoint, tmp_path: Path, family: str
) -> None:
    responses = [tokens_of(made, "so yes"), tokens_of(made, "the answer is 3")]
    rows = [example(row, ids) for row, ids in zip(two(), responses, strict=True)]
    expected = [mean_nll(made, row, ids) for row, ids in zip(two(), responses, strict=True)]
    counts = fit(made, rows, HYPER, SFT, "sft")
    assert counts["steps"] == 1
    assert counts["first_loss"] == pytest.approx(sum(expected) / 2, abs=1e-3)
    after = [mean_nll(made, row, ids) for row, ids in zip(two(), responses, strict=True)]
    assert sum(after) < sum(expected)
    save_checkpoint(made.model, made.processor, tmp_path / "trained")
    again = load_checkpoint(tmp_path / "trained", device="cpu")
    requests = [Request(chat.encode_query(again.processor, row), [5]) for row in two()]
    assert HfEngine(again, 4).sample(requests, 1.0, 8) == HfEngine(made, 4).sample(requests, 1.0, 8)


def test_adapters_are_trained_on_the_decoder_and_merged(made: Checkpoint, tmp_path: Path) -> None:
    responses = [tokens_of(made, "so yes"), tokens_of(made, "the answer is 3")]
    rows = [example(row, ids) for row, ids in zip(two(), responses, strict=True)]
    before = {name: weight.clone() for name, weight in made.model.named_parameters()}
    adapters = ModelTraining(tuning=LoraTuning(kind="lora", r=2, alpha=4))
    fit(made, rows, HYPER.model_copy(update={"epochs": 3}), SFT, "lora", adapters)
    after = dict(made.model.named_parameters())
    assert after.keys() == before.keys(), "the adapters are merged"
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    decoder = {id(weight) for weight in made.model.get_decoder().parameters()}
    assert changed
    assert all(id(after[name]) in decoder for name in changed)
    save_checkpoint(made.model, made.processor, tmp_path / "merged")
    again = load_checkpoint(tmp_path / "merged", device="cpu")
    for row, ids in zip(two(), responses, strict=True):
        assert mean_nll(again, row, ids) == pytest.approx(mean_nll(made, row, ids), abs=1e-5)


@pytest.mark.parametrize("tuning", [None, LoraTuning(kind="lora", r=2, alpha=4)], ids=["full", "lora"])
def test_training_leaves_the_generation_settings_as_they_are(
    made: Checkpoint, tmp_path: Path, tuning: LoraTuning | None
) -> None:
    # Contradictory, and without the tokenizer's padding, which Trainer adds.
    made.model.generation_config.update(do_sample=False, temperature=0.1, pad_token_id=None)
    before = made.model.generation_config.to_diff_dict()
    training = ModelTraining() if tuning is None else ModelTraining(tuning=tuning)
    fit(made, [example(asked(), tokens_of(made, "so yes"))], HYPER, SFT, "kept", training)
    save_checkpoint(made.model, made.processor, tmp_path / "trained")
    again = load_checkpoint(tmp_path / "trained", device="cpu")
    assert again.model.generation_config.to_diff_dict() == before
    assert again.end_ids == made.end_ids


def test_training_by_dpo_starts_from_the_reference(made: Checkpoint) -> None:
    chosen, rejected = tokens_of(made, "the answer is 3"), tokens_of(made, "so no")
    rows = [pair(row, chosen, rejected) for row in two()]
    nll = sum(mean_nll(made, row, chosen) for row in two()) / 2
    counts = fit(made, rows, HYPER, DpoSettings(kind="dpo"), "dpo")
    assert counts["first_loss"] == pytest.approx(math.log(2) + 0.5 * nll, abs=1e-3)


def test_evaluation_asks_what_the_other_stages_ask(suites: Any, made: Checkpoint, family: str) -> None:
    suite, paths = suites(family)
    rows = [{**row, "task": TASK, "split": "test"} for row in two()]
    write_rows(paths.queries(TASK, "test"), rows, QUERY)
    evaluate(suite, paths, RUN)
    predictions = read_rows(paths.predictions(RUN.id), PREDICTION)
    requests = [Request(chat.encode_query(made.processor, row), [0]) for row in rows]
    samples = HfEngine(made, 2).sample(requests, 0.0, 6)
    assert [row["query_id"] for row in predictions] == ["q1", "q2"]
    assert [row["response"] for row in predictions] == [
        chat.decode(made.processor, sample.token_ids) for (sample,) in samples
    ]
