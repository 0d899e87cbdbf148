"""No number that its settings, code and data did not make: two users do whatever they like, at random.

They run Snakemake, edit config and code and put them back, copy results, share them, delete, damage and put
back outputs, and kill, pause and interrupt what runs. Then a plain rerun gives, byte for byte, the table of a
clean folder with the same config and code, or an error says what to do, and doing that gives it.

Real are Snakemake, the Snakefile, the rules, ``vista.dag``, manifests and the command line; the work of each
stage is stood in for (``tests/promise``). ``VISTA_STEPS`` says how many steps are taken (12; ``make
test-faults``: 1,000). What was found is below as tests of its own, by name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.promise import world
from tests.promise.world import EDITS, MODULES, RESULTS, Clone, Run, World, copy_clone, put
from vista.grid import RUN
from vista.paths import manifest_of

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

STEPS = int(os.environ.get("VISTA_STEPS", "12"))
PARTS = 1 if STEPS <= 12 else 4  # tests that share the steps, with a seed each
SEED = int(os.environ.get("VISTA_SEED", "20261126"))
FEW = STEPS <= 12  # in the ordinary run, one case of each kind
LENGTH = 10  # steps of one history at most

MOST_CLONES, MOST_RUNS = 3, 2
PREDICTIONS = f"{RESULTS}/evaluation/nano-smoke/both/{{}}/predictions.parquet"
TARGETS = {
    "the table": world.TABLE,
    "zero-shot": PREDICTIONS.format("zero-shot/seed0/round0"),
    "round 1": PREDICTIONS.format("rest-em/seed0/round1"),
    "round 2": PREDICTIONS.format("rest-em/seed0/round2"),
}
# Words of a job's name and the point at which it is held: it has read its inputs; has worked; has written its
# output, but no manifest.
SNAKEMAKE = ("snakemake @read", "snakemake @planned")
JOBS = (
    *("tasks left/test", "models", "sample zero-shot", "sample rest-em", "curate round1", "curate round2"),
    *("train round1", "train round2", "evaluate zero-shot", "evaluate round1", "evaluate round2"),
    *("collect", "tables main.csv"),
)
POINTS = ("@begin", "@made", "@written")

index = st.integers(0, 30)
modules = st.sampled_from(MODULES)
holds = st.one_of(
    st.just(""),
    st.sampled_from(SNAKEMAKE),
    st.tuples(st.sampled_from(JOBS), st.sampled_from(POINTS)).map(" ".join),
)


@pytest.fixture(scope="module")
def unmade(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone without results."""
    return world.make_clone(root, tmp_path_factory.mktemp("unmade") / "clone")


