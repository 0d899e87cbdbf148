"""A task of lmms-eval is found by its name and known by its files, without importing lmms-eval."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.own_tasks import write_task
from vista.errors import VistaError
from vista.lmms.files import find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_task(tmp_path / "mine", "exact")


def test_a_task_is_found_among_lmms_evals_own_and_in_a_folder(folder: Path) -> None:
    assert find("mmmu_val", None).path.name == "mmmu_val.yaml"
    assert (
        find("blink_counting", None).config["dataset_path"] == "BLINK-Benchmark/BLINK"
    )  # of what it includes
    mine = find("exact", folder)
    assert mine.path == folder / "exact.yaml"
    assert mine.data_files == [folder / "exact.parquet"]
    assert find("mmmu_val", None).data_files == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mmmu_vall", "did you mean 'mmmu_val'"),
        ("mmmu", "a group of lmms-eval's tasks; name those that you mean: mmmu_val, mmmu_test"),
        ("blink", "name those that you mean: blink_art_style, blink_counting"),  # a group of a tag
        ("blink_groups", "blink_visual_similarity"),
    ],
)
def test_no_task_or_several_are_refused_with_those_that_may_be_meant(name: str, said: str) -> None:
    with pytest.raises(VistaError, match=said):
        find(name, None)


def test_a_folder_without_the_task_says_which_it_has(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VistaError, match=r"mine has no task 'other'; its files define exact"):
        find("other", folder)
    with pytest.raises(VistaError, match="nowhere: no such folder; correct include_path"):
        find("exact", tmp_path / "nowhere")


def edit(path: Path, was: str, becomes: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / path
        text = file.read_text()
        assert was in text
        file.write_text(text.replace(was, becomes))

    return change


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        (edit(Path("exact.yaml"), "max_new_tokens: 4", "max_new_tokens: 5"), True),
        (edit(Path("exact.yaml"), "\ntask:", "\n# which task\ntask:"), False),
        (edit(Path("utils.py"), "which digit", "what digit"), True),
        (edit(Path("utils.py"), "No mean over", "Not a mean over"), False),  # a docstring
        (edit(Path("base_yaml"), "test_split: test", "validation_split: test"), True),
        (edit(Path("beside.py"), "1", "2"), True),
        (edit(Path("unrelated.py"), "1", "2"), False),
        (edit(Path("other.yaml"), "max_new_tokens: 4", "max_new_tokens: 5"), False),
    ],
)
def test_a_task_is_another_one_if_its_files_or_code_say_something_else(
    tmp_path: Path, change: Callable[[Path], None], matters: bool
) -> None:
    folder = write_task(tmp_path / "mine", "exact")
    write_task(folder, "other")
    base, own = (folder / "exact.yaml").read_text().split("output_type", 1)
    (folder / "base_yaml").write_text(base)
    (folder / "exact.yaml").write_text(f"\ntask: exact\ninclude: base_yaml\noutput_type{own}")
    (folder / "beside.py").write_text("number = 1\n")
    (folder / "unrelated.py").write_text("number = 1\n")
    (folder / "utils.py").write_text((folder / "utils.py").read_text() + "\nimport beside\n")
    before = find("exact", folder).digest()
    change(folder)
    assert (find("exact", folder).digest() != before) is matters


def test_a_file_that_is_none_is_an_error_that_names_it(folder: Path) -> None:
    (folder / "exact.yaml").write_text("task: exact\nmetric_list: [\n")
    with pytest.raises(VistaError, match=r"exact\.yaml: not a task file of lmms-eval"):
        find("exact", folder)
    (folder / "exact.yaml").write_text("task: exact\ninclude: exact.yaml\n")
    with pytest.raises(VistaError, match=r"exact\.yaml: includes itself"):
        find("exact", folder)


def test_neither_torch_nor_lmms_eval_is_imported_to_plan(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vista.task_kinds.lmms_eval import LmmsEvalSettings as S; "
        f"s = S(kind='lmms-eval', task='exact', include_path=Path({str(folder)!r})); assert s.definition(); "
        "S(kind='lmms-eval', task='mmmu_val').definition(); print({'torch', 'lmms_eval'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
