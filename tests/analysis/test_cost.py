"""Where the time went, from hand-made benchmark files and manifests."""

from __future__ import annotations

import csv
import platform
from pathlib import Path

import pytest

from tests.analysis.conftest import World
from tests.documents import undocumented
from vista.analysis.cost import ASKED, COLUMNS, cost_table, measured_by
from vista.config import Suite
from vista.errors import VistaError
from vista.manifest import installed, read_manifest
from vista.paths import Paths, manifest_of

RUN = "nano-b/both/rest-em/seed0/round1"
SAMPLES = "k2-t1-n2048"


@pytest.fixture
def empty(suite: Suite, paths: Paths) -> World:
    """A world in which no job has run."""
    return World(suite, paths)


def output(world: World, path: Path, tokens: float | None = None, peak: float = 50.0) -> None:
    """An output with the tokens and the peak memory (MB) given."""
    world.manifest(path, "any", {} if tokens is None else {"tokens": tokens}, peak=peak)


def samples(world: World, shard: int) -> Path:
    return world.paths.rollouts(RUN, "samples", SAMPLES, shard, 2)


def line(seconds: str, rss: str, cpu: str) -> str:
    return f"{seconds}\t0:00:01\t{rss}\t1\t1\t1\t0\t0\t50.0\t{cpu}"


def table_of(world: World) -> dict[tuple[str, str], dict[str, str]]:
    cost_table(world.suite, world.paths)
    with world.paths.table("cost", "csv").open(newline="") as file:
        return {(row["stage"], row["model"]): row for row in csv.DictReader(file)}


def test_jobs_are_added_up_by_stage_and_model(empty: World) -> None:
    for shard, (seconds, rss, cpu) in enumerate([("10.0", "300.0", "9.0"), ("30.0", "200.0", "25.5")]):
        output(empty, samples(empty, shard), tokens=1000.0)
        empty.benchmark("rollouts", f"{RUN}/samples/{SAMPLES}/{shard}", line(seconds, rss, cpu))
    output(empty, empty.paths.trained(RUN), tokens=500.0)
    empty.benchmark("training", RUN, line("20.0", "400.0", "18.0"))
    table = table_of(empty)
    assert list(table) == [("rollouts", "nano-b"), ("training", "nano-b"), ("total", "")]
    assert list(table["rollouts", "nano-b"].values())[2:] == [
        *("2", "40.00", "34.50", "300.00", "2000", "50.00", "0")
    ]
    assert list(table["total", ""].values())[2:] == ["3", "60.00", "52.50", "400.00", "2500", "41.67", "0"]


def test_stages_and_models_are_in_order_and_shared_jobs_have_no_model(empty: World) -> None:
    for stage, name in [
        ("analysis", "collect"),
        ("evaluation", "nano-a/both/zero-shot/seed0/round0"),
        ("evaluation", RUN),
        ("tasks", "easy/train"),
        ("models", "nano-a"),
    ]:
        empty.benchmark(stage, name)
    assert list(table_of(empty)) == [
        ("tasks", ""),
        ("models", "nano-a"),
        ("evaluation", "nano-b"),
        ("evaluation", "nano-a"),
        ("analysis", ""),
        ("total", ""),
    ]


def test_an_output_without_a_benchmark_file_is_unmeasured_not_free(empty: World) -> None:
    for shard in (0, 1):
        output(empty, samples(empty, shard), tokens=1000.0)
    empty.benchmark("rollouts", f"{RUN}/samples/{SAMPLES}/0", line("10.0", "300.0", "9.0"))
    output(empty, empty.paths.trained(RUN), tokens=500.0)
    table = table_of(empty)
    row = table["rollouts", "nano-b"]
    assert (row["seconds"], row["tokens"], row["unmeasured"]) == ("10.00", "2000", "1")
    assert row["tokens_per_second"] == "100.00", "only the timed output's tokens count for the rate"
    row = table["training", "nano-b"]
    assert [row[name] for name in ("jobs", "seconds", "cpu_seconds", "tokens_per_second", "unmeasured")] == [
        *("0", "", "", "", "1")
    ]
    assert table["total", ""]["unmeasured"] == "2"
    assert "**2 outputs have no benchmark file**" in empty.paths.table("cost", "md").read_text()


