"""Evaluate a checkpoint on every test query: stage ``evaluation``, ``vista evaluate``.

Greedy decoding (or test-time selection) through lmms-eval, whose per-sample scores are kept. What it
reports is checked: one score for each query, and aggregates that are their means. The tasks are evaluated
one after another with one loaded model, so that a task's predictions do not depend on which others there
are, and are kept one by one (``parts``): another task in the suite is all that is answered then. What an
interrupted job had answered stays, response by response.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from vista.chat import check_prompts
from vista.config import Suite, digest
from vista.config.tasks import stated_of_task
from vista.engines.base import Engine
from vista.evaluation.answering import Selection, is_trusted
from vista.evaluation.harness import lone_process, run_lmms_eval, write_task_files
from vista.evaluation.parts import TOGETHER, GivenEngine, KeepingEngine, Kept, Part, Parts
from vista.grid import Run
from vista.manifest import Recorder, check_count, installed, read_manifest
from vista.paths import Paths
from vista.reads import Reads
from vista.records import PREDICTION, Row, read_queries, write_rows
from vista.verdicts import unmarked

METRIC = "accuracy,none"  # lmms-eval's name of the metric without a filter
LMMS_METRIC = "lmms_score,none"
AND = " and "  # between the names of devices


def evaluate(suite: Suite, paths: Paths, run: Run) -> None:
    """Write the predictions of ``run`` on every test query of every evaluated task.

    A checkpoint that had nothing to be trained on passes its status on: no predictions.
    The task files are kept with the predictions, for lmms-eval's own command line.

    Raises:
        VistaError: the checkpoint or a task's queries are missing, damaged or unusable, or there is no GPU
            although the job should have one.
        RuntimeError: lmms-eval's report is not one score for each query and their mean, or it scored a
            response that was cut like any other.
    """
    reads = Reads(suite, paths)
    checkpoint, responses = reads.checkpoint(run), reads.responses(run)
    selection = Selection.of(suite, run)
    output = paths.predictions(run.id)
    queries = {task: paths.queries(task, "test") for task in suite.evaluated_tasks}
    settings = {
        "run": run.id,
        "tasks": suite.evaluated_tasks,
        "max_new_tokens": suite.eval_max_new_tokens,
        "batch_size": suite.eval_batch_size,
        "threads": suite.threads,
        **({} if selection is None else {"selection": selection.stated}),
        **({"engine": suite.engine.kind} if responses else {}),
        **suite.models[run.model].prompts.stated,
    }
    outlines = [checkpoint] if responses else []
    inputs = [checkpoint, *responses, *queries.values()]
    recorder = Recorder("evaluation", settings, inputs, outlines=outlines)
    status = read_manifest(checkpoint).status
    if status != "complete":
        write_rows(output, [], PREDICTION)
        recorder.write(output, {"predictions": 0, "tokens": 0}, status)
        return
    expected = {task: query_ids(path) for task, path in queries.items()}
    fingerprints = {task: recorder.fingerprints[path] for task, path in queries.items()}
    drawn = [recorder.fingerprints[path] for path in responses]
    keys = part_keys(suite, run, checkpoint, fingerprints, recorder.digests, drawn)
    if responses:
        recorder.write(
            output, write_parts(output, expected, keys, recorder, partial(_scored, suite, paths, run))
        )
        return
    kept = Kept(output.parent / ".responses", keys)
    kept.discard_others()
    counts = write_parts(output, expected, keys, recorder, partial(_answered, suite, paths, run, kept))
    recorder.write(output, counts)
    kept.discard()


Answered = Callable[[Mapping[str, Sequence[str]]], Iterator[tuple[str, Part]]]


def write_parts(
    output: Path,
    expected: Mapping[str, Sequence[str]],
    keys: Mapping[str, str],
    recorder: Recorder,
    answered: Answered,
) -> dict[str, float]:
    """Write the predictions on all tasks: those that are kept, and those that are missing.

    Args:
        output: The predictions' file.
        expected: By task, the ids of its queries.
        keys: By task, the digest of all that decides the predictions.
        recorder: Is told the devices that answered.
        answered: Answers tasks of ``expected``, one after another.

    Returns:
        What the manifest counts.
    """
    parts = Parts(output.parent / ".tasks", keys)
    found = {task: parts.read(task) for task in expected}
    missing = {task: ids for task, ids in expected.items() if found[task] is None}
    for task, part in answered(missing):
        parts.write(task, part)
        found[task] = part
    parts.discard_others()
    whole = [part for part in found.values() if part is not None]
    rows = [row for part in whole for row in part.rows]
    recorder.device = AND.join(dict.fromkeys(name for part in whole for name in part.device.split(AND)))
    write_rows(output, rows, PREDICTION)
    return {"predictions": len(rows), **total([part.counts for part in whole])}


def _answered(
    suite: Suite, paths: Paths, run: Run, kept: Kept, tasks: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Part]]:
    """The parts of tasks, made one after another; the model is loaded only if there are any.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        run: The run.
        kept: The responses of a job that was interrupted, and where this one keeps its own.
        tasks: By task, the ids of its queries.
    """
    if not tasks:
        return
    from vista.engines.checkpoints import device_name, require_gpu  # torch takes seconds to import

    require_gpu(suite, run.model, "evaluation")
    with _model(suite, paths, run) as model:
        engine, together = model.answering.engine, TOGETHER * suite.eval_batch_size
        for task, ids in tasks.items():
            keeping = KeepingEngine(engine, kept, task, together, device_name(model.device))
            model.answering.engine = keeping
            rows, counts = _on_task(model, suite, paths, run, task, ids)
            yield task, Part(rows, counts, AND.join(keeping.devices))


def _scored(
    suite: Suite, paths: Paths, run: Run, tasks: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Part]]:
    """The parts of tasks, of responses that were generated in another environment."""
    if not tasks:
        return
    (responses,) = Reads(suite, paths).responses(run)
    device = read_manifest(responses).device
    with _model(suite, paths, run, GivenEngine.read(responses)) as model:
        for task, ids in tasks.items():
            rows, counts = _on_task(model, suite, paths, run, task, ids)
            yield task, Part(rows, counts, device)


@contextmanager
def _model(suite: Suite, paths: Paths, run: Run, engine: Engine | None = None) -> Iterator[Any]:
    """The checkpoint of a run as a model of lmms-eval, while there are task files for it.

    Args:
        suite: The resolved suite.
        paths: Where everything is.
        run: The run.
        engine: Answers; default: transformers.
    """
    write_task_files(suite, paths, task_files(paths, run), run.model)
    with lone_process():
        from vista.evaluation.chat_model import VistaChatModel

        model = VistaChatModel(
            Reads(suite, paths).checkpoint(run),
            batch_size=suite.eval_batch_size,
            padding=suite.padding,
            trust_remote_code=is_trusted(suite, run),
            selection=Selection.of(suite, run),
            engine=engine,
        )
        processor = model.answering.checkpoint.processor
        check_prompts(processor, suite.models[run.model].prompts, run.model)
        yield model


def _on_task(
    model: Any, suite: Suite, paths: Paths, run: Run, task: str, ids: Sequence[str]
) -> tuple[list[Row], dict[str, float]]:
    """``answers``, with what the manifest counts of candidates."""
    model.answering.candidate_tokens = 0
    rows, counts = answers(model, suite, paths, run, task, ids)
    if model.answering.selection is not None:
        counts["candidates"] = model.answering.selection.k * len(rows)
        counts["tokens"] += model.answering.candidate_tokens
    return rows, counts


def task_files(paths: Paths, run: Run) -> Path:
    """The folder of the task files that a run is evaluated with."""
    return paths.predictions(run.id).parent / "tasks"


def answers(
    model: Any, suite: Suite, paths: Paths, run: Run, task: str, query_ids: Sequence[str]
) -> tuple[list[Row], dict[str, float]]:
    """A model's predictions on one task, and what the manifest counts of them.

    Args:
        model: A model of lmms-eval that keeps in ``cut`` the documents whose response was cut.
        suite: The resolved suite.
        paths: Where everything is.
        run: The run.
        task: The task.
        query_ids: The ids of its queries.

    Raises:
        RuntimeError: lmms-eval's report is not one score for each query and their mean, or it scored a
            response that was cut like any other.
    """
    model.cut.clear()
    evaluator = suite.tasks[task].evaluator
    if evaluator is None:
        report = run_lmms_eval(model, task_files(paths, run), [task])
        rows = predictions(run.id, task, query_ids, report)
        counts = report_counts(report, [task])
    else:  # by name: other tasks' predictions do not depend on its code
        rows, counts = import_module(evaluator).answered(model, suite, paths, run, task)
    if counts["unfinished"] != len(model.cut):
        raise RuntimeError(
            f"task {task}: {len(model.cut)} responses were cut at the length limit, but lmms-eval scored "
            f"{counts['unfinished']} as cut"
        )
    return rows, counts


# Of the packages that manifests record, those that predictions are made with.
PACKAGES = ("torch", "transformers", "lmms-eval", "numpy")


def part_keys(
    suite: Suite,
    run: Run,
    checkpoint: Path,
    queries: Mapping[str, str],
    digests: Mapping[str, str],
    responses: Sequence[str] = (),
) -> dict[str, str]:
    """By task, the digest of all that decides a run's predictions on it.

    The packages' versions are part of it although they make no output stale: a manifest names one of each.

    Args:
        suite: The resolved suite.
        run: The run.
        checkpoint: Its weights.
        queries: By task, the SHA-256 of its queries.
        digests: The job's, by which the code that answers and scores each task is known (``vista.dag``).
        responses: The SHA-256 of what was answered before, if it was.
    """
    selection = Selection.of(suite, run)
    versions = installed()
    stated = [
        run.id,
        read_manifest(checkpoint).checksums,
        is_trusted(suite, run),
        suite.eval_max_new_tokens,
        None if selection is None else selection.stated,
        suite.models[run.model].prompts.stated,
        {name: versions.get(name) for name in PACKAGES},
        *responses,
    ]
    return task_digests(suite, stated, queries, digests)


def task_digests(
    suite: Suite, stated: Sequence[Any], queries: Mapping[str, str], digests: Mapping[str, str]
) -> dict[str, str]:
    """By task, the digest of what decides all predictions, ``stated``, and of what decides those on it."""
    found = {}
    for task, sha in queries.items():
        spec = suite.tasks[task]
        definition = spec.definition()
        own = [] if definition is None else [definition, stated_of_task(spec)]
        code = digests.get(f"code of {task}")
        found[task] = digest([*stated, task, sha, spec.lmms_scorer, code, *own])
    return found


def total(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sums of what several parts count."""
    names = dict.fromkeys(name for each in counts for name in each)
    return {name: sum(each.get(name, 0) for each in counts) for name in names}


