"""The curation stage on files: what it reads, writes, counts and refuses."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import datasets
import pytest
from PIL import Image

from tests.curation.conftest import TASKS, Folder, png, rollout, score
from vista import plugins
from vista.config import Suite
from vista.curation.curate import curate
from vista.errors import VistaError
from vista.filters.none import NoFilterSettings
from vista.grid import Run
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import EXAMPLE, PAIR, Row, read_rows

Maker = Callable[..., Run]


def counts(paths: Paths, run: Run) -> dict[str, float]:
    return read_manifest(paths.training_set(run.id)).counts


def examples(paths: Paths, run: Run) -> list[Row]:
    return read_rows(paths.training_set(run.id), EXAMPLE)


def pairs(paths: Paths, run: Run) -> list[Row]:
    return read_rows(paths.training_set(run.id), PAIR)


def with_method(suite: Suite, name: str, **changes: Any) -> Suite:
    method = suite.methods[name].model_copy(update=changes)
    return suite.model_copy(update={"methods": {**suite.methods, name: method}})


def test_a_seed_run_trains_on_the_gold_text_of_every_seed_query(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("sft-seed", 0)
    curate(suite, paths, run)
    rows = examples(paths, run)
    assert [row["query_id"] for row in rows] == [f"{task}-{n}" for task in TASKS for n in range(2)]
    assert rows[0]["completion"][0]["content"][0]["text"] == "gold of grid-closed-0"
    assert all(row["completion_ids"] is None and row["source"] == "seed" for row in rows)
    assert counts(paths, run)["examples"] == counts(paths, run)["from_seed"] == 6


def test_correct_samples_are_trained_on_as_sampled_after_the_seed_rows(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("rest-em")
    folder.rollouts(run, [rollout("grid-open-1", n, n % 2 == 0) for n in range(4)])
    curate(suite, paths, run)
    rows = examples(paths, run)
    assert [row["source"] for row in rows] == ["seed"] * 6 + ["sample"] * 2
    assert [row["completion_ids"] for row in rows[6:]] == [[5, 6, 0], [5, 6, 2]]
    assert rows[6]["images"] == [{"bytes": png(), "path": None}]
    user = rows[6]["prompt"][1]
    assert [part["type"] for part in user["content"]] == ["image", "text"]
    assert user["content"][1]["text"] == "question grid-open-1 ?"
    found = counts(paths, run)
    assert (found["positives"], found["negatives"], found["queries"]) == (2, 2, 6)
    assert (found["queries_without_positives"], found["from_samples"], found["from_seed"]) == (5, 2, 6)


def test_correct_resamples_join_and_the_attention_filter_drops_who_looked_away(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("vista-sft")
    samples = [rollout("grid-chain-0", n, n < 2) for n in range(3)]
    resamples = [rollout("grid-chain-0", n, n == 0, source="prefix", parent=2) for n in range(2)]
    shares = [0.1, 0.5, 0.6]
    right = [*samples[:2], resamples[0]]
    scores = [score(row, share) for row, share in zip(right, shares, strict=True)]
    folder.rollouts(run, samples, resamples, scores)
    curate(with_method(suite, "vista-sft", mix_seed=False), paths, run)
    assert [(row["source"], row["completion_ids"][2]) for row in examples(paths, run)] == [
        ("sample", 1),
        ("prefix", 0),
    ]
    found = counts(paths, run)
    assert (found["positives"], found["dropped_by_filter"], found["from_prefix"]) == (3, 1, 1)
    assert (found["negatives"], found["pairs_of_two"]) == (1, 0)


@pytest.mark.parametrize(
    ("source", "parent", "name"),
    [
        ("plain", None, "from_plain"),
        ("random-prefix", 2, "from_random_prefix"),
        ("gold-prefix", 2, "from_gold_prefix"),
        ("warm", None, "from_warm"),  # of somebody's own
    ],
)
def test_rows_of_every_resampler_are_trained_on_and_counted(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker, source: str, parent: int | None, name: str
):
    run = run_of("vista-sft")
    samples = [rollout("grid-chain-0", n, n < 2) for n in range(3)]
    resamples = [rollout("grid-chain-0", n, n == 0, source=source, parent=parent) for n in range(2)]
    folder.rollouts(run, samples, resamples, [])
    curate(with_method(suite, "vista-sft", mix_seed=False, filter=NoFilterSettings()), paths, run)
    assert [row["source"] for row in examples(paths, run)] == ["sample", "sample", source]
    found = counts(paths, run)
    assert (found["positives"], found["negatives"], found[name], found["from_prefix"]) == (3, 1, 1, 0)


def test_queries_with_two_scored_positives_are_counted(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("vista-sft")
    samples = [rollout("grid-open-0", n, True) for n in range(2)]
    scores = [score(row, 0.3 + 0.1 * n) for n, row in enumerate(samples)]
    folder.rollouts(run, samples, [], scores)
    curate(suite, paths, run)
    found = counts(paths, run)
    assert (found["pairs_of_two"], found["dropped_by_filter"], found["from_samples"]) == (1, 1, 1)


def test_pairs_hold_a_positive_and_a_negative_of_the_same_query(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("dpo")
    samples = [rollout("grid-open-0", n, n < 2) for n in range(4)]
    samples += [rollout("grid-open-1", 0, True), rollout("grid-chain-0", 0, False)]
    folder.rollouts(run, samples)
    curate(suite, paths, run)
    rows = pairs(paths, run)
    assert [row["query_id"] for row in rows] == ["grid-open-0", "grid-open-0"]
    assert [row["chosen_ids"][2] for row in rows] == [0, 1]
    assert all(row["rejected_ids"][2] in (2, 3) for row in rows)
    found = counts(paths, run)
    assert (found["examples"], found["dropped_without_negative"], found["from_seed"]) == (2, 1, 0)


def test_pairs_say_which_of_their_responses_were_cut_at_the_limit(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("dpo")
    samples = [rollout(f"grid-open-{n}", 0, True) for n in range(2)]
    samples += [rollout(f"grid-open-{n}", 1, False, finished=n == 0) for n in range(2)]
    folder.rollouts(run, samples)
    curate(suite, paths, run)
    said = {row["query_id"]: (row["chosen_finished"], row["rejected_finished"]) for row in pairs(paths, run)}
    assert said == {"grid-open-0": (True, True), "grid-open-1": (True, False)}
    assert counts(paths, run)["unfinished_negatives"] == 1


def test_a_solution_that_is_right_although_it_was_cut_is_refused(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("rest-em")
    folder.rollouts(run, [rollout("grid-open-0", 0, True, finished=False)])
    with pytest.raises(VistaError, match=r"row 0: column 'finished' is False, expected true"):
        curate(suite, paths, run)


def test_duplicates_fall_before_the_cap(suite: Suite, paths: Paths, folder: Folder, run_of: Maker):
    run = run_of("rft")
    samples = [rollout("grid-open-0", n, True, text="Same  text" if n % 2 else "same text") for n in range(6)]
    samples.append(rollout("grid-open-0", 6, True, text="other text"))
    folder.rollouts(run, samples)
    curate(with_method(suite, "rft", max_per_query=1), paths, run)
    found = counts(paths, run)
    assert (found["dropped_as_duplicates"], found["dropped_by_cap"], found["from_samples"]) == (5, 1, 1)


@pytest.mark.parametrize("method", ["rest-em", "dpo"])
def test_a_policy_without_positives_leaves_an_empty_file_marked_as_such(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker, method: str
):
    run = run_of(method)
    folder.rollouts(run, [rollout("grid-open-0", n, False) for n in range(3)])
    curate(suite, paths, run)
    manifest = read_manifest(paths.training_set(run.id))
    assert manifest.status == "no-positives"
    assert (manifest.counts["examples"], manifest.counts["from_seed"]) == (0, 0)
    assert manifest.counts["queries_without_positives"] == 6
    assert (pairs if method == "dpo" else examples)(paths, run) == []


def test_positives_without_any_pair_are_marked_the_same_way(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("dpo")
    folder.rollouts(run, [rollout("grid-open-0", 0, True)])
    curate(suite, paths, run)
    assert read_manifest(paths.training_set(run.id)).status == "no-positives"


def test_rollouts_of_an_untrained_policy_pass_their_status_on(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("rest-em", 2)
    folder.rollouts(run, [], status="no-positives")
    curate(suite, paths, run)
    assert read_manifest(paths.training_set(run.id)).status == "no-positives"


def test_the_number_of_shards_and_a_second_run_give_the_same_bytes(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("dpo")
    samples = [rollout(f"{task}-{q}", n, n % 3 != 0) for task in TASKS for q in range(2) for n in range(9)]
    bytes_of = []
    for shards in (2, 3, 3):
        resharded = suite.model_copy(update={"shards": shards})
        Folder(resharded, paths).rollouts(run, samples)
        curate(resharded, paths, run)
        bytes_of.append(paths.training_set(run.id).read_bytes())
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]


@pytest.mark.parametrize(("method", "columns"), [("rest-em", EXAMPLE), ("dpo", PAIR)])
def test_training_sets_load_as_ordinary_datasets(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker, tmp_path: Any, method: str, columns: Any
):
    run = run_of(method)
    folder.rollouts(run, [rollout("grid-open-0", n, n < 2) for n in range(4)])
    curate(suite, paths, run)
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(paths.training_set(run.id)),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert loaded.column_names == columns.names
    assert len(loaded) == counts(paths, run)["examples"]
    image = loaded[0]["images"][0]  # decoded: the file says that these are images
    assert image.tobytes() == Image.open(io.BytesIO(png())).tobytes()


def test_a_solution_to_an_unknown_query_is_named(suite: Suite, paths: Paths, folder: Folder, run_of: Maker):
    run = run_of("rest-em")
    folder.rollouts(run, [rollout("grid-open-9", 0, True)])
    with pytest.raises(VistaError, match="row 0: query 'grid-open-9' is not among the train queries"):
        curate(suite, paths, run)


def test_a_solution_that_stands_there_twice_is_named(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("rest-em")
    folder.rollouts(run, [rollout("grid-open-0", 0, True)] * 2)
    with pytest.raises(VistaError, match="a second solution"):
        curate(suite, paths, run)


def test_a_seed_query_without_a_rationale_is_named(suite: Suite, paths: Paths, folder: Folder, run_of: Maker):
    folder.queries("seed", rationale=None)
    with pytest.raises(VistaError, match=r"seed query 'grid-closed-0'.*no rationale"):
        curate(suite, paths, run_of("sft-seed", 0))


def test_query_ids_shared_by_two_tasks_are_refused(suite: Suite, paths: Paths, folder: Folder, run_of: Maker):
    folder.queries("seed", query_id="same", count=1)
    with pytest.raises(VistaError, match="'same' also belongs to task 'grid-closed'"):
        curate(suite, paths, run_of("sft-seed", 0))


def test_rollouts_without_a_manifest_are_not_trusted(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker
):
    run = run_of("rest-em")
    folder.rollouts(run, [rollout("grid-open-0", 0, True)])
    for manifest in paths.results.rglob("samples/**/*.manifest.json"):
        manifest.unlink()
    with pytest.raises(VistaError, match="not known to be whole"):
        curate(suite, paths, run)


def test_a_method_that_trains_nothing_has_no_training_set(suite: Suite, paths: Paths, run_of: Maker):
    with pytest.raises(VistaError, match="'zero-shot' trains nothing"):
        curate(suite, paths, run_of("zero-shot", 0))


def test_curation_needs_no_torch():
    code = "import sys, vista.curation.curate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_filter_from_outside_the_package_is_recorded(
    suite: Suite, paths: Paths, folder: Folder, run_of: Maker, monkeypatch: pytest.MonkeyPatch
):
    run = run_of("vista-sft")
    folder.rollouts(run, [])
    curate(suite, paths, run)
    assert "plugins" not in read_manifest(paths.training_set(run.id)).settings
    monkeypatch.setattr(
        plugins, "origin", lambda settings: {"kind": "vas"} if settings.kind == "vas" else None
    )
    curate(suite, paths, run)
    assert read_manifest(paths.training_set(run.id)).settings["plugins"] == [{"kind": "vas"}]
