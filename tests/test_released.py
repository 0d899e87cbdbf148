"""Checkpoints that lose their weights once nothing of the suite reads them (``keep_checkpoints``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.planning.conftest import make_suite
from vista import grid
from vista.config import Suite, load_suite, load_yaml, up_to
from vista.dag import Dag
from vista.errors import VistaError
from vista.manifest import Recorder, check_inputs, damages_of, read_manifest
from vista.paths import manifest_of
from vista.planning.assumptions import Assumptions
from vista.planning.estimate import Estimator
from vista.planning.plan import make_plan
from vista.planning.release import Releases
from vista.released import is_released

SEED, FIRST, SECOND = (
    grid.Run("m-1b", "one", method, 0, number)
    for method, number in (("sft-seed", 0), ("rest-em", 1), ("rest-em", 2))
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "suite.json").write_text("{}")
    return folder


def write(output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("made")
    Recorder("evaluation", {}, []).write(output, {})


def train(results: Path, run: grid.Run) -> Path:
    """A checkpoint of two files of weights."""
    folder = results / "training" / run.id
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model-1.safetensors", "model-2.safetensors", "config.json"):
        (folder / name).write_text(f"{run.id} {name}")
    Recorder("training", {"run": run.id}, []).write(folder, {})
    return folder


def made(results: Path, **changes: Any) -> Releases:
    """Two rounds of ReST-EM and VISTA-SFT on a seed, of which everything is there."""
    suite = make_suite(results, **changes)
    releases = Releases(suite)
    for run in grid.runs(suite):
        if grid.is_trained(suite, run):
            train(results, run)
    for files in list(releases.readers.values()):
        for file in files:
            if not manifest_of(file).exists():
                write(file)
    return releases


def there(results: Path) -> set[str]:
    """The runs whose weights are there."""
    found = (results / "training").rglob("model-1.safetensors")
    return {str(file.parent.relative_to(results / "training")) for file in found}


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ("all", {"sft-seed/seed0/round0", "rest-em/seed0/round1", "rest-em/seed0/round2"}),
        ("last", {"sft-seed/seed0/round0", "rest-em/seed0/round2"}),
        ("none", set()),
    ],
)
def test_what_is_kept_stays_and_the_rest_goes(results: Path, keep: str, left: set[str]) -> None:
    releases = made(results, keep_checkpoints=keep)
    said = releases.sweep([])
    mine = {name for name in there(results) if "vista-sft" not in name and "dpo" not in name}
    assert mine == {f"m-1b/one/{name}" for name in left}
    assert len(said) == len(releases.readers) - len(there(results))
    for checkpoint in releases.readers:
        assert (checkpoint / "config.json").is_file()
        assert manifest_of(checkpoint).is_file(), "tables read it"


def test_jobs_are_gone_through_only_where_nothing_else_keeps_a_checkpoint(results: Path) -> None:
    """After every job, of as many jobs as the suite has: the whole of it would take their square."""
    releases, looked = made(results, keep_checkpoints="none"), []

    def busy() -> Iterator[str]:
        looked.append(True)
        yield str(manifest_of(first))

    first = results / "training" / FIRST.id
    reader = manifest_of(releases.readers[first][0])
    kept = reader.read_bytes()
    reader.unlink()
    assert releases.sweep(busy(), [str(manifest_of(first))]) == []
    assert not looked
    reader.write_bytes(kept)
    assert releases.sweep(busy(), [str(manifest_of(first))]) == []
    assert looked
    assert FIRST.id in there(results)


def test_whatever_is_still_to_be_made_from_a_checkpoint_keeps_it(results: Path) -> None:
    """A shard of rollouts, responses, a training that goes on from it: each keeps it."""
    method = {"kind": "self-improvement", "rounds": 2, "restart": "previous"}
    methods = {"zero-shot": {"kind": "base"}, "sft-seed": {"kind": "seed"}, "rest-em": method}
    releases = made(results, keep_checkpoints="none", methods=methods)
    first = results / "training" / FIRST.id
    readers = releases.readers[first]
    kinds = {file.relative_to(results).parts[0] for file in readers}
    assert kinds == {"rollouts", "evaluation", "training"}
    assert len(readers) == 2 + 1 + 1  # two shards; responses; a training
    for reader in readers:
        kept = manifest_of(reader).read_bytes()
        manifest_of(reader).unlink()
        assert releases.is_wanted(first), reader
        manifest_of(reader).write_bytes(kept)
    assert not releases.is_wanted(first)
    # Nor while a job runs that reads it.
    releases.sweep([str(manifest_of(first))])
    assert FIRST.id in there(results)
    releases.sweep([])
    assert there(results) == set()


@pytest.mark.parametrize(("engine", "read"), [("vllm", "responses"), ("hf", "predictions")])
def test_what_scores_responses_that_are_there_reads_no_weights(results: Path, engine: str, read: str) -> None:
    releases = made(results, keep_checkpoints="none", engine={"kind": engine})
    first = results / "training" / FIRST.id
    answers = [file for file in releases.readers[first] if file.parts[-7] == "evaluation"]
    assert answers == [results / f"evaluation/{FIRST.id}/{read}.parquet"]
    assert releases.reads_weights("evaluate") == (engine == "hf")
    assert releases.reads_weights("respond") == (engine == "vllm")
    assert all(map(releases.reads_weights, ("sample", "resample", "score", "gains", "cases", "train")))
    # Neither predictions that are gone nor stale ones have anything trained again.
    manifest_of(results / f"evaluation/{FIRST.id}/predictions.parquet").unlink(missing_ok=True)
    assert releases.is_wanted(first) == (engine == "hf")
    if engine == "vllm":
        releases.sweep([])
        assert releases.needed() == []


def test_what_decodes_a_checkpoint_otherwise_reads_it(root: Path, results: Path) -> None:
    raw = load_yaml(root / "config/paper.yaml") | {"results": str(results), "keep_checkpoints": "none"}
    whole = Releases(load_suite(root / "config/paper.yaml", raw, root))
    run = "qwen2.5-vl-3b/slake/r3v/seed0/round1"
    assert (
        results / f"evaluation/{run.replace('r3v', 'r3v-select')}/responses.parquet"
        in (whole.readers[results / "training" / run])
    )


def test_a_checkpoint_that_a_later_block_reads_is_wanted(root: Path, results: Path) -> None:
    """A component alone scores SFT-Seed's samples, and GRPO starts from it; the main grid does neither."""
    raw = load_yaml(root / "config/paper.yaml") | {"results": str(results), "keep_checkpoints": "none"}
    suite = load_suite(root / "config/paper.yaml", raw, root)
    seed = results / "training/qwen2.5-vl-3b/slake/sft-seed/seed0/round0"
    main, whole = Releases(up_to(suite, "main")), Releases(suite)
    later = set(whole.readers[seed]) - set(main.readers[seed])
    assert {file.relative_to(results).parts[0] for file in later} == {"rollouts", "training"}
    assert {file.parts[-3] for file in later} == {"scores", "resamples", "grpo"}
    for file in main.readers[seed]:
        write(file)
    assert whole.is_wanted(seed)
    assert not main.is_wanted(seed)


