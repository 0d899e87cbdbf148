"""The direct measurements read each rollout file of the grid once, and only where images are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from vista.config import Suite, load_suite
from vista.dag import Dag
from vista.errors import VistaError
from vista.filters.oracle import OracleSettings
from vista.filters.random_drop import RandomDropSettings
from vista.filters.vig import VigSettings
from vista.measured import prefix_resamples, scored_pools


@pytest.fixture
def testbed(root: Path) -> Suite:
    return load_suite(root / "config/testbed.yaml", root=root)


def test_the_audit_reads_what_methods_score_once_for_each_policy(testbed: Suite) -> None:
    pools = scored_pools(testbed)
    policies = [pool.policy.id for pool in pools]
    assert len(policies) == len(set(policies))  # vista-sft and vista-dpo share what they read
    qwen = [policy for policy in policies if policy.startswith("nano-qwen2.5-vl")]
    of_a_seed = ["sft-seed/seed{}/round0", "vista-sft/seed{}/round1", "vista-sft/seed{}/round2"]
    expected = [policy.format(seed) for seed in testbed.seeds for policy in of_a_seed]
    assert [policy.split("/", 2)[2] for policy in qwen] == expected
    assert {setting.kind for pool in pools for setting in pool.filters} == {"vas"}


@pytest.mark.parametrize("table", ["audit", "prefix"])
def test_the_rules_take_rollouts_that_the_grid_makes_anyway(testbed: Suite, table: str) -> None:
    plan = Dag(testbed)
    made = {path.removesuffix(".manifest.json") for path in plan.manifests()}
    asked = plan.table_inputs(table)
    assert len(asked) == len(set(asked))
    rollouts = {path for path in asked if "/rollouts/" in path and "/scores/" not in path}
    assert rollouts
    assert rollouts <= made
    assert [path for path in asked if "/tasks/" in path] == [
        f"results/tasks/{task}/train.parquet" for task in ("grid-closed", "grid-open", "grid-chain")
    ]


def test_every_way_of_resampling_is_measured_once_for_each_policy_on_its_own_samples(testbed: Suite) -> None:
    items = prefix_resamples(testbed)
    assert len({(item.policy, item.name) for item in items}) == len(items)
    of_seed = [item for item in items if item.policy.id == "nano-internvl/grids/sft-seed/seed0/round0"]
    assert [(item.settings.kind, item.samples) for item in of_seed] == [
        ("rationalize", "k1-t0-n80"),  # of STaR, which has samples of its own
        ("prefix", "k10-t1-n80"),
    ]


def test_only_prefix_resampling_needs_the_tokenizers(testbed: Suite) -> None:
    plan = Dag(testbed)
    bases = [f"results/models/{model}/manifest.json" for model in testbed.models]
    assert [path for path in plan.table_inputs("prefix") if "/models/" in path] == bases
    assert not [path for path in plan.table_inputs("audit") if "/models/" in path]


@pytest.mark.parametrize("table", ["audit", "prefix", "faithfulness"])
def test_a_suite_without_scenes_is_refused_by_name(root: Path, table: str) -> None:
    plan = Dag(load_suite(root / "config/paper.yaml", root=root))
    with pytest.raises(VistaError, match=rf"tables/{table}\.csv .*'slake', 'vqa-rad', 'geometry3k'"):
        plan.table_inputs(table)


def test_a_suite_without_the_component_says_what_is_missing(testbed: Suite) -> None:
    plain = testbed.model_copy(
        update={"methods": {name: testbed.methods[name] for name in ("sft-seed", "rest-em")}}
    )
    with pytest.raises(VistaError, match="no method filters by a score"):
        scored_pools(plain)
    with pytest.raises(VistaError, match="no method resamples from prefixes"):
        prefix_resamples(plain)


def test_another_threshold_is_another_audit(testbed: Suite) -> None:
    vista = testbed.methods["vista-sft"]
    other = vista.model_copy(update={"filter": vista.filter.model_copy(update={"tau": 0.0})})
    changed = testbed.model_copy(update={"methods": testbed.methods | {"vista-sft": other}})
    assert Dag(changed).table_settings("audit") != Dag(testbed).table_settings("audit")
    assert Dag(changed).table_settings("prefix") == Dag(testbed).table_settings("prefix")


def test_gains_and_controls_of_other_filters_are_read_where_methods_ask_for_them(testbed: Suite) -> None:
    vista = testbed.methods["vista-sft"]
    kinds = [VigSettings(kind="vig"), RandomDropSettings(kind="random-drop"), OracleSettings(kind="oracle")]
    one_round = {"rounds": 1}
    controls = {
        f"vista+{filter.kind}": vista.model_copy(update={"filter": filter} | one_round) for filter in kinds
    }
    changed = testbed.model_copy(update={"methods": testbed.methods | controls})
    first = scored_pools(changed)[0]
    assert first.policy.method == "sft-seed"
    assert first.gains == first.scores == (f"{first.name}+positives",)
    assert [setting.kind for setting in first.filters] == ["vas", "vig", "random-drop"]
    assert any("/gains/" in path for path in Dag(changed).table_inputs("audit"))
    assert not any("/gains/" in path for path in Dag(testbed).table_inputs("audit"))
