"""Loading and saving checkpoint folders: a model with its processor, whole or not at all.

For every stage that runs a model.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig, PreTrainedConfig
from transformers.utils import is_flash_attn_2_available

from vista.chat import (
    TOGETHER,
    Order,
    Prompt,
    check_fits,
    encode_queries,
    end_tokens,
    forbidden_tokens,
    spelled,
)
from vista.config import BuiltModel, ModelStage, Suite
from vista.engines.folders import blaming, check_folder, numbers_held, read_object
from vista.engines.presenter import Presenter, load_processor, read_loading
from vista.errors import MORE_MEMORY, VistaError, is_out_of_memory, lack, writing
from vista.manifest import withdraw
from vista.records import Row, settle


@dataclass
class Checkpoint:
    """A loaded model in evaluation mode, with what every user of it needs to know."""

    model: Any
    processor: Presenter
    end_ids: list[int]
    forbidden_ids: list[int]
    pad_id: int
    context: int | None
    name: str = "the checkpoint"  # in errors: its folder
    padding: bool = False  # whether rows of unequal length may share a batch

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def unsayable(self, token_ids: Sequence[int]) -> str | None:
        """Why these cannot be tokens of a response of the model; ``None`` if they can."""
        size = self.model.get_input_embeddings().weight.shape[0]
        within = not token_ids or 0 <= min(token_ids) <= max(token_ids) < size
        if within and {*self.forbidden_ids, *self.end_ids}.isdisjoint(token_ids):
            return None
        for token in token_ids:
            if not 0 <= token < size:
                return f"token {token} is not in the vocabulary of {self.name}, which has {size}"
            if token in self.forbidden_ids:
                return f"token {token} must not be in a response of {self.name}: it marks images or turns"
            if token in self.end_ids:
                return f"token {token} must not be within a response of {self.name}: it ends one"
        return None

    def spelled(self, text: str) -> str | None:
        """The first special token of the model that a text spells (``chat.spelled``)."""
        return spelled(self.processor, text, {*self.forbidden_ids, *self.end_ids})

    def damage(self) -> str:
        """The first weight that is not finite, for an error that has been seen already."""
        for name, weight in self.model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                return f"weight {name} is not finite"
        return "all weights are finite"

    def encode(self, queries: Sequence[Row], response_len: int, order: Order = "original") -> list[Prompt]:
        """The prompt of every query.

        Raises:
            VistaError: a prompt does not fit the context together with ``response_len`` more tokens,
                or an image cannot be read; names the query.
        """
        prompts: list[Prompt] = []
        with tqdm(total=len(queries), desc="encode", unit=" queries", mininterval=5) as bar:
            for start in range(0, len(queries), TOGETHER):
                shown = queries[start : start + TOGETHER]
                made = encode_queries(self.processor, shown, order)
                for query, prompt in zip(shown, made, strict=True):
                    check_fits(query, len(prompt), response_len, self.context)
                prompts += made
                bar.update(len(shown))
        return prompts


UNLOADABLE = "the checkpoint cannot be loaded"
SLACK = 3  # a model may have this many times the numbers of its weights: embeddings are tied, others packed
PLACEHOLDERS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


def wrap(model: Any, processor: Any, name: str = "the checkpoint") -> Checkpoint:
    """Gather what the engines ask of a model and processor that are in memory.

    From here on a GPU computes convolutions of float32 in float32: torch's default rounds their inputs to ten
    bits (TF32), products of matrices not. Vision towers begin with one.

    Args:
        model: In evaluation mode.
        processor: As transformers loads it, or with options: a ``Presenter``.
        name: Of the checkpoint, in errors.

    Raises:
        VistaError: it declares no end token, or the tokenizer has tokens that the model lacks.
    """
    with blaming(
        Path(name), "its end token cannot be told", "correct eos_token_id and the tokenizer's files"
    ):
        ends = end_tokens(model, processor)
    if not ends:
        raise VistaError(f"{name} declares no end token; set eos_token_id in generation_config.json")
    # Some tokenizers do not call the place of an image a special token, but the config knows it.
    placeholders = (getattr(model.config, name, None) for name in PLACEHOLDERS)
    forbidden = forbidden_tokens(processor, ends, [token for token in placeholders if token is not None])
    size = model.get_input_embeddings().weight.shape[0]
    for what, ids in (("end token", ends), ("special token", forbidden)):
        beyond = [token for token in ids if not 0 <= token < size]
        if beyond:
            raise VistaError(
                f"{name}: {what} {beyond[0]} is beyond the model's vocabulary of {size}; take the tokenizer, "
                "the generation config and the weights of the same checkpoint"
            )
    torch.backends.cudnn.allow_tf32 = False
    pad = processor.tokenizer.pad_token_id
    text_config = model.config.get_text_config()
    return Checkpoint(
        model=model,
        processor=processor if isinstance(processor, Presenter) else Presenter(processor),
        end_ids=ends,
        forbidden_ids=forbidden,
        pad_id=ends[0] if pad is None else pad,
        context=getattr(text_config, "max_position_embeddings", None),
        name=name,
    )


def load_checkpoint(
    folder: Path,
    *,
    attention: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool = False,
    padding: bool | None = None,
) -> Checkpoint:
    """Load a model and processor from a folder, without the network.

    What its ``loading.json`` says holds, unless an argument says otherwise. What its ``config.json`` says
    about implementations never does: it may name code on the hub.

    Args:
        folder: The checkpoint.
        attention: Implementation of attention, by transformers' name.
        device: Where the model goes; default: a GPU if there is one.
        dtype: Type of the weights; ``auto``: as they are stored.
        trust_remote_code: Run code that the checkpoint brings.
        padding: Whether rows of unequal length may share a batch; default: on a GPU, where the last bits of a
            row depend on its batch anyway.

    Raises:
        VistaError: the folder is missing, incomplete or damaged, or its weights do not fit in memory.
    """
    check_folder(folder)
    loading = read_loading(folder)
    processor = load_processor(folder, loading, trust_remote_code=trust_remote_code)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with blaming(folder, UNLOADABLE):
        config = load_config(folder, attention or loading.attention, trust_remote_code)
    outline(folder, processor, trust_remote_code, config)  # refuses what would take memory beyond all measure
    try:
        model, report = AutoModelForImageTextToText.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            dtype=dtype or loading.dtype,
            attn_implementation=attention or loading.attention,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # then the report names them
        )
        model.to(where)
    except VistaError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise VistaError(
                f"{folder}: out of memory while loading the weights to {where} ({lack(error)}); "
                f"{MORE_MEMORY}, or take a smaller dtype for the model"
            ) from error
        with blaming(folder, UNLOADABLE):
            raise
    problem = _loading_problem(report, _layers(model))
    if problem:
        raise VistaError(f"{folder}: {problem}")
    checkpoint = wrap(model.eval(), processor, str(folder))
    checkpoint.padding = checkpoint.device.type == "cuda" if padding is None else padding
    return checkpoint


def load_config(folder: Path, attention: str, trust_remote_code: bool = False) -> Any:
    """A checkpoint's config, with the implementation of attention that its entry asks for, in every part.

    transformers prefers what ``config.json`` names itself, which may be code that it fetches from the hub.
    Here that is ignored, and a line on stderr says so.

    Raises:
        VistaError: flash attention is asked for and not installed: transformers would fetch a replacement.
    """
    if attention.startswith("flash_attention") and not is_flash_attn_2_available():
        raise VistaError(
            f"{folder}: attention: {attention}: the package flash-attn is not installed, or there is no GPU "
            "for it; install it, or set attention: sdpa in the model's entry in models.yaml"
        )
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    for part in [*_parts(config)]:
        part._attn_implementation_internal = attention
        part._experts_implementation_internal = None
    named = dict(_implementations(read_object(folder / "config.json")))
    ignored = [f"{name}: {value!r}" for name, value in named.items() if value not in (None, attention)]
    if ignored:
        said = f"attention is {attention}, as its entry in models.yaml says"
        print(f"{folder / 'config.json'}: {', '.join(ignored)}: ignored; {said}", file=sys.stderr)
    return config


def _parts(config: Any) -> Iterator[Any]:
    """A config and, at any depth, the configs in it."""
    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _parts(value)


def _implementations(value: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a ``config.json``, at any depth, that names an implementation, by its path."""
    for key, part in value.items():
        if key.strip("_").removesuffix("_internal") in ("attn_implementation", "experts_implementation"):
            yield f"{name}{key}", part
        elif isinstance(part, dict):
            yield from _implementations(part, f"{name}{key}.")


