"""What the paper's suite plans: its whole programme, in blocks, at a cost that the documentation states."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml

from vista import grid
from vista.analysis.plan import ablation_names, figures, table_names
from vista.config import Suite, load_suite, load_yaml, up_to
from vista.dag import Dag
from vista.errors import VistaError
from vista.planning.assumptions import Assumptions
from vista.planning.estimate import Estimator
from vista.planning.jobs import JobTree
from vista.planning.plan import job_hours, make_plan


@pytest.fixture(scope="module")
def paper(root: Path) -> Suite:
    return load_suite(root / "config/paper.yaml", root=root)


def test_the_main_grid_takes_at_most_600_gpu_hours(paper: Suite) -> None:
    plan = make_plan(paper, Assumptions())
    assert plan.blocks[0].name == "main"
    assert plan.blocks[0].gpu_hours <= 600
    main = make_plan(up_to(paper, "main"), Assumptions())
    assert main.total(lambda work: work.gpu_hours) == pytest.approx(plan.blocks[0].gpu_hours)
    methods = {"zero-shot", "sft-seed", "star", "rft", "rest-em", "vista-sft", "dpo", "vista-dpo"}
    assert {run.method for run in grid.runs(up_to(paper, "main"))} == methods
    assert {run.model for run in grid.runs(up_to(paper, "main"))} == set(paper.models)


def test_blocks_add_up_to_the_whole_plan(paper: Suite) -> None:
    plan = make_plan(paper, Assumptions())
    assert sum(block.jobs for block in plan.blocks) == sum(plan.jobs.values())
    assert sum(block.gpu_hours for block in plan.blocks) == pytest.approx(plan.total(lambda w: w.gpu_hours))
    assert sum(block.disk_bytes for block in plan.blocks) == pytest.approx(plan.total(lambda w: w.disk_bytes))


def test_a_later_block_makes_nothing_twice(paper: Suite) -> None:
    """Each job of a block has the same inputs, settings and code in the whole suite."""
    main, whole = Dag(up_to(paper, "main")), Dag(paper)
    assert main.suite.results == whole.suite.results
    for run in grid.runs(main.suite)[::7]:
        for ask in (Dag.evaluation_settings, Dag.checkpoint):
            assert ask(main, run.id) == ask(whole, run.id)
        if grid.is_trained(main.suite, run):
            for ask in (Dag.curation_settings, Dag.curation_inputs, Dag.training_settings):
                assert ask(main, run.id) == ask(whole, run.id)


def test_the_papers_figures_and_tables_are_planned(paper: Suite) -> None:
    assert {"ablation", "sweep_tau", "sweep_layers", "across_models"} == set(ablation_names(paper))
    assert {"rounds", "ood", "reported", "distributions", "difficulty"} <= set(table_names(paper))
    assert {"data_imbalance", "attention", "rounds", "sweeps"} <= set(figures(paper))
    # What the layers' sweep reads is stored.
    assert isinstance(paper.scoring.layers, list)
    swept = [value for each in paper.swept.values() if each.sweep == "layers" for value in each.value]
    assert set(swept) <= set(paper.scoring.layers)


def test_no_job_comes_near_its_time_limit(paper: Suite) -> None:
    """The plan's time is at most half of what a job asks a cluster for."""
    estimator, tree = Estimator(paper, Assumptions()), JobTree(paper)
    found = {}
    for job in frozenset().union(*(tree.of_run(run) for run in grid.runs(paper))):
        stage = {"train": "training", "respond": "evaluation", "evaluate": "evaluation"}.get(
            job.rule, "rollouts"
        )
        hours = job_hours(estimator, job)
        if hours:
            resources = paper.models[job.name.split("/")[0]]
            gpus = resources.training.processes if stage == "training" else 1
            limit = getattr(resources.resources, stage).hours
            found[job.rule, job.name] = hours / gpus / limit
    worst = max(found, key=lambda job: found[job])
    assert found[worst] <= 0.5, worst


def test_the_documentation_states_the_plan(root: Path) -> None:
    tool = runpy.run_path(str(root / "benchmarks/paper_plan.py"))
    page = (root / "docs/paper.md").read_text()
    assert tool["filled"](page, tool["tables"](root)) == page, "run: python benchmarks/paper_plan.py --write"


def test_what_the_page_sets_on_the_command_line_is_a_suite(root: Path) -> None:
    """Blocks, `only` and sweeps name methods, so a shorter list of methods alone would be refused."""
    page, file = (root / "docs/paper.md").read_text(), root / "config/paper.yaml"
    said = set(re.findall(r"--config ((?:'[^']+'|[^\s`'])[^`\n\\]*)", page))
    found = [
        {k: yaml.safe_load(v) for k, v in (w.split("=", 1) for w in shlex.split(each) if "=" in w)}
        for each in said
    ]
    assert {"pilot": 8, "up_to": "main"} in found
    for value in found:
        if "engine" not in value:  # which is put over the file's key by key
            load_suite(file, load_yaml(file) | value, root)


def test_everything_that_is_wrong_with_blocks_is_said_at_once(root: Path, tmp_path: Path) -> None:
    raw = load_yaml(root / "config/paper.yaml") | {"results": str(tmp_path / "results")}
    blocks = {**raw["blocks"], "main": [*raw["blocks"]["main"][:-1], "vsta-dpo"]}
    blocks["ablation"] = [*blocks["ablation"], "star"]
    blocks = {"sweeps": blocks.pop("sweeps"), **blocks}
    with pytest.raises(VistaError) as caught:
        load_suite(root / "config/paper.yaml", raw | {"blocks": blocks, "up_to": "man"}, root)
    for text in (
        "blocks.main: 'vsta-dpo' is no method or sweep of the suite; did you mean 'vista-dpo'?",
        "blocks: 'vista-dpo' is in no block",
        "blocks: 'star' is in several blocks",
        "up_to: the suite has no block 'man'",
    ):
        assert text in str(caught.value)


def test_a_block_needs_nothing_of_a_later_one(root: Path, tmp_path: Path) -> None:
    raw = load_yaml(root / "config/paper.yaml") | {"results": str(tmp_path / "results")}
    order = {name: raw["blocks"][name] for name in ("sweeps", "main", "baselines", "ablation", "online")}
    with pytest.raises(VistaError, match=r"blocks\.sweeps: vista-sft\+tau=-1\.5 needs vista-sft \(which it"):
        load_suite(root / "config/paper.yaml", raw | {"blocks": order}, root)
    main = [*raw["blocks"]["main"], "r3v-select"]
    order = raw["blocks"] | {"main": main, "baselines": ["star-plus", "r3v"]}
    with pytest.raises(VistaError, match=r"blocks\.main: r3v-select needs r3v"):
        load_suite(root / "config/paper.yaml", raw | {"blocks": order}, root)
