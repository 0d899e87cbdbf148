"""Code makes stale what imports it, and nothing else."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.own_tasks import write_task
from vista import closure
from vista.config import Suite, load_suite
from vista.dag import Dag
from vista.errors import VistaError
from vista.task_kinds.lmms_eval import LmmsEvalSettings


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package whose source a test may edit."""
    copy = tmp_path / "vista"
    shutil.copytree(closure.SOURCES["vista"], copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setitem(closure.SOURCES, "vista", copy)
    return copy


@pytest.fixture
def suite(root: Path, tmp_path: Path) -> Suite:
    suite = load_suite(root / "config/testbed-full.yaml", root=root)
    return suite.model_copy(update={"results": tmp_path / "results"})


@pytest.fixture
def benchmarks(root: Path, tmp_path: Path) -> Suite:
    suite = load_suite(root / "config/paper.yaml", root=root)
    return suite.model_copy(update={"results": tmp_path / "paper"})


def codes(suite: Suite) -> dict[str, str]:
    """The checksums that every rule of the suite depends on, by file."""
    plan = Dag(suite)
    for task in suite.tasks:
        plan.task_code(task, "train")
    for model in suite.models:
        plan.model_code(model)
    for method in suite.methods:
        run = f"{next(iter(suite.models))}/{next(iter(suite.train_sets))}/{method}/seed0/round1"
        plan.curation_code(run)
        plan.training_code(run)
        if (resample := getattr(suite.methods[method], "resample", None)) and resample.kind != "none":
            rollouts = suite.methods[method].rollouts  # type: ignore[union-attr]
            plan.rollout_code("resamples", f"{rollouts.slug}+{resample.slug}")
    for kind in ("samples", "scores", "gains"):
        plan.rollout_code(kind, "any")
    tables = ("tables", "ablation", "findings", "resolution", "difficulty", "distributions")
    plan.evaluation_code()
    elsewhere = ("requests", "respond") if plan.reads.responds_elsewhere else ()
    for command in ("cases", "collect", "cost", *tables, *elsewhere):
        plan.code(command)
    for figure in (closure.SOURCES["vista"] / "figures").glob("[a-z]*.py"):
        if figure.stem not in ("plan", "drawing"):
            plan.figure_code(figure.stem)
    return {Path(file).stem: Path(file).read_text() for file in plan.entries}


def stale(suite: Suite, edit: Callable[[], object]) -> set[str]:
    """Which files of checksums an edit changes."""
    before = codes(suite)
    edit()
    return {name for name, text in codes(suite).items() if before.get(name, text) != text}


def append(path: Path, text: str) -> Callable[[], object]:
    return lambda: path.write_text(path.read_text() + text)


CODE = "\n\nADDED = 1\n"


def test_an_edited_filter_changes_the_training_sets_of_the_methods_that_name_it(
    package: Path, suite: Suite
) -> None:
    assert stale(suite, append(package / "filters/oracle.py", CODE)) == {"curate-oracle"}


def test_an_edited_filter_changes_those_that_are_matched_to_it_as_well(package: Path, suite: Suite) -> None:
    found = stale(suite, append(package / "filters/vas.py", CODE))
    assert {"curate-vas", "curate-random_drop"} <= found
    assert not {name for name in found if not name.startswith(("curate", "audit"))}


def test_an_edited_objective_changes_the_trainings_that_minimise_it(package: Path, suite: Suite) -> None:
    assert stale(suite, append(package / "objectives/dpo.py", CODE)) == {"train-dpo"}


def test_edited_gains_change_gains_alone(package: Path, suite: Suite) -> None:
    assert stale(suite, append(package / "rollouts/gains.py", CODE)) == {"gains"}


def test_the_scores_module_changes_scores_curation_and_cases_alone(package: Path, suite: Suite) -> None:
    found = stale(suite, append(package / "scores.py", CODE))
    assert {"score", "curate-vas", "cases"} <= found
    untouched = ("sample", "resample", "train", "collect", "models", "evaluate")
    assert not {name for name in found if name.startswith(untouched)}


def test_edited_images_change_what_decodes_them_and_the_benchmarks(package: Path, benchmarks: Suite) -> None:
    found = stale(benchmarks, append(package / "images.py", CODE))
    assert {"tasks-slake", "sample-vllm", "evaluate-scorers-own_tasks", "score"} <= found
    assert not {"collect", "cost", "tables"} & found


def test_what_lmms_eval_imports_by_name_changes_the_evaluations(
    package: Path, suite: Suite, benchmarks: Suite
) -> None:
    assert stale(suite, append(package / "evaluation/tasks/queries.py", CODE)) == {"evaluate"}
    scorers = package / "evaluation/tasks/scorers.py"
    assert not stale(suite, append(scorers, CODE))  # no task of this suite has a scorer of lmms-eval
    assert stale(benchmarks, append(scorers, CODE)) == {"evaluate-scorers-own_tasks"}


def test_what_scores_tasks_of_lmms_eval_changes_only_what_has_such_tasks(
    package: Path, suite: Suite, benchmarks: Suite
) -> None:
    scoring = package / "lmms/scoring.py"
    assert not stale(suite, append(scoring, CODE))
    found = {"evaluate-scorers-own_tasks", "requests", "tasks-lmms_eval"}
    assert stale(benchmarks, append(scoring, CODE)) == found


def test_an_edited_task_of_lmms_eval_is_another_task_and_evaluation_alone(
    suite: Suite, tmp_path: Path
) -> None:
    names = ("exact", "other")
    for name in names:
        write_task(tmp_path / "mine", name)
    own = {
        name: LmmsEvalSettings(kind="lmms-eval", task=name, include_path=tmp_path / "mine") for name in names
    }
    changes = {"tasks": {**suite.tasks, **own}, "out_of_domain": [*suite.out_of_domain, *names]}
    extended = suite.model_copy(update=changes)
    run = f"{next(iter(suite.models))}/{next(iter(suite.train_sets))}/zero-shot/seed0/round0"

    def settings() -> dict[str, str]:
        dag = Dag(extended)
        return {name: dag.task_settings(name, "test") for name in extended.tasks} | {
            "evaluate": dag.evaluation_settings(run)
        }

    before = settings()
    file = tmp_path / "mine/exact.yaml"
    file.write_text(file.read_text().replace("max_new_tokens: 4", "max_new_tokens: 5"))
    after = settings()
    assert {name for name in before if before[name] != after[name]} == {"exact", "evaluate"}
    assert Dag(extended).published_files("exact", "test") == [str(tmp_path / "mine/exact.parquet")]


def test_another_scorer_of_lmms_eval_is_another_evaluation(
    benchmarks: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = f"{next(iter(benchmarks.models))}/{next(iter(benchmarks.train_sets))}/zero-shot/seed0/round0"
    before = Dag(benchmarks).evaluation_settings(run)
    monkeypatch.setattr(type(benchmarks.tasks["slake"]), "lmms_scorer", None)
    assert Dag(benchmarks).evaluation_settings(run) != before


def test_edited_verdicts_change_what_gives_them(package: Path, suite: Suite) -> None:
    found = stale(suite, append(package / "answers.py", CODE))
    assert {"sample-hf", "evaluate"} <= found
    untouched = ("models", "train", "curate", "collect", "cost", "tables", "score", "gains", "figure")
    assert not {name for name in found if name.startswith(untouched)}


@pytest.mark.parametrize("folder", ["filters", "objectives", "resamplers", "task_kinds", "figures"])
def test_a_plug_in_that_nobody_names_changes_nothing(package: Path, suite: Suite, folder: str) -> None:
    assert not stale(suite, lambda: (package / folder / "unused.py").write_text('"""Unused."""\nX = 1\n'))


@pytest.mark.parametrize("module", ["rollouts/sample.py", "scores.py", "filters/vas.py", "training/train.py"])
def test_comments_docstrings_descriptions_and_layout_change_nothing(
    package: Path, suite: Suite, module: str
) -> None:
    path = package / module

    def edit() -> None:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module) and ast.get_docstring(node):
                node.body[0] = ast.Expr(ast.Constant("Another docstring."))
            if isinstance(node, ast.keyword) and node.arg == "description":
                node.value = ast.Constant("Another description.")
        path.write_text("# A comment.\n\n\n" + ast.unparse(tree).replace("\n", "\n\n"))

    assert not stale(suite, edit)


def test_what_only_carries_values_and_names_changes_nothing(package: Path, suite: Suite) -> None:
    for module in (
        "config/suites.py",
        "grid.py",
        "paths.py",
        "dag/base.py",
        "errors.py",
        "cli.py",
        "stages.py",
    ):
        assert not stale(suite, append(package / module, CODE)), module


def test_the_config_computes_nothing(root: Path) -> None:
    """It is in no checksum, so what it yields must be in the digests of settings: values and checks."""
    numbers = (ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
    for path in (root / "vista/config").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            said = f"{path}: {ast.unparse(node)}"
            if isinstance(node, ast.BinOp):
                assert not isinstance(node.op, numbers) or is_of_names(node), said
            assert not (isinstance(node, ast.Import | ast.ImportFrom) and "math" in ast.unparse(node)), said
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) in ("round", "pow")), said


