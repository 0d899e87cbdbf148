"""What ``vista doctor`` says of a task of lmms-eval: whether it is here, and can be asked and scored."""

from __future__ import annotations

import os
from typing import Literal

from vista.errors import VistaError
from vista.plugins import make
from vista.task_kinds.lmms_eval import LmmsEvalSettings


def look(task: LmmsEvalSettings) -> tuple[Literal["ok", "warn", "fail"], str, str]:
    """Verdict, finding and remedy. Importing lmms-eval takes seconds; nothing is downloaded."""
    from vista.lmms.loading import NotHere

    try:
        documents = len(make(task).load(offline=True))
    except NotHere as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
        return "fail" if offline else "warn", *what_and_remedy(error)
    except VistaError as error:
        return "fail", *what_and_remedy(error)
    return "ok", f"lmms-eval's {task.task}: {documents} documents, scored without a judge", ""


def what_and_remedy(error: VistaError) -> tuple[str, str]:
    """What is wrong, and what its message says to do."""
    what, _, remedy = str(error).rpartition("; ")
    return (what, remedy) if what else (remedy, "see the message")
