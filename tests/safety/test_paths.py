"""Names of configs, data sets and arguments stay names: none leads out of the results and data folders."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.rollouts.conftest import POLICY, SAMPLES, policy_folder, suite_at
from tests.tasks.published import write_slake
from vista import cli, grid, planned
from vista.config import Suite, load_resolved, load_suite, load_yaml
from vista.config.checks import RESULTS
from vista.errors import VistaError
from vista.grid import Run
from vista.images import open_images
from vista.models.build import download
from vista.paths import Paths, manifest_of
from vista.records import QUERY, read_rows
from vista.task_kinds.benchmarks import BenchmarkSizes, HubFiles, LocalFiles
from vista.task_kinds.benchmarks.files import root_of
from vista.task_kinds.slake import SlakeSettings
from vista.tasks.generate import generate_split

__all__ = ["policy_folder"]  # a fixture

NO_NAMES = [
    "..",
    ".",
    "",
    "../x",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "-rf",
    ".hidden",
    "a b",
    "a;b",
    "$(id)",
    "`id`",
    "a'b",
    'a"b',
    "a*",
    "~",
    "a\0b",
    "a\nb",
    "a\n",
    "{a}",
    "A",
    "é",
]
NO_RUNS = [
    "../../x/seed0/round0",
    "../grids/star/seed0/round0",
    "nano/../star/seed0/round0",
    "nano/tasks/../seed0/round0",
    "/nano/tasks/star/seed0/round0",
    "nano/tasks/star/seed0/round0/..",
    "nano/tasks/star/seed0/round0\n",
    "nano/tasks/star/seed-1/round0",
    "nano/tasks/star/seed+1/round0",
    "nano/tasks/star/seed1_0/round0",
    "nano/tasks/star/seed٣/round0",
    "nano/tasks/star/seed0/round../round0",
    "nano/tasks/star\0/seed0/round0",
    "nano/tasks/star;x/seed0/round0",
    "",
]


def everything(folder: Path) -> dict[str, Any]:
    """Every path below a folder, with what it holds; not the locks of jobs."""
    paths = (path for path in folder.rglob("*") if ".jobs" not in path.parts)
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def suite_value(root: Path) -> dict[str, Any]:
    resolved = load_suite(root / "config/smoke.yaml", root=root)
    return json.loads(resolved.model_dump_json())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NO_NAMES)
def test_nothing_in_a_config_is_called_like_a_path_or_like_words_of_a_shell(
    suite_value: dict[str, Any], name: str
) -> None:
    Suite.model_validate(suite_value)
    spoilt: list[dict[str, Any]] = [{"name": name}, {"out_of_domain": [name]}, {"train_sets": {name: []}}]
    spoilt += [
        {field: {name: next(iter(suite_value[field].values()))}} for field in ("models", "methods", "tasks")
    ]
    spoilt += [{"train_sets": {"x": [name]}}, {"only": {name: {}}}, {"max_rounds": {name: 1}}]
    spoilt += [{"seed_rationales": {"kind": "annotated", "files": {name: "x"}}}]
    for change in spoilt:
        with pytest.raises(ValueError, match=r"pattern"):
            Suite.model_validate({**suite_value, **change})


def test_sweeps_names_are_checked_as_well(root: Path, tmp_path: Path) -> None:
    text = (root / "config/smoke.yaml").read_text()
    suite = tmp_path / "suite.yaml"
    suite.write_text(text + "\nsweeps:\n  ../up: {method: vista-sft, set: filter.tau, values: [0.5]}\n")
    with pytest.raises(VistaError, match=r"sweeps\.\.\./up"):
        load_suite(suite, root=root)


@pytest.mark.parametrize("text", NO_RUNS)
def test_a_run_is_named_by_names_and_numbers(text: str) -> None:
    with pytest.raises(VistaError, match="is not a run"):
        Run.parse(text)


def test_a_run_is_the_inverse_of_its_name() -> None:
    run = Run("nano-qwen2.5-vl", "grids", "vista-sft+tau=-0.5", 12, 3)
    assert Run.parse(run.id) == run


@pytest.mark.parametrize("text", ["other/tasks/vista/seed0/round1", "nano/other/vista/seed0/round1"])
def test_a_run_of_another_suite_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(VistaError, match="'other'; it has"):
        grid.run_named(suite_at(tmp_path), text)


UP = "../../../../outside"
HOSTILE: list[list[str]] = [
    *([command, run] for command in ("curate", "train", "evaluate", "cases") for run in (UP, NO_RUNS[0])),
    *([command, POLICY.id, UP, "0"] for command in ("sample", "resample", "score", "gains")),
    *([command, NO_RUNS[0], SAMPLES, "0"] for command in ("sample", "resample", "score", "gains")),
    ["sample", POLICY.id, SAMPLES, "7"],
    ["sample", POLICY.id, f"{SAMPLES}/{UP}", "0"],
    ["sample", POLICY.id, f"{UP}@seed", "0"],
    ["models", UP],
    ["models", "/etc"],
    ["tasks", UP, "train"],
    ["tasks", "/etc", "train"],
]


@pytest.mark.parametrize("arguments", HOSTILE, ids=" ".join)
def test_no_argument_of_a_command_makes_it_write_anything(
    policy_folder: Path, tmp_path: Path, arguments: list[str]
) -> None:
    results = tmp_path / "one/two/results"
    results.mkdir(parents=True)
    for name in ("models", "tasks"):
        (results / name).symlink_to(policy_folder / name)
    Paths(results).suite.write_text(suite_at(results).model_dump_json())
    before = everything(tmp_path), everything(policy_folder)
    command, *rest = arguments
    try:
        with pytest.raises(VistaError):
            cli.app([command, str(Paths(results).suite), "--", *rest], standalone_mode=False)
    finally:
        planned.end()
    assert (everything(tmp_path), everything(policy_folder)) == before


@pytest.mark.parametrize(
    "folder",
    [
        "a{task}",
        "-rf",
        "a\nb",
        "a\0b",
        "a\x1b[31m",
        "a}b",
        "a\ud800",
        "n" * 256,
        "x/" + 128 * "ä",
        "~nobody-here/x",
    ],
)
def test_results_may_be_anywhere_but_not_under_a_name_that_is_read_as_something_else(
    suite_value: dict[str, Any], folder: str
) -> None:
    with pytest.raises(ValueError, match=r"cannot be used|255 bytes; choose|~ cannot be replaced"):
        Suite.model_validate({**suite_value, "results": folder})
    for fine in (
        "/anywhere/else",
        "../beside",
        "my results; $(x) 'y'",
        "ergebnisse/März",
        "結果\u3000新/a\u00a0b\u202fc",
    ):
        assert Suite.model_validate({**suite_value, "results": fine}).results == Path(fine)


PATHS: dict[str, dict[str, Any]] = {
    "results": {"results": "~/x"},
    "reported": {"reported": "~/x"},
    "cache": {
        "seed_rationales": {
            "kind": "teacher", "endpoint": "http://x", "model": "m", "max_requests": 1, "cache": "~/x"
        }
    },
    "files": {"seed_rationales": {"kind": "annotated", "files": {"grid-chain": "~/x"}}},
    "path": {"models": {"m": {"kind": "path", "path": "~/x", "training": {"accelerate": "~/y"}}}},
    "source": {"tasks": {"t": {"kind": "slake", "source": {"kind": "path", "path": "~/x"}}}},
}  # fmt: skip


@pytest.mark.parametrize("field", PATHS)
def test_a_tilde_in_any_path_of_a_config_is_the_home_folder(
    suite_value: dict[str, Any], monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    text = Suite.model_validate({**suite_value, **PATHS[field]}).model_dump_json()
    assert "~" not in text
    assert "/home/somebody/x" in text
    with pytest.raises(ValueError, match=r"choose a shorter one"):
        Suite.model_validate(
            json.loads(json.dumps({**suite_value, **PATHS[field]}).replace("~/x", 300 * "x"))
        )


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory beside the code, with somebody's files in it."""
    for name in ("mine/notes", "mine/results/smoke", "old/tables", "old/logs", "work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mine/results/smoke/suite.json").touch()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def results_at(root: Path, folder: str) -> Suite:
    return load_suite(
        root / "config/smoke.yaml", {**load_yaml(root / "config/smoke.yaml"), "results": folder}, root
    )


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        *((name, "is inside") for name in ("{0}/vista/new", "{0}/config/x", "{0}/tests/a/b", "{0}/docs/out")),
        *(
            (name, "is inside")
            for name in ("{0}/.git", "{0}/.git/x", ".snakemake/x", "a/.git/b", "{0}/.venv/x")
        ),
        *((name, "is inside") for name in ("{0}/vista", "{0}/workflow", "{0}/benchmarks", "{0}/profiles")),
        *((name, "holds the code") for name in ("{0}", "{0}/.", "{0}/..", "/", "{0}/vista/..")),
        *((name, "holds the working directory") for name in (".", "..", "x/..", "../work")),
        *((name, "is not a folder") for name in ("../file", "../loop")),
        *((name, "which is not a folder") for name in ("../file/x", "../file/x/y", "/dev/null/x")),
        *((name, "holds other things") for name in ("../mine", "/etc", "/usr/lib")),
    ],
)
def test_results_are_not_put_among_other_things(root: Path, checkout: Path, folder: str, why: str) -> None:
    with pytest.raises(VistaError, match=rf"smoke\.yaml: results: .*{why}.*; name "):
        results_at(root, folder.format(root))


