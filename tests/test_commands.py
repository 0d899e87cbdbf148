"""The command line as people know it: help, versions, completion, JSON, and which suite is meant."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.analysis.conftest import World, make_suite
from vista import stages
from vista.analysis.collect import collect
from vista.analysis.tables import results_tables
from vista.cli import app
from vista.commit import git_state
from vista.config import load_suite
from vista.errors import VistaError
from vista.manifest import Recorder, installed
from vista.paths import Paths
from vista.records import write_text
from vista.suites import eaten_target, named_suite, strange_target, unmade_target
from vista.verify import outputs_of

COMMANDS = {
    command.callback.__name__
    for command in app.registered_commands
    if command.callback and not command.hidden
}


def invoke(*words: object, status: int = 0) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.stdout


# --- help, versions, completion ---


def test_help_shows_what_people_type_before_what_snakemake_runs() -> None:
    text = invoke("--help")
    first = text.index(stages.PANEL)
    for name in COMMANDS:
        assert 0 < text.index(f"│ {name} ") < first, name
    for names in stages.STAGE_COMMANDS.values():
        for name in names:
            assert text.index(f"│ {name} ") > first, name


def options_of(command: str) -> set[str]:
    """The options that a command's own help lists."""
    return set(re.findall(r"--[a-z]+(?:-[a-z]+)*", invoke(command, "--help"))) - {"--help"}


def test_the_page_of_commands_lists_each_with_its_options(root: Path) -> None:
    page = (root / "docs/commands.md").read_text()
    sections = dict(re.findall(r"^### `vista (\w+)[^`]*`\n(.*?)(?=^#|\Z)", page, re.M | re.S))
    assert set(sections) == COMMANDS
    for name, text in sections.items():
        told = set(
            re.findall(
                r"--[a-z]+(?:-[a-z]+)*", text + page[page.index(f"### `vista {name}") :].split("\n")[0]
            )
        )
        known = options_of(name)
        assert known <= told, (name, known - told)
        assert told <= known, (name, told - known)
    stage_list = page[page.index("## What Snakemake runs") :]
    for names in stages.STAGE_COMMANDS.values():
        for name in names:
            assert f"`{name}`" in stage_list, name


def test_the_version_names_the_commit_and_the_packages_without_importing_them() -> None:
    lines = invoke("--version").splitlines()
    assert lines[0].startswith("vista-bench ")
    commit = git_state()["commit"]
    assert commit == "unknown" or commit[:12] in lines[0]
    assert lines[1] == f"python {sys.version.split()[0]}"
    here = installed()
    for name in ("torch", "transformers", "trl", "lmms-eval"):
        assert f"{name} {here[name]}" in lines


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_a_shell(shell: str) -> None:
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [shutil.which("vista") or "vista", "--show-completion", shell]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0
    assert "_VISTA_COMPLETE" in done.stdout


