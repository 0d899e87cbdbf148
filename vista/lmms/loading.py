"""A task loaded by lmms-eval: refused if it cannot be asked or scored here, and its documents read."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from vista.errors import VistaError
from vista.images import pixel_id
from vista.lmms.asking import Decoding, split_images
from vista.lmms.files import LOCAL_BUILDERS, TaskFile
from vista.lmms.judges import judge_of
from vista.lmms.running import (
    NetworkUse,
    from_cache_only,
    no_network,
    placeholder_keys,
    quiet,
    single_attempts,
)
from vista.lmms.scoring import rehearse
from vista.shown import in_one_line

GENERATES = "generate_until"
JUDGED = (
    "its scores come from a judge ({found}). A judge is a model that changes, and one that does not answer "
    "counts as a wrong response there, so none is asked here; name a task without one"
)


class NotHere(VistaError):
    """The data set of a task is not on this machine, and cannot be fetched."""


@dataclass(frozen=True)
class Document:
    """One document, as a model is asked it."""

    index: int
    fingerprint: str  # of all below, and of its columns
    system: str | None
    text: str
    pictures: tuple[Image.Image, ...]
    picture_ids: tuple[str, ...]  # of their pixels
    target: str

    def query_id(self, task: str) -> str:
        """The id of its query in a task of a suite: of its place, and of what it is."""
        return f"{task}-test-{self.index:05d}-{self.fingerprint[:8]}"


@dataclass(frozen=True)
class Loaded:
    """A task that lmms-eval has loaded.

    Attributes:
        file: Its files.
        task: lmms-eval's object.
        metric: The metric that counts.
        limit: How many documents, from the first; ``None``: all.
        scratch: Where the user's own data files are cached while this is in use.
    """

    file: TaskFile
    task: Any
    metric: str
    limit: int | None
    scratch: TemporaryDirectory[str]

    @property
    def what(self) -> str:
        """The task and its metric, for errors."""
        return f"lmms-eval's task {self.file.name!r}, metric {self.metric}"

    @property
    def filter_name(self) -> str:
        """The filter whose responses are scored: the first."""
        return str(self.task._filters[0].name)

    @property
    def filters(self) -> int:
        """How many filters it has, lmms-eval's own included."""
        return len(self.task._filters)

    @property
    def has_filters(self) -> bool:
        """Whether it has filters of its own."""
        return self.file.config.get("filter_list") is not None

    @property
    def split(self) -> str:
        """The split that is asked."""
        return str(self.task.config.test_split or self.task.config.validation_split)

    def __len__(self) -> int:
        return len(self.task.eval_docs) if self.limit is None else self.limit

    def data_set(self) -> dict[str, str]:
        """What the documents are from, for a manifest: the data set, and its state as far as it is known."""
        split = self.task.dataset[self.split]
        config = self.task.config
        stated = {"path": config.dataset_path, "name": config.dataset_name, "split": self.split}
        sources = (getattr(split.info, "download_checksums", None) or {}).keys()
        revisions = {found.partition("@")[2].partition("/")[0] for found in sources if "@" in found}
        stated |= {"revision": ", ".join(sorted(revisions)), "fingerprint": split._fingerprint}
        return {name: str(value) for name, value in stated.items() if value}

    def inputs(self, index: int) -> tuple[str, ...]:
        """What lmms-eval may ask of a document: first as it asks here, then with each model's prompts.

        Raises:
            VistaError: the task's code fails.
        """
        read = self.task.eval_docs_no_media[index]
        prompts = self.task.lmms_eval_specific_kwargs
        stated = self.file.config.get("lmms_eval_specific_kwargs") or {}
        try:
            asked = [self.task.fewshot_context(read, 0)]
            for own in stated.values():
                if isinstance(own, Mapping):
                    self.task.lmms_eval_specific_kwargs = dict(own)
                    asked.append(self.task.fewshot_context(read, 0))
        except Exception as error:  # somebody else's code
            raise self._failed(index, error) from error
        finally:
            self.task.lmms_eval_specific_kwargs = prompts
        return tuple(dict.fromkeys(map(str, asked)))

    def target(self, index: int) -> Any:
        """The right answer to a document, as lmms-eval reads it: without looking at pictures.

        Raises:
            VistaError: the task's code fails.
        """
        try:
            return self.task.doc_to_target(self.task.eval_docs_no_media[index])
        except KeyError as error:
            if error.args and error.args[0] in self.task.eval_docs.column_names:
                raise VistaError(
                    f"{self.file.path}: document {index}: the right answer needs its {error.args[0]!r}, but "
                    "lmms-eval hands no pictures to the code that scores; let doc_to_target do without them"
                ) from error
            raise self._failed(index, error) from error
        except Exception as error:  # somebody else's code
            raise self._failed(index, error) from error

    def _failed(self, index: int, error: Exception) -> VistaError:
        reason = f"{type(error).__name__}: {in_one_line(str(error))}"
        return VistaError(f"{self.file.path}: document {index}: the task's code fails ({reason})")

    def documents(self) -> Iterator[Document]:
        """Every document that is asked, in order.

        Raises:
            VistaError: one has no text, or more than text and images; or the task's code fails on it.
        """
        shown, read = self.task.eval_docs, self.task.eval_docs_no_media
        for index in range(len(self)):
            try:
                turns = self.task.doc_to_messages(shown[index])
                columns, target = dict(read[index]), self.task.doc_to_target(shown[index])
                plain, pictures = split_images(turns)
            except VistaError as error:
                raise VistaError(f"{self.file.path}: document {index}: {error}") from error
            except Exception as error:  # somebody else's code, on somebody else's data
                raise self._failed(index, error) from error
            yield _document(index, columns, plain, pictures, target)


