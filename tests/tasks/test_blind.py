"""A blind task asks another task's questions about images that are not theirs."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.documents import code, section
from vista import plugins
from vista.config import Suite, load_resolved, load_suite, load_yaml
from vista.dag import Dag
from vista.damage import changed_picture
from vista.errors import VistaError
from vista.images import open_images
from vista.manifest import read_manifest
from vista.paths import Paths
from vista.records import Row, read_queries
from vista.task_kinds.blind import _in_mean_colours, _with_others
from vista.tasks.generate import generate_split

NEW = ("query_id", "task", "images", "rationale", "scene")  # what is not as in the other task


def suite_with(root: Path, results: Path, **tasks: dict[str, Any]) -> Suite:
    """The smoke suite with more tasks to be evaluated on, and few test queries of each."""
    return changed(root, results, {}, **tasks)


def changed(root: Path, results: Path, changes: dict[str, Any], **tasks: dict[str, Any]) -> Suite:
    raw = load_yaml(root / "config/smoke.yaml")
    for entry in raw["tasks"].values():
        entry["sizes"] = {**entry["sizes"], "test": 8}
    raw["tasks"] |= tasks
    raw |= {"results": str(results), "out_of_domain": list(tasks), **changes}
    return load_suite(root / "config/smoke.yaml", raw, root)


def blind(**more: Any) -> dict[str, Any]:
    return {"kind": "blind", "of": "grid-closed", **more}


def made(suite: Suite, task: str) -> list[Row]:
    paths = Paths(suite.results)
    generate_split(suite, paths, task, "test")
    return read_queries(paths.queries(task, "test"))


def pictures(row: Row) -> list[bytes]:
    return [image["bytes"] for image in row["images"]]


def test_the_questions_are_those_of_the_other_task_and_each_image_is_shown_to_another_query(
    root: Path, tmp_path: Path
) -> None:
    suite = suite_with(root, tmp_path, unseen=blind())
    own, unseen = made(suite, "grid-closed"), made(suite, "unseen")
    for with_image, without in zip(own, unseen, strict=True):
        assert {k: v for k, v in without.items() if k not in NEW} == {
            k: v for k, v in with_image.items() if k not in NEW
        }
        assert without["query_id"] == f"unseen-{with_image['query_id']}"
        assert (without["task"], without["scene"], without["rationale"]) == ("unseen", None, None)
        assert pictures(without) != pictures(with_image)
    shown = [Counter(image for row in rows for image in pictures(row)) for rows in (own, unseen)]
    assert shown[0] == shown[1]


def test_a_mean_image_has_the_size_of_its_own_and_one_colour_near_all_of_it(
    root: Path, tmp_path: Path
) -> None:
    suite = suite_with(root, tmp_path, unseen=blind(image="mean"))
    for with_image, without in zip(made(suite, "grid-closed"), made(suite, "unseen"), strict=True):
        (seen,), (flat,) = open_images(with_image), open_images(without)
        assert flat.size == seen.size
        ((count, colour),) = flat.getcolors()
        assert count == seen.width * seen.height
        grey = list(seen.getchannel(0).tobytes())
        assert abs(colour[0] - sum(grey) / len(grey)) < 1


def test_fewer_queries_are_the_first_of_the_other_task(root: Path, tmp_path: Path) -> None:
    suite = suite_with(root, tmp_path, few=blind(sizes={"test": 3}), all=blind())
    assert [row["instruction"] for row in made(suite, "few")] == [
        row["instruction"] for row in made(suite, "grid-closed")[:3]
    ]
    assert suite.tasks["few"].queries("test") == 3
    assert suite.tasks["all"].queries("test") == 8
    assert suite.tasks["all"].queries("train") == 0


def test_what_the_kind_of_the_other_task_computes_with_counts_as_code(root: Path, tmp_path: Path) -> None:
    dag = Dag(suite_with(root, tmp_path, unseen=blind()))
    modules = json.loads(Path(dag.task_code("unseen", "test")).read_text())
    assert {"vista.task_kinds.blind", "vista.task_kinds.grid", "vista.testbed.painting"} <= set(
        modules.get("modules", modules)
    )


@pytest.mark.parametrize(
    "changes", [{"duplicates": "remove"}, {"shared_images": "drop"}, {"sizes": {"test": 2}}]
)
def test_what_the_other_task_s_test_split_does_not_depend_on_makes_nothing_stale(
    root: Path, tmp_path: Path, published: Callable[[str], Path], changes: dict[str, Any]
) -> None:
    folder = published("chartqa")
    chart = {"kind": "chartqa", "source": {"kind": "path", "path": str(folder)}}
    asked = {"kind": "blind", "of": "chart", "sizes": {"test": 1}}
    suites = [
        suite_with(root, tmp_path / "results", chart={**chart, **each}, unseen=asked)
        for each in ({}, changes)
    ]
    digests = {Dag(suite).task_settings("unseen", "test") for suite in suites}
    assert len(digests) == 1


def test_what_it_depends_on_does(root: Path, tmp_path: Path) -> None:
    own = load_yaml(root / "config/smoke.yaml")["tasks"]["grid-closed"]
    entries = [blind(of="mine"), blind(of="mine", image="mean"), blind(of="mine", sizes={"test": 3})]
    digests = {
        Dag(suite_with(root, tmp_path, mine={**own, "noise": noise}, unseen=entry)).task_settings(
            "unseen", "test"
        )
        for noise in (0.1, 0.2)
        for entry in entries
    }
    assert len(digests) == 6


def test_a_pilot_asks_as_few_whatever_the_other_task_has(root: Path, tmp_path: Path) -> None:
    tasks = load_yaml(root / "config/smoke.yaml")["tasks"]
    digests = set()
    for size in (8, 9):
        more = {**tasks["grid-closed"], "sizes": {**tasks["grid-closed"]["sizes"], "test": size}}
        changes = {"pilot": 3, "tasks": {**tasks, "grid-closed": more, "unseen": blind()}}
        suite = changed(root, tmp_path / "results", {**changes, "out_of_domain": ["unseen"]})
        digests.add(Dag(suite).task_settings("unseen", "test"))
        assert len(made(suite, "unseen")) == suite.tasks["unseen"].queries("test") == 3
    assert len(digests) == 1


def test_a_resolved_suite_survives_being_written_and_read(root: Path, tmp_path: Path) -> None:
    suite = suite_with(root, tmp_path / "results", unseen=blind(image="mean"))
    (tmp_path / "suite.json").write_text(suite.model_dump_json())
    assert load_resolved(tmp_path / "suite.json") == suite


@pytest.fixture
def colours(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module of a kind from outside that docs/adding.md writes, named by the suite."""
    _, text = code(section(root, "adding.md", "A task"), "python")
    (tmp_path / "my_colours.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    plugins.name_modules(["my_colours"])
    yield tmp_path / "my_colours.py"
    plugins.name_modules([])
    sys.modules.pop("my_colours", None)


COLOURS = {"kind": "colours", "sizes": {"test": 6}}


def test_a_kind_from_outside_is_asked_and_named_in_the_manifest(
    root: Path, tmp_path: Path, colours: Path
) -> None:
    changes = {"plugins": ["my_colours"]}
    suite = changed(root, tmp_path / "results", changes, colours=COLOURS, unseen=blind(of="colours"))
    own, unseen = made(suite, "colours"), made(suite, "unseen")
    shown = {row["answer"]: pictures(row) for row in own}
    assert [row["answer"] for row in unseen] == [row["answer"] for row in own]
    # Of red, green and blue the one after.
    assert [pictures(row) for row in unseen[:3]] == [shown[each] for each in ("green", "blue", "red")]
    manifest = read_manifest(Paths(suite.results).queries("unseen", "test"))
    assert [each["module"] for each in manifest.settings["plugins"]] == ["my_colours"]


def test_pictures_beside_a_table_are_noted_for_both_tasks(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = ["question,answer,image"]
    for shade in range(4):
        (folder / f"{shade}.png").write_bytes(encoded(50 * shade))
        lines.append(f"Is it light?,{'yes' if shade > 1 else 'no'},{shade}.png")
    (folder / "test.csv").write_text("\n".join(lines) + "\n")
    mine = {"kind": "table", "answer_type": "closed", "source": {"test": str(folder / "test.csv")}}
    suite = suite_with(root, tmp_path / "results", mine=mine, unseen=blind(of="mine"))
    own, unseen = made(suite, "mine"), made(suite, "unseen")
    assert [row["answer"] for row in own] == [row["answer"] for row in unseen]
    # Of four pictures the second next.
    assert [pictures(row) for row in unseen] == [pictures(own[place]) for place in (2, 3, 0, 1)]
    assert changed_picture(Paths(suite.results).queries("unseen", "test")) is None
    (folder / "1.png").write_bytes(encoded(255))
    for task in ("mine", "unseen"):
        assert changed_picture(Paths(suite.results).queries(task, "test")) == str(folder / "1.png")


def test_what_is_wrong_with_the_queries_is_said_of_the_kind_that_makes_them(
    root: Path, tmp_path: Path, colours: Path
) -> None:
    changes = {"plugins": ["my_colours"]}
    suite = changed(root, tmp_path / "results", changes, colours=COLOURS, unseen=blind(of="colours"))
    original = sys.modules["my_colours"].Colours.query
    sys.modules["my_colours"].Colours.query = lambda *given: {**original(*given), "images": []}
    with pytest.raises(VistaError, match=r"kind 'colours' makes has errors(.|\n)*there is no image"):
        made(suite, "unseen")


def test_a_blind_benchmark_keeps_its_scorer_its_licence_and_its_files(
    root: Path, tmp_path: Path, published: Callable[[str], Path]
) -> None:
    folder = published("chartqa")
    chart = {"kind": "chartqa", "source": {"kind": "path", "path": str(folder)}, "sizes": {"train": 0}}
    suite = suite_with(root, tmp_path / "results", chart=chart, unseen={"kind": "blind", "of": "chart"})
    task, theirs = suite.tasks["unseen"], suite.tasks["chart"]
    assert task.lmms_scorer == theirs.lmms_scorer is not None
    assert task.licence == theirs.licence is not None
    assert [row["answer"] for row in made(suite, "unseen")] == [row["answer"] for row in made(suite, "chart")]
    paths = Paths(suite.results)
    files = [read_manifest(paths.queries(each, "test")).inputs for each in ("chart", "unseen")]
    assert files[0] == files[1] != {}
    assert Dag(suite).published_files("unseen", "test") == Dag(suite).published_files("chart", "test") != []


CORPUS = {"kind": "grid", "questions": ["open"], "sizes": {"train": 4}}


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            {"unseen": blind(of="grid-closd")},
            "tasks.unseen.of: 'grid-closd': unknown task, or one of lmms-eval's; did you mean 'grid-closed'?",
        ),
        (
            {"unseen": blind(of="unseen")},
            "tasks.unseen.of: 'unseen' is of kind blind, whose images are not replaced; name another",
        ),
        (
            {"unseen": blind(of="theirs"), "theirs": {"kind": "lmms-eval", "task": "mmmu_val"}},
            "tasks.unseen.of: 'theirs' is of kind lmms-eval, whose images are not replaced; name another",
        ),
        (
            {"unseen": blind(of="mmmu-val"), "lmms-eval:mmmu_val": None},
            "tasks.unseen.of: 'mmmu-val': unknown task, or one of lmms-eval's; name another entry of tasks",
        ),
        (
            {"unseen": blind(of="untested"), "untested": CORPUS},
            "tasks.unseen.sizes.test: 'untested' has no test queries; say how many it asks",
        ),
        (
            {"unseen": blind(image="black")},
            "tasks.unseen.image: Input should be 'other' or 'mean'; found 'black'",
        ),
        ({"unseen": blind(sizes={"train": 4})}, "tasks.unseen.sizes.train: Input should be 0; found 4"),
    ],
)
def test_a_blind_task_that_cannot_be_is_refused_as_the_suite_is_read(
    root: Path, tmp_path: Path, tasks: dict[str, dict[str, Any]], message: str
) -> None:
    defined = {name: entry for name, entry in tasks.items() if entry is not None}
    with pytest.raises(VistaError) as caught:
        changed(root, tmp_path, {"out_of_domain": list(tasks)}, **defined)
    assert message in str(caught.value)


