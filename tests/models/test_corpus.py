"""The corpus, encoded all at once, is what chat and processor make of it one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.conftest import query
from vista import chat
from vista.config import Wording
from vista.engines.batching import image_features
from vista.errors import VistaError
from vista.models.nano import build_nano
from vista.models.pretrain import check_rows, collect_words, draw_examples, encode_corpus
from vista.wording import hinted

Rows = list[dict[str, Any]]


def test_encoding_at_once_gives_the_tensors_of_encoding_one_by_one(architecture: Any, rows: Rows) -> None:
    _, processor = build_nano(architecture, collect_words(rows, Wording()), seed=0)
    examples = draw_examples(rows, seed=0, swapped=0.5, hinted=0.5, wording=Wording())
    corpus = encode_corpus(processor, examples)
    slow = [chat.encode_query(processor, e.row, e.order) for e in examples]
    for one, prompt in zip(slow, corpus.prompts, strict=True):
        assert prompt.input_ids == one.input_ids
        assert prompt.token_features == one.token_features
    chosen = [7, 3, 39, 3]
    fast = corpus.image_features(chosen)
    expected = image_features([slow[index] for index in chosen])
    assert fast.keys() == expected.keys()
    assert all(torch.equal(fast[name], expected[name]) for name in fast)


def test_a_corpus_of_one_query_is_encoded_as_well(architecture: Any) -> None:
    _, processor = build_nano(architecture, collect_words([query(4)], Wording()), seed=0)
    corpus = encode_corpus(processor, draw_examples([query(4)], 0, 0.0, 0.0, wording=Wording()))
    expected = image_features([chat.encode_query(processor, query(4))])
    assert all(torch.equal(value, expected[name]) for name, value in corpus.image_features([0]).items())


def test_responses_are_the_gold_tokens_and_the_end_of_the_turn(architecture: Any, rows: Rows) -> None:
    _, processor = build_nano(architecture, collect_words(rows, Wording()), seed=0)
    corpus = encode_corpus(processor, draw_examples(rows, 0, 0.0, 0.0, wording=Wording()))
    for row, response in zip(rows, corpus.responses, strict=True):
        assert response == [
            *chat.gold_ids(processor, row["rationale"]),
            processor.tokenizer.eos_token_id,
        ]
        assert chat.decode(processor, response) == row["rationale"]


def test_the_collected_words_cover_prompts_hints_and_rationales(rows: Rows) -> None:
    _, processor = build_nano("internvl", collect_words(rows, Wording()), seed=0)
    unknown = processor.tokenizer.unk_token_id
    for row in rows:
        prompt = chat.encode_query(processor, hinted(row, Wording()))
        assert unknown not in prompt.input_ids
        assert unknown not in chat.gold_ids(processor, row["rationale"])


def test_the_shares_of_swapped_and_hinted_examples_are_as_asked() -> None:
    many = [{"query_id": str(index), "instruction": "row", "answer": "4"} for index in range(4000)]
    examples = draw_examples(many, seed=0, swapped=0.3, hinted=0.1, wording=Wording())
    assert sum(e.order == "swapped" for e in examples) / 4000 == pytest.approx(0.3, abs=0.03)
    asked = [e.row["instruction"] for e in examples]
    assert set(asked) == {"row", "row\nhint : the answer is 4"}
    assert asked.count("row") / 4000 == pytest.approx(0.9, abs=0.02)
    assert examples[:50] == draw_examples(many[:50], 0, 0.3, 0.1, wording=Wording())


def test_a_corpus_without_a_rationale_is_refused(rows: Rows) -> None:
    rows[3]["rationale"] = None
    with pytest.raises(VistaError, match="query 'toy-train-3': no rationale"):
        check_rows(rows, "train.parquet")


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(VistaError, match=r"train.parquet: no queries"):
        check_rows([], "train.parquet")


def test_a_query_with_two_images_is_refused(rows: Rows) -> None:
    rows[2]["images"] = rows[2]["images"] * 2
    with pytest.raises(VistaError, match="query 'toy-train-2': 2 images"):
        check_rows(rows, "train.parquet")


def test_images_of_two_sizes_are_refused(rows: Rows) -> None:
    rows[5] = query(5, size=32)
    _, processor = build_nano("qwen2.5-vl", collect_words(rows, Wording()), seed=0)
    with pytest.raises(VistaError, match=r"'toy-train-5': the image is \(32, 32\) pixels"):
        encode_corpus(processor, draw_examples(rows, 0, 0.0, 0.0, wording=Wording()))


def test_a_corrupt_image_is_named(rows: Rows) -> None:
    rows[6]["images"][0]["bytes"] = b"no picture"
    _, processor = build_nano("qwen2.5-vl", collect_words(rows, Wording()), seed=0)
    with pytest.raises(VistaError, match="'toy-train-6': image 0: corrupt"):
        encode_corpus(processor, draw_examples(rows, 0, 0.0, 0.0, wording=Wording()))
