"""A pilot has the whole grid of its suite, on a few queries and steps, and never writes into its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_digests import jobs
from vista import grid
from vista.config import Suite, load_resolved, load_suite, load_yaml
from vista.dag import Dag
from vista.errors import VistaError
from vista.suites import strange_target
from vista.task_kinds.grid import GridSettings
from vista.verify import command, file_of, outputs_of

SUITES = sorted(Path(__file__).parents[1].glob("config/*.yaml"))
SUITES = [file for file in SUITES if "train_sets" in load_yaml(file)]


def suite_of(root: Path, file: Path, **changes: Any) -> Suite:
    return load_suite(file, load_yaml(file) | changes, root)


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_a_pilot_has_the_same_grid_models_and_methods_in_a_folder_of_its_own(root: Path, file: Path) -> None:
    whole, pilot = suite_of(root, file), suite_of(root, file, pilot=3)
    assert grid.runs(pilot) == grid.runs(whole)
    assert pilot.methods == whole.methods
    assert pilot.models == whole.models
    assert pilot.engine == whole.engine
    assert pilot.name == f"{whole.name}-pilot"
    assert pilot.results == whole.results.with_name(f"{whole.results.name}-pilot")
    assert not pilot.results.is_relative_to(whole.results)
    own, theirs = outputs_of(pilot), outputs_of(whole)
    assert {name for name in own if "-of-" not in name} >= {name for name in theirs if "-of-" not in name}


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_every_split_of_every_benchmark_is_cut_and_none_is_lost_or_made(root: Path, file: Path) -> None:
    whole, pilot = suite_of(root, file), suite_of(root, file, pilot=3)
    corpora = {getattr(entry, "corpus", None) for entry in whole.models.values()}
    for name, before in whole.tasks.items():
        for split in ("seed", "train", "test"):
            old, new = (getattr(each.tasks[name].sizes, split) for each in (whole, pilot))
            if name in corpora:
                assert new == old, "a built model is built in full"
            elif old == 0:
                assert new == 0
            else:
                assert 1 <= new <= 3
        after = pilot.tasks[name]
        assert after.model_dump(exclude={"sizes"}) == before.model_dump(exclude={"sizes"})
    for section in ("seed", "sft", "dpo"):
        old, new = (getattr(each.training, section) for each in (whole, pilot))
        assert new.epochs == min(old.epochs, 2)
        assert new.model_dump(exclude={"epochs"}) == old.model_dump(exclude={"epochs"})
    assert pilot.shards == 1


def test_a_split_that_is_smaller_than_the_pilot_stays_whole(root: Path) -> None:
    pilot = suite_of(root, root / "config/smoke.yaml", pilot=30)
    assert pilot.tasks["grid-closed"].sizes.model_dump() == {"seed": 24, "train": 24, "test": 30}


def test_a_table_with_fewer_rows_than_the_pilot_stays_whole(root: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"question": "a?", "answer": "yes"}\n' * 2)
    own = {"kind": "table", "source": str(tmp_path / "own.jsonl"), "answer_type": "closed"}
    raw = load_yaml(root / "config/smoke.yaml")
    raw["tasks"]["own"] = own
    pilot = suite_of(root, root / "config/smoke.yaml", tasks=raw["tasks"], out_of_domain=["own"], pilot=8)
    assert pilot.tasks["own"].sizes.model_dump() == {"seed": 0, "train": 0, "test": 2}


@pytest.mark.parametrize("value", [0, -1, 0.5, 8.0, "text", True, [8]])
def test_what_is_no_number_of_queries_is_refused_when_the_suite_is_read(root: Path, value: object) -> None:
    with pytest.raises(VistaError, match=r"smoke\.yaml: pilot: "):
        suite_of(root, root / "config/smoke.yaml", pilot=value)


def test_a_pilot_of_a_suite_without_a_folder_of_its_own_is_refused_as_the_suite_is(root: Path) -> None:
    with pytest.raises(VistaError, match=r"results: \. holds"):
        suite_of(root, root / "config/smoke.yaml", results=".", pilot=8)


def test_a_resolved_pilot_is_not_cut_again_and_a_suite_without_one_does_not_name_it(
    root: Path, tmp_path: Path
) -> None:
    whole, pilot = (suite_of(root, root / "config/smoke.yaml", **extra) for extra in ({}, {"pilot": 3}))
    (tmp_path / "suite.json").write_text(pilot.model_dump_json())
    assert load_resolved(tmp_path / "suite.json") == pilot
    assert "pilot" not in whole.model_dump()


def test_a_pilot_of_other_size_makes_other_queries_and_what_follows_from_them(root: Path) -> None:
    few, more = (suite_of(root, root / "config/smoke.yaml", pilot=number) for number in (3, 5))
    assert isinstance(few.tasks["grid-closed"], GridSettings)
    old, new = jobs(few), jobs(more)
    assert old.keys() == new.keys()
    different = {rule for (rule, name), found in old.items() if new[rule, name] != found}
    assert different == {"tasks", "suite", "pilot"}


def test_the_table_of_a_pilot_waits_for_every_table_and_figure(root: Path) -> None:
    dag = Dag(suite_of(root, root / "config/smoke.yaml", pilot=3))
    wanted = set(dag.pilot_inputs())
    assert {*dag.every_table(), *dag.figures(), *dag.gallery()} <= wanted
    assert "results/smoke-pilot/tables/assumptions.yaml" in dag.pilot_outputs()


def test_a_target_of_a_pilot_without_the_option_is_told_with_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    file = Path("config/smoke.yaml")
    whole, pilot = (load_suite(file, load_yaml(file) | extra) for extra in ({}, {"pilot": 3}))
    target = "results/smoke-pilot/tables/pilot.csv"
    told = strange_target([target], whole, file, root)
    assert told is not None
    assert f"snakemake {target} --configfile config/smoke.yaml --config pilot=8" in told
    assert strange_target([target], pilot, file, root) is None
    told = strange_target(["results/smoke/tables/main.csv"], pilot, file, root)
    assert told is not None
    assert "whose results are in results/smoke-pilot" in told


def test_what_verify_says_to_run_is_a_pilot_again(root: Path) -> None:
    pilot = suite_of(root, root / "config/smoke.yaml", pilot=3)
    assert file_of(pilot) == Path("config/smoke.yaml")
    assert "--config pilot=3 --forcerun results/smoke-pilot/" in command(pilot, ["long.csv"], file_of(pilot))
