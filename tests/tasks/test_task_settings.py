"""When a benchmark's splits are made anew, and which of its settings the config refuses."""

from __future__ import annotations

import pytest
import yaml

from tests.tasks.published import WRITERS, benchmark
from vista.config import load_suite
from vista.dag import Dag
from vista.errors import VistaError


def settings(suite, with_task, tmp_path, sizes, **changes):
    """The digest of each split's settings."""
    dag = Dag(with_task("slake", tmp_path, sizes, **changes))
    return {split: dag.task_settings("slake", split) for split in ("seed", "train", "test")}


def changed(before, after):
    """The splits whose settings differ."""
    return {split for split in before if before[split] != after[split]}


def test_a_split_is_made_anew_only_if_something_it_depends_on_changed(suite, with_task, tmp_path):
    before = settings(suite, with_task, tmp_path, {"seed": 5, "train": 10, "test": 3})
    same = settings(suite, with_task, tmp_path, {"seed": 5, "train": 10, "test": 3})
    assert changed(before, same) == set()
    # The train split is what the seed split leaves.
    assert changed(before, settings(suite, with_task, tmp_path, {"seed": 6, "train": 10, "test": 3})) == {
        "seed",
        "train",
    }
    assert changed(before, settings(suite, with_task, tmp_path, {"seed": 5, "train": 9, "test": 3})) == {
        "train"
    }
    assert changed(before, settings(suite, with_task, tmp_path, {"seed": 5, "train": 10})) == {"test"}
    other = settings(suite, with_task, tmp_path, {"seed": 5, "train": 10, "test": 3}, duplicates="remove")
    assert changed(before, other) == {"seed", "train"}  # it says which train queries are left out
    other = settings(suite, with_task, tmp_path, {"seed": 5, "train": 10, "test": 3}, seed=1)
    assert changed(before, other) == {"seed", "train", "test"}


def test_every_benchmark_has_published_sizes_and_yes_no_questions_are_some_of_them():
    told_apart = set()
    for kind in WRITERS:
        every = benchmark(kind=kind, source=SOURCE)
        assert every.queries("train") > every.queries("test") > 0
        seeded = benchmark(kind=kind, source=SOURCE, sizes={"seed": 5, "test": 7})
        assert [seeded.queries(split) for split in ("seed", "test")] == [5, 7]
        assert seeded.queries("train") == every.queries("train") - 5
        if every.published_yes_no is not None:
            told_apart.add(kind)
            yes_no = benchmark(kind=kind, source=SOURCE, questions="yes-no")
            assert all(0 < yes_no.queries(split) <= every.queries(split) for split in ("train", "test"))
    assert told_apart == {"slake", "vqa-rad"}


@pytest.fixture
def load_with(root, tmp_path):
    """Loads the default suite with one benchmark more."""

    def load(task, train_sets=None):
        value = yaml.safe_load((root / "config/testbed.yaml").read_text())
        value["tasks"]["bench"] = task
        value["train_sets"] |= train_sets or {}
        value["seed_rationales"] = {"kind": "self"}
        return load_suite(tmp_path / "suite.yaml", value, root=root)

    return load


SOURCE = {"kind": "path", "path": "data/benchmark"}


def test_a_benchmark_may_be_trained_on_with_all_that_is_published(load_with):
    suite = load_with({"kind": "slake", "source": SOURCE, "sizes": {"seed": 5}}, {"bench": ["bench"]})
    assert suite.tasks["bench"].sizes.train is None


def test_a_benchmark_without_a_seed_split_is_not_trained_on(load_with):
    with pytest.raises(VistaError, match=r"tasks\.bench\.sizes\.seed: 0, but 'bench' trains on this task"):
        load_with({"kind": "slake", "source": SOURCE}, {"bench": ["bench"]})


def test_yes_no_questions_are_asked_for_only_where_they_can_be_told(load_with):
    with pytest.raises(VistaError, match=r"tasks\.bench\.questions: chartqa does not .*found 'yes-no'"):
        load_with({"kind": "chartqa", "source": SOURCE, "questions": "yes-no"})


def test_a_branch_name_is_no_revision(load_with):
    source = {"kind": "hub", "repo": "BoKelvin/SLAKE", "revision": "main"}
    with pytest.raises(VistaError, match=r"revision: String should match pattern .*found 'main'"):
        load_with({"kind": "slake", "source": source})
