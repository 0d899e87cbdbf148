"""Checkpoints that exist already: on disk, or on the hub at a pinned revision.

Stage ``models``; used by ``vista.models.build``. Weights are never copied: the base folder of
such a model holds links to the files.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from transformers import AutoProcessor

from vista.engines.checkpoints import check_folder
from vista.errors import VistaError

# Weights as safetensors, configs, tokenizers and chat templates; no pickles, no images.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


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
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise VistaError(
            f"model {repo} at {revision} is not in the local cache and cannot be fetched ({reason}); "
            "with a network, unset HF_HUB_OFFLINE, check repo and revision in models.yaml, and log in "
            "if the repository is gated; without one, copy the files and use `kind: path`"
        ) from error


def check_checkpoint(folder: Path, trust_remote_code: bool = False) -> Any:
    """Make sure that a folder holds weights and a processor with a chat template.

    Returns:
        The processor.

    Raises:
        VistaError: names the folder and what it lacks.
    """
    check_folder(folder)
    try:
        processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise VistaError(f"{folder}: the processor cannot be loaded: {error}") from error
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise VistaError(
            f"{folder}: {type(processor).__name__} is no processor of text and images; "
            "use the checkpoint of a vision-language model"
        )
    if not getattr(processor, "chat_template", None):
        raise VistaError(f"{folder}: no chat template; add chat_template.jinja to the folder")
    return processor


def link_files(source: Path, output: Path) -> list[str]:
    """Make ``output`` a folder of links to the files of ``source``, whole or not at all.

    Returns:
        The names of the files linked.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".part", dir=output.parent))
    try:
        names = []
        for path in sorted(source.resolve().iterdir()):
            if path.is_file() and not path.name.startswith(".") and path.name != "manifest.json":
                (temporary / path.name).symlink_to(path)
                names.append(path.name)
        temporary.chmod(0o755)
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return names