@pytest.mark.parametrize(
    "folder", ["results", "new/x", "../mine/results", "../mine/results/smoke", "../old", "{0}/results/new"]
)
def test_results_may_be_where_there_is_nothing_or_results(root: Path, checkout: Path, folder: str) -> None:
    assert results_at(root, folder.format(root)).results == Path(folder.format(root))


def test_one_may_stand_in_a_results_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "suite.json").touch()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert results_at(root, str(tmp_path)).results == tmp_path


def test_results_that_were_moved_are_read_wherever_they_were_made(root: Path, checkout: Path) -> None:
    suite = results_at(root, "../old")
    (checkout / "moved").mkdir()
    (checkout / "moved/suite.json").write_text(suite.model_dump_json())
    (checkout / "old/notes.txt").touch()
    with pytest.raises(VistaError, match="holds other things"):
        results_at(root, "../old")
    assert load_resolved(checkout / "moved/suite.json") == suite


def test_every_output_is_known_to_belong_to_results() -> None:
    """Where `suite.json` was deleted, to be written again."""
    found = Paths(Path("r"))
    outputs = [
        found.suite, found.warm_log, found.terminal_log, found.code("x"), found.queries("t", "s"),
        found.base("m"),
        found.check("m"), found.long, found.failed_check("m"), found.rollouts("p", "k", "n", 0, 1),
        found.encodable("m"), found.cases("p"),
        found.training_set("r"), found.trained("r"), found.predictions("r"), found.table("t", "csv"),
        found.history("r"), found.adopted("r"), found.responses("r"), found.requests("t"),
        found.figure("f", "pdf"), found.benchmark("s", "n"), found.log("s", "n"), manifest_of(found.long),
    ]  # fmt: skip
    methods = [name for name in vars(Paths) if not name.startswith("_")]
    assert len(outputs) - 1 == len(methods)  # one is a manifest
    assert [path for path in outputs if not RESULTS.fullmatch(path.relative_to("r").parts[0])] == []


