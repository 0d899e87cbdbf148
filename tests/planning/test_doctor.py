"""Every check speaks, with a verdict and a remedy, and none hides another."""

from __future__ import annotations

import json
import re
import shutil
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

from tests.endpoint import serving
from tests.planning.conftest import make_suite
from vista.cli import app
from vista.config import EndpointModel, Suite
from vista.engines.folders import check_folder, folder_problems
from vista.errors import VistaError
from vista.planning import doctor
from vista.planning.assumptions import Assumptions
from vista.planning.doctor import (
    Finding,
    check_data,
    check_disk,
    check_models,
    check_rationales,
    check_results,
    check_versions,
    examine,
)
from vista.planning.endpoints import check_endpoints
from vista.planning.environment import check_gpus, training_memory
from vista.planning.findings import has_failed
from vista.planning.plan import as_dict, make_plan

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no word on being offline."""
    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("vista.planning.doctor.snapshot_download", offline_download(folder))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return folder


def offline_download(folder: Path) -> Any:
    """The library's own look into a cache; it must not be allowed to ask the network."""
    from huggingface_hub import snapshot_download

    def download(repo: str, **options: Any) -> str:
        assert options["local_files_only"] is True
        return snapshot_download(repo, cache_dir=folder, **options)

    return download


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (folder / name).write_text("{}")
    (folder / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    save_file({"weight": np.zeros(1)}, folder / "model.safetensors")
    return folder


def cached(cache: Path, kind: str, repo: str) -> Path:
    """Where the hub's library looks for a snapshot."""
    return cache / f"{kind}s--{repo.replace('/', '--')}" / "snapshots" / COMMIT


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def hub_model(tmp_path: Path, **changes: Any) -> Suite:
    entry = {"kind": "hub", "repo": "org/m-1b", "revision": COMMIT} | changes
    return make_suite(tmp_path / "results", models={"m-1b": entry})


def benchmark(tmp_path: Path, source: dict[str, Any]) -> Suite:
    task = {"kind": "slake", "source": source, "sizes": {"seed": 10}}
    return make_suite(tmp_path / "results", tasks={"easy": task})


# --- models ---


def test_a_model_in_the_cache_is_well(tmp_path: Path, cache: Path) -> None:
    checkpoint(cached(cache, "model", "org/m-1b"))
    assert only(check_models(hub_model(tmp_path))).verdict == "ok"


def test_a_model_that_is_not_in_the_cache_is_a_warning_and_offline_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = only(check_models(hub_model(tmp_path)))
    assert found.verdict == "warn"
    assert f"hf download org/m-1b --revision {COMMIT}" in found.remedy
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert only(check_models(hub_model(tmp_path))).verdict == "fail"


def test_a_model_that_is_not_pinned_fails_with_the_command_that_pins_it(tmp_path: Path) -> None:
    found = only(check_models(hub_model(tmp_path, revision=None)))
    assert found.verdict == "fail"
    assert "git ls-remote https://huggingface.co/org/m-1b HEAD" in found.remedy


def test_a_folder_wins_over_the_hub_and_must_be_there(tmp_path: Path) -> None:
    found = only(check_models(hub_model(tmp_path, path=str(tmp_path / "nowhere"))))
    assert (found.verdict, "no such folder" in found.message) == ("fail", True)
    folder = checkpoint(tmp_path / "here")
    assert only(check_models(hub_model(tmp_path, path=str(folder)))).verdict == "ok"


def test_everything_that_a_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"")
    found = check_models(hub_model(tmp_path, path=str(folder)))
    assert [finding.message.removeprefix(f"{folder}: ") for finding in found] == [
        "no config.json",
        "no *.safetensors, only pytorch_model.bin",
        "no processor_config.json",
        "no tokenizer.json",
        "no chat template",
    ]
    assert found[-1].remedy == "add chat_template.jinja to the folder"
    whole = checkpoint(tmp_path / "sharded")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "missing model-1.safetensors" in only(check_models(hub_model(tmp_path, path=str(whole)))).message


def test_the_doctor_refuses_whatever_the_engines_refuse(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "whole")
    assert folder_problems(whole) == []
    check_folder(whole)
    weights = whole / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(VistaError, match="not readable as safetensors") as refused:
        check_folder(whole)
    assert folder_problems(whole) == [str(refused.value)]
    found = only(check_models(hub_model(tmp_path, path=str(whole))))
    assert (found.verdict, "not readable as safetensors" in found.message) == ("fail", True)


# --- data and rationales ---