def query_ids(path: Path) -> list[str]:
    """Ids of a file's queries, in its order."""
    rows = read_queries(path)
    check_count(path, len(rows), "queries", required=False)
    return [row["query_id"] for row in rows]


def predictions(run: str, task: str, query_ids: Sequence[str], report: Mapping[str, Any]) -> list[Row]:
    """A task's predictions in the order of ``query_ids``, from lmms-eval's per-sample log.

    Raises:
        RuntimeError: there is not exactly one for each query, or lmms-eval's aggregate is not
            the mean of their scores.
    """
    samples = report["samples"][task]
    by_id = {sample["query_id"]: sample for sample in samples}
    if len(samples) != len(query_ids) or by_id.keys() != set(query_ids):
        raise RuntimeError(
            f"task {task}: lmms-eval reports {len(samples)} samples of {len(by_id)} queries "
            f"for {len(query_ids)} test queries"
        )
    rows = [_prediction(run, task, by_id[query_id]) for query_id in query_ids]
    mean = math.fsum(row["score"] for row in rows) / len(rows)
    reported = report["results"][task][METRIC]
    if not math.isclose(mean, reported, abs_tol=1e-9):
        raise RuntimeError(
            f"task {task}: lmms-eval reports an accuracy of {reported}, the scores' mean is {mean}"
        )
    return rows