def test_a_released_checkpoint_is_whole_and_a_lost_one_is_damaged(results: Path) -> None:
    releases = made(results, keep_checkpoints="last")
    releases.sweep([])
    first, second = (results / "training" / run.id for run in (FIRST, SECOND))
    assert damages_of(first, read_manifest(first)) == []
    (first / "config.json").unlink()
    assert [damage.file.name for damage in damages_of(first, read_manifest(first))] == ["config.json"]
    (second / "model-1.safetensors").unlink()
    assert [damage.file.name for damage in damages_of(second, read_manifest(second))] == [
        "model-1.safetensors"
    ]


def test_reading_a_released_checkpoint_says_what_became_of_it(results: Path) -> None:
    made(results, keep_checkpoints="none").sweep([])
    with pytest.raises(
        VistaError, match=r"round1: the weights were released \(keep_checkpoints\).*--forcerun"
    ):
        check_inputs([results / "training" / FIRST.id])


def test_a_release_that_was_interrupted_is_finished_at_the_next_start(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = made(results, keep_checkpoints="none")
    first, unlink = results / "training" / FIRST.id, Path.unlink
    gone: list[Path] = []

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".safetensors":
            if gone:
                raise KeyboardInterrupt
            gone.append(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        releases.sweep([], [str(manifest_of(first))])
    monkeypatch.undo()
    assert not (first / "model-1.safetensors").exists()
    assert (first / "model-2.safetensors").exists()
    assert damages_of(first, read_manifest(first)) == [], "it was on purpose"
    assert releases.again([str(manifest_of(first))]), "it cannot be read any more"
    assert len(releases.sweep([], [str(manifest_of(first))])) == 1
    assert not (first / "model-2.safetensors").exists()


def test_a_checkpoint_that_is_trained_again_is_not_released(results: Path) -> None:
    releases = made(results, keep_checkpoints="none")
    releases.sweep([])
    first = results / "training" / FIRST.id
    assert is_released(results, first)
    train(results, FIRST)
    (first / "manifest.json").write_text((first / "manifest.json").read_text() + "\n")
    assert not is_released(results, first)
    assert releases.again([str(manifest_of(first))]) == []


def test_a_plan_counts_what_is_trained_again_and_what_was_made_from_it(results: Path) -> None:
    suite = made(results, keep_checkpoints="none").suite
    Releases(suite).sweep([])
    assert make_plan(suite, Assumptions()).again is None
    # A third round samples from the second.
    method = suite.methods["rest-em"].model_copy(update={"rounds": 3})
    longer = suite.model_copy(update={"methods": {**suite.methods, "rest-em": method}})
    again = make_plan(longer, Assumptions()).again
    assert again is not None
    assert again.checkpoints == (SECOND.id,)
    # Round 2 is trained, answers and is evaluated, sampled by two shards; round 3 is curated as well.
    assert again.jobs == 3 + 2 + 4
    hours = Estimator(suite, Assumptions())
    assert again.hours >= 2 * hours.evaluation_hours(SECOND) + 2 * hours.training_hours(SECOND)
    (manifest_of(results / f"evaluation/{FIRST.id}/responses.parquet")).unlink()
    again = make_plan(suite, Assumptions()).again
    assert again is not None
    assert (again.checkpoints, again.jobs) == ((FIRST.id,), 3 + 2 + 4)


def test_a_plan_reckons_with_checkpoints_that_stay_or_wait(results: Path) -> None:
    def disk(keep: str) -> tuple[float, float]:
        plan = make_plan(make_suite(results, keep_checkpoints=keep), Assumptions(waiting_checkpoints=3))
        return plan.total(lambda work: work.disk_bytes, "train"), plan.waiting_bytes

    assert disk("all") == (5 * 2e9, 0)
    assert disk("last") == (4 * 2e9, 3 * 2e9)
    assert disk("none") == (1 * 2e9, 3 * 2e9)  # SFT-Seed's, from which all methods sample


@pytest.mark.parametrize("rule", ["respond", "evaluate"])
def test_what_a_checkpoint_answers_comes_before_further_trainings(root: Path, rule: str) -> None:
    """Else all trainings could come first, and all checkpoints wait on the disk to be read."""
    rules = (root / "workflow/rules/evaluation.smk").read_text()
    (said,) = re.findall(rf"^rule {rule}:\n(.*?)(?=^rule |\Z)", rules, re.MULTILINE | re.DOTALL)
    assert "    priority: READ_FIRST\n" in said


def test_a_suite_that_keeps_all_is_written_as_ever(results: Path) -> None:
    suite = make_suite(results)
    assert "keep_checkpoints" not in suite.model_dump_json()
    kept: Suite = make_suite(results, keep_checkpoints="none")
    for run in grid.runs(suite):
        assert Dag(suite).evaluation_settings(run.id) == Dag(kept).evaluation_settings(run.id)