def test_data_is_looked_for_in_the_cache_and_in_folders(tmp_path: Path, cache: Path) -> None:
    source = {"kind": "hub", "repo": "org/data", "revision": COMMIT}
    assert only(check_data(benchmark(tmp_path, source))).verdict == "warn"
    folder = cached(cache, "dataset", "org/data")
    folder.mkdir(parents=True)
    assert only(check_data(benchmark(tmp_path, source))).verdict == "fail", "an empty snapshot"
    (folder / "train.parquet").write_bytes(b"")
    assert only(check_data(benchmark(tmp_path, source))).verdict == "ok"
    assert only(check_data(benchmark(tmp_path, {"kind": "path", "path": str(folder)}))).verdict == "ok"
    missing = {"kind": "path", "path": str(tmp_path / "nowhere")}
    assert only(check_data(benchmark(tmp_path, missing))).verdict == "fail"


def test_data_that_is_not_pinned_fails(tmp_path: Path) -> None:
    found = only(check_data(benchmark(tmp_path, {"kind": "hub", "repo": "org/data", "revision": None})))
    assert found.verdict == "fail"
    assert "git ls-remote https://huggingface.co/datasets/org/data HEAD" in found.remedy


def test_a_teachers_key_must_be_set_and_its_budget_suffice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = {
        "kind": "teacher",
        "endpoint": "http://localhost:1/v1",
        "model": "t",
        "cache": "c",
        "max_requests": 19,
        "api_key_variable": "SOME_KEY",
    }
    suite = make_suite(tmp_path, seed_rationales=teacher)
    monkeypatch.delenv("SOME_KEY", raising=False)
    found = check_rationales(suite)
    assert [finding.verdict for finding in found] == ["warn", "fail", "warn"]
    assert "SOME_KEY" in found[1].message
    assert "80 is always enough" in found[2].remedy
    monkeypatch.setenv("SOME_KEY", "x")
    assert not has_failed(check_rationales(suite))


def test_files_of_annotated_rationales_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "easy.jsonl"
    suite = make_suite(tmp_path, seed_rationales={"kind": "annotated", "files": {"easy": str(path)}})
    assert only(check_rationales(suite)).verdict == "fail"
    path.write_text("")
    assert only(check_rationales(suite)).verdict == "ok"


# --- machine ---


def test_a_machine_without_gpus_is_a_warning_where_gpus_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = only(check_gpus(make_suite(tmp_path), Assumptions()))
    assert (found.verdict, "up to 4" in found.message) == ("warn", True)
    assert only(check_gpus(make_suite(tmp_path, gpus=0), Assumptions())).verdict == "ok"


def test_gpus_too_few_or_too_small_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Properties:
        total_memory = 12e9

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties())
    found = check_gpus(make_suite(tmp_path), Assumptions())
    assert [finding.verdict for finding in found] == ["warn", "fail"], "2 of 4, and 16 GB into 12 GB"
    assert "16 GB" in found[1].message


def test_training_memory_is_split_where_accelerate_shards_it(tmp_path: Path, root: Path) -> None:
    def memory(accelerate: str | None = None, **training: Any) -> float:
        if accelerate is not None:
            training["accelerate"] = str(root / "config/accelerate" / accelerate)
        model = {"kind": "path", "path": "/m-1b", "training": training}
        return training_memory(make_suite(tmp_path, models={"m-1b": model}), "m-1b", Assumptions())

    assert memory(processes=4) == 16e9
    assert memory(processes=4, accelerate="ddp.yaml") == 16e9
    assert memory(processes=4, accelerate="fsdp.yaml") == 4e9
    assert memory(processes=4, accelerate="zero3.yaml") == 4.5e9
    assert memory(processes=4, accelerate="zero3-offload.yaml") == 0
    assert memory(tuning={"kind": "lora"}) == 2e9


@pytest.mark.parametrize(
    ("beta", "accelerate", "tuning", "engine", "copies"),
    [
        (0.1, None, "full", "hf", 1),  # the first weights
        (0.0, None, "full", "hf", 0),
        (0.1, "fsdp.yaml", "full", "hf", 2),  # the current ones as well
        (0.0, "fsdp.yaml", "full", "hf", 1),
        (0.1, "fsdp.yaml", "full", "vllm", 1),  # which vLLM has in its own share
        (0.1, None, "lora", "hf", 0),  # the first weights are those without adapters
    ],
)
def test_training_memory_counts_what_online_training_holds_whole(
    tmp_path: Path, root: Path, beta: float, accelerate: str | None, tuning: str, engine: str, copies: int
) -> None:
    training: dict[str, Any] = {"processes": 4, "tuning": {"kind": tuning}}
    if accelerate is not None:
        training["accelerate"] = str(root / "config/accelerate" / accelerate)
    model = {"kind": "path", "path": "/m-1b", "training": training}
    before = make_suite(tmp_path, models={"m-1b": model, "n-1b": model})
    grpo = {"kind": "online", "objective": {"kind": "grpo", "beta": beta}}
    methods = {name: method.model_dump() for name, method in before.methods.items()} | {"grpo": grpo}
    models = {"m-1b": model, "n-1b": model}
    only = {"grpo": {"models": ["m-1b"]}}
    suite = make_suite(tmp_path, models=models, methods=methods, only=only, engine={"kind": engine})
    plain, online = (training_memory(each, "m-1b", Assumptions()) for each in (before, suite))
    assert online - plain == copies * 4e9
    assert training_memory(suite, "n-1b", Assumptions()) == plain