def load(
    file: TaskFile,
    metric: str | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    offline: bool = True,
) -> Loaded:
    """Have lmms-eval load a task.

    Args:
        file: Its files.
        metric: The metric that counts; default: its first.
        limit: How many documents are asked, from the first; default: all.
        max_new_tokens: At most so many tokens for a response, whatever the task says.
        offline: Take a data set of the hub from the cache.

    Raises:
        NotHere: its data set is not in the cache, and cannot be fetched.
        VistaError: it cannot be asked or scored here; says why.
    """
    what = f"lmms-eval's task {file.name!r}"
    if reason := _refusal(file):
        raise VistaError(f"{what} cannot be evaluated here: {reason}")
    import lmms_eval.api.metrics  # noqa: F401 - registers what files name
    from lmms_eval.api.task import ConfigurableMessagesTask
    from lmms_eval.utils import load_yaml_config

    quiet()
    scratch = TemporaryDirectory(prefix="vista-lmms-")
    with single_attempts():
        try:
            with placeholder_keys():
                config = load_yaml_config(yaml_path=str(file.path), mode="full")
        except Exception as error:  # whatever a module of somebody else's does when it is imported
            raise VistaError(
                f"{what}: its code cannot be imported ({type(error).__name__}: {in_one_line(str(error))}); "
                f"install what it needs, or correct {file.path}"
            ) from error
        counts = _chosen(config, metric, what)
        if found := judge_of(config.get("process_results"), counts.get("aggregation")):
            raise VistaError(f"{what} cannot be evaluated here: {JUDGED.format(found=found)}")
        if file.config.get("dataset_path") in LOCAL_BUILDERS:
            config["dataset_kwargs"] = {**(config.get("dataset_kwargs") or {}), "cache_dir": scratch.name}
        decoding = _decoding(file, config, max_new_tokens)
        Decoding.parse(file.name, {"max_new_tokens": 1, **decoding})
        try:
            with from_cache_only() if offline else contextlib.nullcontext():
                task = ConfigurableMessagesTask(config=config)
        except Exception as error:  # of the hub's libraries, or of the task's code
            raise _not_loaded(file, what, error) from error
        task.set_config("generation_kwargs", decoding)
        name = next(iter(task.aggregation()), None)
        if name is None:
            raise VistaError(f"{what} cannot be evaluated here: it has no metric")
        if limit is not None and limit > len(task.eval_docs):
            raise VistaError(
                f"{what} has {len(task.eval_docs)} documents, but sizes.test asks for {limit}; lower it"
            )
        loaded = Loaded(file, task, str(name), limit, scratch)
        aggregate = task.aggregation()[name]
        if "args" in inspect.signature(aggregate).parameters:
            raise VistaError(f"{loaded.what}: it is written to a file to be judged elsewhere; name another")
        _rehearse(loaded)
    return loaded


