"""The README.md of what is exported: the hub's front matter, and what made it. For ``vista export``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from tabulate import tabulate

from vista.analysis.stats import PERCENT, overall_mean
from vista.config import BuiltModel, HubModel, Suite
from vista.damage import sha256
from vista.errors import VistaError
from vista.export.formats import FILES, PARQUET, Format, name_of
from vista.export.sources import Source, TrainingSet, Weights
from vista.manifest import Manifest
from vista.records import Row
from vista.shown import as_markdown
from vista.task_kinds.benchmarks import BenchmarkSettings, HubFiles

Part = str | list[list[Any]]  # of a card: a paragraph, or a table with its head
# The hub's classes of sizes, by their upper ends.
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
LARGER = "1M<n<10M"
# How each format is loaded, from a folder that is called {folder}.
LOADED: dict[Format, str] = {
    "trl": """\
```python
from datasets import load_dataset

train = load_dataset("{folder}", split="train")  # for TRL's {trainer}, as it is; set max_length=None
```

Sampled responses are here as text, which TRL tokenises; `--to hub-folder` has their tokens as well.""",
    "hub-folder": """\
```python
from datasets import load_dataset

train = load_dataset("{folder}", split="train")
```

`completion_ids` (of pairs `chosen_ids`, `rejected_ids`) are the tokens as they were sampled, of the tokenizer
of model `{model}`, without the end token; null for text that nobody sampled.""",
    "llama-factory": """\
```yaml
dataset_dir: {folder}
media_dir: {folder}
dataset: {name}
```""",
    "ms-swift": """\
```bash
ROOT_IMAGE_DIR={folder} swift {command} --dataset {folder}/train.jsonl …
```""",
}


def dataset_card(source: TrainingSet, to: Format, folder: Path) -> str:
    """The card of a training set whose files are in ``folder``."""
    run, rows = source.run, len(source.rows)
    tasks = list(dict.fromkeys(task for task, _ in source.counts))
    pattern = "data/train-*" if FILES[to] == PARQUET else FILES[to]
    data = DatasetCardData(
        **_licence(source.suite, tasks),
        task_categories=["image-text-to-text"],
        tags=["vista-bench", run.method, *(["preference", "dpo"] if source.pairs else ["sft"])],
        size_categories=[next((name for end, name in SIZES.items() if rows < end), LARGER)],
        pretty_name=f"Training set of {run.id}",
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": pattern}]}],
    )
    loaded = LOADED[to].format(
        folder="FOLDER",
        trainer="DPOTrainer" if source.pairs else "SFTTrainer",
        model=run.model,
        name=name_of(source),
        command="rlhf --rlhf_type dpo" if source.pairs else "sft",
    )
    counted = [[*key, count] for key, count in source.counts.items()]
    parts: list[Part] = [
        f"# Training set of `{run.id}`",
        [*_made_by(source, source.manifest), ["what", _what(source)], ["rows", rows], ["format", to]],
        "## How to load it",
        loaded,
        "## What is in it",
        [["task", "source", "rows"], *counted],
        *_of_cut_responses(source),
        *_licence_part(source.suite, tasks),
        _whose_words(source),
        "## What made it",
        _settings(source.manifest.settings),
        "What was counted on the way:",
        _settings(source.manifest.counts),
        *_files(folder),
    ]
    return _card(data, parts)


def model_card(source: Weights, folder: Path) -> str:
    """The card of a checkpoint whose files are in ``folder``, with the results of its evaluation."""
    run, suite = source.run, source.suite
    entry = suite.models[run.model]
    tasks = suite.train_sets[run.train_set]
    predictions = source.predictions()
    results = [] if predictions is None else _results(suite, predictions)
    known = {task.licence for name in tasks if (task := suite.tasks[name])} == {"apache-2.0"}
    data = ModelCardData(
        model_name=name_of(source),
        license="apache-2.0" if isinstance(entry, BuiltModel) and known else "unknown",
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        base_model=entry.repo if isinstance(entry, HubModel) else None,
        datasets=list(dict.fromkeys(repo for name in tasks if (repo := _repository(suite, name)[0]))) or None,
        tags=["vista-bench", run.method, source.section],
        eval_results=[result for result, _, _ in results] or None,
    )
    scores = [
        ["task", "accuracy, %", "standard error", "test queries"],
        *(
            [result.dataset_name, f"{result.metric_value:.2f}", f"{error:.2f}", n]
            for result, error, n in results
        ),
    ]
    parts: list[Part] = [
        f"# `{run.id}`",
        _made_by(source, source.manifest),
        "```python\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        'processor = AutoProcessor.from_pretrained("FOLDER")\n'
        'model = AutoModelForImageTextToText.from_pretrained("FOLDER")\n```',
        "## Results",
        *(
            [scores, "On the suite's test splits; errors are over test images."]
            if results
            else ["Not evaluated."]
        ),
        *_licence_part(suite, tasks),
        f"The weights are those of base model `{run.model}`, trained further"
        + (
            "; it was built from scratch on generated data."
            if isinstance(entry, BuiltModel)
            else ": its licence binds them, too."
        ),
        "## What made it",
        _settings(source.manifest.settings),
        "What was counted on the way:",
        _settings(source.manifest.counts),
        *_files(folder),
    ]
    return _card(data, parts)


def _card(data: DatasetCardData | ModelCardData, parts: Iterable[Part]) -> str:
    """Front matter, then paragraphs and tables."""
    body = [part if isinstance(part, str) else _table(part) for part in parts]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n"


def _table(rows: list[list[Any]]) -> str:
    cells = [[as_markdown(str(cell)) for cell in row] for row in rows]
    return str(tabulate(cells[1:], headers=cells[0], tablefmt="pipe", disable_numparse=True))


def _made_by(source: Source, manifest: Manifest) -> list[list[Any]]:
    """The first lines of a card: the run, and the code."""
    run = source.run
    dirty = {True: ", with uncommitted changes", False: "", None: ""}[manifest.dirty]
    packages = ", ".join(f"{name} {version}" for name, version in manifest.packages.items())
    return [
        ["made by", "VISTA-bench"],
        ["suite", source.suite.name],
        ["base model", f"{run.model} ({_origin(source.suite, run.model)})"],
        ["train set", f"{run.train_set}: {', '.join(source.suite.train_sets[run.train_set])}"],
        ["method", run.method],
        ["seed, round", f"{run.seed}, {run.round}"],
        ["commit", f"{manifest.commit}{dirty}"],
        ["packages", packages],
    ]


def _origin(suite: Suite, model: str) -> str:
    entry = suite.models[model]
    if isinstance(entry, HubModel):
        return f"{entry.repo} at {entry.revision}"
    return "built from scratch" if isinstance(entry, BuiltModel) else "a folder on disk"


def _what(source: TrainingSet) -> str:
    if source.section == "seed":
        return "examples for SFT: the seed split with its rationales"
    kind = "pairs of a right and a wrong solution, for DPO" if source.pairs else "examples for SFT"
    return f"{kind}: solutions that a policy wrote and whose answers were verified"


def _of_cut_responses(source: TrainingSet) -> list[str]:
    """What a format of texts cannot say: which responses were cut at the length limit."""
    cut = sum(not row.get("rejected_finished", True) for row in source.rows)
    if not cut:
        return []
    return [
        f"{cut} rejected responses were cut at the length limit (`rejected_finished`): they end in the "
        "middle, and other programs will train on an end token after them."
    ]


def _whose_words(source: TrainingSet) -> str:
    return (
        "Responses with the source `seed` are gold rationales; all others are what the policy wrote, "
        f"starting from model `{source.run.model}`, whose licence may have conditions for them."
    )


def _repository(suite: Suite, task: str) -> tuple[str | None, str | None]:
    """The hub's repository of a task's data and its revision, where it is from there."""
    settings = suite.tasks[task]
    if isinstance(settings, BenchmarkSettings) and isinstance(settings.source, HubFiles):
        return settings.source.repo, settings.source.revision
    return None, None


def _licence(suite: Suite, tasks: Sequence[str]) -> dict[str, Any]:
    """The front matter's licence: that of all tasks, if they have one."""
    found = {suite.tasks[task].licence for task in tasks}
    if None in found:
        return {"license": "unknown"}
    if len(found) == 1:
        return {"license": str(found.pop())}
    return {"license": "other", "license_name": "several", "license_link": "README.md"}