def _layers(model: Any) -> dict[str, int]:
    """The most layers that any stack of a model has, by the name of such stacks."""
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList):
            stack = name.rpartition(".")[2]
            found[stack] = max(found.get(stack, 0), len(module))
    return found


def _loading_problem(report: Mapping[str, Any], layers: Mapping[str, int]) -> str | None:
    """Why loaded weights do not fit the config; ``None`` if they do.

    transformers would go on with random numbers where weights are missing or have another shape, and leave
    out layers that a config does not have.

    Args:
        report: transformers' report on the loading.
        layers: Layers of each stack of the model, by its name in the weights.
    """
    if absent := sorted(report["missing_keys"]):
        return f"the weights lack {len(absent)} tensors ({absent[0]} …); copy or train it again"
    if other := sorted(report["mismatched_keys"]):
        name, found, wanted = other[0]
        return (
            f"weight {name} has shape {_shape(found)}, but config.json asks for {_shape(wanted)} "
            f"({len(other)} weights differ); take weights and config.json of the same checkpoint"
        )
    for name in sorted(report["unexpected_keys"]):
        for stack, number in re.findall(r"(?:^|\.)(layers|blocks|layer)\.(\d+)\.", name)[:1]:
            if layers.get(stack) is not None and int(number) >= layers[stack]:
                return (
                    f"the weights have {name}, but config.json asks for {layers[stack]} {stack}; take "
                    "weights and config.json of the same checkpoint"
                )
    return None


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def load_outline(folder: Path, *, trust_remote_code: bool = False, weights: bool = True) -> Checkpoint:
    """A checkpoint whose model has its shape and its settings, but no weights.

    For engines that load the weights themselves: nothing can be computed with it.

    Args:
        folder: The checkpoint.
        trust_remote_code: Run code that the checkpoint brings.
        weights: Whether the folder has to have them. One whose weights were released has none.

    Raises:
        VistaError: the folder is missing, incomplete or damaged.
    """
    check_folder(folder, weights)
    processor = load_processor(folder, trust_remote_code=trust_remote_code)
    return outline(folder, processor, trust_remote_code, weights=weights)