def completed(folder: Path, *words: str) -> list[str]:
    """What bash would offer after these words."""
    line = " ".join(["vista", *words])
    env = {"_VISTA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    command = [shutil.which("vista") or "vista"]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True)
    return done.stdout.split()


def test_tables_columns_and_runs_are_completed(made: World) -> None:
    folder = made.paths.results.parent
    assert completed(folder, "show", "results/tables/ma") == ["results/tables/main.csv"]
    assert completed(folder, "show", "results/tables/main.csv", "1", "delta_s") == [
        "delta_sft_seed",
        "delta_se",
    ]
    assert completed(folder, "evaluate", "results/suite.json", "nano-a/both/dpo/") == [
        "nano-a/both/dpo/seed0/round1"
    ]


# --- JSON ---


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Every table of a tiny suite."""
    suite = make_suite(tmp_path_factory.mktemp("made") / "results")
    world = World(suite, Paths(suite.results)).fill()
    write_text(world.paths.suite, suite.model_dump_json())
    collect(suite, world.paths)
    results_tables(suite, world.paths)
    return world


def keys_of(text: str) -> Sequence[str]:
    return list(json.loads(text))


SHAPES = {
    "plan": {"suite", "jobs", "gpu_hours_total", "disk_bytes_total", "sharing", "assumptions"},
    "doctor": {"suite", "ok", "findings"},
    "verify": {
        *("suite", "results", "outputs", "files", "damaged", "command", "delete", "waiting", "edited"),
        "mixed_versions",
    },
    "show": {"table", "row", "column", "value", "missing", "made_from"},
    "compare": {"tasks", "overall", "level", "power", "left_out", "systems", "comparisons"},
}


def asked(made: World, root: Path, command: str) -> str:
    main = made.paths.table("main", "csv")
    long = f"{made.paths.long}:nano-a/both"
    words: dict[str, list[object]] = {
        "plan": [root / "config/smoke.yaml"],
        "doctor": [root / "config/smoke.yaml"],
        "verify": [made.paths.results],
        "show": [main, "1", "overall"],
        "compare": [f"{long}/sft-seed", f"{long}/dpo"],
    }
    return CliRunner().invoke(app, [command, *map(str, words[command]), "--json"]).stdout


@pytest.mark.parametrize("command", SHAPES)
def test_json_has_a_stable_shape_that_the_page_of_commands_documents(
    made: World, root: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(root)
    found = set(keys_of(asked(made, root, command)))
    assert found >= SHAPES[command] if command == "plan" else found == SHAPES[command]
    page = (root / "docs/commands.md").read_text()
    section = page[page.index(f"### `vista {command}") :].partition("\n### ")[0]
    for key in SHAPES[command]:
        assert f"`{key}`" in section, key


def test_verify_says_as_json_what_is_damaged_and_how_to_make_it_again(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results")
    paths = Paths(suite.results)
    write_text(paths.suite, suite.model_dump_json())
    file = paths.queries("easy", "test")
    write_text(file, "queries")
    Recorder("tasks", {}, []).write(file, {})
    assert json.loads(invoke("verify", paths.results, "--json"))["damaged"] == []
    file.write_text("queries!")
    found = json.loads(invoke("verify", paths.results, "--json", status=2))
    assert [(each["output"], each["file"]) for each in found["damaged"]] == [
        ("tasks/easy/test.parquet", str(file))
    ]
    assert found["command"].startswith("snakemake ")


def test_show_says_as_json_what_a_number_was_made_from(made: World) -> None:
    row = "model=nano-a,method=dpo,round=1"
    found = json.loads(invoke("show", made.paths.table("main", "csv"), row, "overall", "--json"))
    (top,) = found["made_from"]
    (run,) = top["made_from"]
    assert (found["row"]["method"], found["missing"], top["changed"]) == ("dpo", "", False)
    assert run["name"] == "run nano-a/both/dpo/seed0/round1"
    (predictions,) = run["made_from"]
    assert predictions["name"] == str(made.paths.predictions("nano-a/both/dpo/seed0/round1"))
    assert predictions["commit"]


def test_an_error_of_a_command_for_programs_is_still_on_stderr(tmp_path: Path) -> None:
    for words in (
        ["doctor"],
        ["verify", "no.json"],
        ["show", "no.csv", "1", "x"],
        ["compare", "a", "b"],
        ["plan"],
    ):
        command = [sys.executable, "-m", "vista.cli", *words, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert done.stderr.startswith("error: "), words


@pytest.mark.parametrize("suite", ["testbed", "testbed-full"])
@pytest.mark.parametrize("name", ["main", "ablation", "cost"])
def test_a_committed_table_is_followed_as_far_as_its_manifest_reaches(
    root: Path, suite: str, name: str
) -> None:
    table = root / f"results/reference/{suite}/{name}.csv"
    column = table.read_text().partition("\n")[0].split(",")[-1]
    text = invoke("show", table, "1", column)
    manifest = json.loads(table.with_name(f"{name}.csv.manifest.json").read_text())
    commit = manifest["commit"]
    assert f"commit {commit[:12]}" in text
    assert text.count("(not here)") == len(manifest["inputs"])
    assert f"git show {commit[:12]}:config/{suite}.yaml" in text
    assert "changed since" not in text


# --- which suite ---


@pytest.mark.parametrize("command", ["config", "plan"])
def test_a_suite_file_is_an_argument_or_an_option(
    root: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert invoke(command, "config/smoke.yaml") == invoke(command, "--configfile", "config/smoke.yaml")


def test_a_results_folder_stands_for_its_suite(tmp_path: Path) -> None:
    suite = make_suite(tmp_path / "results/tiny")
    write_text(tmp_path / "results/tiny/suite.json", suite.model_dump_json())
    for named in ("results/tiny", "results/tiny/suite.json"):
        assert named_suite(tmp_path / named, None) == (suite, None)


def refusal(named: Path | None, configfile: Path | None) -> str:
    with pytest.raises(VistaError) as caught:
        named_suite(named, configfile)
    return str(caught.value)


def test_where_no_suite_is_named_those_that_have_results_are_offered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there are results" not in refusal(None, None)
    for folder in ("results", "results/tiny"):
        write_text(tmp_path / folder / "suite.json", make_suite(Path(folder)).model_dump_json())
    write_text(tmp_path / "results/broken/suite.json", "{")
    offered = "there are results of: results (tiny), results/tiny (tiny)"
    assert refusal(None, None).endswith(offered)
    assert refusal(Path("results/tiny"), root / "config/smoke.yaml").endswith(offered)
    (tmp_path / "results/suite.json").unlink()
    assert "results: has no suite.json" in refusal(Path("results"), None)
    assert refusal(Path("results"), None).endswith("there are results of: results/tiny (tiny)")


# --- what is typed for snakemake ---


def test_a_target_that_configfile_took_is_told_from_a_config(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(Path("results/suite.json"), "{}")
    config = tmp_path / "config/a.yaml"
    assert eaten_target([config, tmp_path / "b.json"]) is None
    for target in ("results/suite.yaml", "results/models/m.check.json", "tables", "out/main.csv"):
        told = eaten_target([config, tmp_path / target])
        assert told is not None
        assert f"snakemake {target} --configfile config/a.yaml" in told


def test_every_file_that_a_suite_makes_can_be_a_target_and_one_misspelt_is_told_with_it(root: Path) -> None:
    suite = load_suite(root / "config/smoke.yaml")
    made = sorted(outputs_of(suite))
    files = [str(suite.results / file) for file in made]
    rules = ("all", "tables", "figures")
    files += ["results/smoke/tasks/printed/train.parquet", "results/smoke/models/nano-smoke/manifest.json"]
    assert unmade_target([*rules, *files, f"{files[0]}.manifest.json"], suite, made, rules) is None
    assert unmade_target(["results/smoke/../smoke/tables/main.csv", "mine/a.csv"], suite, made, None) is None
    for file in (each for each in files if not each.endswith("manifest.json")):
        for typed in (f"{file}x", str(Path(file).with_name("x" + Path(file).name).absolute())):
            told = unmade_target(["all", files[0], typed], suite, made, rules)
            assert told is not None
            assert told.startswith(f"{typed}: ")
            assert "did you mean " in told
    for typed, said in (
        ("results/smoke/tables/zzz.csv", "of that folder it makes ablation, "),
        ("results/smoke/zzz/yyy/xxx", "folders of its files: curation, "),
        ("table", "did you mean tables?"),
        ("results/smok/tables/main.csv", "did you mean results/smoke/tables/main.csv?"),
        ("results/smoke/tables/mian.csv.manifest.json", "did you mean results/smoke/tables/main.csv?"),
        ("results/smoke/training/nano-smoke/grids/star/seed0/round1", "it is a folder of such files"),
        ("zzz", "rules that can be named: all, figures, tables"),
    ):
        assert said in str(unmade_target([typed], suite, made, rules))


def test_a_target_of_another_suite_is_told_with_its_config(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    config = {name: Path(f"config/{name}.yaml") for name in ("testbed", "smoke")}
    suites = {name: load_suite(file) for name, file in config.items()}
    targets = {"testbed": "results/tables/main.csv", "smoke": "results/smoke/tables/main.csv"}
    for read in config:
        for typed, target in targets.items():
            told = strange_target(["all", target], suites[read], config[read], root)
            if read == typed:
                assert told is None
            else:
                assert told is not None
                assert f"snakemake {target} --configfile {config[typed]}" in told
    assert strange_target(
        [str(Path(targets["smoke"]).absolute())], suites["testbed"], config["testbed"], root
    )
    assert strange_target(["elsewhere/main.csv"], suites["testbed"], config["testbed"], root) is None