def test_an_output_belongs_to_the_job_that_made_it_and_to_no_other(empty: World) -> None:
    """Responses to the job that generated them, a history to its training, an adapter to its adoption."""
    for path in (empty.paths.responses(RUN), empty.paths.predictions(RUN)):
        output(empty, path)
    empty.benchmark("evaluation", RUN)
    for path in (empty.paths.trained(RUN), empty.paths.history(RUN)):
        output(empty, path)
    empty.benchmark("training", RUN)
    output(empty, empty.paths.adopted(RUN))
    empty.benchmark("models", f"external/{RUN}")
    table = table_of(empty)
    stages = ("models", "training", "evaluation")
    assert [table[stage, "nano-b"]["unmeasured"] for stage in stages] == ["0", "0", "1"]
    empty.benchmark("evaluation", f"{RUN}/responses")
    assert table_of(empty)["evaluation", "nano-b"]["unmeasured"] == "0"


def test_tokens_of_a_job_with_two_outputs_count_once(empty: World) -> None:
    for kind in ("critical", "resamples"):
        output(empty, empty.paths.rollouts(RUN, kind, f"{SAMPLES}+prefix", 0, 1), tokens=70.0)
    empty.benchmark("rollouts", f"{RUN}/resamples/{SAMPLES}+prefix/0", line("10.0", "300.0", "9.0"))
    row = table_of(empty)["rollouts", "nano-b"]
    assert (row["tokens"], row["tokens_per_second"], row["unmeasured"]) == ("70", "7.00", "0")


def test_what_snakemake_had_no_time_to_measure_is_unknown_not_zero(empty: World) -> None:
    empty.benchmark("curation", RUN, line("0.21", "NA", "NA"))
    row = table_of(empty)["curation", "nano-b"]
    assert (row["jobs"], row["seconds"], row["cpu_seconds"], row["max_rss_mb"]) == ("1", "0.21", "", "")
    empty.benchmark("curation", RUN.replace("round1", "round2"), line("1.0", "-", "0.5"))
    assert table_of(empty)["curation", "nano-b"]["cpu_seconds"] == "0.50"


def test_memory_is_the_larger_of_the_jobs_and_the_processs_own_peak(empty: World) -> None:
    empty.benchmark("training", RUN, line("1.0", "300.0", "1.0"))
    output(empty, empty.paths.trained(RUN), peak=450.0)
    assert table_of(empty)["training", "nano-b"]["max_rss_mb"] == "450.00"


def test_a_stage_that_counts_no_tokens_has_none_in_the_table(empty: World) -> None:
    output(empty, empty.paths.training_set(RUN))
    empty.benchmark("curation", RUN)
    row = table_of(empty)["curation", "nano-b"]
    assert (row["tokens"], row["tokens_per_second"], row["unmeasured"]) == ("", "", "0")


def test_repeats_of_a_job_are_added_up(empty: World) -> None:
    both = line("1.0", "10.0", "0.5") + "\n" + line("2.0", "30.0", "1.5")
    empty.benchmark("training", RUN, both)
    row = table_of(empty)["training", "nano-b"]
    assert (row["jobs"], row["seconds"], row["cpu_seconds"], row["max_rss_mb"]) == (
        "1",
        "3.00",
        "2.00",
        "30.00",
    )


@pytest.mark.parametrize(
    "content", ["", "nonsense\n1\n", "s\tmax_rss\tcpu_time\nsoon\t1\t1\n", "s\tmax_rss\tcpu_time\n"]
)
def test_a_malformed_benchmark_file_is_an_error_that_names_it(empty: World, content: str) -> None:
    path = empty.paths.benchmark("training", RUN)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(VistaError, match=r"round1\.tsv"):
        cost_table(empty.suite, empty.paths)


