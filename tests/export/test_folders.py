"""The folder: its card, its licences, whole or not at all, what is refused, and what is pushed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from typer.testing import CliRunner

from tests.documents import section
from tests.export.conftest import World
from vista.cli import app
from vista.damage import sha256
from vista.errors import VistaError
from vista.export import cards, formats
from vista.export.folder import export
from vista.export.sources import TrainingSet
from vista.plugins import Plugin
from vista.records import QUERY, read_rows, write_rows
from vista.task_kinds import TaskSettings

RUN = "nano-smoke/grids/vista-sft/seed0/round1"


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    text = (folder / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_card_says_what_made_the_rows_and_counts_them(world: World, tmp_path: Path) -> None:
    rows = world.training_set("vista-dpo")
    export(world.run("vista-dpo").id, tmp_path / "out", "trl", suite_file=world.paths.suite)
    front, body = card_of(tmp_path / "out")
    assert front["license"] == "apache-2.0"
    assert front["task_categories"] == ["image-text-to-text"]
    assert front["size_categories"] == ["n<1K"]
    assert {"vista-bench", "dpo"} <= set(front["tags"])
    assert DatasetCard.load(tmp_path / "out/README.md").data.license == "apache-2.0"
    (counted,) = [line for line in body.splitlines() if line.startswith("| grid-chain")][:1]
    assert [cell.strip() for cell in counted.strip("|").split("|")] == ["grid-chain", "sample", "2"]
    manifest = json.loads(
        (
            world.paths.training_set(world.run("vista-dpo").id).parent / "train.parquet.manifest.json"
        ).read_text()
    )
    assert manifest["commit"] in body
    assert '"kind": "vas"' in body, "the method's filter"
    assert "3 rejected responses were cut" in body
    assert len(rows) == 4
    file = tmp_path / "out" / formats.PARQUET
    assert f"| {sha256(file)} |" in body
    assert "rationales.jsonl" in body
    assert "/home/somebody" not in body


def with_tasks(world: World, **licences: str | None) -> None:
    """Give the tasks of the suite other kinds."""
    for task, licence in licences.items():
        name = task.replace("_", "-")
        kind = type("Kind", (type(world.suite.tasks[name]),), {"licence": licence, "__module__": __name__})
        world.suite.tasks[name] = kind.model_construct(**dict(world.suite.tasks[name]))


@pytest.mark.parametrize(
    ("chain", "closed", "told"),
    [("mit", "mit", "mit"), ("mit", "cc-by-4.0", "other"), ("mit", None, "unknown")],
)
def test_licences_of_several_tasks_are_told_one_by_one_and_unknown_ones_as_such(
    world: World, tmp_path: Path, chain: str, closed: str | None, told: str
) -> None:
    world.training_set("vista-sft")
    with_tasks(world, grid_chain=chain, grid_closed=closed)
    source = TrainingSet(world.suite, world.run("vista-sft"))
    text = cards.dataset_card(source, "trl", tmp_path)
    assert yaml.safe_load(text.split("---\n")[1])["license"] == told
    table = text.partition("## Licence")[2].partition("##")[0]
    for licence in (chain, closed or "not known"):
        assert licence in table


def test_the_licences_of_benchmarks_are_those_of_the_documentation(root: Path) -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| `[\w.-]+/[\w.-]+` \| [^|]+ \| ([^|]+) \|$",
        (root / "docs/benchmarks.md").read_text(),
        re.M,
    )
    documented = {kind: told.strip().lower().replace(" ", "-") for kind, told in rows}
    kinds = Plugin("task", TaskSettings, "vista.tasks")
    known = {kind: kinds.settings(kind).licence for kind in kinds.kinds()}
    assert known.pop("grid") == "apache-2.0"
    assert documented.pop("geometry3k-choice").endswith("its-own-is-not-known-to-us")
    assert known.pop("geometry3k-choice") is None
    assert documented == {kind: known[kind] for kind in documented}
    assert len(documented) == 5


# --- checkpoints ---


def test_a_checkpoint_has_a_model_card_with_its_results_in_the_hubs_form(
    world: World, tmp_path: Path
) -> None:
    folder = world.checkpoint("vista-sft")
    world.predictions("vista-sft")
    said = export(RUN, tmp_path / "out", what="checkpoint", suite_file=world.paths.suite)
    assert said.startswith(f"{tmp_path / 'out'}: checkpoint of {RUN}")
    card = ModelCard.load(tmp_path / "out/README.md")
    found = {result.dataset_name: result for result in card.data.eval_results or []}
    assert set(found) == set(world.suite.evaluated_tasks)
    assert {result.metric_value for result in found.values()} == {25.0}
    assert {(result.metric_type, result.dataset_split) for result in found.values()} == {("accuracy", "test")}
    assert card.data.library_name == "transformers"
    front, body = card_of(tmp_path / "out")
    assert front["model-index"][0]["name"] == RUN.replace("/", "-")
    assert "| 25.00 |" in re.sub(" +", " ", body)
    copied = {file.name: sha256(file) for file in (tmp_path / "out").iterdir() if file.name != "README.md"}
    assert copied == {file.name: sha256(file) for file in folder.iterdir() if file.name != "manifest.json"}


def test_a_checkpoint_that_was_not_evaluated_says_so(world: World, tmp_path: Path) -> None:
    world.checkpoint("vista-sft")
    export(RUN, tmp_path / "out", what="checkpoint", suite_file=world.paths.suite)
    front, body = card_of(tmp_path / "out")
    assert "model-index" not in front
    assert "Not evaluated" in body


def test_predictions_of_other_weights_are_no_results_of_these(world: World, tmp_path: Path) -> None:
    world.checkpoint("vista-sft")
    world.predictions("vista-sft")
    shutil.rmtree(world.paths.trained(RUN))
    world.checkpoint("vista-sft")
    manifest = world.paths.trained(RUN) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"examples": 4.0', '"examples": 5.0'))
    with pytest.raises(VistaError, match="predictions of other weights"):
        export(RUN, tmp_path / "out", what="checkpoint", suite_file=world.paths.suite)
    assert not list(tmp_path.glob("*out*"))


# --- what is refused ---


def told(world: World, run: str, match: str, out: Path, to: str = "trl", **options: Any) -> str:
    with pytest.raises(VistaError, match=match) as caught:
        export(run, out, to, suite_file=world.paths.suite, **options)
    assert not out.exists()
    return str(caught.value)


def test_a_run_that_cannot_be_exported_is_one_error(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = told(world, RUN, "not made yet", out)
    assert f"snakemake --cores all {world.paths.training_set(RUN)}" in said
    told(world, RUN, "not made yet: .*manifest.json", out, to="hub-folder", what="checkpoint")
    told(world, "vista-sft", "is not a run", out)
    told(world, RUN.replace("vista-sft", "vista-stf"), "no method 'vista-stf'", out)
    told(world, RUN.replace("round1", "round7"), "no such run", out)
    told(world, "nano-smoke/grids/zero-shot/seed0/round0", "trains nothing", out)
    online = RUN.replace("vista-sft", "grpo")
    told(world, online, "the training set is the queries alone, .*; export its checkpoint", out)
    world.training_set("vista-sft", "no-positives")
    told(world, RUN, "status no-positives", out)


def test_damaged_files_are_not_exported(world: World, tmp_path: Path) -> None:
    world.training_set("vista-sft")
    file = world.paths.training_set(RUN)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    told(world, RUN, "changed after they were made", tmp_path / "out")
    file.write_bytes(whole)
    queries = world.paths.queries("grid-chain", "train")
    write_rows(queries, read_rows(queries, QUERY)[:1], QUERY)
    told(world, RUN, r"changed after they were made[\s\S]*grid-chain", tmp_path / "out")
    weights = world.checkpoint("vista-sft") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    told(world, RUN, r"model\.safetensors", tmp_path / "out", to="hub-folder", what="checkpoint")


def test_a_folder_that_holds_something_is_left_as_it_is(world: World, tmp_path: Path) -> None:
    world.training_set("vista-sft")
    out = tmp_path / "out"
    out.mkdir()
    export(RUN, out, "trl", suite_file=world.paths.suite)  # an empty one will do
    before = sha256(out / "README.md")
    with pytest.raises(VistaError, match="is not an empty folder"):
        export(RUN, out, "ms-swift", suite_file=world.paths.suite)
    assert sha256(out / "README.md") == before


def test_options_that_do_not_go_together_are_refused(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told(
        world,
        RUN,
        "--to axolotl: not known; write one of trl, llama-factory, ms-swift, hub-folder",
        out,
        to="axolotl",
    )
    told(world, RUN, "--what weights: expected data or checkpoint", out, what="weights")
    told(world, RUN, "a checkpoint is a folder that every program reads", out, what="checkpoint")
    told(world, RUN, "name one suite", out, configfile=Path("config/smoke.yaml"))
    with pytest.raises(VistaError, match="--to is missing"):
        export(RUN, out)
    with pytest.raises(VistaError, match="of which suite"):
        export(RUN, out, "trl")


# --- ways to name a run; the command ---


def test_a_run_may_be_named_by_its_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.training_set("vista-sft")
    monkeypatch.chdir(tmp_path)
    for number, stage in enumerate(("training", "curation", "evaluation")):
        export(f"results/{stage}/{RUN}/", Path(f"out{number}"), "trl")
    found = {sha256(Path(f"out{number}") / formats.PARQUET) for number in range(3)}
    assert len(found) == 1


def test_results_that_were_moved_are_found_beside_their_suite(world: World, tmp_path: Path) -> None:
    world.training_set("vista-sft")
    moved = tmp_path / "elsewhere"
    world.paths.results.rename(moved)
    for number, named in enumerate((moved, moved / "suite.json")):
        export(RUN, tmp_path / f"out{number}", "trl", suite_file=named)
        assert (tmp_path / f"out{number}" / formats.PARQUET).is_file()


def test_the_command_prints_what_it_wrote(world: World, tmp_path: Path) -> None:
    world.training_set("vista-sft")
    words = [
        "export",
        RUN,
        "--to",
        "ms-swift",
        "--suite",
        str(world.paths.suite),
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert f"training set of {RUN} for ms-swift, 4 rows and a card" in done.output.replace("\n", " ")


# --- pushing ---


class Hub:
    """Stands in for the hub; what was asked of it."""

    repositories: dict[str, bool]  # by name, whether private
    asked: list[tuple[str, Any]]
    fails = False

    def repo_info(self, repository: str, repo_type: str) -> Any:
        if repository not in Hub.repositories:
            raise RepositoryNotFoundError("404", response=answer(404))
        return type("Info", (), {"private": Hub.repositories[repository]})

    def create_repo(self, repository: str, repo_type: str, private: bool) -> None:
        Hub.repositories[repository] = private
        Hub.asked.append(("create", (repository, repo_type, private)))

    def upload_folder(self, **options: Any) -> None:
        if Hub.fails:
            raise HfHubHTTPError("403 Forbidden: you may not write here", response=answer(403))
        files = sorted(file.name for file in Path(options["folder_path"]).rglob("*") if file.is_file())
        Hub.asked.append(("upload", (options["repo_id"], options["repo_type"], files)))


def answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[Hub]:
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    Hub.repositories, Hub.asked, Hub.fails = {}, [], False
    return Hub


Push = Callable[..., str]


@pytest.fixture
def pushed(world: World, tmp_path: Path) -> Push:
    world.training_set("vista-sft")

    def push(repository: str = "me/mine", **options: Any) -> str:
        return export(RUN, tmp_path / "out", "trl", suite_file=world.paths.suite, push=repository, **options)

    return push


def test_a_push_makes_a_private_repository(hub: type[Hub], pushed: Push) -> None:
    assert pushed().endswith("pushed to me/mine (private)")
    assert hub.asked == [
        ("create", ("me/mine", "dataset", True)),
        ("upload", ("me/mine", "dataset", ["README.md", "train-00000-of-00001.parquet"])),
    ]


def test_a_public_repository_is_pushed_to_only_on_demand(
    hub: type[Hub], pushed: Push, tmp_path: Path
) -> None:
    hub.repositories["me/mine"] = False
    with pytest.raises(VistaError, match=r"is public; nothing was pushed. Add --public"):
        pushed()
    assert not hub.asked
    shutil.rmtree(tmp_path / "out")
    assert pushed(public=True).endswith("(public)")


def test_a_checkpoint_is_pushed_as_a_model(hub: type[Hub], world: World, tmp_path: Path) -> None:
    world.checkpoint("vista-sft")
    out = tmp_path / "out"
    export(RUN, out, what="checkpoint", suite_file=world.paths.suite, push="me/mine")
    assert hub.asked[0] == ("create", ("me/mine", "model", True))


def test_without_a_token_nothing_is_written(
    hub: type[Hub], pushed: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(VistaError, match=r"there is no token.*hf auth login"):
        pushed()
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    with pytest.raises(VistaError, match="expected owner/name"):
        pushed("mine")


def test_a_push_that_the_hub_refuses_leaves_the_folder(hub: type[Hub], pushed: Push, tmp_path: Path) -> None:
    hub.fails = True
    with pytest.raises(VistaError, match=r"not pushed \(403 Forbidden.*`hf upload me/mine"):
        pushed()
    assert (tmp_path / "out/README.md").is_file()


def test_the_documentation_names_every_form(root: Path) -> None:
    page = section(root, "tutorials/export.md", "Other programs")
    assert set(formats.FILES) <= set(re.findall(r"`--to ([\w-]+)`", page))
