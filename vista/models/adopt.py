"""Take in what was trained elsewhere, as the checkpoint of one run: stage ``models``, ``vista adopt``.

It has to be of the run's model: the same architecture and sizes, vocabulary, and image processor as the base
checkpoint. A whole checkpoint is linked; a peft adapter is merged with its base. What either folder lacks of
a processor is the base's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from vista import grid
from vista.config import Suite
from vista.engines.adapters import WEIGHTS, check_base_name, read_adapter
from vista.engines.checkpoints import load_checkpoint, load_config, save_checkpoint
from vista.engines.folders import (
    ADAPTER,
    TOKENIZERS,
    blaming,
    check_format,
    has_template,
    is_adapter,
    shape_of,
    tensor_shapes,
)
from vista.engines.presenter import LOADING_FILE, Presenter, load_processor, read_loading
from vista.errors import VistaError
from vista.manifest import Recorder
from vista.models.build import check_checkpoint, link_files
from vista.paths import Paths
from vista.reads import Reads

SETTLED = ("config.json", "manifest.json", LOADING_FILE)  # of a base's files, those that are no processor's
VOCABULARY = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")


def adopt(suite: Suite, paths: Paths, run: grid.Run) -> None:
    """Make ``paths.adopted(run.id)``, whole or not at all, then its manifest.

    Raises:
        VistaError: the folder is missing, no checkpoint or adapter in safetensors, or of another model than
            the run's; names what differs.
    """
    source = grid.given(suite, run)
    if source is None or not grid.is_adopted(suite, run):
        raise VistaError(f"{run.id}: method {run.method!r} names no checkpoints from elsewhere")
    if not source.is_dir():
        raise VistaError(
            f"{source}: no such folder; correct checkpoints.{run.model} of method {run.method}, or put the "
            "checkpoint there"
        )
    base, output, files = paths.base(run.model), paths.adopted(run.id), Reads(suite, paths).given(run)
    settings = {"run": run.id, "model": run.model, "source": str(source)}
    recorder = Recorder("models", settings, [base, *(files if is_adapter(source) else [])])
    trusted = bool(getattr(suite.models[run.model], "trust_remote_code", False))
    if is_adapter(source):
        adapter = read_adapter(source)
        check_base_name(source, adapter, run.model, suite.models[run.model], base)
        files = [file for file in files if file.suffix != ".safetensors" and file.name != "config.json"]
    else:
        check_format(source)
    borrowed = list(lacking(source, base))
    if is_adapter(source):
        borrowed.append(base / "config.json")
    with gathered([*files, *borrowed], source) as folder:
        if is_adapter(source):
            processor = load_processor(folder, read_loading(base), trust_remote_code=trusted)
        else:
            check_architecture(folder, base, trusted)
            processor = check_checkpoint(folder, read_loading(base), trusted)
            check_weights(folder, base, trusted)
        own = load_processor(base, trust_remote_code=trusted)
        check_processor(folder, processor, own, run.model)
        template = "the base's" if processor.chat_template == own.chat_template else "its own"
        recorder.settings |= {
            "kind": "adapter" if is_adapter(source) else "checkpoint",
            "from_base": sorted(file.name for file in borrowed),
            "chat_template": template,
        }
        if is_adapter(source):
            counts = merge(source, adapter, base, processor, output, trusted)
        else:
            linked = link_files(source, output, read_loading(base), files, borrowed)
            counts = {"files": len(linked)}
    recorder.write(output, {**counts, "vocabulary": len(processor.tokenizer)})


def lacking(source: Path, base: Path) -> Iterator[Path]:
    """The base's files of a processor, and of the settings of generation, that a folder lacks."""

    def of(*patterns: str) -> Iterator[Path]:
        found = {file for pattern in patterns for file in base.glob(pattern) if file.is_file()}
        for file in sorted(found):
            if file.name not in SETTLED and not (source / file.name).is_file():
                yield file

    if not any(list(source.glob(name)) for name in TOKENIZERS):
        yield from of(*TOKENIZERS, *VOCABULARY)
    if not list(source.glob("*processor_config.json")):
        yield from of("*processor_config.json")
    if not has_template(source):
        yield from of("chat_template.*")
    yield from of("generation_config.json")


