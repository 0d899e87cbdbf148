r"""What several processes make of short trainings; the first one saves it.

    accelerate launch --num_processes 2 --config_file config/accelerate/fsdp.yaml \
        -m tests.training.launched OUTPUT

Imports take longer than the trainings, so those in float32 and those in bfloat16 share the processes.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import torch

from tests.training import low_precision, two_processes
from vista.config import ModelTraining
from vista.grid import Run
from vista.training.launch import launch_command

CONFIGS = ("fsdp", "zero3")
TWO = ModelTraining(processes=2, device_batch_size=1)


def launch(root: Path, folder: Path) -> None:
    """Have two processes train with FSDP's config, and two with DeepSpeed's."""
    started = []
    for name in CONFIGS:
        training = ModelTraining(processes=2, accelerate=root / f"config/accelerate/{name}.yaml")
        launcher = launch_command(training, Path(), Run.parse("m/t/a/seed0/round1"))
        output = str(folder / f"{name}.pt")
        command = [*launcher[: launcher.index("vista.cli") - 1], "-m", "tests.training.launched", output]
        with (folder / f"{name}.log").open("w") as log:
            environment = {**os.environ, "DS_ACCELERATOR": "cpu"}
            started.append(subprocess.Popen(command, cwd=root, stdout=log, stderr=log, env=environment))
    for name, process in zip(CONFIGS, started, strict=True):
        assert process.wait(timeout=400) == 0, (folder / f"{name}.log").read_text()[-3000:]


def main(output: Path) -> None:
    """Everything, in the ways that the launcher's config allows; the checkpoint of the last way."""
    gc.freeze()  # every trainer collects garbage, most of the time among modules
    exact, low = {}, {}
    for how in two_processes.ways():
        with patch.dict(os.environ, ACCELERATE_MIXED_PRECISION="no"):
            for kind in (*two_processes.KINDS, *(two_processes.ONLINE if how != "zero3" else ())):
                exact[how, kind] = two_processes.run(kind, TWO)
        for case in low_precision.CASES:
            weights = torch.bfloat16 if "lora" in case else torch.float32
            low[how, case] = low_precision.measure(case, TWO, weights, True)
    low_precision.train_and_save(output.with_suffix(""), TWO)
    if torch.distributed.get_rank() == 0:
        torch.save({"exact": exact, "low": low}, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