def _prediction(run: str, task: str, sample: Mapping[str, Any]) -> Row:
    """One row of ``records.PREDICTION``."""
    response, finished = unmarked(sample["filtered_resps"][0])
    return {
        "run": run,
        "task": task,
        "query_id": sample["query_id"],
        "cluster_id": sample["cluster_id"],
        "response": response,
        "answer": sample["extracted"],
        "finished": finished,
        "score": sample["score"],
    }


def report_counts(report: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, float]:
    """What the manifest counts: response tokens, and each task's accuracy as reported.

    Of all tasks and of each also how many responses have no answer (``unanswered``), and how many were cut
    at the length limit (``unfinished``); one may be both. For benchmarks that lmms-eval has a task for, also
    the accuracy by its own scorer, and the number of responses on which that scorer and ours differ.
    """
    counted = [sample["token_counts"][0] for task in tasks for sample in report["samples"][task]]
    counts = {"tokens": sum(counts["output_tokens"] for counts in counted), "unanswered": 0, "unfinished": 0}
    for task in tasks:
        samples = report["samples"][task]
        counts[f"unanswered/{task}"] = sum(sample["extracted"] is None for sample in samples)
        counts[f"unfinished/{task}"] = sum(not sample["finished"] for sample in samples)
        for name in ("unanswered", "unfinished"):
            counts[name] += counts[f"{name}/{task}"]
        counts[f"accuracy/{task}"] = report["results"][task][METRIC]
        if LMMS_METRIC in report["results"][task]:
            counts[f"lmms_score/{task}"] = report["results"][task][LMMS_METRIC]
            differing = [sample["lmms_score"] != sample["score"] for sample in samples]
            counts[f"lmms_differs/{task}"] = sum(differing)
    return counts
