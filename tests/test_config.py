"""Every config error is reported at once, with file, field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from snakemake.cli import parse_config

from vista.batches import Shares
from vista.config import (
    Methods,
    Models,
    SelfImprovement,
    Suite,
    SuiteFile,
    as_in_a_file,
    digest,
    json_schemas,
    load_resolved,
    load_suite,
    parse_yaml,
    with_defaults,
    with_overrides,
)
from vista.errors import VistaError
from vista.grid import runs
from vista.task_kinds.benchmarks import HubFiles


@pytest.fixture
def files(tmp_path: Path, root: Path) -> Path:
    """A copy of the configuration that a test may spoil."""
    (tmp_path / "config").mkdir()
    for name in ("models.yaml", "config/methods.yaml", "config/smoke.yaml"):
        (tmp_path / name).write_text((root / name).read_text())
    return tmp_path


def change(path: Path, edit: Any) -> None:
    value = yaml.safe_load(path.read_text())
    edit(value)
    path.write_text(yaml.safe_dump(value))


WORDS = st.sampled_from(["alpha", "beta", "gamma-ray", "delta", "epsilon 5"])
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | NUMBERS | WORDS


@given(said=st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner), max_leaves=8))
def test_what_is_said_on_snakemakes_command_line_means_what_it_means_in_a_file(said: Any) -> None:
    written = json.dumps(said).replace('"', "")  # words alone need no quotes
    assert as_in_a_file(parse_config([f"key={written}"])) == {"key": parse_yaml(written)}


@pytest.mark.parametrize(
    "text", ["", "yes", "017", "1_000", "12:30", "a: b", "[1]", "1 2", "<<", "true\n", "12e4567", "1" * 5000]
)
def test_a_value_of_the_command_line_that_is_no_number_to_everyone_stays_text(text: str) -> None:
    assert as_in_a_file({"list": [text]}) == {"list": [text]}


def test_a_sweep_can_be_given_on_the_command_line(files: Path) -> None:
    tau = "{method: vista-sft, set: filter.tau, values: [-1.5, 0]}"
    sweep = f"{{drop: {tau}, on: {{method: dpo, set: mix_seed, values: [false]}}}}"
    said = as_in_a_file(parse_config([f"sweeps={sweep}", "methods=[sft-seed, vista-sft, dpo]"]))
    suite = yaml.safe_load((files / "config/smoke.yaml").read_text()) | {"method_overrides": {}} | said
    found = load_suite(files / "config/smoke.yaml", value=suite, root=files)
    assert [(name, each.value) for name, each in found.swept.items()] == [
        ("vista-sft+drop=-1.5", -1.5),
        ("vista-sft+drop=0", 0),
        ("dpo+on=false", False),
    ]


def message(files: Path) -> str:
    with pytest.raises(VistaError) as caught:
        load_suite(files / "config/smoke.yaml", root=files)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["testbed", "testbed-full", "testbed-online", "testbed-base-models", "smoke"]
)
def test_the_suites_that_come_with_the_project_are_valid(root: Path, name: str) -> None:
    suite = load_suite(root / f"config/{name}.yaml", root=root)
    assert suite.name == name


def test_a_resolved_suite_survives_being_written_and_read(root: Path, tmp_path: Path) -> None:
    suite = load_suite(root / "config/testbed.yaml", root=root)
    (tmp_path / "suite.json").write_text(suite.model_dump_json())
    assert load_resolved(tmp_path / "suite.json") == suite


def test_an_unknown_key_is_named_with_the_nearest_known_one(files: Path) -> None:
    change(files / "config/smoke.yaml", lambda v: v["training"]["sft"].update(epoch=3))
    text = message(files)
    assert "smoke.yaml: training.sft.epoch: unknown key; did you mean 'epochs'?" in text


def test_a_wrong_type_is_named_with_what_was_found(files: Path) -> None:
    change(files / "config/smoke.yaml", lambda v: v.update(shards="many"))
    assert "shards" in message(files)
    assert "'many'" in message(files)


def test_an_unknown_model_and_an_unknown_method_are_reported_together(files: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["models"] = ["nano-smok"]
        value["methods"].append("vista-sfd")

    change(files / "config/smoke.yaml", edit)
    text = message(files)
    assert "unknown model 'nano-smok'" in text
    assert "did you mean 'nano-smoke'?" in text
    assert "unknown method 'vista-sfd'" in text


def test_an_unknown_task_in_a_train_set_is_an_error(files: Path) -> None:
    change(files / "config/smoke.yaml", lambda v: v["train_sets"].update(grids=["grid-clsed"]))
    assert "unknown task 'grid-clsed'" in message(files)


def test_a_limit_of_rounds_for_a_model_that_the_suite_lacks_is_an_error(files: Path) -> None:
    change(files / "config/smoke.yaml", lambda v: v.update(max_rounds={"nano-smok": 1}))
    assert "max_rounds: 'nano-smok' is not among the suite's models" in message(files)


def test_a_benchmark_may_be_planned_before_its_revision_is_known_but_not_without_saying_so() -> None:
    assert HubFiles.model_validate({"kind": "hub", "repo": "a/b", "revision": None}).revision is None
    for value in ({"kind": "hub", "repo": "a/b"}, {"kind": "hub", "repo": "a/b", "revision": "main"}):
        with pytest.raises(ValueError, match="revision"):
            HubFiles.model_validate(value)


def test_errors_in_models_and_methods_are_reported_together(files: Path) -> None:
    change(files / "models.yaml", lambda v: v["nano-smoke"].update(stepz=3))
    change(files / "config/methods.yaml", lambda v: v["vista-sft"]["filter"].update(tau="low"))
    text = message(files)
    assert "models.yaml: nano-smoke.built.stepz: unknown key; did you mean 'steps'?" in text
    assert "methods.yaml: vista-sft.self-improvement.filter.tau" in text


def test_a_branch_name_is_refused_as_a_revision() -> None:
    entry = {"m": {"kind": "hub", "repo": "a/b", "revision": "main"}}
    with pytest.raises(ValueError, match="40 hex digits, not a branch"):
        Models.model_validate(entry)


def test_a_method_whose_initial_policy_is_missing_is_an_error(files: Path) -> None:
    change(files / "config/smoke.yaml", lambda v: v["methods"].remove("sft-seed"))
    assert "initial_policy 'sft-seed' must be among the suite's methods" in message(files)


def test_a_method_that_needs_scenes_is_refused_for_published_benchmarks_with_all_else_that_is_wrong(
    files: Path,
) -> None:
    benchmark = {"kind": "chartqa", "source": {"kind": "path", "path": "charts"}, "sizes": {"seed": 4}}

    def edit(value: dict[str, Any]) -> None:
        value["methods"] += ["gold-prefix", "random-prefix"]
        value["tasks"]["charts"] = benchmark
        value["train_sets"]["grids"].append("charts")
        value["max_rounds"] = {"nano-smok": 1}

    change(files / "config/smoke.yaml", edit)
    text = message(files)
    assert "method gold-prefix: resample.kind 'gold-prefix' needs gold rationales" in text
    assert "which charts does not have" in text
    assert "method random-prefix" not in text
    assert "max_rounds: 'nano-smok'" in text


def test_filters_that_read_what_is_not_there_are_reported_together(files: Path, root: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["methods"] += [
            name for name in ("random-drop", "oracle-filter") if name not in value["methods"]
        ]
        value["scoring"] = {"layers": [0.0]}
        local = {"kind": "path", "path": "data"}
        sizes = {"seed": 2, "train": 2, "test": 2}
        value["tasks"]["slake"] = {"kind": "slake", "source": local, "sizes": sizes}
        value["train_sets"]["both"] = [next(iter(value["tasks"])), "slake"]

    change(files / "config/smoke.yaml", edit)
    text = message(files)
    for method in ("vista-sft", "random-drop"):
        assert f"method {method}: filter.layers [0.5] are not scored; add them to scoring.layers" in text
    assert (
        "method oracle-filter: filter 'oracle' looks at the scene, but task 'slake' (kind: slake) has none"
    ) in text
    assert text.count("looks at the scene") == 1


def test_batches_that_processes_cannot_share_are_reported_for_every_section_and_model(files: Path) -> None:
    def edit(models: dict[str, Any]) -> None:
        models["nano-smoke"]["training"] = {"processes": 3, "device_batch_size": 2, "accelerate": "no.yaml"}

    change(files / "models.yaml", edit)
    change(
        files / "config/smoke.yaml",
        lambda v: [v["training"][name].update(batch_size=16) for name in ("seed", "sft")],
    )
    text = message(files)
    for section in ("seed", "sft"):
        assert (
            f"training.{section}.batch_size: 16 examples are not shared evenly by model nano-smoke: "
            "training.processes is 3, training.device_batch_size 2"
        ) in text
    assert "model nano-smoke: training.accelerate: no.yaml does not exist" in text


def test_results_are_read_where_the_files_are_gone_that_only_training_needs(
    files: Path, tmp_path: Path
) -> None:
    file = tmp_path / "ddp.yaml"
    file.write_text("distributed_type: MULTI_GPU\n")

    def edit(models: dict[str, Any]) -> None:
        models["nano-smoke"]["training"] = {"accelerate": str(file), "device_batch_size": 8}

    change(files / "models.yaml", edit)
    suite = load_suite(files / "config/smoke.yaml", root=files)
    (tmp_path / "suite.json").write_text(suite.model_dump_json())
    file.unlink()
    assert load_resolved(tmp_path / "suite.json") == suite
    assert f"{file} does not exist" in message(files)


@given(
    share=st.integers(1, 64),
    processes=st.integers(1, 16),
    at_once=st.none() | st.integers(1, 64),
)
def test_a_step_is_cut_into_passes_within_the_bound(share: int, processes: int, at_once: int | None) -> None:
    batch_size = share * processes
    shares = Shares(batch_size, processes, at_once)
    device, passes = shares.device_batch, shares.passes
    assert device <= (at_once or share)
    assert shares.leaves_no_rest == (share % min(at_once or share, share) == 0)
    if shares.leaves_no_rest:
        assert device * passes * processes == batch_size
    assert processes == 1 or not Shares(batch_size + 1, processes, at_once).leaves_no_rest


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VistaError, match="no such file"):
        load_suite(tmp_path / "nowhere.yaml")


def test_yaml_that_is_not_a_mapping_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(VistaError, match="expected a mapping"):
        load_suite(tmp_path / "list.yaml")


def test_defaults_fill_what_a_method_leaves_open_and_nothing_else() -> None:
    method = {"kind": "self-improvement", "rollouts": {"k": 4}, "resample": {"kind": "prefix", "j": 2}}
    filled = with_defaults(
        method,
        {
            "rollouts": {"k": 10, "temperature": 0.5},
            "resample.prefix": {"top_k": 1},
            "filter.vas": {"tau": 0},
        },
    )
    assert filled["rollouts"] == {"k": 4, "temperature": 0.5}
    assert filled["resample"] == {"kind": "prefix", "j": 2, "top_k": 1}
    assert "filter" not in filled


def test_overrides_win_over_what_a_method_states() -> None:
    method = {"kind": "self-improvement", "rounds": 3, "filter": {"kind": "vas", "tau": -0.5}}
    changed = with_overrides(method, {"rounds": 1, "filter": {"tau": 0.0}})
    assert changed["rounds"] == 1
    assert changed["filter"] == {"kind": "vas", "tau": 0.0}


def test_the_defaults_of_a_method_are_the_papers() -> None:
    method = Methods.model_validate(
        {
            "v": {
                "kind": "self-improvement",
                "resample": {"kind": "prefix"},
                "filter": {"kind": "vas"},
                "objective": {"kind": "dpo"},
            }
        }
    ).root["v"]
    assert isinstance(method, SelfImprovement)
    assert (method.rollouts.k, method.rollouts.temperature, method.rollouts.max_new_tokens) == (10, 1.0, 2048)
    assert method.resample.model_dump() == {"kind": "prefix", "j": 3, "top_k": 5, "order": "swapped"}
    assert method.filter.model_dump()["tau"] == -0.5
    assert method.objective.model_dump() == {"kind": "dpo", "beta": 0.1, "alpha": 0.5}


def test_the_json_schemas_are_in_step_with_the_code(root: Path) -> None:
    for name, value in json_schemas().items():
        written = json.loads((root / f"workflow/schemas/{name}.schema.json").read_text())
        assert written == value, "run `make schema`"


def test_every_field_has_a_description() -> None:
    for model in (SuiteFile, Suite, Models, Methods):
        schema = model.model_json_schema()
        parts = [schema, *schema.get("$defs", {}).values()]
        for part in parts:
            for name, field in part.get("properties", {}).items():
                assert field.get("description"), f"{part['title']}.{name} has no description"


def test_a_digest_changes_with_the_value_and_only_then(root: Path) -> None:
    suite = load_suite(root / "config/smoke.yaml", root=root)
    changed = suite.training.sft.model_copy(update={"epochs": 7})
    assert digest(suite.training.sft) == digest(suite.training.sft.model_copy())
    assert digest(suite.training.sft) != digest(changed)


ENDPOINT = {
    **{"kind": "endpoint", "endpoint": "http://localhost:8000/v1", "model": "x", "cache": "cache/x"},
    "max_requests": 10,
}


def with_endpoint(files: Path, **changes: Any) -> None:
    """The smoke suite with a model at an endpoint, and changes of the suite."""
    change(files / "models.yaml", lambda models: models.update({"gpt-x": ENDPOINT}))
    suite = {"models": ["gpt-x", "nano-smoke"], **changes}
    change(files / "config/smoke.yaml", lambda value: value.update(suite))


def test_only_base_methods_run_on_a_model_at_an_endpoint(files: Path) -> None:
    before = load_suite(files / "config/smoke.yaml", root=files)
    with_endpoint(files)
    suite = load_suite(files / "config/smoke.yaml", root=files)
    assert list(suite.models) == ["nano-smoke"]
    assert suite.every_model == ["nano-smoke", "gpt-x"]
    (run,) = [run for run in runs(suite) if run.model == "gpt-x"]
    assert run.method == "zero-shot"
    assert [run for run in runs(suite) if run.model != "gpt-x"] == runs(before)
    assert "endpoints" not in before.model_dump_json(), "a suite without them is written as ever"


def test_a_suite_of_endpoints_alone_needs_no_model_with_weights(files: Path, tmp_path: Path) -> None:
    with_endpoint(files, models=["gpt-x"], methods=["zero-shot"], method_overrides={})
    suite = load_suite(files / "config/smoke.yaml", root=files)
    (tmp_path / "suite.json").write_text(suite.model_dump_json())
    assert load_resolved(tmp_path / "suite.json") == suite
    assert [run.model for run in runs(suite)] == ["gpt-x"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"methods": ["sft-seed", "star"]},
            "models: 'gpt-x' is at an endpoint, where only methods of kind base",
        ),
        ({"only": {"zero-shot": {"models": ["nano-smoke"]}}}, "none of the suite runs on it; add zero-shot"),
        ({"models": ["gpt-x"]}, "methods: star (kind: self-improvement) trains or samples a model, and the"),
        ({"only": {"star": {"models": ["gpt-x"]}}}, "only.star.models: 'gpt-x' is at an endpoint"),
        ({"max_rounds": {"gpt-x": 1}}, "max_rounds: 'gpt-x' is at an endpoint and has no rounds; remove it"),
    ],
)
def test_what_would_train_or_sample_a_model_at_an_endpoint_is_refused(
    files: Path, changes: dict[str, Any], said: str
) -> None:
    with_endpoint(files, **changes)
    assert said in message(files)


def test_what_is_wrong_with_an_endpoint_is_reported_at_once(files: Path) -> None:
    entry = {**ENDPOINT, "endpoint": "localhost:8000", "max_requests": 0, "limit": "tokens", "training": {}}
    change(files / "models.yaml", lambda models: models.update({"gpt-x": entry}))
    change(files / "config/smoke.yaml", lambda value: value.update({"models": ["gpt-x", "nano-smoke"]}))
    said = message(files)
    for field in ("endpoint", "max_requests", "limit", "training"):
        assert f"gpt-x.endpoint.{field}: " in said
    assert "expected an address that begins with http:// or https://" in said
    change(files / "models.yaml", lambda models: models["gpt-x"].update(endpoint="https://host/v1?key=1"))
    assert "api_key_variable" in message(files)