@contextmanager
def gathered(files: Iterable[Path], source: Path) -> Iterator[Path]:
    """A folder of links to files, for libraries that want one; errors name ``source`` in its place."""
    with tempfile.TemporaryDirectory(prefix="vista-") as name:
        folder = Path(name).resolve()
        for file in files:
            (folder / file.name).symlink_to(file.resolve())
        try:
            yield folder
        except VistaError as error:
            raise VistaError(str(error).replace(str(folder), str(source))) from error


def check_architecture(folder: Path, base: Path, trusted: bool = False) -> None:
    """Refuse a checkpoint of another family than the base, or of other sizes.

    Raises:
        VistaError: names the first field that differs.
    """
    found = []
    for each in (folder, base):
        with blaming(each, "config.json cannot be used"):
            found.append(shape_of(load_config(each, "sdpa", trusted).to_dict()))
    own, wanted = found
    differing = [name for name in {**wanted, **own} if own.get(name) != wanted.get(name)]
    if differing:
        first = min(differing, key=lambda name: (name.rpartition(".")[2] != "model_type", name.count(".")))
        raise VistaError(
            f"{folder / 'config.json'}: {first}: {own.get(first)!r}, but the base {base} has "
            f"{wanted.get(first)!r}; this is another architecture: give it to the model that it was trained "
            "from"
        )


def check_weights(folder: Path, base: Path, trusted: bool = False) -> None:
    """Refuse weights of other shapes than the base's; those of other names are tried.

    Raises:
        VistaError: names the first tensor that differs.
    """
    own, wanted = tensor_shapes(folder), tensor_shapes(base)
    for name in sorted(own.keys() & wanted.keys()):
        if own[name] != wanted[name]:
            shapes = ["×".join(map(str, each[name])) for each in (own, wanted)]
            raise VistaError(
                f"{folder}: weight {name} has shape {shapes[0]}, in the base {base} {shapes[1]}; this is "
                "another architecture: give it to the model that it was trained from"
            )
    if own.keys() != wanted.keys():  # tied weights are left out, older versions have other names
        load_checkpoint(folder, device="cpu", trust_remote_code=trusted)


def check_processor(folder: Path, own: Presenter, base: Presenter, model: str) -> None:
    """Refuse a tokenizer or an image processor that is not the base's; the chat template may be another.

    Raises:
        VistaError: names the first token or setting that differs.
    """
    pairs: Sequence[tuple[str, dict[str, Any], dict[str, Any]]] = (
        ("the vocabulary", own.tokenizer.get_vocab(), base.tokenizer.get_vocab()),
        ("the tokenizer", _encoded(own), _encoded(base)),
        ("the image processor", _settings(own.image_processor), _settings(base.image_processor)),
        ("the processor", _plain(own.inner), _plain(base.inner)),
    )
    for what, found, wanted in pairs:
        differing = sorted(name for name in {**found, **wanted} if found.get(name) != wanted.get(name))
        if differing:
            first = differing[0]
            raise VistaError(
                f"{folder}: {what} is not that of model {model}: {first!r} is {found.get(first)!r} here and "
                f"{wanted.get(first)!r} in the base ({len(differing)} differ); give the checkpoint to the "
                "model that it was trained from, or leave its processor's files out to use the base's"
            )


# Numbers, words and signs of many kinds: what tokenizers may cut in different ways.
PROBES = ("The answer is 1,024.5 (twice).", "  two  blanks\n\n\tand a tab", "E=mc², Zürich, 漢字, 🙂")


def _encoded(processor: Presenter) -> dict[str, Any]:
    return {text: list(processor.tokenizer(text)["input_ids"]) for text in PROBES}


# Of an image processor, what says nothing of the pixels.
NAMES = {"image_processor_type", "video_processor_type", "processor_class", "auto_map", "device"}


