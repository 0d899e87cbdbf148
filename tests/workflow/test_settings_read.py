"""What the jobs of the finished run read of the suite is what their digests, inputs and code depend on.

``tests/loaded/sitecustomize.py`` had each job write down the fields that it read. Each field is given another
value: a job that read it must then differ, and one that did not must not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.test_digests import HELD, another, jobs, owner, parts
from vista.config import Suite, load_resolved
from vista.dag import Dag
from vista.settings import Strict

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

COMMANDS = {
    "tasks",
    "models",
    "sample",
    "resample",
    "score",
    "curate",
    "train",
    "evaluate",
    "collect",
    "cost",
}

# Fields that jobs read although they do not decide what is made, with the reason.
UNDECIDING = {
    "SuiteFields.results": "where files are; every output has its own digest wherever they lie",
    "SuiteFields.threads": "how a job uses the machine",
    "SuiteFields.gpus": "whether the job should have a GPU, which it then refuses to do without",
    "JobResources.gpus": "the same",
    "SuiteFields.max_rounds": "the other value is about the models of another suite",
    "SuiteFields.only": "the same",
    "SuiteFields.eval_batch_size": "rows of one length are decoded together, and do not depend on each other",
    "HfEngineSettings.batch_size": "the same",
    "ScoringSettings.batch_size": "the same",
    "SuiteFields.padding": "nor do rows of unequal lengths, but for rounding",
    "ModelTraining.processes": "a step has the same examples, whoever computes it",
    "ModelTraining.device_batch_size": "the same",
    "ModelTraining.gradient_checkpointing": "what is kept and what is computed again",
    "ModelTraining.save_every": "from where an interrupted training goes on",
    "ModelTraining.save_minutes": "the same",
    "ModelTraining.workers": "who encodes the prompts, in which order they are read all the same",
}


# The same, where only some jobs read in vain.
READ_IN_VAIN = {
    "models: Prompts.system": "whether the model can be asked so",
    "models: SelfImprovement.reflect": "whether it knows the words of what it will be asked",
    "train: SelfImprovement.reflect": "the same",
    "train: SuiteFields.train_sets": "which file an error names",
    "train: TrainingSettings.report_to": "who else is told the losses",
    "train: SuiteFields.name": "what these call the project",
    "curate: SelfImprovement.accumulate": "a first round has one policy in any case",
    "curate: SelfImprovement.mix_seed": "pairs have no rows of the seed split in any case",
    "curate: Prompts.answer_mark": "goes with a query to where it is verified",
    "score: Prompts.answer_mark": "the same",
    "collect: SuiteFields.name": "stated in the manifest",
    # Two methods read the same rollouts: what one of them says gives them another name, for that one.
    "score: PrefixSettings.j": "shared",
    "score: PrefixSettings.order": "shared",
    "score: PrefixSettings.top_k": "shared",
    "score: Sampling.k": "shared",
    "score: Sampling.max_new_tokens": "shared",
    "score: Sampling.temperature": "shared",
    "score: ScoreFilterSettings.scope": "shared",
    "resample: PrefixSettings.j": "shared",
    "resample: PrefixSettings.order": "shared",
    "resample: PrefixSettings.top_k": "shared",
    "resample: Sampling.k": "shared",
    "resample: Sampling.max_new_tokens": "shared",
    "resample: Sampling.temperature": "shared",
    "sample: Sampling.k": "shared",
    "sample: Sampling.max_new_tokens": "shared",
    "sample: Sampling.temperature": "shared",
}
# What digests hold although the job does not read it. (Those of tables hold all that is said of methods.)
UNREAD = {
    "train: SelfImprovement.mix_seed": "whether the training set has rationales that somebody wrote",
}


@dataclass(frozen=True)
class Traced:
    """A job of the run: its key in ``jobs``, the fields that it read, and the objects that it read whole."""

    key: tuple[str, str]
    read: frozenset[str]
    whole: frozenset[str]


def traced(folder: Path, suite: Suite) -> Iterator[Traced]:
    """What the jobs wrote down."""
    for file in sorted(folder.glob("*.json")):
        found = json.loads(file.read_text())
        command, _, *rest = found["arguments"]
        if command == "tables":
            command = "results"
        if len(rest) == 3:  # of rollouts, the last is the shard
            rest[2] = f"{rest[2]}-of-{suite.shards}"
        if command in COMMANDS:
            yield Traced((command, "/".join(rest)), frozenset(found["read"]), frozenset(found["dumped"]))


def compared(suite: Suite, made: list[Traced]) -> tuple[set[str], set[str]]:
    """Fields that a job read and does not depend on, and those that it depends on and did not read.

    Returns:
        Two sets of lines, such as ``curate: SelfImprovement.dedupe``.
    """
    before, unheeded, unread = jobs(suite), set[str](), set[str]()
    for path, settings, put in parts(suite, lambda new: new):
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if name == "kind" or isinstance(value, Strict) or (settings is suite and name in HELD):
                continue
            new = another(settings, name)
            if new == value:
                continue
            after = jobs(put(settings.model_copy(update={name: new})))
            field, where = owner(type(settings), name), f"{path}.{name}".lstrip(".")
            for job in made:
                differs = after.get(job.key) != before[job.key]
                line = f"{job.key[0]}: {field}"
                if where in job.read and not differs and field not in UNDECIDING:
                    unheeded.add(line)
                # Another name of a policy is another job, which reads the same.
                known = where in job.read or path.lstrip(".") in job.whole
                if differs and job.key in after and not known and job.key[0] != "results":
                    unread.add(line)
    return unheeded, unread


def test_jobs_depend_on_the_settings_that_they_read_and_on_no_others(
    finished: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    monkeypatch.setattr(Dag, "keep", lambda dag, file, entries: str(file))
    suite = load_resolved(Path("results/smoke/suite.json"))
    made = list(traced(finished.folder / "loaded", suite))
    assert {job.key[0] for job in made} == COMMANDS
    unheeded, unread = compared(suite, made)
    assert unheeded == set(READ_IN_VAIN)
    assert unread == set(UNREAD)