def slake(folder: Path, tmp_path: Path, root: Path) -> Paths:
    """Make the test split of a copy of SLAKE."""
    source = LocalFiles(kind="path", path=folder)
    task = SlakeSettings(kind="slake", sizes=BenchmarkSizes(seed=2), source=source)
    smoke = load_suite(root / "config/smoke.yaml", root=root)
    paths = Paths(tmp_path / "results")
    generate_split(smoke.model_copy(update={"tasks": {"slake": task}}), paths, "slake", "test")
    return paths


def unpack(folder: Path) -> None:
    with zipfile.ZipFile(folder / "imgs.zip") as archive:
        archive.extractall(folder)
    (folder / "imgs.zip").unlink()


def name_image(folder: Path, name: str) -> str:
    """Let the first English row of the test split show another image; returns the one that it showed."""
    file = folder / "test.json"
    rows = json.loads(file.read_text())
    row = next(row for row in rows if row["q_lang"] == "en")
    before, row["img_name"] = row["img_name"], name
    file.write_text(json.dumps(rows))
    return str(before)


@pytest.mark.parametrize("packed", [True, False], ids=["archive", "folder"])
@pytest.mark.parametrize(
    "name", ["../../secret.png", "{}/secret.png", "x/../../../secret.png", "a\0b", "n" * 300]
)
def test_an_image_that_a_benchmark_names_lies_in_its_folder(
    root: Path, tmp_path: Path, packed: bool, name: str
) -> None:
    folder = tmp_path / "slake"
    write_slake(folder)
    if not packed:
        unpack(folder)
    shown = name_image(folder, name.format(tmp_path))
    picture = (
        zipfile.ZipFile(folder / "imgs.zip").read(f"imgs/{shown}")
        if packed
        else (folder / "imgs" / shown).read_bytes()
    )
    (tmp_path / "secret.png").write_bytes(picture)
    with pytest.raises(VistaError, match=r"test\.json: row \d+: "):
        slake(folder, tmp_path, root)
    assert not (tmp_path / "results/tasks/slake/test.parquet").exists()