def is_of_names(node: ast.BinOp) -> bool:
    """Whether it is a path, or a difference of two sets of names, as checks make."""
    text = ast.unparse(node.left)
    by_name = isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
    return (isinstance(node.op, ast.Sub) and "set(" in text) or (
        isinstance(node.op, ast.Div) and (text in ("root", "folder") or by_name)
    )


def test_an_unchanged_closure_leaves_its_file_untouched(suite: Suite) -> None:
    first = Path(Dag(suite).code("evaluate"))
    before = first.stat()
    assert Path(Dag(suite).code("evaluate")) == first
    after = first.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of somebody else's, importable."""
    package = tmp_path / "my_lab"
    (package / "deep").mkdir(parents=True)
    for folder in (package, package / "deep"):
        (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(closure.SOURCES, "my_lab", package)
    return package


def test_imports_inside_functions_relative_ones_and_packages_count(lab: Path) -> None:
    (lab / "a.py").write_text("def f():\n    from .deep import b\n    import my_lab.c\n")
    (lab / "deep/b.py").write_text("from .. import d\nfrom vista.scores import TAU\n")
    (lab / "c.py").write_text("")
    (lab / "d.py").write_text("")
    found = closure.closure(["my_lab.a"])
    own = ["my_lab", "my_lab.a", "my_lab.c", "my_lab.d", "my_lab.deep", "my_lab.deep.b"]
    assert [name for name in found if name.startswith("my_lab")] == own
    assert "vista.scores" in found


def test_imports_for_type_checkers_alone_do_not_count(lab: Path) -> None:
    (lab / "a.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import my_lab.c\nelse:\n    import my_lab.d\n"
        "if not TYPE_CHECKING:\n    import my_lab.e\n"
    )
    (lab / "e.py").write_text("")
    (lab / "c.py").write_text("")
    (lab / "d.py").write_text("")
    found = closure.closure(["my_lab.a"])
    assert {"my_lab.d", "my_lab.e"} <= set(found)
    assert "my_lab.c" not in found


def test_imports_and_docstrings_are_found_wherever_statements_are(lab: Path) -> None:
    module, names = lab / "a.py", [f"m{number}" for number in range(13)]
    for name in names:
        (lab / f"{name}.py").write_text("")
    text = """
class A:
    from my_lab import m0
    async def f(self):
        TOLD
        import my_lab.m1
try:
    from . import m2
except ImportError:
    import my_lab.m3
else:
    import my_lab.m4
finally:
    import my_lab.m5
with open("a") as b:
    import my_lab.m6
for c in ():
    import my_lab.m7
else:
    import my_lab.m8
while ():
    class D:
        TOLD
        def g():
            import my_lab.m9
match 1:
    case 1:
        import my_lab.m10
    case _:
        def h():
            TOLD
            import my_lab.m11
if 1:
    pass
elif 2:
    import my_lab.m12
"""
    codes = []
    for told in ("'One.'", "'Two.'"):
        module.write_text(text.replace("TOLD", told))
        assert {f"my_lab.{name}" for name in names} <= set(closure.closure(["my_lab.a"]))
        codes.append(closure.code_of(module.read_bytes(), module))
    assert codes[0] == codes[1]
    assert closure.code_of(module.read_bytes().replace(b"import my_lab.m9", b"pass"), module) != codes[0]


def test_a_data_file_that_a_module_names_is_part_of_its_code(lab: Path) -> None:
    (lab / "a.py").write_text('TEMPLATE = "page.html"\n')
    (lab / "page.html").write_text("one")
    (lab / "other.html").write_text("one")
    before = closure.checksums(["my_lab.a"])
    assert "my_lab.a: page.html" in before
    (lab / "other.html").write_text("two")
    assert closure.checksums(["my_lab.a"]) == before
    (lab / "page.html").write_text("two")
    assert closure.checksums(["my_lab.a"]) != before


def test_a_module_in_no_package_has_the_data_files_beside_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may lie in the working directory, above the results of years, or among all that is installed."""
    (tmp_path / "alone.py").write_text('LIMITS = "limits.json", "main.csv"\n')
    (tmp_path / "limits.json").write_text("1")
    (tmp_path / "results/tables").mkdir(parents=True)
    (tmp_path / "results/tables/main.csv").write_text("a\n")
    monkeypatch.setitem(closure.SOURCES, "alone", tmp_path / "alone.py")
    assert list(closure.checksums(["alone"])) == ["alone", "alone: limits.json"]


def test_a_package_without_an_init_file_has_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare_lab").mkdir()
    (tmp_path / "bare_lab/a.py").write_text("import bare_lab.b\n")
    (tmp_path / "bare_lab/b.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(closure, "SOURCES", dict(closure.SOURCES))
    __import__("bare_lab.a")
    assert closure.closure(["bare_lab.a"]) == ["bare_lab.a", "bare_lab.b"]


def test_what_lies_beside_a_module_of_somebody_else_is_part_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alone_lab.py").write_text("import json, torch\ndef f():\n    import alone_helper\n")
    (tmp_path / "alone_helper.py").write_text("from alone_more import deep\n")
    (tmp_path / "alone_more").mkdir()
    (tmp_path / "alone_more/deep.py").write_text("")
    (tmp_path / "alone_unused.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(closure, "SOURCES", dict(closure.SOURCES))
    assert closure.closure(["alone_lab"]) == ["alone_helper", "alone_lab", "alone_more.deep"]


def test_modules_of_one_distribution_belong_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dist_lab.py").write_text("import dist_helper, dist_stranger\n")
    (tmp_path / "dist_helper.py").write_text("")
    (tmp_path / "dist_stranger.py").write_text("")
    for name, modules in {"my_lab": ["dist_lab", "dist_helper"], "other": ["dist_stranger"]}.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{module}.py,,\n" for module in modules))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(closure, "SOURCES", dict(closure.SOURCES))
    assert closure.closure(["dist_lab"]) == ["dist_helper", "dist_lab"]


def test_a_module_that_is_not_python_is_named(lab: Path) -> None:
    (lab / "a.py").write_text("def f():\n    import my_lab.b\n")
    (lab / "b.py").write_text("def (:\n")
    with pytest.raises(VistaError, match=r"my_lab/b\.py: not Python"):
        closure.checksums(["my_lab.a"])


def test_a_module_without_source_is_named() -> None:
    with pytest.raises(VistaError, match=r"vista\.nothing has no source file"):
        closure.closure(["vista.nothing"])


def test_the_closure_of_a_command_holds_all_that_importing_its_entry_loads() -> None:
    """Against Python itself, for entries that load no torch."""
    for command in ("curate", "collect", "cost"):
        entries = closure.entry_points(command)
        loaded = "print(*[name for name in sys.modules if name.split('.')[0] == 'vista'])"
        code = f"import sys, {', '.join(entries)}; {loaded}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) <= set(closure.closure(entries)), command


MODULES = ("vista", "vista.a", "vista.b")


class Kept:
    """Where what sources say is kept, and how many were parsed since it was last asked."""

    def __init__(self, file: Path, patch: pytest.MonkeyPatch) -> None:
        self.file, self.parsed, parse = file, 0, closure._parse

        def counted(source: bytes, path: Path) -> ast.Module:
            self.parsed += 1
            return parse(source, path)

        patch.setattr(sys, "dont_write_bytecode", False)
        patch.setattr(closure, "_cache_file", lambda: file)
        patch.setattr(closure, "_parse", counted)

    def ask(self) -> dict[str, str]:
        """The checksums of ``vista.a``, as a new process finds them; it keeps what it found."""
        self.forget()
        self.parsed = 0
        closure.sources([])
        return closure.checksums(["vista.a"])

    @staticmethod
    def forget() -> None:
        for each in (closure._kept, closure._said, closure._imports_of):
            each.cache_clear()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of this name with two modules, of which one imports the other and names a data file."""
    folder = tmp_path / "vista"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "a.py").write_text('from vista import b\n\nFILE = "data.csv"\n')
    (folder / "b.py").write_text("X = 1\n")
    (folder / "data.csv").write_text("1\n")
    monkeypatch.setitem(closure.SOURCES, "vista", folder)
    return folder


