"""The stage's entry: built models, models on disk, models of the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from vista import records
from vista.config import (
    BuiltModel,
    HubModel,
    Loading,
    LocalModel,
    Models,
    ModelTraining,
    SelfImprovement,
    Suite,
    Wording,
    load_suite,
    load_yaml,
)
from vista.dag import Dag
from vista.engines.checkpoints import load_checkpoint, save_checkpoint
from vista.engines.presenter import read_loading, write_loading
from vista.errors import VistaError
from vista.manifest import read_manifest
from vista.models import build as fetch
from vista.models.build import build_model
from vista.models.nano import build_nano
from vista.models.pretrain import collect_words
from vista.paths import Paths

Rows = list[dict[str, Any]]
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def suite(root: Path) -> Suite:
    tiny = BuiltModel(kind="built", architecture="qwen2.5-vl", corpus="printed", steps=3, batch_size=4)
    loaded = load_suite(root / "config/testbed.yaml", root=root)
    return loaded.model_copy(update={"models": {"tiny": tiny}})


@pytest.fixture
def paths(tmp_path: Path, rows: Rows) -> Paths:
    made = Paths(tmp_path / "results")
    records.write_rows(
        made.queries("printed", "train"), [{**row, "task": "printed"} for row in rows], records.QUERY
    )
    return made


@pytest.fixture
def checkpoint(tmp_path: Path, rows: Rows) -> Path:
    model, processor = build_nano("internvl", collect_words(rows, Wording()), seed=0)
    save_checkpoint(model, processor, tmp_path / "mine")
    return tmp_path / "mine"


def local(suite: Suite, folder: Path) -> Suite:
    return suite.model_copy(update={"models": {"mine": LocalModel(kind="path", path=folder)}})


def test_a_built_model_is_a_checkpoint_with_a_manifest(suite: Suite, paths: Paths) -> None:
    build_model(suite, paths, "tiny")
    loaded = load_checkpoint(paths.base("tiny"))
    assert type(loaded.model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    manifest = read_manifest(paths.base("tiny"))
    assert manifest.stage == "models"
    assert manifest.counts["steps"] == 3
    assert manifest.counts["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert manifest.counts["final_loss"] > 0
    assert manifest.settings["architecture"] == "qwen2.5-vl"
    assert list(manifest.inputs) == [str(paths.queries("printed", "train"))]


def test_the_manifest_names_the_device_that_the_model_was_trained_on(
    suite: Suite, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "device_name", lambda: "another card")
    build_model(suite, paths, "tiny")
    assert read_manifest(paths.base("tiny")).device == "another card"


def test_building_twice_gives_the_same_bytes(suite: Suite, paths: Paths) -> None:
    seen = []
    for _ in range(2):
        build_model(suite, paths, "tiny")
        files = sorted(path for path in paths.base("tiny").iterdir() if path.name != "manifest.json")
        seen.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert seen[0] == seen[1]
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= set(seen[0])


def test_a_failed_build_leaves_nothing_behind(suite: Suite, paths: Paths, rows: Rows) -> None:
    rows[1]["rationale"] = None
    records.write_rows(
        paths.queries("printed", "train"), [{**row, "task": "printed"} for row in rows], records.QUERY
    )
    with pytest.raises(VistaError, match="no rationale"):
        build_model(suite, paths, "tiny")
    assert not paths.base("tiny").exists()


def test_a_built_model_learns_the_words_of_the_suites_hint(suite: Suite, paths: Paths) -> None:
    said = Wording(hint="{instruction} psst {answer}")
    build_model(suite.model_copy(update={"wording": said}), paths, "tiny")
    tokenizer = load_checkpoint(paths.base("tiny")).processor.tokenizer
    assert tokenizer.unk_token_id not in tokenizer("psst")["input_ids"]
    assert read_manifest(paths.base("tiny")).settings["hint"] == said.hint


def test_a_wording_that_a_model_would_not_understand_is_refused_before_it_is_built(
    suite: Suite, paths: Paths, checkpoint: Path
) -> None:
    reflecting = SelfImprovement(kind="self-improvement", reflect=["select"])
    changes = {"methods": {**suite.methods, "reflecting": reflecting}, "wording": Wording()}
    for each, name in ((suite, "tiny"), (local(suite, checkpoint), "mine")):
        with pytest.raises(VistaError, match=rf"tokenizer of model {name} .* wording\.select: 'Candidate'"):
            build_model(each.model_copy(update=changes), paths, name)
        assert not paths.base(name).exists()


def test_an_unknown_model_gets_a_suggestion(suite: Suite, paths: Paths) -> None:
    with pytest.raises(VistaError, match="no model 'tny'; did you mean 'tiny'"):
        build_model(suite, paths, "tny")


def test_a_missing_corpus_is_named(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(VistaError, match=r"train.parquet: no such file"):
        build_model(suite, Paths(tmp_path / "elsewhere"), "tiny")


def test_a_model_on_disk_is_linked_and_loads(suite: Suite, paths: Paths, checkpoint: Path) -> None:
    build_model(local(suite, checkpoint), paths, "mine")
    base = paths.base("mine")
    assert (base / "model.safetensors").is_symlink()
    assert load_checkpoint(base).model.config.model_type == "internvl"
    assert "model.safetensors" in read_manifest(base).checksums
    assert not (checkpoint / "manifest.json").exists()


def test_a_relative_path_to_a_model_works(
    suite: Suite, paths: Paths, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    build_model(local(suite, Path("mine")), paths, "mine")
    assert load_checkpoint(paths.base("mine"))


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", r"no \*.safetensors"),
        ("processor_config.json", "no processor_config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_an_incomplete_folder_is_refused(
    suite: Suite, paths: Paths, checkpoint: Path, lacking: str, message: str
) -> None:
    (checkpoint / lacking).unlink()
    with pytest.raises(VistaError, match=message):
        build_model(local(suite, checkpoint), paths, "mine")
    assert not paths.base("mine").exists()


def test_weights_that_are_pickles_only_are_refused(suite: Suite, paths: Paths, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(VistaError, match=r"no \*.safetensors, only pytorch_model.bin; .* can run code"):
        build_model(local(suite, checkpoint), paths, "mine")
    assert not paths.base("mine").exists()


def test_the_entrys_options_are_written_beside_the_links(
    suite: Suite, paths: Paths, checkpoint: Path
) -> None:
    entry = LocalModel(kind="path", path=checkpoint, max_pixels=100, dtype="bfloat16")
    build_model(suite.model_copy(update={"models": {"mine": entry}}), paths, "mine")
    assert read_loading(paths.base("mine")) == Loading(max_pixels=100, dtype="bfloat16")
    assert not (checkpoint / "loading.json").exists()


def test_a_checkpoint_trained_with_other_options_is_refused_until_the_entry_has_them(
    suite: Suite, paths: Paths, checkpoint: Path
) -> None:
    write_loading(checkpoint, Loading(max_pixels=100))
    with pytest.raises(VistaError, match=r"loading.json: the checkpoint was trained with max_pixels: 100"):
        build_model(local(suite, checkpoint), paths, "mine")
    entry = LocalModel(kind="path", path=checkpoint, max_pixels=100)
    build_model(suite.model_copy(update={"models": {"mine": entry}}), paths, "mine")
    assert not (paths.base("mine") / "loading.json").is_symlink()
    assert read_loading(paths.base("mine")).max_pixels == 100


def test_an_option_that_the_processor_does_not_know_is_refused(
    suite: Suite, paths: Paths, checkpoint: Path
) -> None:
    entry = LocalModel(kind="path", path=checkpoint, processor={"max_tiles": 4})
    with pytest.raises(VistaError, match=r"no option max_tiles; it has .*max_patches"):
        build_model(suite.model_copy(update={"models": {"mine": entry}}), paths, "mine")


def test_how_a_model_is_trained_later_does_not_make_its_base_stale(suite: Suite, checkpoint: Path) -> None:
    plain = LocalModel(kind="path", path=checkpoint)
    several = plain.model_copy(update={"training": ModelTraining(processes=8)})
    smaller = plain.model_copy(update={"max_pixels": 100})
    first, second, third = (
        Dag(suite.model_copy(update={"models": {"mine": entry}})).model_settings("mine")
        for entry in (plain, several, smaller)
    )
    assert first == second != third


def test_a_missing_folder_is_named(suite: Suite, paths: Paths, tmp_path: Path) -> None:
    with pytest.raises(VistaError, match=r"nowhere: no such folder"):
        build_model(local(suite, tmp_path / "nowhere"), paths, "mine")


def test_a_hub_model_without_a_network_says_what_to_do(
    suite: Suite, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    hub = HubModel(kind="hub", repo="nobody/nothing", revision=REVISION)
    with pytest.raises(VistaError, match=f"nobody/nothing at {REVISION} .* `kind: path`"):
        build_model(suite.model_copy(update={"models": {"far": hub}}), paths, "far")


def test_a_path_wins_over_the_hub(
    suite: Suite, paths: Paths, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "snapshot_download", None)  # calling it would fail
    hub = HubModel(kind="hub", repo="someone/something", revision=None, path=checkpoint)
    build_model(suite.model_copy(update={"models": {"far": hub}}), paths, "far")
    assert load_checkpoint(paths.base("far"))


def test_a_hub_model_that_is_not_pinned_is_refused_with_the_way_to_pin_it(suite: Suite, paths: Paths) -> None:
    hub = HubModel(kind="hub", repo="someone/something", revision=None)
    command = "git ls-remote https://huggingface.co/someone/something HEAD"
    with pytest.raises(VistaError, match=f"model far: no revision .* is pinned; run `{command}`"):
        build_model(suite.model_copy(update={"models": {"far": hub}}), paths, "far")


@pytest.mark.parametrize("revision", ["main", "v1.0", "0123abc", REVISION.upper()])
def test_a_revision_that_is_no_commit_is_refused_with_the_way_to_get_one(
    root: Path, tmp_path: Path, revision: str
) -> None:
    entry = {"kind": "hub", "repo": "someone/something", "revision": revision}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"far": entry}))
    value = yaml.safe_load((root / "config/testbed.yaml").read_text())
    value |= {"models": ["far"], "models_file": str(tmp_path / "models.yaml")}
    with pytest.raises(VistaError) as caught:
        load_suite(root / "config/testbed.yaml", value, root)
    assert "models.yaml: far.hub.revision" in str(caught.value)
    assert "not a branch, a tag or a short hash; `git ls-remote" in str(caught.value)
    assert repr(revision) in str(caught.value)


def test_the_papers_models_are_pinned_and_bring_no_code(root: Path) -> None:
    listed = Models.model_validate(load_yaml(root / "models.yaml")).root
    papers = {name: model for name, model in listed.items() if isinstance(model, HubModel)}
    names = {"qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen3-vl-2b", "internvl3-2b", "internvl3-8b"}
    assert set(papers) == names
    for model in papers.values():
        assert model.revision is not None
        assert not model.trust_remote_code
        assert (model.dtype, model.attention) == ("bfloat16", "sdpa")


def test_a_hub_model_is_fetched_at_its_revision_without_pickles(
    suite: Suite, paths: Paths, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def snapshot(repo: str, **options: Any) -> str:
        asked.update(options, repo=repo)
        return str(checkpoint)

    monkeypatch.setattr(fetch, "snapshot_download", snapshot)
    hub = HubModel(kind="hub", repo="someone/something", revision=REVISION)
    build_model(suite.model_copy(update={"models": {"far": hub}}), paths, "far")
    assert asked["repo"] == "someone/something"
    assert asked["revision"] == REVISION
    assert not {"*.bin", "*.pt", "*.py", "*"} & set(asked["allow_patterns"])
    assert load_checkpoint(paths.base("far"))
