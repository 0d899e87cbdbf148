"""Stage 2, ``models``: make the base checkpoint of one model. Run by ``vista models``.

A built model is trained from scratch on its corpus; a model on disk or on the hub is checked
and linked. All three end as an ordinary checkpoint folder with a manifest in it. From the hub come
safetensors, configs, tokenizers and chat templates, at a fixed commit; no pickles.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from vista import records
from vista.chat import check_prompts
from vista.config import BuiltModel, HubModel, Loading, LocalModel, Suite
from vista.engines.checkpoints import device_name, outline, save_checkpoint
from vista.engines.folders import check_folder
from vista.engines.presenter import (
    LOADING_FILE,
    Presenter,
    check_image,
    check_template,
    load_processor,
    read_loading,
    write_loading,
)
from vista.errors import VistaError, writing
from vista.manifest import Recorder, installed, withdraw
from vista.models.kept import Kept
from vista.models.nano import Size, build_nano
from vista.models.pretrain import (
    Diverged,
    Recipe,
    check_rows,
    collect_words,
    draw_examples,
    encode_corpus,
    pretrain,
    thinned,
)
from vista.paths import Paths
from vista.wording import check_wording, templates_of


def build_model(suite: Suite, paths: Paths, model_name: str) -> None:
    """Make ``paths.base(model_name)``, whole or not at all, then its manifest.

    Raises:
        VistaError: the suite has no such model; its corpus, folder or repository is missing or
            unusable; or training diverged.
    """
    if model_name not in suite.models:
        close = difflib.get_close_matches(model_name, suite.models, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(suite.models))}"
        raise VistaError(f"suite {suite.name!r} has no model {model_name!r}; {hint}")
    model = suite.models[model_name]
    settings = {"model": model_name, **model.model_dump(mode="json", exclude={"training", "prompts"})}
    output = paths.base(model_name)
    if isinstance(model, BuiltModel):
        corpus = paths.queries(model.corpus, "train")
        built = {"hint": suite.wording.hint, "threads": suite.threads}
        recorder = Recorder("models", {**settings, **built}, [corpus], device_name())
        kept = Kept(output.with_name(f".{output.name}.resume"), _identity(recorder))
        try:
            counts = _build(suite, model, corpus, output, model_name, kept)
        except Diverged:  # not for lack of memory or disk: with more, the next start goes on
            kept.remove()
            raise
        kept.remove()
    else:
        recorder = Recorder("models", settings, [])
        counts = _resolve(suite, model, output, model_name)
    recorder.write(output, counts)


PACKAGES = ("torch", "transformers", "peft", "numpy")


def _identity(recorder: Recorder) -> dict[str, Any]:
    """What the states of a training depend on; they are used only if all of it is unchanged."""
    versions = installed()
    return {
        "settings": recorder.settings,
        "digests": recorder.digests,
        "packages": {name: versions.get(name) for name in PACKAGES},
        "inputs": {str(path): sha for path, sha in recorder.fingerprints.items()},
    }


def _build(
    suite: Suite, model: BuiltModel, corpus: Path, output: Path, name: str, kept: Kept
) -> dict[str, float]:
    """Train a nano model on ``corpus``, give it a pretrained decoder if the entry names one, and save it."""
    if model.decoder is not None:
        from vista.models.decoder import adapt, weights_of, with_decoder  # others need no peft

        weights = weights_of(model.decoder, name)  # rather than after minutes
    torch.set_num_threads(suite.threads)
    torch.use_deterministic_algorithms(True)  # costs nothing on the CPU
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what that asks of a GPU
    torch.manual_seed(model.seed)
    rows = records.read_queries(corpus)
    check_rows(rows, str(corpus))
    size = Size(model.layers, model.width, model.vision_layers, model.vision_width)
    words = collect_words(rows, suite.wording)
    network, processor = build_nano(model.architecture, words, model.seed, size)
    _check_wording(suite, processor, name)
    examples = draw_examples(rows, model.seed, model.swapped, model.hinted, suite.wording)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    encoded = encode_corpus(processor, examples)
    recipe = Recipe(model.steps, model.batch_size, model.learning_rate)
    outcome = pretrain(network, encoded, processor.tokenizer.pad_token_id, recipe, name, kept=kept)
    adapted: dict[str, float] = {}
    if model.decoder is not None:
        network, processor = with_decoder(network.cpu(), weights)
        _check_wording(suite, processor, name)
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        shown = thinned(examples, model.decoder.steps * model.decoder.batch_size, model.seed)
        encoded = encode_corpus(processor, shown)
        pad = processor.tokenizer.pad_token_id
        label = f"{name} decoder"
        network, found = adapt(network, encoded, pad, model.decoder, label, kept)
        adapted = {
            "adapted_first_loss": round(found.first_loss, 6),
            "adapted_loss": round(found.final_loss, 6),
        }
        adapted |= {"adapted_tokens": found.tokens}
        if label in kept.resumed_at:
            adapted["adapted_resumed_at_step"] = kept.resumed_at[label]
    if name in kept.resumed_at:
        adapted["resumed_at_step"] = kept.resumed_at[name]
    save_checkpoint(network.cpu().eval(), processor, output)
    return adapted | {
        "queries": len(rows),
        "steps": recipe.steps,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "vocabulary": len(processor.tokenizer),
        "first_loss": round(outcome.first_loss, 6),
        "final_loss": round(outcome.final_loss, 6),
        "tokens": outcome.tokens,
    }


def _check_wording(suite: Suite, processor: Any, name: str) -> None:
    """Refuse a model that would not understand what a method of the suite will ask it."""
    templates = [template for method in suite.methods.values() for template in templates_of(method)]
    check_wording(processor.tokenizer, suite.wording, templates, name)
    check_prompts(processor, suite.models[name].prompts, name)


def _resolve(suite: Suite, model: LocalModel | HubModel, output: Path, name: str) -> dict[str, float]:
    """Check a checkpoint folder that exists, or fetch it, and link its files."""
    source = _source(model, name)
    loading = Loading(**{field: getattr(model, field) for field in Loading.model_fields})
    processor = check_checkpoint(source, loading, model.trust_remote_code)
    _check_wording(suite, processor, name)
    names = link_files(source, output, loading)
    return {"files": len(names), "vocabulary": len(processor.tokenizer)}


def _source(model: LocalModel | HubModel, name: str) -> Path:
    """The folder with the files of a checkpoint; a path wins over the hub."""
    if model.path is not None:
        return model.path
    if model.revision is None:
        raise VistaError(
            f"model {name}: no revision of {model.repo} is pinned; run `git ls-remote "
            f"https://huggingface.co/{model.repo} HEAD` and write the 40 hex digits under `revision` in "
            "models.yaml, or give a `path`"
        )
    return download(model.repo, model.revision, model.trust_remote_code)


# Weights as safetensors, configs, tokenizers and chat templates; no pickles, no images.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
# Written into the base folder, never linked from where the files come from.
OWN_FILES = ("manifest.json", LOADING_FILE)


def download(repo: str, revision: str, code: bool = False) -> Path:
    """The local snapshot of a repository at a commit, fetched if it is not in the cache.

    Args:
        repo: ``owner/name``.
        revision: The commit.
        code: Fetch the repository's Python files as well.

    Raises:
        VistaError: it is not in the cache and cannot be fetched.
    """
    patterns = [*PATTERNS, *(["*.py"] if code else [])]
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise VistaError(
            f"model {repo}: repo: not the name of a repository ({error}); correct models.yaml"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise VistaError(
            f"model {repo} at {revision} is not in the local cache and cannot be fetched ({reason}); "
            "with a network, unset HF_HUB_OFFLINE, check repo and revision in models.yaml, and log in "
            "if the repository is gated; without one, copy the files and use `kind: path`"
        ) from error


def check_checkpoint(folder: Path, loading: Loading, trust_remote_code: bool = False) -> Presenter:
    """Make sure that a folder holds weights and a processor with a chat template.

    Args:
        folder: The checkpoint.
        loading: How its entry in ``models.yaml`` wants it loaded.
        trust_remote_code: Run code that the checkpoint brings.

    Returns:
        The processor.

    Raises:
        VistaError: names the folder and what it lacks, or options that it was trained with and
            that the entry lacks.
    """
    check_folder(folder)
    if (folder / LOADING_FILE).is_file():
        own, wanted = read_loading(folder).model_dump(), loading.model_dump()
        differing = [f"{name}: {value!r}" for name, value in own.items() if value != wanted[name]]
        if differing:
            raise VistaError(
                f"{folder / LOADING_FILE}: the checkpoint was trained with {', '.join(differing)}, but its "
                "entry in models.yaml says otherwise; say the same there, or delete this file"
            )
    processor = load_processor(folder, loading, trust_remote_code=trust_remote_code)
    check_template(processor, folder)
    check_image(processor, folder)
    outline(folder, processor, trust_remote_code)
    return processor


def link_files(
    source: Path,
    output: Path,
    loading: Loading,
    files: Iterable[Path] | None = None,
    copied: Iterable[Path] = (),
) -> list[str]:
    """Make ``output`` a folder of links to the files of ``source``, whole or not at all.

    ``loading`` is written to the same folder.

    Args:
        source: The folder.
        output: The new folder.
        loading: How the checkpoint is loaded.
        files: Which files are linked; default: all that are not hidden.
        copied: Files from elsewhere that the folder gets copies of.

    Returns:
        The names of the files linked.
    """
    temporary = output.with_name(f".{output.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed job left
    try:
        with writing(output):
            temporary.mkdir(parents=True)
            names = []
            for path in copied:
                shutil.copyfile(path, temporary / path.name)
            for path in sorted(source.resolve().iterdir() if files is None else map(Path.resolve, files)):
                if path.is_file() and not path.name.startswith(".") and path.name not in OWN_FILES:
                    (temporary / path.name).symlink_to(path)
                    names.append(path.name)
            write_loading(temporary, loading)
            if output.exists():
                withdraw(output)
                shutil.rmtree(output)
            records.settle(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names