@pytest.mark.parametrize(
    ("share", "gigabytes", "said"),
    [
        (0.3, 24, []),
        (
            0.3,
            22,
            [r"needs about 16 GB .* has 22 GB, of which vLLM takes 7 \(engine.colocated_memory\)"],
        ),
        (0.05, 24, [r"its weights take 2 GB; the smallest GPU here has 24 GB, of which vLLM takes 1 \("]),
        (0.5, 3, [r"needs about 16 GB", r"its weights take 2 GB"]),
    ],
)
def test_vllm_beside_an_online_training_takes_its_share_of_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, gigabytes: int, said: list[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=gigabytes * 1e9)
    )
    models = {name: {"kind": "path", "path": f"/{name}"} for name in ("m-1b", "n-0.1b")}
    online = {"grpo": {"kind": "online", "objective": {"kind": "grpo", "beta": 0.0}}}
    engine = {"kind": "vllm", "colocated_memory": share}
    suite = make_suite(
        tmp_path,
        models=models,
        methods={
            **{name: each.model_dump() for name, each in make_suite(tmp_path).methods.items()},
            **online,
        },
        only={"grpo": {"models": ["m-1b"]}},
        engine=engine,
    )
    found = [each for each in check_gpus(suite, Assumptions()) if each.verdict == "fail"]
    assert len(found) == len(said)
    for finding, expected in zip(found, said, strict=True):
        assert re.search(expected, finding.message)


def test_a_built_model_is_stored_in_float32(tmp_path: Path) -> None:
    built = {
        "kind": "built",
        "architecture": "internvl",
        "corpus": "easy",
        "training": {"tuning": {"kind": "lora"}},
    }
    suite = make_suite(tmp_path, models={"tiny": built})
    assert training_memory(suite, "tiny", Assumptions()) == 4 * 0.6e6


def test_the_pretrained_decoder_of_a_built_model_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shipped_words"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "words-1M.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    decoder = {"package": "shipped_words", "file": "words-1M.gguf", "sha256": sha256(b"weights").hexdigest()}

    def found(**changed: str) -> Finding:
        built = {"kind": "built", "architecture": "internvl", "corpus": "easy", "decoder": decoder | changed}
        return only(check_models(make_suite(tmp_path, models={"tiny": built})))

    assert found().verdict == "ok"
    for changed, said in (
        ({"sha256": "0" * 64}, "decoder.sha256"),
        ({"file": "others-1M.gguf"}, "has no file others-1M.gguf"),
        ({"package": "not_shipped"}, "not installed: not_shipped"),
    ):
        refused = found(**changed)
        assert (refused.verdict, said in refused.message) == ("fail", True), refused
        assert refused.remedy


def test_a_plan_larger_than_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = make_suite(tmp_path / "not/there/yet")
    looked_at = []

    def disk_usage(folder: Path) -> SimpleNamespace:
        looked_at.append(folder)
        return SimpleNamespace(free=100e9)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    assert only(check_disk(suite, Assumptions(bytes_per_parameter=1e-9))).verdict == "ok"
    assert only(check_disk(suite, Assumptions(bytes_per_parameter=1e9))).verdict == "fail"
    assert looked_at == [tmp_path, tmp_path], "the disk of the nearest folder that is there"


