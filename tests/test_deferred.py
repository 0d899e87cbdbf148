"""wandb is imported where it is used, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = """
import sys
from importlib import import_module
from vista.warm import LIBRARIES, tell_libraries

tell_libraries(1)
"""
IMPORTED = "any(name.startswith('wandb.') for name in sys.modules)"


def run(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", START + script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def test_the_libraries_find_it_and_do_not_import_it() -> None:
    run(f"""
for name in LIBRARIES:
    import_module(name)
from importlib.metadata import version
from inspect import getmodule
from accelerate.utils import is_wandb_available as by_accelerate
from transformers.integrations import is_wandb_available as by_transformers
import trl.trainer.base_trainer as trainer
from lmms_eval import logging_utils

assert by_accelerate() and by_transformers()
assert trainer.wandb.run is None
assert logging_utils.wandb.__version__ == version("wandb")
assert getmodule(import_module).__name__ == "importlib"
assert not {IMPORTED}
""")


@pytest.mark.parametrize(
    "use",
    [
        "import wandb; wandb.Settings",
        "from wandb import Settings",
        "from wandb.sdk.wandb_settings import Settings",
        "import wandb.sdk.wandb_settings; wandb.sdk.wandb_settings.Settings",
    ],
)
def test_whoever_uses_it_has_the_real_one(use: str) -> None:
    run(f"""
import wandb as held
assert not {IMPORTED}
{use}
assert {IMPORTED}
import wandb
assert type(wandb).__name__ == "module"
assert held.Settings is wandb.Settings
wandb.run = "one that was begun"
assert held.run == "one that was begun"
""")


def test_a_run_reports_to_the_real_one() -> None:
    run("""
from transformers.integrations import WandbCallback
callback = WandbCallback()
import os, tempfile
os.environ["WANDB_DIR"] = tempfile.mkdtemp()
callback._wandb.init(mode="disabled")
import wandb
assert wandb.run is not None and callback._wandb.run is wandb.run
""")


def test_one_that_was_imported_stays() -> None:
    run("""
import wandb
kept = sys.modules["wandb"]
kept.Settings
held = sys.modules["wandb"]
tell_libraries(1)
assert sys.modules["wandb"] is held is not kept
""")


def test_where_it_is_not_installed_nothing_stands_in_for_it() -> None:
    run("""
from unittest.mock import patch
from vista import deferred

sys.modules.pop("wandb")
with patch.object(deferred, "find_spec", lambda name: None):
    deferred.defer()
assert "wandb" not in sys.modules
""")