def _licence_part(suite: Suite, tasks: Sequence[str]) -> list[Part]:
    rows: list[list[Any]] = [["task", "kind", "from", "licence"]]
    for task in tasks:
        repository, revision = _repository(suite, task)
        origin = (
            f"{repository} at {revision}"
            if repository
            else "generated"
            if suite.tasks[task].has_scene
            else ""
        )
        licence = suite.tasks[task].licence or "not known: ask whoever published the data"
        rows.append([task, suite.tasks[task].kind, origin or "files on disk", licence])
    return ["## Licence of the source data", rows]


def _results(suite: Suite, predictions: list[Row]) -> list[tuple[EvalResult, float, int]]:
    """Of each task its accuracy in the hub's form, with the standard error and the number of queries.

    Raises:
        VistaError: a prediction has no score.
    """
    table = pd.DataFrame(predictions)
    if table["score"].isna().any():
        task = table.loc[table["score"].isna(), "task"].iloc[0]
        raise VistaError(f"task {task!r}: a prediction has no score; evaluate the run again")
    found = []
    for task, scores in table.groupby("task", sort=False):
        estimate = overall_mean(scores)
        repository, revision = _repository(suite, str(task))
        result = EvalResult(
            task_type="image-text-to-text",
            dataset_type=repository or f"vista-bench/{suite.tasks[str(task)].kind}",
            dataset_name=str(task),
            dataset_config=str(task),  # results of one type and configuration are merged, whatever their name
            dataset_split="test",
            dataset_revision=revision,
            metric_type="accuracy",
            metric_name="accuracy, %",
            metric_value=round(PERCENT * estimate.mean, 2),
        )
        found.append((result, PERCENT * estimate.se, estimate.n))
    return found


def _settings(value: Any) -> str:
    """Settings or counts as a block of JSON; of files on the author's disk, only their names."""
    text = json.dumps(_public(value), indent=2, ensure_ascii=False, sort_keys=True)
    return f"```json\n{text}\n```"


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _public(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_public(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def _files(folder: Path) -> list[Part]:
    """The checksums of all files; of images, whose names are their checksums, only the number."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    images = [file for file in files if file.parent.name == "images"]
    rows: list[list[Any]] = [["file", "bytes", "SHA-256"]]
    rows += [
        [str(file.relative_to(folder)), file.stat().st_size, sha256(file)]
        for file in files
        if file not in images
    ]
    named = [f"And {len(images)} images, named by their SHA-256."] if images else []
    return ["## Files", rows, *named]