def test_nothing_is_trained_on_a_blind_task(root: Path, tmp_path: Path) -> None:
    raw = load_yaml(root / "config/smoke.yaml")
    raw["tasks"] |= {"unseen": blind()}
    raw |= {"train_sets": {"all": ["grid-closed", "unseen"]}, "results": str(tmp_path)}
    with pytest.raises(VistaError, match=r"'unseen' \(kind: blind\) can only be evaluated on"):
        load_suite(root / "config/smoke.yaml", raw, root)


def test_a_query_that_could_only_see_its_own_image_is_an_error_with_a_remedy(
    root: Path, tmp_path: Path
) -> None:
    suite = suite_with(root, tmp_path, unseen=blind(sizes={"test": 1}))
    with pytest.raises(VistaError, match=r"the 1 test queries have 1 different images.*set image: mean"):
        made(suite, "unseen")


def encoded(shade: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (shade, shade, shade)).save(file, form)
    return file.getvalue()


SHADES = 6
# Each shade in two files, which are one picture.
FILES = [encoded(shade, form) for form in ("PNG", "BMP") for shade in range(SHADES)]
ROWS = st.lists(st.lists(st.integers(0, len(FILES) - 1), min_size=1, max_size=3), min_size=1, max_size=8)


def rows_of(shown: list[list[int]]) -> list[Row]:
    return [
        {"query_id": str(i), "images": [{"bytes": FILES[j], "path": None} for j in row]}
        for i, row in enumerate(shown)
    ]


