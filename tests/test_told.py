"""What a run says of its jobs: short, and right about how long the rest may take."""

from __future__ import annotations

import pytest

from vista.dag.told import FILES, REASON, SHOWN, Progress, duration, short_job, shortened


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def begun(stats: dict[str, int], rules: dict[int, str]) -> tuple[Progress, Clock]:
    clock = Clock()
    progress = Progress(clock)
    progress.planned(stats)
    progress.rules = rules
    return progress, clock


def test_the_rest_lasts_as_the_jobs_of_each_rule_did_so_far() -> None:
    progress, clock = begun({"sample": 4, "train": 3, "total": 7}, {1: "sample", 2: "train"})
    assert progress.line(0, 7) == "0 of 7 jobs done (0 %), 0 at work"
    progress.started([1])
    clock.now += 10
    progress.finished(1)
    progress.started([2])
    clock.now += 100
    progress.finished(2)
    assert progress.seconds_left() == pytest.approx(3 * 10 + 2 * 100)
    assert progress.line(2, 7) == "2 of 7 jobs done (28 %), 0 at work, about 3 min 50 s left"


def test_jobs_at_a_time_share_the_rest_and_what_runs_has_some_behind_it() -> None:
    progress, clock = begun({"sample": 6, "total": 6}, dict.fromkeys(range(6), "sample"))
    progress.started([0, 1])
    clock.now += 60
    progress.finished(0)
    progress.finished(1)
    assert progress.seconds_left() == pytest.approx(4 * 60 / 2)
    progress.started([2, 3])
    clock.now += 30
    assert progress.seconds_left() == pytest.approx(4 * 60 / 2 - 30)
    assert "2 at work" in progress.line(2, 6)


def test_a_rule_of_which_no_job_has_ended_lasts_as_the_others_do() -> None:
    progress, clock = begun({"sample": 1, "train": 5, "total": 6}, {1: "sample"})
    progress.started([1])
    clock.now += 7
    progress.finished(1)
    assert progress.seconds_left() == pytest.approx(5 * 7)


def test_a_job_that_failed_is_not_at_work_and_is_still_to_be_done() -> None:
    progress, clock = begun({"sample": 2, "total": 2}, {1: "sample", 2: "sample"})
    progress.started([1, 2])
    clock.now += 5
    progress.failed(1)
    progress.finished(2)
    assert progress.left["sample"] == 1
    assert "0 at work" in progress.line(1, 2)


def test_a_job_that_runs_longer_than_others_did_takes_nothing_off_the_rest() -> None:
    progress, clock = begun({"sample": 3, "total": 3}, dict.fromkeys(range(3), "sample"))
    progress.started([0, 1])
    clock.now += 10
    progress.finished(0)
    clock.now += 1000
    left = progress.seconds_left()
    assert left is not None
    assert left > 0


def test_the_jobs_of_a_group_are_at_work_as_long_as_the_group() -> None:
    progress, clock = begun({"curate": 2, "train": 2, "total": 4}, {1: "curate", 2: "train"})
    progress.started(["uuid-of-2"])
    progress.grouped(["uuid-of-1", "uuid-of-2"], [1, 2])
    assert "2 at work" in progress.line(0, 4)
    clock.now += 60
    progress.finished(1)
    progress.finished(2)
    assert progress.seconds_left() == pytest.approx(60)
    assert "0 at work" in progress.line(2, 4)