def test_a_link_that_leads_out_of_a_benchmarks_folder_is_not_followed(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slake"
    write_slake(folder)
    unpack(folder)
    shown = folder / "imgs" / name_image(folder, "xmlab9/source.jpg")
    shown.rename(tmp_path / "secret.jpg")
    (folder / "imgs/xmlab9").mkdir()
    (folder / "imgs/xmlab9/source.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(VistaError, match=r"is outside .*imgs"):
        slake(folder, tmp_path, root)


def test_archives_are_read_and_never_unpacked(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slake"
    write_slake(folder)
    with zipfile.ZipFile(folder / "imgs.zip", "a") as archive:
        archive.writestr("../../outside.png", b"x")
    before = everything(folder)
    paths = slake(folder, tmp_path, root)
    assert read_rows(paths.queries("slake", "test"), QUERY)
    assert everything(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results", "slake"]


def test_a_query_cannot_show_a_file_of_this_machine(policy_folder: Path, tmp_path: Path) -> None:
    (query,) = read_rows(Paths(policy_folder).queries("first", "train"), QUERY)[:1]
    secret = tmp_path / "secret.png"
    secret.write_bytes(query["images"][0]["bytes"])
    with pytest.raises(VistaError, match="only the name of a file"):
        open_images({**query, "images": [{"bytes": None, "path": str(secret)}]})


def test_ids_of_queries_name_no_files(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slake"
    write_slake(folder)
    file = folder / "test.json"
    rows = json.loads(file.read_text())
    for row in rows:
        row["qid"] = int(f"9{row['qid']}")
    file.write_text(json.dumps(rows))
    paths = slake(folder, tmp_path, root)
    ids = {row["query_id"] for row in read_rows(paths.queries("slake", "test"), QUERY)}
    assert all(name.startswith("slake-test-9") for name in ids)
    written = [p.name for p in paths.results.rglob("*") if p.is_file()]
    assert sorted(written) == ["test.parquet", "test.parquet.manifest.json"]


@pytest.mark.parametrize("repo", ["../up", "a/..", "-x/y", "a/b--c", "a/b\0"])
def test_a_repository_has_a_name_of_the_hub(repo: str) -> None:
    """Where the hub's client would make a folder of it."""
    with pytest.raises(VistaError, match=r"repo: (no|not the) name of a repository"):
        download(repo, 40 * "0")
    source = HubFiles(kind="hub", repo=repo, revision=40 * "0")
    with pytest.raises(VistaError, match=r"repo: not the name of a repository"):
        root_of("slake", source, [["test.json"]])