@pytest.fixture
def kept(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    yield Kept(tmp_path / "kept.json", monkeypatch)
    Kept.forget()


def test_sources_are_parsed_once_for_all_processes_and_those_that_were_edited_again(
    kept: Kept, small: Path
) -> None:
    first = kept.ask()
    assert set(first) == {*MODULES, "vista.a: data.csv"}
    assert kept.parsed >= len(MODULES)
    assert kept.ask() == first
    assert kept.parsed == 0
    path = small / "b.py"
    source, times = path.read_text(), path.stat()
    append(path, CODE)()
    edited = kept.ask()
    assert {name for name in first if edited[name] != first[name]} == {"vista.b"}
    assert 0 < kept.parsed < len(MODULES)
    path.write_text(source)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert kept.ask() == first


@pytest.mark.parametrize("damage", ["flipped", "cut", "of other code", "unreadable"])
def test_what_is_kept_counts_only_whole(kept: Kept, damage: str) -> None:
    first = kept.ask()
    heading, text = kept.file.read_text().split("\n", 1)
    if damage == "flipped":
        kept.file.write_text(f"{heading}\n{text.replace(first['vista.b'], 64 * '0')}")
    elif damage == "cut":
        kept.file.write_text(f"{heading}\n{text[: len(text) // 2]}")
    elif damage == "of other code":
        kept.file.write_text(f"{64 * '0'}\n{text}")
    else:
        kept.file.unlink()
        kept.file.mkdir()
    assert kept.ask() == first
    assert kept.parsed >= len(MODULES)


@pytest.mark.parametrize("reason", ["no folder", "no compiled code is wanted"])
def test_where_nothing_can_be_kept_each_process_reads_for_itself(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    first = kept.ask()
    kept.file.unlink()
    if reason == "no folder":
        (tmp_path / "file").touch()
        monkeypatch.setattr(closure, "_cache_file", lambda: tmp_path / "file/kept.json")
    else:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for _ in range(2):
        assert kept.ask() == first
        assert kept.parsed >= len(MODULES)
    assert not kept.file.exists()
