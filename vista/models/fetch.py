"""Checkpoints that exist already: on disk, or on the hub at a pinned revision.

Stage ``models``; used by ``vista.models.build``. Weights are never copied: the base folder of
such a model holds links to the files.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from vista.config import Loading
from vista.engines.checkpoints import check_folder
from vista.engines.presenter import (
    LOADING_FILE,
    Presenter,
    check_template,
    load_processor,
    read_loading,
    write_loading,
)
from vista.errors import VistaError, writing
from vista.manifest import withdraw

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
        VistaError: it is neither in the cache nor within reach.
    """
    patterns = [*PATTERNS, *(["*.py"] if code else [])]
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise VistaError(
            f"model {repo}: repo: no name of a repository ({error}); mend models.yaml"
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
    return processor


def link_files(source: Path, output: Path, loading: Loading) -> list[str]:
    """Make ``output`` a folder of links to the files of ``source``, whole or not at all.

    ``loading`` is written beside the links.

    Returns:
        The names of the files linked.
    """
    temporary = output.with_name(f".{output.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed job left
    try:
        with writing(output):
            temporary.mkdir(parents=True)
            names = []
            for path in sorted(source.resolve().iterdir()):
                if path.is_file() and not path.name.startswith(".") and path.name not in OWN_FILES:
                    (temporary / path.name).symlink_to(path)
                    names.append(path.name)
            write_loading(temporary, loading)
            if output.exists():
                withdraw(output)
                shutil.rmtree(output)
            temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names
