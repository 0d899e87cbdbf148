"""What a checkpoint folder must and must not contain, checked before anything heavy is loaded.

It must be complete; it must not bring code, unless its model's entry says so, nor adapters. Of large files
only the first bytes are read, and neither torch nor transformers is imported until a config is looked up.
For every stage that loads a checkpoint, and for ``vista doctor``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vista.errors import VistaError, is_out_of_memory

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "*.tiktoken", "spiece.model")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
ANEW = "copy the checkpoint again"
NO_TEMPLATE = "no chat template; add chat_template.jinja to the folder"


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object of a checkpoint's file.

    Raises:
        VistaError: it cannot be read, or is not a JSON object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VistaError(f"{file}: not valid JSON ({error}); {ANEW}") from error
    if not isinstance(value, dict):
        raise VistaError(f"{file}: expected a JSON object, found {type(value).__name__}; {ANEW}")
    return value


@contextmanager
def blaming(folder: Path, what: str, remedy: str = ANEW) -> Iterator[None]:
    """Turn whatever a library raises over somebody else's files into an error that names them.

    Libraries trust such files: a number of another type may raise anything, anywhere.

    Args:
        folder: The checkpoint, or the file of it that is read.
        what: What cannot be done with it.
        remedy: What to do about it.
    """
    try:
        yield
    except VistaError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:500]
        raise VistaError(f"{folder}: {what}: {type(error).__name__}: {said}; {remedy}") from error


def check_folder(folder: Path, weights: bool = True) -> None:
    """Refuse a folder that is not a complete checkpoint, before anything heavy is loaded.

    Args:
        folder: The checkpoint.
        weights: Whether it has to have its weights.

    Raises:
        VistaError: names the file, what is wrong with it and the remedy.
    """
    for check in CHECKS:
        if weights or check not in OF_WEIGHTS:
            check(folder)


def folder_problems(folder: Path, is_whole: bool = True) -> list[str]:
    """Everything that ``check_folder`` would refuse, and a missing chat template; for ``vista doctor``.

    Args:
        folder: The checkpoint.
        is_whole: Whether it has to have a processor, too.
    """
    found = []
    of_processor = (_check_processor, _check_tokenizer, _check_template_file)
    for check in (*CHECKS, _check_template_file) if folder.is_dir() else CHECKS[:1]:
        if check in of_processor and not is_whole:
            continue
        try:
            check(folder)
        except VistaError as error:
            found.append(str(error))
    return found


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise VistaError(f"{folder}: no such folder; run the rule that makes it, or correct the model's path")


def _check_config_file(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise VistaError(
            f"{folder}: no config.json; this is not a checkpoint folder, correct the model's path"
        )


def check_format(folder: Path) -> None:
    """Refuse a folder without safetensors.

    Raises:
        VistaError: names what it has instead.
    """
    if not list(folder.glob("*.safetensors")):
        others = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        found = f", only {', '.join(others)}" if others else ""
        raise VistaError(
            f"{folder}: no *.safetensors{found}; other formats can run code and are not loaded: take a "
            "revision that has safetensors, or load the model with transformers once and save it"
        )


def _check_processor(folder: Path) -> None:
    if not list(folder.glob("*processor_config.json")):
        raise VistaError(f"{folder}: no processor_config.json; save the model's processor beside it")


def _check_config(folder: Path) -> None:
    """Refuse a config of anything but a vision-language model."""
    file = folder / "config.json"
    if not file.is_file():
        return
    config = read_object(file)
    if name := next(_quantised(config), None):
        raise VistaError(
            f"{file}: {name}: quantised weights are refused: they choose the code that computes them, which "
            "may be on the hub, and cannot be trained; take the checkpoint whose weights are not quantised"
        )
    kind = config.get("model_type")
    if kind is None:
        raise VistaError(f"{file}: model_type: missing; take the checkpoint of a vision-language model")
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    known = isinstance(kind, str) and kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if not known and "auto_map" not in config:
        raise VistaError(
            f"{file}: model_type: {kind!r} is not a vision-language model of this version of transformers; "
            "take another checkpoint, one in transformers' own format"
        )


def _quantised(config: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Every setting of a config that says how weights are quantised, at any depth, by its path."""
    for key, part in config.items():
        if key in ("quantization_config", "compression_config") and part:
            yield f"{where}{key}"
        elif isinstance(part, dict):
            yield from _quantised(part, f"{where}{key}.")