def test_versions_other_than_those_locked_are_named(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1 \\\n    --hash=sha256:0\nunrelated==3\n")
    found = only(check_versions(lock))
    assert found.verdict == "warn"
    assert f"numpy {metadata.version('numpy')} is installed, 0.1 is locked" in found.message
    lock.write_text(f"numpy=={metadata.version('numpy')} ; python_version > '3'\n")
    assert only(check_versions(lock)).verdict == "ok"


def test_results_beside_nothing_that_is_reported_fail(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results", reported=tmp_path / "reported.csv")
    assert [finding.verdict for finding in check_results(suite)] == ["ok", "fail"]


# --- all together ---


def test_all_checks_run_even_when_one_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suite: Suite
) -> None:
    def broken(suite: Suite) -> list[Finding]:
        raise PermissionError("no")

    monkeypatch.setattr(doctor, "check_models", broken)
    found = examine(suite, Assumptions())
    subjects = {finding.subject.split(" ")[0] for finding in found}
    assert {"models", "data", "seed", "GPUs", "disk", "versions", "vLLM", "results", "git"} <= subjects
    models = next(finding for finding in found if finding.subject == "models")
    assert (models.verdict, "PermissionError" in models.message) == ("fail", True)
    assert all(finding.remedy for finding in found if finding.verdict != "ok")


def test_the_exit_status_says_whether_anything_fails(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    bad = yaml.safe_load((root / "config/smoke.yaml").read_text()) | {"results": str(tmp_path / "results")}
    path = tmp_path / "suite.yaml"
    path.write_text(yaml.safe_dump(bad))
    well = CliRunner().invoke(app, ["doctor", "--configfile", str(path)])
    assert well.exit_code == 0, well.output
    path.write_text(yaml.safe_dump(bad | {"reported": str(tmp_path / "none.csv")}))
    ill = CliRunner().invoke(app, ["doctor", "--configfile", str(path)])
    assert ill.exit_code == 2
    assert "none.csv: no such file" in ill.output
    assert "Traceback" not in ill.output


# --- models at endpoints ---


def endpoint_suite(tmp_path: Path, url: str, **changes: Any) -> Suite:
    entry = {
        "kind": "endpoint",
        "endpoint": url,
        "model": "m",
        "cache": tmp_path / "cache",
        "max_requests": 999,
    }
    entry |= {"api_key_variable": "ENDPOINT_KEY_OF_THIS_TEST", **changes}
    suite = make_suite(tmp_path / "results")
    return suite.model_copy(update={"endpoints": {"gpt-x": EndpointModel(**entry)}})


def test_an_endpoint_is_asked_for_its_models_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDPOINT_KEY_OF_THIS_TEST", "sk-the-key-of-this-test")
    with serving() as endpoint:
        suite = endpoint_suite(tmp_path, endpoint.url)

        def found() -> tuple[str, str]:
            answers, _ = check_endpoints(suite)
            assert answers.subject == "model gpt-x"
            return answers.verdict, answers.message

        assert found() == ("ok", f"{endpoint.url} answers and has m")
        endpoint.models = {"data": [{"id": "other"}]}
        assert found() == ("fail", f"{endpoint.url} has no model 'm'; it has other")
        for odd in ({"data": []}, {"data": None}, [], {"data": [{"id": 1}]}):
            endpoint.models = odd
            assert found() == ("ok", f"{endpoint.url} answers and may have m")
        endpoint.models = 404
        assert found() == ("warn", f"{endpoint.url} does not list its models (status 404)")
        endpoint.models = 401
        assert found() == ("fail", f"{endpoint.url} refuses the key in ENDPOINT_KEY_OF_THIS_TEST")
        assert endpoint.requests == []
    assert found()[0] == "warn", "it is down"
    monkeypatch.delenv("ENDPOINT_KEY_OF_THIS_TEST")
    assert found() == ("fail", "the environment variable ENDPOINT_KEY_OF_THIS_TEST is not set")


def test_a_budget_that_cannot_suffice_is_a_warning(tmp_path: Path) -> None:
    suite = endpoint_suite(tmp_path, "http://127.0.0.1:1/v1")
    queries = sum(suite.tasks[task].queries("test") for task in suite.evaluated_tasks)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/gpt-x.sent").write_text("2026 a\n2026 b\n")
    for budget, verdict in ((queries, "ok"), (queries - 1, "warn")):
        suite = endpoint_suite(tmp_path, "http://127.0.0.1:1/v1", max_requests=budget)
        _, found = check_endpoints(suite)
        said = f"{budget:,} requests, 2 of them sent; {queries:,} queries"
        assert (found.verdict, found.message) == (verdict, said)


def test_a_suite_of_endpoints_alone_is_examined_and_planned(tmp_path: Path) -> None:
    suite = endpoint_suite(tmp_path, "http://127.0.0.1:1/v1").model_copy(update={"models": {}, "gpus": 1})
    suite = suite.model_copy(update={"methods": {"zero-shot": suite.methods["zero-shot"]}})
    assert only(check_gpus(suite, Assumptions())).message == "no model of the suite runs here"
    assert not [found for found in examine(suite, Assumptions()) if "could not be checked" in found.message]
    made = make_plan(suite, Assumptions())
    assert (made.jobs["ask"], made.total(lambda work: work.gpu_hours)) == (1, 0.0)
    assert as_dict(made)["requests"]["gpt-x"]["requests"] == 50
