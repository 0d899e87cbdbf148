"""The smoke suite through ``profiles/slurm`` on a real Slurm, while nodes and jobs fail.

``make test-slurm`` runs it: it installs Slurm where it is missing, and needs root for its daemons.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.slurm.cluster import Cluster, Node, run

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

# One method through every stage: the queue has more jobs than the cluster has cores in any case.
METHODS = "methods: [zero-shot, sft-seed, vista-dpo]"
# Two shards and fake GPUs: what the paper's suite asks for, and no other number than the local run.
SETTINGS = ("--config", "gpus=1", "shards=2")
# A job that hangs is found after a minute; the next attempt has two.
LIMIT = ("--set-resources", "evaluate:runtime=attempt")
# The cluster has no slurmdbd; and a test has no time to wait for 40 seconds.
POLLING = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5")
TARGETS = ("results/smoke/tables/main.csv", "results/smoke/tables/cost.csv")


def make_checkout(root: Path, folder: Path) -> Checkout:
    """A checkout whose smoke suite has ``METHODS`` alone."""
    checkout = Checkout.make(root, folder)
    suite = checkout.folder / "config/smoke.yaml"
    written = re.sub(r"(?m)^methods: .*\nmethod_overrides:\n  .*$", METHODS, suite.read_text())
    assert METHODS in written
    suite.write_text(written)
    return checkout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as started:
        yield started


def on_cluster(checkout: Checkout) -> Checkout:
    """The checkout, after its user wrote partition and account into the profile's marked place."""
    profile = checkout.folder / "profiles/slurm/config.yaml"
    text = profile.read_text()
    filled = text.replace("slurm_partition: gpu\n", "slurm_partition: test\n")
    filled = filled.replace("slurm_account: my-account\n", "slurm_account: testers\n")
    assert filled.count("test") == text.count("test") + 2
    profile.write_text(filled)
    return checkout


def submit(checkout: Checkout) -> subprocess.Popen[str]:
    """``snakemake`` with the profile, in the background, its output in ``snakemake.out``."""
    with (checkout.folder / "snakemake.out").open("w") as out:
        return subprocess.Popen(
            [
                *("snakemake", *TARGETS, "--profile", "profiles/slurm"),
                *("--configfile", "config/smoke.yaml", *SETTINGS, *LIMIT, *POLLING),
            ],
            cwd=checkout.folder,
            env=checkout.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )


def said(checkout: Checkout) -> str:
    return (checkout.folder / "snakemake.out").read_text()


@dataclass(frozen=True)
class Job:
    """A running job: Slurm's number, its node, and what it runs."""

    number: str
    node: str
    what: str


def running() -> list[Job]:
    """Jobs that run now; ``what`` is the plugin's comment: the rule and its wildcards."""
    lines = run("squeue", "--noheader", "--states=RUNNING", "--format=%i|%N|%k").splitlines()
    return [Job(*line.split("|")) for line in lines]


def processes(checkout: Checkout, command: str) -> list[int]:
    """The ``vista <command>`` processes that work in this checkout, on whichever node."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
            inside = (entry / "cwd").resolve() == checkout.folder.resolve()
        except (OSError, ValueError):
            continue
        if inside and command in words and any(word.endswith("/vista") for word in words):
            found.append(int(entry.name))
    return found


@dataclass
class Faults:
    """What is done to the cluster, each once, as soon as its moment comes."""

    cluster: Cluster
    checkout: Checkout
    done: list[str] = field(default_factory=list)
    off: Node | None = None

    def look(self) -> None:
        """Do what is due."""
        jobs = running()
        for fault in (self.hangs, self.node_fails, self.requeued, self.cancelled, self.killed):
            if fault.__name__ not in self.done and fault(jobs):
                self.done.append(fault.__name__)
        if self.off is not None and self.cluster.states()[self.off.name].startswith("down"):
            self.cluster.start_node(self.off)
            self.off = None

    def node_fails(self, jobs: list[Job]) -> bool:
        """A node is gone with the training run on it, and back when Slurm has missed it."""
        if "requeued" not in self.done:
            return False  # the first training run is all that the others wait for
        job = next((job for job in jobs if "train" in job.what and processes(self.checkout, "train")), None)
        node = next((node for node in self.cluster.nodes if job and node.name == job.node), None)
        if node is None or node.namespace is None:
            return job is not None  # one node only: there is none to go on with
        self.cluster.cut_power(node)
        self.off = node
        return True

    def requeued(self, jobs: list[Job]) -> bool:
        """An administrator puts a sampling job back into the queue."""
        return self._with("rule_sample", jobs, lambda job: run("scontrol", "requeue", job.number))

    def cancelled(self, jobs: list[Job]) -> bool:
        """Somebody cancels a job."""
        return self._with("rule_resample", jobs, lambda job: run("scancel", job.number))

    def hangs(self, jobs: list[Job]) -> bool:
        """A job does nothing any more, and so runs into its time limit."""
        return self._signal("evaluate", signal.SIGSTOP)

    def killed(self, jobs: list[Job]) -> bool:
        """A job's process dies by a signal."""
        return self._signal("score", signal.SIGKILL)

    def _signal(self, command: str, number: signal.Signals) -> bool:
        found = processes(self.checkout, command)
        for process in found[:1]:
            os.kill(process, number)
        return bool(found)

    def _with(self, rule: str, jobs: list[Job], act: Callable[[Job], str]) -> bool:
        job = next((job for job in jobs if job.what.startswith(rule)), None)
        if job is not None:
            act(job)
        return job is not None


