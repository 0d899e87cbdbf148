"""What the jobs of a model need of a machine. A scheduler reads it; no result depends on it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vista.settings import Strict

ModelStage = Literal["models", "rollouts", "training", "evaluation"]


class JobResources(Strict):
    """One job's share of a machine. Memory and time grow with every retry: twice, three times as much."""

    cpus: int | None = Field(
        None, ge=1, description="CPU cores; default: the suite's `threads`, for each training process."
    )
    gpus: int | None = Field(
        None, ge=0, description="GPUs; default: the suite's `gpus`, for each training process."
    )
    memory_gb: float = Field(32.0, gt=0.0, description="Main memory, GB, of the whole job.")
    hours: float = Field(4.0, gt=0.0, description="Time limit, hours.")


class ModelResources(Strict):
    """Resources by stage. They serve `profiles/slurm`; on one machine only CPUs and GPUs count."""

    models: JobResources = Field(
        default_factory=lambda: JobResources(), description="Fetching or building the base checkpoint."
    )
    rollouts: JobResources = Field(
        default_factory=lambda: JobResources(), description="Each job that samples, resamples or scores."
    )
    training: JobResources = Field(
        default_factory=lambda: JobResources(), description="Training, all processes together."
    )
    evaluation: JobResources = Field(
        default_factory=lambda: JobResources(), description="Evaluating one checkpoint on every task."
    )

    def of(self, stage: ModelStage) -> JobResources:
        """The resources of a stage's jobs."""
        found: JobResources = getattr(self, stage)
        return found

    @classmethod
    def small(cls) -> ModelResources:
        """Enough for a model of a few million parameters."""
        job = JobResources(memory_gb=4.0, hours=1.0)
        return cls(models=job, rollouts=job, training=job, evaluation=job)