def seen(row: Row) -> list[Any]:
    """The shades of a row's pictures."""
    return [picture.getpixel((0, 0)) for picture in open_images(row)]


@given(ROWS)
def test_no_query_sees_a_picture_of_its_own_unless_that_cannot_be_helped(shown: list[list[int]]) -> None:
    rows = rows_of(shown)
    order = list(dict.fromkeys(shade for row in rows for shade in seen(row)))
    # The slow way: every step is tried.
    steps = [
        step
        for step in range(len(order))
        if not any(
            order[(order.index(own) + step) % len(order)] in seen(row) for row in rows for own in seen(row)
        )
    ]
    try:
        others = list(_with_others(rows))
    except VistaError:
        assert not steps
        return
    place: dict[Any, set[Any]] = {}
    for before, after in zip(rows, others, strict=True):
        assert not set(seen(before)) & set(seen(after))
        for own, other in zip(seen(before), seen(after), strict=True):
            place.setdefault(own, set()).add(other)
    assert all(len(found) == 1 for found in place.values())
    assert set().union(*place.values()) == set(order)


@given(ROWS)
def test_mean_images_keep_the_number_and_the_sizes_of_images(shown: list[list[int]]) -> None:
    rows = rows_of(shown)
    for before, after in zip(rows, _in_mean_colours(rows), strict=True):
        assert [p.size for p in open_images(before)] == [p.size for p in open_images(after)]