# Numbers of a config that say how large something is, and those that name tokens.
SIZE = re.compile(
    r"num_\w+|vocab_size|\w*(hidden_size|patch_size|merge_size)|intermediate_size|depth"
    r"|(head|embed|hidden)_dim|max_position_embeddings"
)
LAYERS = re.compile(r"num_(hidden_)?layers|depth")
TOKEN = re.compile(r"\w*_token_id")
# The most that a processor's config may ask for: of a side, and of an image whose sides are its own. A trial
# with little memory (``presenter``) finds more, but not what takes long and little memory.
LONGEST_SIDE, MOST_PIXELS = 2**14, 2**24


def _check_numbers(folder: Path) -> None:
    """Refuse sizes that are no sizes, before a million layers are made, and tokens that are no tokens."""
    config = folder / "config.json"
    if not config.is_file():
        return
    layers = _tensors(folder)
    for file in (config, folder / "generation_config.json"):
        for name, value in _numbers(read_object(file)) if file.is_file() else ():
            key = name.rpartition(".")[2]
            each = value if isinstance(value, list) else [value]
            if SIZE.fullmatch(key):
                may_lack = key.startswith("num_") or key.endswith("_dim")  # such as experts
                least = 0 if may_lack and not LAYERS.fullmatch(key) else 1
                most = layers if LAYERS.fullmatch(key) else 2**31
                for one in each:
                    if one is not None and not (_is_whole(one) and least <= one <= most):
                        raise VistaError(
                            f"{file}: {name}: {_shown(value)} is not a whole number from {least} to {most}"
                            f"{', the number of tensors in the weights' if most == layers else ''}; {ANEW}"
                        )
            elif TOKEN.fullmatch(key):
                for one in each:
                    if one is not None and not _is_whole(one):
                        raise VistaError(
                            f"{file}: {name}: {_shown(value)} is not the number of a token; {ANEW}"
                        )


def _check_images(folder: Path) -> None:
    """Refuse a processor's config that asks for images without pixels, or with more than memory holds."""
    for file in sorted(folder.glob("*processor_config.json")):
        value = read_object(file)
        found = dict(_numbers(value))
        for name, value in found.items():
            section, _, key = name.rpartition(".")
            # A shortest edge is a side, or the fewest pixels where a longest edge is the most.
            if key in ("height", "width") or (
                key == "shortest_edge" and f"{section}.longest_edge" not in found
            ):
                most = LONGEST_SIDE
            elif key in ("shortest_edge", "longest_edge", "min_pixels", "max_pixels"):
                most = MOST_PIXELS if key in ("shortest_edge", "min_pixels") else 2**31
            elif key in ("patch_size", "merge_size", "temporal_patch_size"):
                most = LONGEST_SIDE
            else:
                continue
            each = value if isinstance(value, list) else [value]
            if any(one is not None and not (_is_whole(one) and 1 <= one <= most) for one in each):
                raise VistaError(
                    f"{file}: {name}: {_shown(value)} is not a whole number from 1 to {most}; {ANEW}"
                )


def _tensors(folder: Path) -> int:
    """How many tensors the weights have; a great many if that cannot be read, which has its own check."""
    count = 0
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "pt") as weights:
                count += len(list(weights.keys()))
        except SafetensorError:
            return 2**31
    return count


def numbers_held(folder: Path) -> int:
    """How many numbers the weights hold, as stored; from the headers of their files."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            count += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return count


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each weight by its name, from the headers of the files."""
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            found |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    return found


def shape_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the configs of all checkpoints of a model agree on: the family, sizes, image tokens."""
    return {
        name: value
        for name, value in _numbers(config)
        if (key := name.rpartition(".")[2]) == "model_type"
        or (SIZE.fullmatch(key) and key != "max_position_embeddings")  # is raised for longer contexts
        or re.fullmatch(r"(image|video|vision)\w*_token_id", key)
    }


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is not a section, of a JSON value at any depth, by its path."""
    for key, part in value.items():
        if isinstance(part, dict):
            yield from _numbers(part, f"{name}{key}.")
        else:
            yield f"{name}{key}", part


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]


def _check_generation_config(folder: Path) -> None:
    if (folder / "generation_config.json").is_file():
        read_object(folder / "generation_config.json")