def test_a_run_that_has_ended_says_nothing_of_the_rest() -> None:
    progress, clock = begun({"sample": 1, "total": 1}, {1: "sample"})
    progress.started([1])
    clock.now += 5
    progress.finished(1)
    assert progress.line(1, 1) == "1 of 1 jobs done (100 %), 0 at work"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 min 0 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_said_in_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_dry_run_names_the_first_jobs_of_each_rule_and_counts_the_others() -> None:
    progress, _ = begun({"sample": 100, "train": SHOWN, "total": 103}, {})
    said = [progress.brief("sample", {"run": "a", "shard": str(number)}) for number in range(100)]
    assert said[: SHOWN - 1] == [f"sample a {number}" for number in range(SHOWN - 1)]
    assert said[SHOWN - 1] == f"sample a 2\nsample … ({100 - SHOWN} more; --printshellcmds shows all)"
    assert not any(said[SHOWN:])
    assert "…" not in "".join(progress.brief("train", {}) for _ in range(SHOWN))


def test_long_lists_and_reasons_are_cut_and_short_ones_are_left() -> None:
    files = [f"results/{number}.parquet" for number in range(1000)]
    assert shortened(files) == [*files[:FILES], f"… ({1000 - FILES} more)"]
    assert shortened(files[:FILES]) == files[:FILES]
    said = {"input": files, "output": ["x"], "reason": ", ".join(files), "rule_name": "collect"}
    short = short_job(said)
    assert (short["rule_name"], short["output"]) == ("collect", ["x"])
    assert len(short["input"]) == FILES + 1
    assert short["reason"] == said["reason"][:REASON] + " …"  # type: ignore[index]
    assert short_job({"input": None, "reason": "new"}) == {"input": None, "reason": "new"}
    assert len(said["input"]) == 1000, "what other loggers are told stays"


def test_the_jobs_at_work_are_named_the_longest_first() -> None:
    progress, clock = begun({"train": 2, "sample": 1, "total": 3}, {})
    progress.described(1, "train", {"run": "nano/grids/rest-em/seed0/round1"})
    progress.described(2, "sample", {"run": "nano/grids/sft-seed/seed0/round0", "shard": "0"})
    progress.started([2])
    clock.now += 5
    progress.started([1])
    clock.now += 2
    assert progress.at_work() == [
        ("sample nano/grids/sft-seed/seed0/round0 0", 7),
        ("train nano/grids/rest-em/seed0/round1", 2),
    ]
    progress.finished(2)
    assert (progress.done, progress.total) == (1, 3)
    assert [name for name, _ in progress.at_work()] == ["train nano/grids/rest-em/seed0/round1"]


def test_a_run_that_ended_well_says_what_it_made_and_what_to_type_next() -> None:
    progress, clock = begun({"results": 1, "total": 1}, {1: "results"})
    progress.started([1])
    clock.now += 2169
    progress.finished(1)
    said = progress.summary(["results/tables/main.csv", "results/tables/cost.csv"], " --configfile a.yaml")
    first, *rest = said.splitlines()
    assert first == "1 job in 36 min 9 s: results/tables/main.md, results/tables/cost.md"
    assert any("vista show results/tables/main.csv" in line for line in rest)
    assert any(line.endswith("snakemake --cores all tables figures --configfile a.yaml") for line in rest)
    assert not any("--report" in line for line in rest), "there are no figures yet"
    everything = progress.summary(["results/tables/main.csv", "results/figures/rounds.pdf"])
    assert everything.endswith("snakemake --report report.html tables figures")
    assert "figures:" not in everything
    assert progress.summary(["results/models/nano/model.safetensors"]).count("\n") == 0


def test_a_summary_names_no_file_that_is_not_there_and_no_command_that_would_run_elsewhere() -> None:
    progress, clock = begun({"results": 2, "total": 2}, {1: "results"})
    progress.started([1])
    clock.now += 3
    progress.finished(1)
    assert progress.summary([]) == "1 job in 0 min 3 s."
    on_a_cluster = progress.summary(["results/paper/tables/main.csv"], None)
    assert "snakemake" not in on_a_cluster
    assert "vista show results/paper/tables/main.csv" in on_a_cluster
    assert "assumptions.yaml" in progress.summary(["results/paper/tables/assumptions.yaml"])
    assert "--report" not in progress.summary(["/data/figures/results/tables/main.csv"])