def _settings(image_processor: Any) -> dict[str, Any]:
    found = image_processor.to_dict()
    return {
        name: json.loads(json.dumps(value, default=str))
        for name, value in found.items()
        if name.strip("_") not in NAMES
    }


def _plain(processor: Any) -> dict[str, Any]:
    """Settings of the processor itself, such as how many tokens an image is."""
    own = {name: value for name, value in vars(processor).items() if isinstance(value, int | str)}
    return {name: value for name, value in own.items() if name != "chat_template"}


def tied_weights(weights: Mapping[str, torch.Tensor]) -> list[tuple[str, str]]:
    """The pairs of names that stand for one weight."""
    first: dict[int, str] = {}
    named = [(name, first.setdefault(weight.data_ptr(), name)) for name, weight in weights.items()]
    return [(name, other) for other, name in named if other != name]


def merge(
    source: Path, said: dict[str, Any], base: Path, processor: Presenter, output: Path, trusted: bool = False
) -> dict[str, float]:
    """Merge an adapter with its base in float32, as training does, and save the whole in the base's type.

    Args:
        source: The adapter's folder.
        said: What it says of itself.
        base: The base checkpoint.
        processor: The processor to save with it.
        output: The folder to make.
        trusted: Whether the checkpoint's code may run.

    Returns:
        What the manifest counts.

    Raises:
        VistaError: it does not fit the base, or the installed peft cannot merge it; names the key.
    """
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise VistaError(
            f"{source}: an adapter is merged by peft, which is not installed; "
            "pip install 'vista-bench[training]'"
        ) from error

    file, remedy = (
        source / ADAPTER,
        "train it on this base, or merge it yourself and give the whole",
    )
    with blaming(file, "the installed peft cannot use the adapter", "save it with this version of peft"):
        settings = PeftConfig.from_pretrained(str(source))
        known = {field.name for field in fields(settings)}
        if unknown := sorted(key for key, value in said.items() if value and key not in known):
            raise VistaError(
                f"{file}: {unknown[0]}: the installed peft does not know this setting of "
                f"{said['peft_type']}, and would merge without it; {remedy}"
            )
        settings.inference_mode = True
    stored = load_config(base, "sdpa", trusted).dtype or torch.float32
    checkpoint = load_checkpoint(base, device="cpu", dtype=torch.float32, trust_remote_code=trusted)
    renamed = getattr(checkpoint.model, "_checkpoint_conversion_mapping", None)
    weights = checkpoint.model.state_dict()
    before, tied = len(weights), tied_weights(weights)
    with blaming(source / WEIGHTS, f"the adapter does not fit the base {base}", remedy):
        adapted = PeftModel(checkpoint.model, settings)
        report = adapted.load_adapter(str(source), "default", torch_device="cpu", key_mapping=renamed)
    for what, keys in (("does not have", report.missing_keys), ("has", report.unexpected_keys)):
        if keys:
            asked = "target_modules asks for it" if what != "has" else f"the base {base} has no place for it"
            raise VistaError(
                f"{source / WEIGHTS}: {what} {sorted(keys)[0]} ({len(keys)} keys), but {asked}; {remedy}"
            )
    with blaming(file, "the installed peft cannot merge the adapter", remedy):
        merged = adapted.merge_and_unload(safe_merge=True)
        if len(merged.state_dict()) != before:
            raise VistaError(f"{file}: {said['peft_type']} adds weights that the base has not; {remedy}")
        weights = merged.state_dict()
        for name, other in tied:
            if not torch.equal(weights[name], weights[other]):
                raise VistaError(
                    f"{file}: {other} is another than {name}, but they are one weight in the base {base}, "
                    "and would be one again; train without either in modules_to_save and target_modules"
                )
    merged.generation_config = checkpoint.model.generation_config
    save_checkpoint(merged.to(stored).eval(), processor, output)
    return {"adapter_tensors": len(tensor_shapes(source)), "tensors": before}
