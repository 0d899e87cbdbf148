"""What each job asks of a machine: cores, GPUs, memory and time, from its model's entry.

Schedulers read them; a local run minds cores and GPUs only. No output depends on any of them,
so changing them makes nothing stale.
"""

from __future__ import annotations

import math

from vista.config import BuiltModel, JobResources, ModelStage
from vista.dag.base import Base
from vista.grid import Run

LIGHT_MEMORY = 8_000  # MB, of jobs that run no model: queries with their images are the largest they hold
LIGHT_MINUTES = 60


class Resources(Base):
    """The threads and resources of the rules. ``model`` is a model's name, or a run of it."""

    def _job(self, stage: ModelStage, model: str) -> tuple[JobResources, int]:
        """Resources of a model's jobs of one stage, and in how many processes each runs."""
        entry = self.suite.models[Run.parse(model).model if "/" in model else model]
        processes = entry.training.processes if stage == "training" else 1
        return entry.resources.of(stage), processes

    def cpus(self, stage: ModelStage, model: str) -> int:
        """CPU cores of a job."""
        job, processes = self._job(stage, model)
        return self.suite.threads * processes if job.cpus is None else job.cpus

    def gpus(self, stage: ModelStage, model: str) -> int:
        """GPUs of a job."""
        job, processes = self._job(stage, model)
        return self.suite.gpus * processes if job.gpus is None else job.gpus

    def memory(self, stage: ModelStage, model: str, attempt: int) -> int:
        """Main memory of a job at its first, second … attempt, MB."""
        return math.ceil(1000 * self._job(stage, model)[0].memory_gb * attempt)

    def minutes(self, stage: ModelStage, model: str, attempt: int) -> int:
        """Time limit of a job at its first, second … attempt, minutes."""
        return math.ceil(60 * self._job(stage, model)[0].hours * attempt)

    def only_fetches(self) -> bool:
        """Whether no base model is built here: all are fetched, or lie on disk."""
        return not any(isinstance(entry, BuiltModel) for entry in self.suite.models.values())

    def slurm_extra(self, model: str) -> str:
        """Options of ``sbatch`` for training: in several processes it takes one node, alone."""
        return "--nodes=1 --exclusive" if self._job("training", model)[1] > 1 else ""

    def light_memory(self, attempt: int) -> int:
        """Main memory of a job without a model, MB."""
        return LIGHT_MEMORY * attempt

    def light_minutes(self, attempt: int) -> int:
        """Time limit of a job without a model, minutes."""
        return LIGHT_MINUTES * attempt
