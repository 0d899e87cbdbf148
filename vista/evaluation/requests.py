"""What one of lmms-eval's own tasks asks, for an environment that lacks lmms-eval: ``vista requests``.

Stage ``evaluation``; ``vista respond`` reads it in the environment of vLLM.
"""

from __future__ import annotations

import json
from typing import Any

from vista.config import Suite
from vista.evaluation.answering import REQUEST, named
from vista.evaluation.harness import lone_process
from vista.evaluation.own_tasks import load_asked
from vista.lmms.asking import Decoding, split_images
from vista.manifest import Recorder
from vista.paths import Paths
from vista.records import write_rows


def requests(suite: Suite, paths: Paths, task: str) -> None:
    """Write down what a task asks of each document, in the order of its queries.

    Raises:
        VistaError: the task's files or documents are not those that its queries were made of.
    """
    settings: Any = suite.tasks[task]
    stated = {"task": task, "lmms_eval": settings.task, "max_new_tokens": suite.eval_max_new_tokens}
    recorder = Recorder("evaluation", stated, [paths.queries(task, "test")])
    with lone_process():
        loaded, _ = load_asked(suite, paths, task)
        asks, name = loaded.task, loaded.file.name
        decoding = Decoding.parse(name, asks.config.generation_kwargs)
        rows = []
        for index in range(len(loaded)):
            turns, _ = split_images(asks.doc_to_messages(asks.eval_docs[index]))
            rows.append(
                {
                    "name": named(asks.eval_docs_no_media[index], name, index),
                    "turns": json.dumps(turns),
                    "max_new_tokens": decoding.max_new_tokens,
                    "until": list(decoding.until),
                }
            )
    output = paths.requests(task)
    write_rows(output, rows, REQUEST)
    recorder.write(output, {"requests": len(rows)})
