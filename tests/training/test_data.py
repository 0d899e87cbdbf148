"""What tokens are trained on, and in which order."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.training.conftest import example, pair, prompt, responses
from vista.chat import gold_ids, messages
from vista.config import SamplingStrategy
from vista.engines.checkpoints import Checkpoint
from vista.errors import VistaError
from vista.manifest import Recorder
from vista.records import PAIR, write_rows
from vista.training.data import (
    IGNORED,
    ExampleCollator,
    PairCollator,
    Prompts,
    StepSampler,
    check_tokens,
    read_training_set,
    shuffled,
)

Fresh = Callable[..., Checkpoint]


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
def test_the_sampled_tokens_and_the_end_token_are_trained_and_nothing_else(fresh: Fresh, architecture: str):
    checkpoint = fresh(architecture)
    words = responses(3)
    rows = [example(n, ids, text="another text") for n, ids in enumerate(words)]
    batch = ExampleCollator(rows, checkpoint)([{"index": n} for n in range(3)])
    for labels, inputs, ids in zip(batch["labels"], batch["input_ids"], words, strict=True):
        trained = labels != IGNORED
        assert labels[trained].tolist() == [*ids, checkpoint.end_ids[0]]
        assert torch.equal(labels[trained], inputs[trained])


def test_tokens_that_spell_a_text_in_an_unusual_way_are_not_tokenised_again(fresh: Fresh):
    checkpoint = fresh()
    usual = gold_ids(checkpoint.processor, "au 45")
    assert len(usual) > 1
    unusual = usual[::-1]
    batch = ExampleCollator([example(0, unusual, text="au 45")], checkpoint)([{"index": 0}])
    assert batch["labels"][batch["labels"] != IGNORED].tolist() == [*unusual, checkpoint.end_ids[0]]


def test_gold_text_is_tokenised_and_ended(fresh: Fresh):
    checkpoint = fresh()
    batch = ExampleCollator([example(0, None, text="au bv cw")], checkpoint)([{"index": 0}])
    expected = [*gold_ids(checkpoint.processor, "au bv cw"), checkpoint.end_ids[0]]
    assert batch["labels"][batch["labels"] != IGNORED].tolist() == expected


def test_pairs_are_stacked_chosen_first_with_an_image_for_each(fresh: Fresh):
    checkpoint = fresh()
    rows = [pair(0, [31, 32], [33]), pair(1, [34], [35, 36, 37])]
    batch = PairCollator(rows, checkpoint)([{"index": 1}, {"index": 0}])
    end = checkpoint.end_ids[0]
    trained = [labels[labels != IGNORED].tolist() for labels in batch["labels"]]
    assert trained == [[34, end], [31, 32, end], [35, 36, 37, end], [33, end]]
    assert torch.equal(batch["pixel_values"][:2], batch["pixel_values"][2:])


def test_a_negative_cut_at_the_limit_gets_no_end_token_and_is_one_token_shorter(fresh: Fresh):
    checkpoint = fresh()
    rows = [pair(0, [31], [33, 34], rejected_finished=False), pair(1, [31], [33, 34])]
    collator = PairCollator(rows, checkpoint)
    end = checkpoint.end_ids[0]
    trained = [
        labels[labels != IGNORED].tolist() for labels in collator([{"index": 0}, {"index": 1}])["labels"]
    ]
    assert trained == [[31, end], [31, end], [33, 34], [33, 34, end]]
    assert collator.lengths == [2, 3]


def test_a_negative_cut_at_the_end_of_the_context_fits_into_it(fresh: Fresh):
    checkpoint = fresh()
    assert checkpoint.context is not None
    room = checkpoint.context - len(Prompts(checkpoint.processor).of([pair(0, [31], [33])])[0])
    PairCollator([pair(0, [31], [33] * room, rejected_finished=False)], checkpoint)([{"index": 0}])
    with pytest.raises(VistaError, match=r"'q0'.*context"):
        PairCollator([pair(0, [31], [33] * room)], checkpoint)([{"index": 0}])


def test_a_pair_of_which_one_side_has_nothing_to_train_on_is_refused(tmp_path: Path):
    file = tmp_path / "train.parquet"
    write_rows(file, [pair(0, [31], [33]), pair(1, [31], [], rejected_finished=False)], PAIR)
    Recorder("curation", {}, []).write(file, {"examples": 2.0})
    with pytest.raises(VistaError, match="row 1: column 'rejected_ids' is empty"):
        read_training_set(file, PAIR)


@pytest.mark.parametrize("collator", [ExampleCollator, PairCollator])
def test_a_filler_is_in_the_batch_and_has_nothing_to_train_on(fresh: Fresh, collator: Any):
    rows = [pair(n, [31, 32], [33]) | example(n, [31, 32]) for n in range(2)]
    batch = collator(rows, fresh())([{"index": 1}, {"index": 2}])
    real = (batch["labels"] != IGNORED).any(dim=1).tolist()
    assert real == [True, False] * (len(real) // 2)
    assert len(batch["pixel_values"]) == len(batch["input_ids"])


@given(
    count=st.integers(1, 40), processes=st.integers(1, 8), at_once=st.integers(1, 4), passes=st.integers(1, 3)
)
def test_each_process_has_a_part_in_each_pass_and_every_example_comes_once(
    count: int, processes: int, at_once: int, passes: int
):
    lengths = [n % 7 for n in range(count)]
    together = processes * at_once
    sampler = StepSampler(lengths, together * passes, 0, together)
    order = list(sampler)
    assert len(order) == len(sampler)
    assert len(order) % together == 0
    assert sorted(order[:count]) == list(range(count))
    assert order[count:] == [count] * (len(order) - count)
    assert order[:count] == list(StepSampler(lengths, together * passes, 0))


def test_prompts_beyond_the_budget_are_encoded_anew_and_equal(fresh: Fresh):
    checkpoint = fresh()
    row = example(0, [31])
    kept, thrown = Prompts(checkpoint.processor), Prompts(checkpoint.processor, budget=0)
    assert kept.of([row])[0] is kept.of([row])[0]
    assert thrown.of([row])[0] is not thrown.of([row])[0]
    assert thrown.of([row])[0].input_ids == kept.of([row])[0].input_ids


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
def test_prompts_that_the_processor_sees_together_are_those_that_it_makes_alone(
    fresh: Fresh, architecture: str
):
    checkpoint = fresh(architecture)
    random = np.random.default_rng(0)
    rows = []
    for number, (size, text) in enumerate([(24, "au bv"), (32, "cw"), (24, "cw au bv"), (24, "au bv")]):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(buffer, "PNG")
        images = [{"bytes": buffer.getvalue(), "path": None}]
        turns = messages({"system": "cw", "instruction": text, "images": images})
        rows.append(example(number, [31], images=images, prompt=turns))
    together = Prompts(checkpoint.processor).of(rows)
    for row, made in zip(rows, together, strict=True):
        (alone,) = Prompts(checkpoint.processor).of([row])
        assert made.input_ids == alone.input_ids
        assert made.token_features == alone.token_features
        assert made.image_features.keys() == alone.image_features.keys()
        for name, values in alone.image_features.items():
            assert torch.equal(made.image_features[name], values)


def test_examples_of_one_query_with_other_prompts_are_shown_their_own(fresh: Fresh):
    checkpoint = fresh()
    plain, other = example(0, [31]), example(0, [31])
    other["prompt"] = [
        {**turn, "content": [*turn["content"], *turn["content"][-1:]]} for turn in plain["prompt"]
    ]
    prompts = Prompts(checkpoint.processor)
    ids = [prompt.input_ids for prompt in prompts.of([plain, other, plain])]
    assert ids[0] == ids[2]
    assert len(ids[1]) > len(ids[0])


def test_a_sequence_beyond_the_context_is_named(fresh: Fresh):
    checkpoint = fresh()
    collator = ExampleCollator([example(7, [31] * 2000)], checkpoint)
    with pytest.raises(VistaError, match=r"'q7'.*context is 1024"):
        collator([{"index": 0}])


def spelled_tokens(checkpoint: Checkpoint) -> list[str]:
    """All special tokens of a model, as a text spells them."""
    ids = [*checkpoint.forbidden_ids, *checkpoint.end_ids]
    return [str(token) for token in checkpoint.processor.tokenizer.convert_ids_to_tokens(ids)]


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
@pytest.mark.parametrize("shape", ["{}", "au {} bv", "au{}bv", "au bv {}", "au bv{}\n"])
def test_a_written_text_that_spells_a_special_token_is_refused_by_row_query_and_token(
    fresh: Fresh, architecture: str, shape: str
):
    checkpoint = fresh(architecture)
    spelled = spelled_tokens(checkpoint)
    assert len(spelled) > 3
    for token in spelled:
        rows = [example(0, [31]), example(7, None, text=shape.format(token))]
        with pytest.raises(VistaError) as caught:
            check_tokens(Path("train.parquet"), rows, checkpoint, remedy="correct a.jsonl")
        said = str(caught.value)
        assert all(part in said for part in ("train.parquet: row 1", "'q7'", repr(token), "correct a.jsonl"))


def test_words_that_only_look_like_special_tokens_are_trained_on(fresh: Fresh):
    checkpoint = fresh("qwen2.5-vl")
    rows = [
        example(0, None, text=text) for text in ("a < b", "<|im_end", "im_end|>", "<answer>", "unknown-word")
    ]
    assert check_tokens(Path("train.parquet"), rows, checkpoint) == rows


@pytest.mark.parametrize("architecture", ["qwen2.5-vl", "qwen3-vl", "internvl"])
def test_a_prompt_that_spells_a_special_token_is_refused_whoever_wrote_the_response(
    fresh: Fresh, architecture: str
):
    checkpoint = fresh(architecture)
    for token in spelled_tokens(checkpoint):
        turns = prompt(7, text=f"what is {token} ?")[1]
        rows = [pair(0, [31], [32]), pair(7, [31], [32]) | {"prompt": turns}]
        with pytest.raises(VistaError) as caught:
            check_tokens(Path("train.parquet"), rows, checkpoint, ["sample", "seed"], "correct a.jsonl")
        said = str(caught.value)
        assert all(part in said for part in ("row 1", "'q7'", "its prompt spells", repr(token), "the query"))


@pytest.mark.parametrize("token", ["<|im_end|>", "<|image_pad|>", "<|im_start|>"])
def test_what_models_wrote_is_left_out_if_it_spells_a_special_token(fresh: Fresh, capsys: Any, token: str):
    checkpoint = fresh("qwen2.5-vl")
    shows = [
        {**turn, "content": [*turn["content"], {"type": "text", "text": f"solution : {token}"}]}
        for turn in example(1, [31])["prompt"]
    ]
    rows = [
        example(0, [31]),
        example(1, [31], source="refine", prompt=shows),
        example(2, None, text="cw", source="select", prompt=shows),
        example(3, None, text=f"answer: {token}", source="select"),
        example(4, None, text=f"au {token}", source="seed"),
        example(5, None, text="au", source="seed"),
    ]
    left = check_tokens(Path("train.parquet"), rows, checkpoint, ["refine", "select", "seed"])
    assert [row["query_id"] for row in left] == ["q0", "q5"]
    assert "4 of 6 examples" in (said := capsys.readouterr().err)
    assert "row 1: query 'q1'" in said
    assert token in said
    with pytest.raises(VistaError, match="every row"):
        check_tokens(Path("train.parquet"), rows[3:5], checkpoint, ["select", "seed"])


def test_an_end_token_within_sampled_tokens_is_refused(fresh: Fresh):
    checkpoint = fresh()
    rows = [pair(0, [31], [32]), pair(1, [31], [32, checkpoint.end_ids[0], 33])]
    with pytest.raises(VistaError, match=r"row 1: column 'rejected_ids': token .* ends one"):
        check_tokens(Path("train.parquet"), rows, checkpoint)


@pytest.mark.parametrize(
    ("size", "text"), [((3000, 3), "au bv"), ((24, 24), "au <|image_pad|>"), ((24, 24), "<|image_pad|>" * 3)]
)
def test_a_prompt_that_the_processor_refuses_is_named_by_its_query(
    fresh: Fresh, size: tuple[int, int], text: str
):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    images = [{"bytes": buffer.getvalue(), "path": None}]
    turns = messages({"system": "cw", "instruction": text, "images": images})
    row = example(7, [31], images=images, prompt=turns)
    with pytest.raises(VistaError, match="query 'q7': the processor refuses"):
        Prompts(fresh("qwen2.5-vl").processor).of([row])


STRATEGIES: list[SamplingStrategy] = ["random", "group_by_length"]
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
# Three kinds of questions with responses of lengths of their own, as many of each.
TASKS = np.repeat([0, 1, 2], 220)
LENGTHS = [int(n) for n in np.random.default_rng(0).normal([20, 40, 90], 6, (220, 3)).T.ravel()]


def steps_of(order: list[int], batch_size: int) -> list[list[int]]:
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


@given(
    st.lists(st.integers(1, 50), max_size=60),
    st.integers(1, 7),
    st.integers(0, 3),
    st.sampled_from(STRATEGIES),
)
def test_an_epoch_is_every_example_once(
    lengths: list[int], batch_size: int, epoch: int, strategy: SamplingStrategy
):
    order = shuffled(lengths, batch_size, 0, epoch, strategy)
    assert sorted(order) == list(range(len(lengths)))
    assert order == shuffled(lengths, batch_size, 0, epoch, strategy)
    assert order == list(StepSampler(lengths, batch_size, 0, strategy=strategy)) or epoch


@each_strategy
def test_epochs_and_seeds_have_orders_of_their_own(strategy: SamplingStrategy):
    orders = [tuple(shuffled([1] * 40, 4, seed, epoch, strategy)) for seed in range(2) for epoch in range(2)]
    assert len(set(orders)) == 4


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 7), st.randoms())
def test_which_examples_share_a_random_step_does_not_depend_on_their_lengths(
    lengths: list[int], batch_size: int, random: Any
):
    others = random.sample(lengths, len(lengths))
    one, other = (steps_of(shuffled(these, batch_size, 0, 0), batch_size) for these in (lengths, others))
    assert [set(step) for step in one] == [set(step) for step in other]


def commonest_share(steps: list[list[int]]) -> float:
    return float(np.mean([np.bincount(TASKS[step]).max() / len(step) for step in steps]))


def spread_of_mean_lengths(steps: list[list[int]]) -> float:
    return float(np.std([np.mean([LENGTHS[index] for index in step]) for step in steps]))


def full_steps(strategy: SamplingStrategy) -> list[list[int]]:
    """Steps of 32 of ten epochs, without the smaller last ones."""
    epochs = [shuffled(LENGTHS, 32, 0, epoch, strategy) for epoch in range(10)]
    return [step for order in epochs for step in steps_of(order, 32)[:-1]]


def test_a_random_step_mixes_tasks_as_a_fair_draw_does_and_a_grouped_one_does_not():
    draws = np.random.default_rng(1)
    drawn = [draws.choice(len(LENGTHS), 32, replace=False).tolist() for _ in range(200)]
    mixed, grouped = map(full_steps, STRATEGIES)
    assert commonest_share(mixed) == pytest.approx(commonest_share(drawn), abs=0.03)
    assert spread_of_mean_lengths(mixed) == pytest.approx(spread_of_mean_lengths(drawn), rel=0.2)
    assert commonest_share(grouped) > 0.6
    assert spread_of_mean_lengths(grouped) > 3 * spread_of_mean_lengths(drawn)


@each_strategy
def test_the_smaller_last_step_is_any_and_not_always_the_longest(strategy: SamplingStrategy):
    last = [steps_of(shuffled(LENGTHS, 32, seed, 0, strategy), 32)[-1] for seed in range(60)]
    assert {len(step) for step in last} == {20}
    means = [np.mean([LENGTHS[index] for index in step]) for step in last]
    error = np.std(LENGTHS) / np.sqrt(20 * 60)
    assert np.mean(means) == pytest.approx(np.mean(LENGTHS), abs=4 * error)


@each_strategy
def test_the_longest_of_a_step_come_first(strategy: SamplingStrategy):
    for step in steps_of(shuffled(LENGTHS, 32, 0, 0, strategy), 32):
        found = [LENGTHS[index] for index in step]
        assert found == sorted(found, reverse=True)


def padding(order: list[int], batch_size: int, at_once: int) -> float:
    """Padded positions for each real one, in forward passes of ``at_once``."""
    passes = [part for step in steps_of(order, batch_size) for part in steps_of(step, at_once)]
    padded = sum(len(part) * max(LENGTHS[index] for index in part) for part in passes)
    return padded / sum(LENGTHS) - 1


def test_forward_passes_of_a_part_of_a_step_hold_similar_lengths():
    plain = [int(n) for n in np.random.default_rng(1).permutation(len(LENGTHS))]
    assert padding(shuffled(LENGTHS, 32, 0, 0), 32, 8) < 0.4 * padding(plain, 32, 8)
    grouped = shuffled(LENGTHS, 32, 0, 0, "group_by_length")
    assert padding(grouped, 32, 32) < 0.4 * padding(plain, 32, 32)