def _refusal(file: TaskFile) -> str | None:
    """Why a task cannot be asked here, as far as its file says."""
    config = file.config
    output = config.get("output_type", GENERATES)
    kwargs = config.get("dataset_kwargs") or {}
    if "class" in config:
        return "it is a Python class; only tasks that a file describes are known"
    if output != GENERATES:
        return f"its output_type is {output}; only {GENERATES} is asked, in one round, of text and images"
    if kwargs.get("video") or "From_YouTube" in kwargs:
        return "it shows videos; these models take text and images"
    if config.get("repeats", 1) != 1:
        return f"it asks {config['repeats']} times for each response; responses are greedy here"
    return None


def _chosen(config: dict[str, Any], metric: str | None, what: str) -> Mapping[str, Any]:
    """The entry of the metric that counts, which stays as the only one of ``config``."""
    listed = config.get("metric_list")
    if not listed:
        return {}
    named = {getattr(each["metric"], "__name__", each["metric"]): each for each in listed}
    if metric is not None and metric not in named:
        raise VistaError(f"{what} has no metric {metric!r}; it has {', '.join(map(str, named))}")
    entry = next(iter(named.values())) if metric is None else named[metric]
    config["metric_list"] = [entry]
    return dict(entry)


def _decoding(file: TaskFile, config: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """How responses are decoded: as the task states, but for its length limit, which the suite's bounds.

    The blank line that lmms-eval ends responses at where a task states nothing is left out, as lmms-eval's
    own classes of chat models do.
    """
    stated = dict(config.get("generation_kwargs") or {})
    own = stated.get("max_new_tokens")
    limits = [each for each in (own, limit) if each is not None]
    until = (file.config.get("generation_kwargs") or {}).get("until") or []
    return {**stated, "until": until, **({"max_new_tokens": min(limits)} if limits else {})}


def _not_loaded(file: TaskFile, what: str, error: Exception) -> VistaError:
    """Why lmms-eval could not load a task, and what to do."""
    reason = f"{type(error).__name__}: {in_one_line(' '.join(str(error).split())[:300])}"
    config = file.config
    path, name = str(config.get("dataset_path")), config.get("dataset_name")
    is_local = path in LOCAL_BUILDERS or Path(path).exists()
    unreached = (
        isinstance(error, OSError | ConnectionError) or "cache" in str(error) or "offline" in str(error)
    )
    if is_local or not unreached:
        return VistaError(f"{what} cannot be loaded ({reason}); correct {file.path}, or its data")
    asked = f"{path!r}, {name!r}" if name else f"{path!r}"
    return NotHere(
        f"{what}: its data set {path} is not in the cache, and the hub cannot be reached ({reason}); where "
        f"there is a network, run `python -c \"__import__('datasets').load_dataset({asked})\"`, with "
        "the same HF_HOME and HF_HUB_OFFLINE unset"
    )


def _rehearse(loaded: Loaded) -> None:
    """Score made-up responses without a network.

    Raises:
        VistaError: the task cannot be scored here.
    """
    with without_judge(loaded.what):
        rehearse(
            loaded.task, loaded.metric, [_target(loaded.target(i)) for i in range(len(loaded))], loaded.what
        )


@contextlib.contextmanager
def without_judge(what: str) -> Iterator[None]:
    """Let the code of a task work without a network.

    Args:
        what: The task, for errors.

    Raises:
        VistaError: it wants to use one.
    """
    try:
        with no_network():
            yield
    except NetworkUse as error:
        found = f"scoring looks for the address {error}"
        raise VistaError(f"{what}: {JUDGED.format(found=found)}") from error


def _document(
    index: int, columns: Mapping[str, Any], turns: list[Any], pictures: list[Image.Image], target: Any
) -> Document:
    """A document with what it is known by."""
    said = [
        (turn["role"], "\n".join(part["text"] for part in turn["content"] if part["type"] == "text"))
        for turn in turns
    ]
    system = "\n".join(text for role, text in said if role == "system") or None
    text = "\n".join(text for role, text in said if role != "system")
    answer, ids = _target(target), tuple(map(pixel_id, pictures))
    stated = json.dumps([columns, turns, answer, ids], sort_keys=True, default=_kind)
    fingerprint = hashlib.sha256(stated.encode()).hexdigest()[:16]
    return Document(index, fingerprint, system, text, tuple(pictures), ids, answer)


def _target(value: Any) -> str:
    """A right answer as text; of several, the first."""
    value = copy.copy(value)
    while isinstance(value, list | tuple):
        value = value[0] if value else ""
    return "" if value is None else str(value)


def _kind(value: Any) -> str:
    """What is no plain value; most by their types, since an object's text may name its place in memory."""
    return str(value) if isinstance(value, bytes | date | Decimal) else type(value).__name__