def interrupt(checkout: Checkout) -> None:
    """Ctrl-C as soon as a job runs: Snakemake cancels it and ends."""
    process = submit(checkout)
    while not running():
        assert process.poll() is None, said(checkout)[-4000:]
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) != 0
    limit = time.monotonic() + 60
    while run("squeue", "--noheader"):
        assert time.monotonic() < limit, f"{running()} run on"
        time.sleep(0.5)


def kill_outright(checkout: Checkout) -> None:
    """``kill -9``: the jobs live on, and nothing starts beside them until they are cancelled."""
    process = submit(checkout)
    while not running():
        assert process.poll() is None, said(checkout)[-4000:]
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    unlocked = checkout.snakemake("--unlock")
    assert unlocked.returncode == 0, unlocked.stderr
    (left,) = running()
    assert submit(checkout).wait() != 0
    assert f"scancel {left.number}" in said(checkout)
    assert "Traceback" not in said(checkout)
    run("scancel", left.number)
    limit = time.monotonic() + 60
    while run("squeue", "--noheader"):
        assert time.monotonic() < limit, f"{running()} run on"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def local(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """The main.csv of a run without a cluster, which is made while the cluster's run waits for its jobs."""
    checkout = make_checkout(root, tmp_path_factory.mktemp("local"))
    log = checkout.folder / "snakemake.out"
    process = checkout.start(log=log)
    os.setpriority(os.PRIO_PGRP, process.pid, 19)  # it takes what the cluster's jobs leave

    def main_csv() -> Path:
        assert process.wait() == 0, log.read_text()[-8000:]
        return checkout.main_csv

    yield main_csv
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def survived(
    root: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster
) -> tuple[Checkout, Faults, int]:
    """A checkout in which the smoke suite has run on the cluster, through every fault."""
    checkout = on_cluster(make_checkout(root, tmp_path_factory.mktemp("slurm")))
    interrupt(checkout)
    kill_outright(checkout)
    faults = Faults(cluster, checkout)
    process = submit(checkout)
    while process.poll() is None:
        faults.look()
        time.sleep(0.5)
    return checkout, faults, process.returncode


def test_nodes_and_jobs_fail_and_the_table_has_the_bytes_of_a_local_run(
    local: Callable[[], Path], survived: tuple[Checkout, Faults, int]
) -> None:
    checkout, faults, status = survived
    assert status == 0, said(checkout)[-8000:]
    assert sorted(faults.done) == ["cancelled", "hangs", "killed", "node_fails", "requeued"]
    assert checkout.main_csv.read_bytes() == local().read_bytes()
    logs = [log.read_text() for log in (checkout.results / "logs").rglob("*.log")]
    assert not any("on GPU" in log for log in logs), "Slurm chose the devices"


def test_what_failed_was_tried_again_and_what_slurm_queued_again_went_on_by_itself(
    survived: tuple[Checkout, Faults, int],
) -> None:
    text = said(survived[0])
    failures = Counter(re.findall(r"SLURM status is: '(\w+)'", text))
    assert set(failures) == {"CANCELLED", "FAILED", "TIMEOUT"}
    assert (failures["CANCELLED"], failures["FAILED"]) == (1, 1)
    assert text.count("Trying to restart job") == failures.total()


def test_jobs_ask_for_what_their_models_say_and_for_more_when_tried_again(
    survived: tuple[Checkout, Faults, int],
) -> None:
    asked: dict[str, list[str]] = {}
    for job in run("scontrol", "--oneliner", "show", "jobs").splitlines():
        kind = re.search(r"Comment=(?:rule|group)_([a-z]+)", job)
        assert kind, job
        asked.setdefault(kind[1], []).append(job)
    assert set(asked) == {"models", "sample", "resample", "score", "train", "evaluate", "results"}
    for rule in ("models", "sample", "resample", "score", "train", "evaluate"):
        assert all("gpu:1" in job for job in asked[rule])
    if all(node.namespace for node in survived[1].cluster.nodes):
        assert any("Restarts=1" in job for job in asked["train"]), "queued again when its node was gone"
    assert any("Restarts=1" in job for job in asked["sample"])
    assert not any("gpu:" in job for job in asked["results"])
    assert {re.search(r"TimeLimit=(\S+)", job)[1] for job in asked["evaluate"]} >= {"00:01:00", "00:02:00"}
    assert {re.search(r"mem=(\w+)", job)[1] for job in asked["evaluate"]} >= {"4000M", "8000M"}
