"""``vista export``: a training set or checkpoint as a folder, whole or not at all; pushed if asked for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from vista.errors import VistaError, writing
from vista.export.cards import dataset_card, model_card
from vista.export.formats import Format, write
from vista.export.sources import TrainingSet, Weights, find_run
from vista.records import settle, write_text
from vista.settings import REPOSITORY

CARD = "README.md"
KINDS = {"data": "dataset", "checkpoint": "model"}  # what is exported, and as what the hub knows it


def export(
    named: str,
    out: Path,
    to: str | None = None,
    what: str = "data",
    suite_file: Path | None = None,
    configfile: Path | None = None,
    push: str | None = None,
    public: bool = False,
) -> str:
    """Write the folder, and push it where asked to.

    Args:
        named: The run, or its folder in the results.
        out: The folder.
        to: A ``Format`` of the training set; none for a checkpoint.
        what: One of ``KINDS``.
        suite_file: The resolved suite.
        configfile: A suite file, instead.
        push: A repository of the hub.
        public: Whether that repository may be public.

    Returns:
        A line that says what was written.

    Raises:
        VistaError: there is no such run, or nothing of it; the folder is not empty; it cannot be pushed.
    """
    form = _form(to, what)
    if push is not None:
        check_push(push)
    suite, run = find_run(named, suite_file, configfile)
    if form is None:
        weights = Weights(suite, run)
        names = weights.manifest.checksums
        with new_folder(out) as folder:
            for name in names:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(weights.folder / name, target)
            write_text(folder / CARD, model_card(weights, folder))
        said = f"{out}: checkpoint of {run.id}, {len(names)} files and a card"
    else:
        source = TrainingSet(suite, run)
        count = len(source.rows)
        with new_folder(out) as folder:
            write(source, form, folder)
            write_text(folder / CARD, dataset_card(source, form, folder))
        said = f"{out}: training set of {run.id} for {form}, {count} rows and a card"
    return said if push is None else f"{said}\n{upload(out, push, KINDS[what], run.id, public)}"


def _form(to: str | None, what: str) -> Format | None:
    """The form of a training set; ``None`` for a checkpoint.

    Raises:
        VistaError: the options do not go together.
    """
    if what not in KINDS:
        raise VistaError(f"--what {what}: expected {' or '.join(KINDS)}")
    if what == "checkpoint":
        if to not in (None, "hub-folder"):
            raise VistaError(f"--to {to}: a checkpoint is a folder that every program reads; leave --to out")
        return None
    for form in get_args(Format):
        if form == to:
            found: Format = form
            return found
    said = "--to is missing" if to is None else f"--to {to}: not known"
    raise VistaError(f"{said}; write one of {', '.join(get_args(Format))}")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``out`` that takes its name only if the block succeeds.

    Raises:
        VistaError: there is something already, or the disk refuses.
    """
    path = out.absolute()
    with writing(path):
        if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
            raise VistaError(f"{out}: exists and is not an empty folder; name a new one, or remove it")
        temporary = path.with_name(f".{path.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            settle(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_push(repository: str) -> None:
    """Refuse to push where that cannot work, before anything is written.

    Raises:
        VistaError: it is no name of a repository, or there is no token.
    """
    if not re.fullmatch(REPOSITORY, repository):
        raise VistaError(f"--push {repository}: expected owner/name, as on the hub")
    if huggingface_hub.get_token() is None:
        raise VistaError(
            "--push: there is no token of the Hugging Face hub; `hf auth login`, or set HF_TOKEN"
        )


def upload(folder: Path, repository: str, kind: str, run: str, public: bool) -> str:
    """Upload a folder to a repository, which is made if there is none; private unless ``public``.

    Returns:
        A line that says so.

    Raises:
        VistaError: the repository is public although that was not asked for, or the hub refuses.
    """
    api = huggingface_hub.HfApi()
    try:
        try:
            is_private = api.repo_info(repository, repo_type=kind).private
        except RepositoryNotFoundError:
            api.create_repo(repository, repo_type=kind, private=not public)
            is_private = not public
        if not is_private and not public:
            raise VistaError(
                f"{repository}: is public; nothing was pushed. Add --public if anybody may see this, or name "
                f"another repository; {folder} is written"
            )
        message = f"vista export {run}"
        api.upload_folder(repo_id=repository, folder_path=folder, repo_type=kind, commit_message=message)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise VistaError(
            f"{repository}: not pushed ({reason}); {folder} is written: `hf upload {repository} {folder} "
            f"--repo-type {kind}` tries again"
        ) from error
    return f"pushed to {repository} ({'private' if is_private else 'public'})"
