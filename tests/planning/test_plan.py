"""A plan counts what Snakemake would run, and its figures follow from the assumptions."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.planning.conftest import make_suite
from vista.analysis.power import Variances, seeds_needed, smallest_difference
from vista.cli import app
from vista.config import HfEngineSettings, Suite, load_suite
from vista.errors import VistaError
from vista.grid import Run
from vista.planning.assumptions import Assumptions, load_assumptions
from vista.planning.estimate import Estimator, parameters, queries
from vista.planning.jobs import RolloutFile, job_counts, rollout_files
from vista.planning.plan import _saving, as_dict, make_plan
from vista.planning.resolution import Resolution, resolutions
from vista.records import write_text

# Figures that make sums easy: no start, one token per response, one second per thing.
EASY = Assumptions(
    gpu_tflops=1.0,
    utilisation=1.0,
    vllm_tokens_per_second=1.0,
    hf_tokens_per_second=0.5,
    start_minutes=0.0,
    prompt_tokens=9,
    response_tokens=1,
    resampled=0.5,
    correct=0.5,
    critical=1.0,
    recovered=0.5,
    kept=0.5,
    bytes_per_parameter=2.0,
    state_bytes_per_parameter=3.0,
    image_kilobytes=0.001,
    grid_image_kilobytes=0.001,
    bytes_per_token=1.0,
)
HOUR = 3600.0


def planned_by_snakemake(root: Path, folder: Path, configfile: str, target: str) -> dict[str, int]:
    """Jobs per rule of a dry run, in a folder without results."""
    for name in ("Snakefile", "models.yaml", "config", "workflow", "vista", "environment.yml", "profiles"):
        (folder / name).symlink_to(root / name)
    command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1"]
    done = subprocess.run(
        [*command, "--configfile", configfile, "--", target],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in rows if rule != "total"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "testbed", "testbed-full"])
def test_a_plan_counts_the_jobs_that_snakemake_would_run(root: Path, tmp_path: Path, name: str) -> None:
    suite = load_suite(root / f"config/{name}.yaml", root=root)
    target = f"{suite.results}/tables/main.csv"
    assert planned_by_snakemake(root, tmp_path, f"config/{name}.yaml", target) == job_counts(suite)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["ablation", "difficulty"])
def test_a_further_table_needs_the_runs_of_the_main_table_and_no_others(
    root: Path, tmp_path: Path, table: str
) -> None:
    suite = load_suite(root / "config/smoke.yaml", root=root)
    target = f"{suite.results}/tables/{table}.csv"
    counts = job_counts(suite)
    del counts["results"]
    assert planned_by_snakemake(root, tmp_path, "config/smoke.yaml", target) == counts | {table: 1}


@pytest.mark.slow
def test_without_a_target_snakemake_makes_the_tables_that_the_suite_names(root: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(
        (root / "config/smoke.yaml").read_text() + "\ntables: [main, ablation, difficulty]\n"
    )
    jobs = planned_by_snakemake(root, tmp_path, "suite.yaml", "all")
    assert {rule for rule, count in jobs.items() if count == 1} >= {"results", "ablation", "difficulty"}
    assert "cost" not in jobs


def test_rollouts_are_counted_once_with_all_their_readers(suite: Suite) -> None:
    first = Run("m-1b", "one", "sft-seed", 0, 0)
    readers = {
        (file.policy, file.kind): [run.method for run in file.readers] for file in rollout_files(suite)
    }
    assert readers == {
        (first, "samples"): ["rest-em", "vista-sft", "dpo"],
        (Run("m-1b", "one", "rest-em", 0, 1), "samples"): ["rest-em"],
        (first, "resamples"): ["vista-sft"],
        (first, "scores"): ["vista-sft"],
    }


def rollouts(suite: Suite) -> dict[tuple[str, str], RolloutFile]:
    return {(file.policy.method, file.kind): file for file in rollout_files(suite)}


def test_gpu_hours_follow_from_the_assumptions(suite: Suite) -> None:
    estimator, files = Estimator(suite, EASY), rollouts(suite)
    # 100 queries × 10 solutions × 1 token, at 1 token a second.
    assert estimator.rollout_hours(files["sft-seed", "samples"]) * HOUR == pytest.approx(1000)
    # 500 wrong ones × 3 continuations of half a token, and a pass over 500 × 10 tokens at 2 GFLOP each
    # and 1 TFLOP/s.
    assert estimator.rollout_hours(files["sft-seed", "resamples"]) * HOUR == pytest.approx(750 + 10)
    # 500 right samples and 750 recovered ones, 10 tokens each.
    assert estimator.rollout_hours(files["sft-seed", "scores"]) * HOUR == pytest.approx(12500 * 2e-3)
    # The seed split: 20 examples × 10 tokens × 2 epochs at 6 GFLOP.
    seed = Run("m-1b", "one", "sft-seed", 0, 0)
    assert estimator.training_hours(seed) * HOUR == pytest.approx(20 * 10 * 2 * 6e-3)
    # Half of 1250 positives, and the seed split.
    vista = Run("m-1b", "one", "vista-sft", 0, 1)
    assert estimator.training_hours(vista) * HOUR == pytest.approx((625 + 20) * 10 * 2 * 6e-3)
    # 500 pairs of two, trained and passed through the reference.
    dpo = Run("m-1b", "one", "dpo", 0, 1)
    assert estimator.training_hours(dpo) * HOUR == pytest.approx(500 * 2 * 10 * 2 * 8e-3)
    # 50 test queries, by the suite's engine; scoring takes no GPU.
    assert estimator.evaluation_hours(dpo) * HOUR == pytest.approx(50)
    by_rule = {work.rule: work.gpu_hours for work in estimator.work()}
    assert (by_rule["respond"] * HOUR, by_rule["evaluate"]) == (pytest.approx(50), 0.0)
    slower = Estimator(suite.model_copy(update={"engine": HfEngineSettings(batch_size=1)}), EASY)
    by_rule = {work.rule: work.gpu_hours for work in slower.work()}
    assert by_rule["evaluate"] * HOUR == pytest.approx(100)
    assert "respond" not in by_rule


def test_log_probabilities_cost_two_passes_over_the_solutions_in_scope(tmp_path: Path) -> None:
    vista = make_suite(tmp_path).model_dump()["methods"]["vista-sft"]
    methods = {
        "sft-seed": {"kind": "seed"},
        "vig": vista | {"filter": {"kind": "vig"}},
        "logprob": vista | {"filter": {"kind": "logprob"}},
    }
    suite = make_suite(tmp_path, methods=methods)
    file = rollouts(suite)["sft-seed", "gains"]
    assert [run.method for run in file.readers] == ["vig", "logprob"]
    assert job_counts(suite)["gains"] == suite.shards
    # 500 right samples and 750 recovered ones, 10 tokens each, twice.
    estimator = Estimator(suite, EASY)
    assert estimator.rollout_hours(file) * HOUR == pytest.approx(2 * 12500 * 2e-3)
    assert estimator.rollout_bytes(file) == 1250 * 20


def test_starting_is_paid_by_every_job_and_every_gpu(suite: Suite) -> None:
    slow = EASY.model_copy(update={"start_minutes": 60.0})
    estimator, run = Estimator(suite, slow), Run("m-1b", "one", "sft-seed", 0, 0)
    bare = Estimator(suite, EASY)
    samples = rollouts(suite)["sft-seed", "samples"]
    assert estimator.rollout_hours(samples) - bare.rollout_hours(samples) == pytest.approx(2)  # shards
    assert estimator.training_hours(run) - bare.training_hours(run) == pytest.approx(4)  # processes
    assert estimator.evaluation_hours(run) - bare.evaluation_hours(run) == pytest.approx(1)


def test_adapters_and_checkpointing_change_what_training_costs(tmp_path: Path) -> None:
    def hours(**training: object) -> float:
        model = {"kind": "path", "path": "/m-1b", "training": training}
        suite = make_suite(tmp_path, models={"m-1b": model})
        return Estimator(suite, EASY).training_hours(Run("m-1b", "one", "sft-seed", 0, 0))

    full = hours()
    assert hours(gradient_checkpointing=True) == pytest.approx(full * 8 / 6)
    assert hours(tuning={"kind": "lora"}) == pytest.approx(full * 4 / 6)


def test_disk_is_mostly_checkpoints_and_each_row_holds_its_image(suite: Suite) -> None:
    plan = make_plan(suite, EASY)
    trained = 1 + 2 + 1 + 1
    assert plan.total(lambda work: work.disk_bytes, "train") == pytest.approx(trained * 1e9 * 2)
    assert plan.state_bytes == pytest.approx(1e9 * 3)
    assert plan.total(lambda work: work.disk_bytes, "tasks") == pytest.approx(170)
    # 20 seed rows; 520 and 520; 645; 500 pairs of two responses; an image and a token each.
    assert plan.total(lambda work: work.disk_bytes, "curate") == pytest.approx(
        2 * (20 + 2 * 520 + 645) + 3 * 500
    )


def test_sharing_saves_what_each_further_reader_would_have_cost(suite: Suite) -> None:
    plan = make_plan(suite, EASY)
    first = next(group for group in plan.shared if len(group.readers) == 3)
    assert first.unshared_gpu_hours == pytest.approx(3 * first.gpu_hours)
    sampled = plan.total(lambda work: work.gpu_hours, "sample")
    assert sum(group.gpu_hours for group in plan.shared if group.kind == "samples") == pytest.approx(sampled)


def test_a_suite_without_gpus_costs_no_gpu_hours(tmp_path: Path) -> None:
    plan = make_plan(make_suite(tmp_path, gpus=0), Assumptions())
    assert plan.total(lambda work: work.gpu_hours) == 0
    assert plan.total(lambda work: work.disk_bytes) > 0


TINY = {"kind": "built", "architecture": "internvl", "corpus": "easy"}
DECODER = {"package": "shipped", "file": "Some-135M-it.Q4_1.gguf", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("entry", "larger"),
    [
        (TINY, False),
        (TINY | {"layers": 2, "width": 64}, False),
        (TINY | {"width": 512}, True),
        (TINY | {"vision_layers": 6}, True),
        (TINY | {"decoder": DECODER}, True),
        ({"kind": "path", "path": "/models/m-1b"}, True),
    ],
)
def test_times_on_cpus_are_said_to_be_those_of_tiny_models(
    tmp_path: Path, entry: dict[str, Any], larger: bool
) -> None:
    suite = make_suite(tmp_path, gpus=0, models={"some": entry})
    plan = make_plan(suite, Assumptions())
    said = "\n".join(_saving(plan))
    assert ("These are larger and take many times as long: some" in said) == larger
    assert as_dict(plan).get("larger_models", []) == (["some"] if larger else [])
    assert make_plan(make_suite(tmp_path, models={"some": entry}), Assumptions()).larger == ()


def test_a_wider_built_model_has_as_many_more_parameters_as_its_matrices(tmp_path: Path) -> None:
    twice = {"layers": 3, "width": 256, "vision_layers": 2, "vision_width": 128}
    suite = make_suite(tmp_path, models={"tiny": TINY, "wide": TINY | twice})
    assert parameters(suite, "wide", EASY) == 4 * parameters(suite, "tiny", EASY)
    small = load_suite(Path("config/gpu.yaml"))
    (name,) = small.models
    assert parameters(small, name, EASY) == pytest.approx(34e6, rel=0.1)  # as models.yaml says


def test_the_hours_of_a_built_model_are_those_of_its_training_and_adaptation(tmp_path: Path) -> None:
    built = TINY | {"steps": 7, "batch_size": 20}
    grown = built | {"decoder": DECODER | {"steps": 5, "batch_size": 10}}
    models = {"scratch": built, "grown": grown, "m-1b": {"kind": "path", "path": "/models/m-1b"}}
    suite = make_suite(tmp_path, models=models)
    estimator = Estimator(suite, EASY)
    scratch = 6 * 0.6e6 * 7 * 20 * 10 / 1e12
    assert estimator.building_hours("scratch") * HOUR == pytest.approx(scratch)
    adapted = 4 * parameters(suite, "grown", EASY) * 5 * 10 * 10 / 1e12
    assert estimator.building_hours("grown") * HOUR == pytest.approx(scratch + adapted)
    assert estimator.building_hours("m-1b") == 0
    known = Estimator(suite, EASY.model_copy(update={"parameters": {"scratch": 1.2e6, "grown": 1e9}}))
    assert known.building_hours("scratch") * HOUR == pytest.approx(2 * scratch)
    assert known.building_hours("grown") * HOUR == pytest.approx(scratch + 4 * 1e9 * 5 * 10 * 10 / 1e12)
    plan = make_plan(suite, EASY)
    assert plan.total(lambda work: work.gpu_hours, "models") * HOUR == pytest.approx(2 * scratch + adapted)
    assert plan.sharing.hours == pytest.approx(plan.total(lambda work: work.gpu_hours))
    assert Estimator(suite.model_copy(update={"gpus": 0}), EASY).building_hours("grown") == 0


def test_a_budget_ends_an_online_round_in_the_plan_as_in_the_run(tmp_path: Path) -> None:
    suite = make_suite(tmp_path)
    improve = suite.methods["vista-sft"].model_dump()
    online = {"kind": "online", "rollouts": {"k": 10}}
    gathering = {"accumulate": True, "rounds": 2}
    methods = {
        "zero-shot": {"kind": "base"},
        "sft-seed": {"kind": "seed"},
        "rest-em": improve | {"resample": {"kind": "none"}, "filter": {"kind": "none"}},
        "vista-sft": improve,
        "free": online,
        "as-rest-em": online | {"budget": {"tokens_of": "rest-em"}},
        "as-vista": online | {"budget": {"tokens_of": "vista-sft"}},
        "matched": improve | {"resample": {"kind": "budget-matched"}, "filter": {"kind": "none"}},
        "as-matched": online | {"budget": {"tokens_of": "matched"}},
        "r3v": improve | {"resample": {"kind": "none"}, "filter": {"kind": "none"}} | gathering,
        "as-r3v": online | {"rounds": 2, "budget": {"tokens_of": "r3v"}},
    }

    def epochs(most: float) -> list[float]:
        told = make_suite(tmp_path, methods=methods)
        grpo = told.training.grpo.model_copy(update={"epochs": most})
        told = told.model_copy(update={"training": told.training.model_copy(update={"grpo": grpo})})
        estimator = Estimator(told, EASY)
        # An epoch of 100 queries: 1000 responses of one token, trained by 8 GFLOP for each of 10 tokens and
        # sampled at a token a second, by the suite's vLLM.
        runs = [Run("m-1b", "one", name, 0, 1) for name in ("free", "as-rest-em", "as-vista", "as-matched")]
        runs.append(Run("m-1b", "one", "as-r3v", 0, 2))
        return [estimator.training_hours(run) * HOUR / (1000 * 10 * 8e-3 + 1000) for run in runs]

    # ReST-EM has sampled as many responses as an epoch, and so has R3V in its second round; VISTA 1500 halves
    # of one beside them, and what is matched to these as many tokens.
    assert epochs(4) == pytest.approx([4, 1, 1.75, 1.75, 1])
    assert epochs(1.5) == pytest.approx([1.5, 1, 1.5, 1.5, 1])


def test_a_stage_with_gpus_of_its_own_is_planned_with_them(tmp_path: Path) -> None:
    entry = TINY | {"resources": {"models": {"gpus": 0}, "training": {"gpus": 3}}}
    suite = make_suite(tmp_path, models={"tiny": entry})
    estimator = Estimator(suite, EASY.model_copy(update={"start_minutes": 60.0}))
    assert estimator.building_hours("tiny") == 0
    assert estimator.training_hours(Run("tiny", "one", "sft-seed", 0, 0)) == pytest.approx(3, rel=1e-3)
    assert estimator.evaluation_hours(Run("tiny", "one", "sft-seed", 0, 0)) == pytest.approx(1, rel=1e-3)


def test_a_pretrained_decoder_has_the_parameters_that_its_file_names(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, models={"some": TINY | {"decoder": DECODER}})
    assert parameters(suite, "some", Assumptions()) == 135e6


def test_sizes_left_out_are_those_published_without_the_seed_split(root: Path) -> None:
    suite = load_suite(root / "config/paper.yaml", root=root)
    assert queries(suite, "slake", "test") == 355
    assert queries(suite, "slake", "seed") + queries(suite, "slake", "train") == 1681
    assert queries(suite, "geometry3k", "test") == 601
    assert queries(suite, "chartqa", "train") == 0


@pytest.mark.parametrize(
    ("repo", "count"),
    [
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3e9),
        ("OpenGVLab/InternVL3-8B-hf", 8e9),
        ("HuggingFaceTB/SmolVLM-256M-Instruct", 256e6),
        ("a/b-1.5B", 1.5e9),
    ],
)
def test_parameters_are_read_from_a_repositorys_name(tmp_path: Path, repo: str, count: float) -> None:
    model = {"kind": "hub", "repo": repo, "revision": "a" * 40}
    assert parameters(make_suite(tmp_path, models={"m": model}), "m", Assumptions()) == count


def test_a_name_that_does_not_tell_its_size_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    model = {"kind": "hub", "repo": "org/Qwen2.5-model", "revision": "a" * 40}
    suite = make_suite(tmp_path, models={"m": model})
    with pytest.raises(VistaError, match=r"--assume 'parameters=\{m: "):
        parameters(suite, "m", Assumptions())
    assert parameters(suite, "m", load_assumptions(["parameters={m: 3.0e9}"])) == 3e9


def test_assumptions_are_replaced_by_files_and_by_single_settings(tmp_path: Path) -> None:
    (tmp_path / "h200.yaml").write_text("gpu_tflops: 989\nresponse_tokens: 400\n")
    changed = load_assumptions([str(tmp_path / "h200.yaml"), "response_tokens=500"])
    assert (changed.gpu_tflops, changed.response_tokens) == (989, 500)
    with pytest.raises(VistaError, match="--assume respons_tokens") as caught:
        load_assumptions(["respons_tokens=5", "correct=2"])
    assert "--assume correct" in str(caught.value)
    assert "known:" in str(caught.value)


def test_the_command_prints_tables_to_read_and_json_to_compute_with(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    arguments = ["plan", "--configfile", str(root / "config/paper.yaml")]
    read = CliRunner().invoke(app, arguments)
    assert read.exit_code == 0, read.output
    for text in ("rest-em, vista-sft, dpo, vista-dpo", "qwen2.5-vl-7b", "start_minutes", "By block"):
        assert text in read.output
    assert "\x1b" not in read.output, "no colours in a pipe"
    value = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert [block["name"] for block in value["blocks"]] == [
        *("main", "baselines", "ablation", "sweeps", "online")
    ]
    assert sum(value["jobs"].values()) == sum(block["jobs"] for block in value["blocks"])
    assert value["gpu_hours_total"] == pytest.approx(sum(value["gpu_hours"].values()))
    assert value["gpu_hours_total"] == pytest.approx(sum(value["gpu_hours_by_model"].values()))


def test_rationales_sampled_from_the_base_model_are_counted_and_shared(tmp_path: Path) -> None:
    own = {"kind": "self", "rollouts": {"k": 4}}
    suite = make_suite(tmp_path, seed_rationales=own)
    file = rollouts(suite)["zero-shot", "samples"]
    # The 20 seed queries, four times, for every method that trains on the seed split.
    assert Estimator(suite, EASY).solutions(file) == 80
    assert {run.method for run in file.readers} == {"sft-seed", "rest-em", "vista-sft"}
    assert job_counts(suite)["sample"] == job_counts(make_suite(tmp_path))["sample"] + suite.shards


def controlled(tmp_path: Path, **resample: object) -> Suite:
    """The suite with one method more, whose resampling is a control."""
    suite = make_suite(tmp_path)
    vista = suite.methods["vista-sft"]
    control = type(vista).model_validate(
        {**vista.model_dump(), "resample": resample, "filter": {"kind": "none"}}
    )
    return suite.model_copy(update={"methods": {**suite.methods, "control": control}})


@pytest.mark.parametrize(
    ("resample", "solutions", "seconds"),
    [
        # 500 wrong ones; a control draws half of a continuation, and plain samples whole ones.
        ({"kind": "rationalize", "j": 2}, 1000, 1000),
        ({"kind": "random-prefix"}, 1500, 750 + 10),  # a pass over 500 × 10 tokens, as for VISTA
        ({"kind": "gold-prefix"}, 1500, 750),
        ({"kind": "budget-matched"}, 750, 750),
        ({"kind": "budget-matched", "match": "samples"}, 1500, 1500),
    ],
)
def test_every_resampler_has_its_estimate(
    tmp_path: Path, resample: dict[str, object], solutions: float, seconds: float
) -> None:
    suite = controlled(tmp_path, **resample)
    (file,) = [
        file
        for file in rollout_files(suite)
        if file.kind == "resamples" and [run.method for run in file.readers] == ["control"]
    ]
    estimator = Estimator(suite, EASY)
    assert estimator.solutions(file) == pytest.approx(solutions)
    assert estimator.rollout_hours(file) * HOUR == pytest.approx(seconds)


def test_what_a_budget_is_matched_to_is_planned_and_shared(tmp_path: Path) -> None:
    plain = job_counts(make_suite(tmp_path))
    shared = controlled(tmp_path, kind="budget-matched")
    assert job_counts(shared)["resample"] == plain["resample"] + shared.shards
    prefix = next(file for file in rollout_files(shared) if "+prefix" in file.name)
    assert [run.method for run in prefix.readers] == ["vista-sft", "control"]
    # Matched to settings of its own, it needs that prefix resampling as well, though no method reads it.
    own = controlled(tmp_path, kind="budget-matched", j=2)
    assert job_counts(own)["resample"] == plain["resample"] + 2 * own.shards


# --- resolution ---


def resolution(suite: Suite, **assumed: float) -> dict[tuple[str, int], Resolution]:
    found = resolutions(suite, Assumptions(**assumed))  # type: ignore[arg-type]
    return {(each.model, each.round): each for each in found}


def test_a_plan_says_what_so_many_seeds_will_find_and_how_many_are_needed(suite: Suite) -> None:
    several = suite.model_copy(update={"seeds": [0, 1, 2]})
    parts = {"query_sd": 5.0, "answer_sd": 0.0, "seed_sd": 0.5, "later_seed_sd": 2.0}
    found = resolution(several, **parts)
    tests = queries(suite, suite.train_sets["one"][0], "test")
    one = found["one model", 1]
    variances = Variances(25.0 / tests, 0.25, 0.0, 1.0, 0, math.inf)
    assert one.detectable == pytest.approx(smallest_difference(variances.at(3, 1)))
    assert one.seeds_needed["1.5"] == seeds_needed(variances, 1, 1.5)
    assert max(each.detectable for (_, number), each in found.items() if number > 1) > one.detectable
    assert one.source == "assumptions"


def test_single_answers_are_a_part_of_what_varies_between_seeds(suite: Suite) -> None:
    several = suite.model_copy(update={"seeds": [0, 1, 2]})
    found = resolution(several, query_sd=0.0, answer_sd=10.0, seed_sd=0.0)["one model", 1]
    assert 0.0 < found.false_alarms < 5.0


def test_with_one_seed_the_plan_says_how_often_the_tables_are_deceived(suite: Suite) -> None:
    found = resolution(suite.model_copy(update={"seeds": [0]}), query_sd=5.0, answer_sd=1.0, seed_sd=3.0)
    assert found["one model", 1].false_alarms > 50.0


def test_an_earlier_run_is_believed_rather_than_assumptions(suite: Suite, tmp_path: Path) -> None:
    ours = suite.model_copy(update={"results": tmp_path, "seeds": [0, 1, 2]})
    model = next(iter(suite.models))
    header = "model,train_set,round,sd_queries,sd_residual,pooled_sd,pooled_df"
    rows = [f"{model},one,1,0.40,0.50,1.20,6.00", f"{model},one,1,0.60,,,", "gone,one,1,1,1,1,1"]
    write_text(tmp_path / "tables/resolution.csv", "\n".join([header, *rows]) + "\n")
    (found,) = resolutions(ours, Assumptions())
    known = Variances(0.16 + 0.25, 1.44, 0.25, 1.0, 0, 6.0)
    assert (found.model, found.source) == (model, str(tmp_path / "tables/resolution.csv"))
    assert found.detectable == pytest.approx(smallest_difference(known.at(3, 1)))
    write_text(tmp_path / "tables/resolution.csv", f"{header}\n{model},one,1,much,0,0,0\n")
    with pytest.raises(VistaError, match=r"resolution\.csv.*delete it"):
        resolutions(ours, Assumptions())


def test_a_plan_prints_its_resolution_and_its_json_has_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    said = CliRunner().invoke(app, ["plan", "config/testbed-full.yaml"]).output
    assert "Smallest difference of two methods" in said
    assert "more queries" in said
    value = json.loads(CliRunner().invoke(app, ["plan", "config/testbed-full.yaml", "--json"]).output)
    assert {each["round"] for each in value["resolution"]} == {1, 3}
    assert all(each["detectable"] > 0 for each in value["resolution"])