def test_an_empty_results_folder_gives_a_total_of_nothing_known(empty: World) -> None:
    table = table_of(empty)
    assert list(table) == [("total", "")]
    assert list(table["total", ""].values()) == ["total", "", "0", "", "", "", "", "", "0"]


def test_the_columns_are_those_documented(empty: World, root: Path) -> None:
    assert undocumented(root, COLUMNS) == []
    assert list(table_of(empty)["total", ""]) == COLUMNS


def test_the_page_counts_outputs_by_what_they_were_made_with(empty: World) -> None:
    for shard in (0, 1):
        output(empty, samples(empty, shard))
    output(empty, empty.paths.trained(RUN))
    file = manifest_of(empty.paths.trained(RUN))
    file.write_text(file.read_text().replace(f'"python": "{platform.python_version()}"', '"python": "3.0.0"'))
    table_of(empty)
    text = empty.paths.table("cost", "md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert [row for row in rows if row[:1] == ["Python"]] == [
        ["Python", "3.0.0", "1"],
        ["Python", platform.python_version(), "2"],
    ]
    assert ["numpy", installed()["numpy"], "3"] in rows


def test_what_endpoints_were_sent_is_told_where_there_are_any(empty: World, root: Path) -> None:
    assert undocumented(root, ASKED) == []
    output(empty, samples(empty, 0), tokens=1000.0)
    asked = {"tokens": 30, "prompt_tokens": 500, "requests": 7, "sent": 9, "from_cache": 2}
    for task, sent in (("easy", 9), ("hard", 4)):  # of a teacher, which has a budget for each task
        empty.manifest(empty.paths.queries(task, "seed"), "any", {**asked, "sent": sent})
        empty.manifest(empty.paths.queries(task, "train"), "any", {})
    for method, sent in (("rest-em", 9), ("dpo", 16)):  # in the name of one model, one after another
        path = empty.paths.predictions(RUN.replace("rest-em", method))
        empty.manifest(path, "any", {**asked, "sent": sent})
    table = table_of(empty)
    assert list(table["total", ""]) == [*COLUMNS, *ASKED]
    found = {row: [table[row][name] for name in ASKED] for row in table}
    assert found == {
        ("tasks", ""): ["14", "13", "4", "1000"],
        ("rollouts", "nano-b"): ["", "", "", ""],
        ("evaluation", "nano-b"): ["14", "16", "4", "1000"],
        ("total", ""): ["28", "29", "8", "2000"],
    }


def test_every_file_of_a_whole_grid_is_counted(world: World) -> None:
    """The hand-made grid has no benchmark files: every output is unmeasured."""
    row = table_of(world)["total", ""]
    manifests = [path for path in world.paths.results.rglob("*manifest.json") if "tables" not in path.parts]
    assert row["unmeasured"] == str(len(manifests))
    assert row["tokens"] == str(
        int(sum(read_manifest(_output(path)).counts.get("tokens", 0) for path in manifests))
    )


def _output(manifest: Path) -> Path:
    if manifest.name == "manifest.json":  # of a folder
        return manifest.parent
    return manifest.with_name(manifest.name.removesuffix(".manifest.json"))


def test_a_job_is_known_by_the_outputs_that_bear_its_name() -> None:
    shard = ("m", "rest-em", "samples", "k2", "0")
    assert measured_by(shard, shard)
    assert measured_by(shard, ("m", "rest-em", "0"))
    assert not measured_by(shard, ("m", "rest-em", "samples", "k2", "1"))
    assert not measured_by(shard, ("m", "dpo"))
    assert not measured_by(("m", "a", "b"), ("m", "b", "a"))
    critical = ("m", "rest-em", "critical", "k2", "0")
    assert measured_by(critical, ("m", "rest-em", "resamples", "k2", "0"))
    assert not measured_by(critical, shard)
