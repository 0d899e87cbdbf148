"""No number that its settings, code and data did not make: two users do whatever they like, at random.

They run Snakemake, edit config and code and put them back, copy results, share them, delete, damage and put
back outputs, and kill, pause and interrupt what runs. Then a plain rerun gives, byte for byte, the table of a
clean folder with the same config and code, or an error says what to do, and doing that gives it.

Real are Snakemake, the Snakefile, the rules, ``vista.dag``, manifests and the command line; the work of each
stage is stood in for (``tests/promise``). ``VISTA_STEPS`` says how many steps are taken (``make test-faults``:
1,000). What was found is below as tests of its own, by name.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.promise import world
from tests.promise.world import EDITS, MODULES, RESULTS, Broken, Clone, Run, World, copy_clone, put
from vista.paths import manifest_of

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

STEPS = int(os.environ.get("VISTA_STEPS", "12"))
PARTS = int(os.environ.get("VISTA_PARTS", "2"))  # tests that share the steps, with a seed each
SEED = int(os.environ.get("VISTA_SEED", "20261126"))
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
JOBS = (
    *("tasks left/test", "models", "sample zero-shot", "sample rest-em", "curate round1", "curate round2"),
    *("train round1", "train round2", "evaluate zero-shot", "evaluate round1", "evaluate round2"),
    *("collect", "tables main.csv"),
)
POINTS = ("@begin", "@made", "@written")

index = st.integers(0, 30)
modules = st.sampled_from(MODULES)
holds = st.one_of(st.just(""), st.tuples(st.sampled_from(JOBS), st.sampled_from(POINTS)).map(" ".join))


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

    def new_clone(self, like: Clone) -> Clone:
        """The same code and config in a new folder, without results."""
        folder = self.place / f"clone{len(self.world.clones)}"
        ignored = shutil.ignore_patterns("results", ".snakemake")
        shutil.copytree(like.folder, folder, ignore=ignored)
        clone = Clone(folder, world.copy.deepcopy(like.config), dict(like.codes))
        self.world.clones.append(clone)
        return clone

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
        source = self.clone(number)
        target = self.new_clone(source)
        if source.results.is_dir():
            put(source.results, target.results, times=times)
        if snakemake and (source.folder / ".snakemake").is_dir():
            put(source.folder / ".snakemake", target.folder / ".snakemake", times=times)
        if source.results.resolve() in self.world.damaged:
            self.world.damaged.add(target.results.resolve())

    @precondition(lambda self: len(self.world.clones) < MOST_CLONES)
    @rule(number=index)
    def share_results(self, number: int) -> None:
        """A second working directory with the same results folder, as a group's scratch space."""
        source = self.clone(number)
        if source.results.is_dir():
            target = self.new_clone(source)
            target.results.parent.mkdir()
            target.results.symlink_to(source.results.resolve())

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

    @rule(number=index, which=index, cut=st.booleans())
    def damage(self, number: int, which: int, cut: bool) -> None:
        clone = self.clone(number)
        output = self.output(clone, which)
        file = output and (output / world.standin.WEIGHTS if output.is_dir() else output)
        if file and file.is_file():
            content = file.read_bytes()
            file.write_bytes(content[: len(content) // 2] if cut else bytes([content[0] ^ 1]) + content[1:])
            self.world.damaged.add(clone.results.resolve())

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
        alike = [each for each in clone.outputs() if each.name == kept.name]
        if alike:
            self.put(kept, clone, alike[where % len(alike)].relative_to(clone.results), True)

    def put(self, kept: Path, clone: Clone, name: Path, times: bool) -> None:
        put(kept, clone.results / name, times=times)
        put(manifest_of(kept), manifest_of(clone.results / name), times=times)
        self.world.damaged.add(clone.results.resolve())

    @rule(number=index)
    def rerun(self, number: int) -> None:
        self.judge(self.clone(number))

    def judge(self, clone: Clone) -> None:
        try:
            self.world.judge(clone)
        except BaseException:
            self.broken = True
            raise

    @invariant()
    def count(self) -> None:
        """Called after each step."""
        type(self).steps += 1

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
