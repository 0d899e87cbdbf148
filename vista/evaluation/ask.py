"""Evaluate a model at an endpoint on every test query: stage ``evaluation``, ``vista ask``.

As ``evaluate`` does with a checkpoint: through lmms-eval, with the same queries and scores, kept task by
task. Replies come from the cache where they are there, so predictions that are made again are the same bytes
and cost nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from vista.config import EndpointModel, Suite
from vista.engines.replies import BudgetSpent, Replies
from vista.errors import VistaError
from vista.evaluation.evaluate import answers, query_ids, task_digests, task_files, write_parts
from vista.evaluation.harness import lone_process, write_task_files
from vista.evaluation.parts import Part
from vista.grid import Run
from vista.manifest import Recorder, installed
from vista.paths import Paths

SERVED = "served/"  # in the counts, before the name that a model gives itself


def ask(suite: Suite, paths: Paths, run: Run) -> None:
    """Write the predictions of ``run`` on every test query of every evaluated task.

    Raises:
        VistaError: the run's model has weights, the endpoint fails or the budget is spent; the queries are
            missing or damaged.
        RuntimeError: lmms-eval's report is not one score for each query and their mean.
    """
    entry = suite.endpoints.get(run.model)
    if entry is None:
        raise VistaError(f"{run.id}: {run.model} is not at an endpoint; use `vista evaluate`")
    output = paths.predictions(run.id)
    queries = {task: paths.queries(task, "test") for task in suite.evaluated_tasks}
    settings = {
        "run": run.id,
        "tasks": suite.evaluated_tasks,
        "max_new_tokens": suite.eval_max_new_tokens,
        "asking": entry.asking,
        **entry.prompts.stated,
    }
    recorder = Recorder("evaluation", settings, [*queries.values()])
    expected = {task: query_ids(path) for task, path in queries.items()}
    fingerprints = {task: recorder.fingerprints[path] for task, path in queries.items()}
    keys = part_keys(suite, run, entry, fingerprints, recorder.digests)
    with Replies(entry, run.model, f"model {run.model}") as replies:
        answered = partial(_answered, suite, paths, run, entry, replies)
        counts = write_parts(output, expected, keys, recorder, answered)
        if other := counts["served_other"]:
            names = {name.removeprefix(SERVED) for name in counts if name.startswith(SERVED)}
            listed = ", ".join(sorted(names - {entry.model}))
            print(
                f"{run.id}: {other:.0f} replies name another model than {entry.model!r}: {listed}",
                file=sys.stderr,
            )
        recorder.write(output, {**counts, **replies.counts})


def part_keys(
    suite: Suite, run: Run, entry: EndpointModel, queries: Mapping[str, str], digests: Mapping[str, str]
) -> dict[str, str]:
    """By task, the digest of all that decides a run's predictions on it, but what the server says.

    Args:
        suite: The resolved suite.
        run: The run.
        entry: Its model's entry.
        queries: By task, the SHA-256 of its queries.
        digests: The job's, by which the code that asks and scores each task is known (``vista.dag``).
    """
    stated = [run.id, entry.asking, entry.prompts.stated, suite.eval_max_new_tokens, installed()["lmms-eval"]]
    return task_digests(suite, stated, queries, digests)


def _answered(
    suite: Suite,
    paths: Paths,
    run: Run,
    entry: EndpointModel,
    replies: Replies,
    tasks: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, Part]]:
    """The parts of tasks, made one after another."""
    if not tasks:
        return
    write_task_files(suite, paths, task_files(paths, run), run.model)
    with lone_process():
        from vista.evaluation.endpoint_model import EndpointChatModel

        model = EndpointChatModel(entry, replies)
        for task, ids in tasks.items():
            try:
                rows, counts = answers(model, suite, paths, run, task, ids)
            except BudgetSpent as error:
                raise VistaError(_spent(run.model, entry, replies, task, tasks)) from error
            yield task, Part(rows, counts | model.counts(), entry.endpoint)


def _spent(
    model: str, entry: EndpointModel, replies: Replies, task: str, tasks: Mapping[str, Sequence[str]]
) -> str:
    """What to tell when nothing more may be sent, in the middle of a task."""
    names = list(tasks)
    later = names[names.index(task) + 1 :]
    left = f"{len(tasks[task]) - replies.answered} queries of task {task!r} are left"
    if later:
        count = sum(len(tasks[each]) for each in later)
        left += f", and those of the {count} of {', '.join(later)} that are not in the cache"
    return (
        f"model {model}: the budget of {entry.max_requests} requests is spent ({replies.ledger.path} lists "
        f"them); {left}. Every reply is kept in {entry.cache} and will not be asked for again: raise "
        f"max_requests of {model} in models.yaml, or lower the tasks' sizes.test, and run again"
    )