def outline(
    folder: Path,
    processor: Presenter,
    trust_remote_code: bool = False,
    config: Any = None,
    weights: bool = True,
) -> Checkpoint:
    """``load_outline`` of a folder that was checked, with a processor that was loaded.

    Raises:
        VistaError: its config or generation config cannot be used, or asks for far more than its weights.
    """
    with blaming(folder, UNLOADABLE):
        made = load_config(folder, "sdpa", trust_remote_code) if config is None else copy.deepcopy(config)
        for part in [*_parts(made)]:
            part._attn_implementation_internal = "sdpa"
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(made, trust_remote_code=trust_remote_code)
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    asked, held = sum(each.numel() for each in model.parameters()), numbers_held(folder) if weights else 0
    if weights and asked > SLACK * held:
        raise VistaError(
            f"{folder / 'config.json'}: asks for a model of {asked:,} numbers, the weights hold {held:,}; "
            "take weights and config.json of the same checkpoint"
        )
    return wrap(model.eval(), processor, str(folder))


def save_checkpoint(model: Any, processor: Any, folder: Path) -> None:
    """Save an ordinary checkpoint folder under a temporary name, then give it its own.

    A ``Presenter`` writes its ``loading.json`` to the folder, so that options are passed on.

    Raises:
        VistaError: the disk is full, read-only or not writable by this user.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    try:
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)  # what a killed job left
            write_checkpoint(model, processor, temporary)
            if folder.exists():
                withdraw(folder)
                shutil.rmtree(folder)
            settle(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_checkpoint(
    model: Any, processor: Any, folder: Path, state: dict[str, torch.Tensor] | None = None
) -> None:
    """Write the files of a checkpoint, as they come.

    Args:
        model: The model.
        processor: Its processor.
        folder: Where they go.
        state: The weights by name, if they are not the model's own.
    """
    with _plain_generation(model) as generation:
        model.save_pretrained(folder, state_dict=state)
    if generation is not None:
        generation.to_json_file(folder / "generation_config.json", keys_to_pop=["compile_config"])
    processor.save_pretrained(folder)


@contextmanager
def _plain_generation(model: Any) -> Iterator[GenerationConfig | None]:
    """Take the generation settings out of a model while it is saved; they are what is yielded.

    transformers refuses to save settings that it finds contradictory (``do_sample: false`` beside a
    temperature) if they have changed since they were loaded, and all that are in the model's config. Nothing
    here samples with them, and published checkpoints have them: they are passed on as they are.
    """
    kept = model.generation_config if model.can_generate() else None
    misplaced = {name: vars(model.config).pop(name) for name in model.config._get_generation_parameters()}
    if kept is not None:
        model.generation_config = GenerationConfig()
    try:
        yield kept
    finally:
        vars(model.config).update(misplaced)
        if kept is not None:
            model.generation_config = kept


def device_name(device: torch.device | None = None) -> str:
    """What manifests call a device: ``cpu``, or the name of the GPU.

    Args:
        device: Where a model is; default, and for one without weights: where models are loaded here.
    """
    if device is None or device.type == "meta":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def require_gpu(suite: Suite, model: str, stage: ModelStage) -> None:
    """Refuse to run a pretrained model on the CPU of a machine that should have a GPU for it.

    A node whose driver fails would otherwise spend the job's hours, and those of its retries, on
    its CPU. The small models that are built here run anywhere.

    Args:
        suite: Says how many GPUs a job asks for.
        model: Name of the model.
        stage: What will be done with it.

    Raises:
        VistaError: the model's jobs ask for a GPU and torch sees none.
    """
    entry = suite.models[model]
    own = entry.resources.of(stage).gpus
    asked = suite.gpus if own is None else own
    if isinstance(entry, BuiltModel) or not asked or torch.cuda.is_available():
        return
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    field = f"gpus: {asked}" if own is None else f"resources.{stage}.gpus: {asked} of model {model}"
    raise VistaError(
        f"{field} asks for a GPU, and torch {torch.__version__} ({built}) sees none on "
        f"{socket.gethostname()} (CUDA_VISIBLE_DEVICES: {visible}); look at `nvidia-smi` there, have the "
        f"scheduler leave the node out, or set gpus: 0 to run {model} on the CPU"
    )
