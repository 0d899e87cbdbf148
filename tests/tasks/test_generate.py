"""The files that the stage writes."""

from __future__ import annotations

from typing import get_args

import pytest

from vista import records
from vista.answers import extract, verify
from vista.damage import sha256
from vista.errors import VistaError
from vista.images import open_images
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import Split
from vista.task_kinds import Sizes
from vista.task_kinds.grid import grid_query
from vista.tasks.generate import generate_split
from vista.testbed.questions import load, templates_of


@pytest.fixture(scope="module")
def paths(suite, tmp_path_factory) -> Paths:
    """All tasks, generated."""
    found = Paths(tmp_path_factory.mktemp("results"))
    for name, task in suite.tasks.items():
        for split in get_args(Split):
            if getattr(task.sizes, split):
                generate_split(suite, found, name, split)
    return found


@pytest.fixture(scope="module")
def queries(suite, paths):
    """Every row of every file."""
    files = [paths.queries(task, split) for task in suite.tasks for split in get_args(Split)]
    return [row for file in files if file.exists() for row in records.read_queries(file)]


def test_each_split_with_a_size_gets_a_file_of_that_size_and_a_manifest(suite, paths):
    for name, task in suite.tasks.items():
        for split in get_args(Split):
            size, file = getattr(task.sizes, split), paths.queries(name, split)
            assert file.exists() is (size > 0)
            if size:
                assert len(records.read_queries(file)) == size == read_manifest(file).counts["queries"]


def test_ids_and_images_are_unique_over_all_tasks(queries):
    assert len({row["query_id"] for row in queries}) == len(queries)
    assert len({row["cluster_id"] for row in queries}) == len(queries)
    assert len({row["images"][0]["bytes"] for row in queries}) == len(queries)


def test_only_the_seed_split_and_the_printed_corpus_have_rationales(queries):
    for row in queries:
        assert (row["rationale"] is not None) is (row["split"] == "seed" or row["task"] == "printed")


def test_gold_rationales_give_the_answer_and_the_answer_verifies(queries):
    for row in queries:
        if row["rationale"] is not None:
            assert extract(row["rationale"]) == row["answer"]
        assert verify(row["answer"], row["answer"], row["answer_type"], row["choices"])


def test_images_are_as_large_as_their_scene(queries):
    for row in queries[::7]:
        scene, _ = load(row["scene"])
        assert open_images(row)[0].size == (8 * scene.columns, 8 * scene.rows)


def test_families_take_equal_shares_and_so_do_their_templates(suite, queries):
    asked = [load(row["scene"])[1].template for row in queries if row["task"] == "grid-noisy"]
    for family in suite.tasks["grid-noisy"].questions:
        counts = [asked.count(template.name) for template in templates_of(family, 9)]
        assert sum(counts) == len(asked) // 3
        assert max(counts) - min(counts) <= 1


def test_a_family_named_more_often_comes_more_often(suite, queries):
    asked = [load(row["scene"])[1].template for row in queries if row["task"] == "printed"]
    families = suite.tasks["printed"].questions
    reading = sum(template.startswith("read-") for template in asked)
    assert reading / len(asked) == families.count("read") / len(families)


def test_files_are_the_same_byte_for_byte_when_made_again(suite, paths, tmp_path):
    for split in get_args(Split):
        generate_split(suite, Paths(tmp_path), "grid-closed", split)
        assert sha256(Paths(tmp_path).queries("grid-closed", split)) == sha256(
            paths.queries("grid-closed", split)
        )


def test_a_query_does_not_depend_on_the_size_of_its_split(suite):
    task = suite.tasks["grid-chain"]
    larger = task.model_copy(update={"sizes": Sizes(train=10**6)})
    assert grid_query("grid-chain", task, "train", 7) == grid_query("grid-chain", larger, "train", 7)


def test_an_unknown_task_is_named_with_its_likely_spelling(suite, tmp_path):
    with pytest.raises(VistaError, match="did you mean 'grid-open'"):
        generate_split(suite, Paths(tmp_path), "grid-opne", "test")


def test_a_split_without_a_size_is_refused(suite, tmp_path):
    with pytest.raises(VistaError, match=r"grid-large\.sizes\.seed is 0"):
        generate_split(suite, Paths(tmp_path), "grid-large", "seed")