@pytest.fixture(scope="module")
def made(unmade: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with all results. Tests must leave it as it is."""
    clone = copy_clone(unmade, tmp_path_factory.mktemp("made") / "clone")
    done = clone.run(*clone.command())
    assert done.returncode == 0, done.stdout
    return clone


class Users(RuleBasedStateMachine):
    """Two users' actions; how many were done is counted over all histories."""

    made: Clone
    folder: Path
    histories = 0
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).histories += 1
        type(self).steps -= 1  # the first count is before any step
        self.place = self.folder / f"history{self.histories}"
        self.place.mkdir()
        self.world = World(self.place, [copy_clone(self.made, self.place / "clone0")])
        self.kept: list[tuple[Path, Path]] = []  # copies of outputs, with their names among the results
        self.broken = False

    # What actions are on.

    def clone(self, number: int) -> Clone:
        return self.world.clones[number % len(self.world.clones)]

    def run_of(self, number: int) -> Run:
        return self.world.runs[number % len(self.world.runs)]

    def output(self, clone: Clone, number: int) -> Path | None:
        found = clone.outputs()
        return found[number * 7 % len(found)] if found else None

    def at_work(self, clone: Clone) -> bool:
        return any(run.clone is clone and not run.ended for run in self.world.runs)

    # What the users do.

    @rule(number=index, edit=st.sampled_from(sorted(EDITS)))
    def edit_config(self, number: int, edit: str) -> None:
        self.clone(number).edit(edit)

    @rule(number=index, module=modules, code=st.integers(1, 2))
    def edit_code(self, number: int, module: str, code: int) -> None:
        self.clone(number).set_code(module, code)

    @precondition(lambda self: len(self.world.runs) < MOST_RUNS)
    @rule(number=index, goal=st.sampled_from(sorted(TARGETS)), hold=holds)
    def start(self, number: int, goal: str, hold: str) -> None:
        self.world.start(self.clone(number), TARGETS[goal], hold=hold)

    @precondition(lambda self: self.world.runs)
    @rule(number=index)
    def let_go(self, number: int) -> None:
        self.run_of(number).let_go()
        self.world.forget()

    @precondition(lambda self: any(run.held for run in self.world.runs))
    @rule(number=index, hold=holds)
    def go_on(self, number: int, hold: str) -> None:
        """Let a held job go, and hold the next that fits."""
        run = self.run_of(number)
        if run.held and not run.paused:
            run.hold(hold)
            run.wait()
            self.world.forget()

    @precondition(lambda self: self.world.runs)
    @rule(number=index, how=st.sampled_from(["alone", "jobs", "job", "pause", "interrupt"]))
    def strike(self, number: int, how: str) -> None:
        run = self.run_of(number)
        if run.paused or run.ended:
            return
        if how == "alone":
            run.kill(jobs=False)
        elif how == "jobs":
            run.kill(jobs=True)
        elif how == "interrupt":
            run.interrupt()
        elif run.held:
            (run.kill_job if how == "job" else run.pause)()
        self.world.forget()

    @precondition(lambda self: len(self.world.clones) < MOST_CLONES)
    @rule(number=index, snakemake=st.booleans(), times=st.booleans())
    def copy_results(self, number: int, snakemake: bool, times: bool) -> None:
        """To a new clone, with or without ``.snakemake``, as ``cp -a`` or as ``cp -r`` does."""
        self.world.copy(self.clone(number), snakemake=snakemake, times=times)

    @precondition(lambda self: len(self.world.clones) < MOST_CLONES)
    @rule(number=index)
    def share_results(self, number: int) -> None:
        """A second working directory with the same results folder, as a group's scratch space."""
        if self.clone(number).results.is_dir():
            self.world.share(self.clone(number))

    @rule(number=index)
    def remove_snakemake(self, number: int) -> None:
        clone = self.clone(number)
        if not self.at_work(clone):
            shutil.rmtree(clone.folder / ".snakemake", ignore_errors=True)

    @rule(number=index, which=index, what=st.sampled_from(["output", "manifest", "both"]))
    def delete(self, number: int, which: int, what: str) -> None:
        clone = self.clone(number)
        if (output := self.output(clone, which)) is not None:
            if what != "manifest" and output.is_dir():
                (output / world.standin.WEIGHTS).unlink(missing_ok=True)
            elif what != "manifest":
                output.unlink(missing_ok=True)
            if what != "output":
                manifest_of(output).unlink()
            self.world.touched(clone, damaged=False)

    @rule(number=index, which=index, cut=st.booleans())
    def damage(self, number: int, which: int, cut: bool) -> None:
        clone = self.clone(number)
        output = self.output(clone, which)
        file = output and (output / world.standin.WEIGHTS if output.is_dir() else output)
        if file and file.is_file():
            content = file.read_bytes()
            file.write_bytes(content[: len(content) // 2] if cut else bytes([content[0] ^ 1]) + content[1:])
            self.world.touched(clone)

    @rule(number=index, which=index)
    def keep(self, number: int, which: int) -> None:
        """Copy an output with its manifest aside."""
        clone = self.clone(number)
        if (output := self.output(clone, which)) is not None and output.exists():
            kept = self.place / f"kept{len(self.kept)}" / output.name
            put(output, kept, times=True)
            put(manifest_of(output), manifest_of(kept), times=True)
            self.kept.append((kept, output.relative_to(clone.results)))

    @precondition(lambda self: self.kept)
    @rule(number=index, which=index, times=st.booleans())
    def put_back(self, number: int, which: int, times: bool) -> None:
        kept, name = self.kept[which % len(self.kept)]
        self.put(kept, self.clone(number), name, times)

    @precondition(lambda self: self.kept)
    @rule(number=index, which=index, where=index)
    def put_elsewhere(self, number: int, which: int, where: int) -> None:
        """The output of one run where that of another belongs."""
        kept, _ = self.kept[which % len(self.kept)]
        clone = self.clone(number)
        alike = [each for each in clone.outputs() if each.suffix == kept.suffix]
        if alike:
            self.put(kept, clone, alike[where % len(alike)].relative_to(clone.results), True)

    def put(self, kept: Path, clone: Clone, name: Path, times: bool) -> None:
        put(kept, clone.results / name, times=times)
        put(manifest_of(kept), manifest_of(clone.results / name), times=times)
        self.world.touched(clone)

    @rule(number=index)
    def rerun(self, number: int) -> None:
        self.judge(self.clone(number))

    def judge(self, clone: Clone) -> None:
        try:
            self.world.judge(clone)
        except BaseException:
            self.broken = True
            raise

    def check_invariants(self, *args: Any, **kwargs: Any) -> None:
        """Called after each step, and once before the first."""
        type(self).steps += 1
        super().check_invariants(*args, **kwargs)

    def teardown(self) -> None:
        try:
            if not self.broken:
                for clone in self.world.clones if self.world.runs else []:
                    self.judge(clone)  # beside what still runs, if that is allowed
                self.world.let_all_go()
                for clone in self.world.clones:
                    self.judge(clone)
        finally:
            self.world.kill_all()
            shutil.rmtree(self.place)


def outputs_of(clone: Clone, folder: str) -> list[Path]:
    return [each for each in clone.outputs() if each.relative_to(clone.results).parts[0] == folder]


def remove(output: Path) -> None:
    """Remove an output with its manifest."""
    manifest_of(output).unlink()
    if output.is_dir():
        shutil.rmtree(output)
    else:
        output.unlink()


@pytest.fixture
def users(made: Clone, tmp_path: Path) -> Iterator[World]:
    """Two users with one clone, everything made."""
    found = World(tmp_path, [copy_clone(made, tmp_path / "clone")])
    yield found
    found.kill_all()


def cases(*values: Any, few: int = 1) -> list[Any]:
    """The values that a test is given; the first ones in the ordinary run."""
    return list(values[:few] if FEW else values)


@pytest.mark.parametrize("shared", cases(True, False))
def test_two_runs_with_other_configs_and_targets(users: World, shared: bool) -> None:
    first = second = users.clones[0]
    if shared:
        second = users.share(first)
    first.set_code("training.train", 2)
    run = users.start(first, TARGETS["round 1"], hold="train round1 @begin")
    assert run.held
    second.set_code("training.train", 2)
    second.edit("eval_max_new_tokens")
    users.start(second, TARGETS["zero-shot"])
    users.let_all_go()
    if not shared:
        first.edit("eval_max_new_tokens")
    users.judge(first)
    users.judge(second)


@pytest.mark.parametrize("times", cases(True, False))
@pytest.mark.parametrize("edit", cases("learning rate", *sorted(EDITS.keys() - {"learning rate"})))
def test_results_without_snakemakes_memory(users: World, edit: str, times: bool) -> None:
    clone = users.copy(users.clones[0], times=times)
    clone.edit(edit)
    users.judge(clone)


@pytest.mark.parametrize("edit", cases("order of tasks", *sorted(EDITS.keys() - {"order of tasks"})))
def test_an_edited_config(users: World, edit: str) -> None:
    (clone,) = users.clones
    before = clone.clean_table()
    for _ in range(2):
        clone.edit(edit)
        users.judge(clone)
    assert clone.table.read_bytes() == before


@pytest.mark.parametrize("module", cases("training.fit", "engines.hf", "evaluation.evaluate", "standin"))
def test_code_that_is_edited_during_a_run_and_put_back(users: World, module: str) -> None:
    (clone,) = users.clones
    clone.set_code("models.build", 2)
    run = users.start(clone, world.TABLE, hold="sample zero-shot @begin")
    assert run.held
    clone.set_code(module, 2)
    users.let_all_go()
    clone.set_code(module, 1)
    users.judge(clone)


@pytest.mark.parametrize("point", cases(*SNAKEMAKE))
@pytest.mark.parametrize("module", cases("training.fit", "evaluation.evaluate"))
def test_code_that_is_edited_while_snakemake_plans_and_put_back(
    users: World, module: str, point: str
) -> None:
    (clone,) = users.clones
    clone.set_code("models.build", 2)
    run = users.start(clone, world.TABLE, hold=point)
    assert run.held
    clone.set_code(module, 2)
    users.let_all_go()
    clone.set_code(module, 1)
    users.judge(clone)


@pytest.mark.parametrize("point", cases(*SNAKEMAKE, few=0))
def test_a_config_that_is_edited_while_snakemake_plans(users: World, point: str) -> None:
    (clone,) = users.clones
    clone.set_code("training.train", 2)
    run = users.start(clone, world.TABLE, hold=point)
    assert run.held
    clone.edit("eval_max_new_tokens")
    users.let_all_go()
    users.judge(clone)


@pytest.mark.parametrize("point", cases(*reversed(SNAKEMAKE)))
def test_a_run_that_another_overtook_while_it_planned(users: World, point: str) -> None:
    """The second makes its table in full before the first begins."""
    first = users.clones[0]
    second = users.share(first)
    first.set_code("evaluation.evaluate", 2)
    run = users.start(first, world.TABLE, hold=point)
    assert run.held
    second.set_code("evaluation.evaluate", 2)
    second.edit("learning rate")
    users.start(second, world.TABLE)
    users.let_all_go()
    users.judge(first)
    users.judge(second)


def test_a_snakemake_that_is_killed_alone(users: World) -> None:
    (clone,) = users.clones
    clone.set_code("training.train", 2)
    run = users.start(clone, world.TABLE, hold="train round1 @made")
    run.kill(jobs=False)
    clone.edit("learning rate")
    assert "wait" in users.judge(clone)


def test_an_output_of_a_killed_run_that_lacks_its_manifest(users: World) -> None:
    """The other user's Snakemake does not know that the table is incomplete."""
    first = users.clones[0]
    second = users.share(first)
    users.judge(second)
    first.edit("learning rate")
    run = users.start(first, world.TABLE, hold="tables main.csv @written")
    assert run.held
    run.kill(jobs=True)
    users.judge(second)


GONE = {
    "training": "learning rate",
    "tasks": "train size",
    "curation": "max_per_query",
    "evaluation": "eval_max_new_tokens",
}


@pytest.mark.parametrize("remembered", cases(False, True))
@pytest.mark.parametrize("stage", cases(*GONE))
def test_an_output_that_is_gone_and_would_be_made_otherwise_now(
    users: World, stage: str, remembered: bool
) -> None:
    """Nobody makes it again for its own sake, as when checkpoints were deleted to save space."""
    (clone,) = users.clones
    for output in outputs_of(clone, stage):
        remove(output)
    if not remembered:
        shutil.rmtree(clone.folder / ".snakemake")
    clone.edit(GONE[stage])
    users.judge(clone)


@pytest.mark.parametrize("swapped", cases(False, True))
@pytest.mark.parametrize("stage", cases("evaluation", "training", "curation", "rollouts"))
def test_an_output_of_another_run_with_its_manifest(users: World, stage: str, swapped: bool) -> None:
    (clone,) = users.clones
    outputs = {str(each.relative_to(clone.results)): each for each in outputs_of(clone, stage)}
    later = next(name for name in reversed(outputs) if RUN.search(name))
    # The same output of another run; rollouts are of policies, whose rounds count from 0.
    earlier = next(name for name in outputs if name != later and RUN.sub("", name) == RUN.sub("", later))
    source, target = (outputs[name] for name in ((later, earlier) if swapped else (earlier, later)))
    put(source, target, times=True)
    put(manifest_of(source), manifest_of(target), times=True)
    for output in [*outputs_of(clone, "tables"), clone.results / "long.csv"]:
        remove(output)  # so that they are made from what was put in
    users.touched(clone)
    users.judge(clone)


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_two_users_do_a_rerun_gives_the_table_of_a_clean_folder_or_says_what_to_do(
    made: Clone, tmp_path: Path, part: int
) -> None:
    users = type("Users", (Users,), {"made": made, "folder": tmp_path})
    how = settings(
        max_examples=max(2, STEPS // PARTS // LENGTH),
        stateful_step_count=LENGTH,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    turn = 0
    while users.steps * PARTS < STEPS:
        run_state_machine_as_test(seed(SEED + 1000 * part + turn)(users), settings=how)
        turn += 1
    print(f"{users.steps} steps in {users.histories} histories")