def _check_tokenizer(folder: Path) -> None:
    if not any(list(folder.glob(name)) for name in TOKENIZERS):
        raise VistaError(f"{folder}: no tokenizer.json; save the model's processor beside it")


def _check_indices(folder: Path) -> None:
    for index in sorted(folder.glob("*.safetensors.index.json")):
        _check_index(index)


def _check_index(file: Path) -> None:
    shards = read_object(file).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise VistaError(f"{file}: weight_map: expected a map from weights to files; {ANEW}")
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise VistaError(f"{file}: weight_map: {name!r} is not a safetensors file of this folder; {ANEW}")
    missing = sorted({name for name in shards.values() if not (file.parent / name).is_file()})
    if missing:
        raise VistaError(f"{file.parent}: missing {', '.join(missing)}; {ANEW}")


def _check_weights(folder: Path) -> None:
    """Refuse weights under other names than transformers looks for, or cut short."""
    files = sorted(folder.glob("*.safetensors"))
    named = ("model.safetensors", "model.safetensors.index.json")
    if files and not any((folder / name).is_file() for name in named):
        names = ", ".join(file.name for file in files)
        raise VistaError(
            f"{folder}: neither model.safetensors nor its index, only {names}; rename the weights"
        )
    for file in files:
        try:
            with safe_open(file, "pt"):  # reads the header, and compares it with the file's length
                pass
        except (SafetensorError, OSError) as error:
            raise VistaError(f"{file}: not readable as safetensors ({error}); {ANEW}") from error


def _check_template_file(folder: Path) -> None:
    """Refuse a folder without a chat template; only loading the processor tells for sure."""
    if not has_template(folder):
        raise VistaError(f"{folder}: {NO_TEMPLATE}")


def has_template(folder: Path) -> bool:
    """Whether a folder holds a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    configs = [folder / name for name in ("processor_config.json", "tokenizer_config.json")]
    return any(read_object(file).get("chat_template") for file in configs if file.is_file())


def check_no_adapters(folder: Path) -> None:
    """Refuse adapters, which transformers would apply to weights from elsewhere.

    Raises:
        VistaError: names the file and the remedy.
    """
    if is_adapter(folder):
        raise VistaError(
            f"{folder / ADAPTER}: the folder holds a peft adapter, which is no model by itself; make its "
            "base a model, and it a row: `methods: [{NAME: {kind: external, checkpoints: {BASE: FOLDER}}}]` "
            "merges it; or merge it into the weights yourself (peft's merge_and_unload), save the "
            "model, and give that folder"
        )


ADAPTER = "adapter_config.json"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a peft adapter."""
    return (folder / ADAPTER).exists()


# In the order in which a folder is refused for them.
CHECKS = (
    *(_check_folder, check_no_adapters, _check_config_file, check_format, _check_processor),
    *(_check_config, _check_generation_config, _check_tokenizer, _check_indices, _check_weights),
    *(_check_numbers, _check_images),
)
OF_WEIGHTS = (check_format, _check_indices, _check_weights, _check_numbers)  # those that read them


def check_code(folder: Path, trusted: bool) -> None:
    """Refuse a checkpoint that brings code, or names another repository's.

    transformers would ignore the code of an architecture that it has itself. The user has to say which
    of the two is meant, since they may compute differently.

    Args:
        folder: The checkpoint.
        trusted: Whether the model's entry in ``models.yaml`` lets its code run. Code of another
            repository is refused even then: nothing pins its revision.

    Raises:
        VistaError: names the file, the code and the remedy.
    """
    for file in sorted(folder.glob("*config*.json")):
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue  # whoever loads it says so
        names = sorted(set(_code_names(value)))
        elsewhere = [name for name in names if "--" in name]
        if elsewhere:
            raise VistaError(
                f"{file}: auto_map: {', '.join(elsewhere)} is code of another repository, at no fixed "
                "revision; copy it into the folder and correct auto_map"
            )
        if names and not trusted:
            raise VistaError(
                f"{file}: auto_map: the checkpoint brings code ({', '.join(names)}), and it is not run; "
                "if you trust it, set trust_remote_code: true in the model's entry in models.yaml; if "
                "transformers has the architecture itself, remove auto_map from this file"
            )


def _code_names(value: Any) -> Iterator[str]:
    """Every class that an ``auto_map`` names, at any depth."""
    if isinstance(value, list):
        for part in value:
            yield from _code_names(part)
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _strings(part) if key == "auto_map" else _code_names(part)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
