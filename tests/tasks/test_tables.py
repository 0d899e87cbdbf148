"""Data of the user's own (``kind: table``): every format, column, split and mistake, without any network."""

from __future__ import annotations

import base64
import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from tests.documents import code, section
from tests.tasks.published import IMAGE, benchmark, picture
from vista import plugins
from vista.config import Suite, Task, load_suite
from vista.dag import Dag
from vista.damage import changed_picture
from vista.errors import VistaError
from vista.paths import Paths
from vista.planning.doctor import check_data
from vista.planning.estimate import queries
from vista.records import QUERY, Row, read_queries, write_rows
from vista.task_kinds.own.cells import letter_of
from vista.tasks.generate import generate_split


def row(number: int, **changes: Any) -> Row:
    """A question about a picture of its own."""
    return {"question": f"is there a {number} ?", "answer": "no", "image": f"{number}.png"} | changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(picture(number))
    return tmp_path


def write(path: Path, rows: list[Row]) -> Path:
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def made(folder: Path, which: str = "test", /, **entry: Any) -> tuple[list[Row], dict[str, float]]:
    """The queries of a split of a task that these settings describe, and what is counted."""
    said = {"kind": "table", "answer_type": "closed", "images": str(folder / "pictures"), **entry}
    prepared = plugins.make(benchmark(**said)).prepare("mine", which)
    rows = list(prepared.rows)
    write_rows(folder / "mine" / f"{which}.parquet", rows, QUERY)
    return read_queries(folder / "mine" / f"{which}.parquet"), prepared.counts


def refused(folder: Path, which: str = "test", /, **entry: Any) -> str:
    with pytest.raises(VistaError) as error:
        made(folder, which, **entry)
    return str(error.value)


# --- formats ---


def as_parquet(folder: Path, rows: list[Row]) -> Path:
    held = [{**each, "image": {"bytes": (folder / "pictures" / each["image"]).read_bytes()}} for each in rows]
    schema = pa.schema([("question", pa.string()), ("answer", pa.string()), ("image", IMAGE)])
    table = pa.Table.from_pylist(held, schema=schema)
    for number in range(2):
        pq.write_table(table.slice(number * 3, 3), folder / f"rows-{number}.parquet")
    return folder / "rows-*.parquet"


def as_csv(folder: Path, rows: list[Row], separator: str = ",") -> Path:
    path = folder / ("rows.csv" if separator == "," else "rows.tsv")
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_tsv(folder: Path, rows: list[Row]) -> Path:
    """With the pictures in base64, as VLMEvalKit has them."""
    encoded = [base64.b64encode(picture(number) + bytes(4096)).decode() for number in range(len(rows))]
    return as_csv(folder, [{**each, "image": text} for each, text in zip(rows, encoded, strict=True)], "\t")


def as_json(folder: Path, rows: list[Row]) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return path


def as_saved(folder: Path, rows: list[Row]) -> Path:
    import datasets

    held = [{**each, "image": str(folder / "pictures" / each["image"])} for each in rows]
    saved = datasets.Dataset.from_list(held).cast_column("image", datasets.Image())
    saved.save_to_disk(str(folder / "saved"), num_shards=2)
    return folder / "saved"


def as_json_lines(folder: Path, rows: list[Row]) -> Path:
    return write(folder / "rows.jsonl", rows)


FORMATS: list[Callable[[Path, list[Row]], Path]] = [
    *(as_json_lines, as_parquet, as_csv, as_tsv, as_json, as_saved),
]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__)
def test_every_format_gives_the_same_questions_and_pictures(
    folder: Path, form: Callable[[Path, list[Row]], Path]
) -> None:
    rows = [row(number, answer="yes" if number % 2 else "no") for number in range(6)]
    source = str(form(folder, rows))
    found, counts = made(folder, source=source)
    plain, _ = made(folder, source=str(as_json_lines(folder, rows)))
    kept = ("query_id", "instruction", "answer", "cluster_id", "answer_type")
    assert [[each[name] for name in kept] for each in found] == [
        [each[name] for name in kept] for each in plain
    ]
    assert counts["queries"] == counts["images"] == 6


def test_a_changed_file_of_any_format_is_an_input_of_the_splits_that_read_it(
    folder: Path, suite: Suite
) -> None:
    train, test = (write(folder / f"{name}.jsonl", [row(0)]) for name in ("train", "test"))
    source = {"train": str(train), "test": str(test)}
    task = benchmark(kind="table", answer_type="closed", source=source, sizes={"seed": 1})
    dag = Dag(suite.model_copy(update={"tasks": {"mine": task}}))
    assert dag.published_files("mine", "test") == [str(test)]
    assert (
        dag.published_files("mine", "train") == dag.published_files("mine", "seed") == [str(train), str(test)]
    )
    saved = as_saved(folder, [row(0), row(1)])
    task = benchmark(kind="table", answer_type="closed", source=str(saved))
    names = [
        Path(file).name
        for file in Dag(suite.model_copy(update={"tasks": {"mine": task}})).published_files("mine", "test")
    ]
    assert {"data-00000-of-00002.arrow", "data-00001-of-00002.arrow", "state.json"} <= set(names)


# --- columns ---


def test_the_users_own_names_of_columns_are_used(folder: Path) -> None:
    rows = [
        {
            "Frage": "is it ?",
            "Antwort": "yes",
            "Bilder": ["0.png", "1.png"],
            "Fall": f"case {n}",
            "nr": f"q{n}",
        }
        for n in range(2)
    ]
    columns = {"question": "Frage", "answer": "Antwort", "images": "Bilder", "cluster": "Fall", "id": "nr"}
    found, _ = made(folder, source=str(write(folder / "x.jsonl", rows)), columns=columns)
    assert [each["query_id"] for each in found] == ["mine-q0", "mine-q1"]
    assert [each["cluster_id"] for each in found] == ["case 0", "case 1"]
    assert [image["bytes"] for image in found[0]["images"]] == [picture(0), picture(1)]


def test_a_missing_column_is_named_with_the_one_that_was_meant_and_those_that_there_are(folder: Path) -> None:
    source = str(write(folder / "x.jsonl", [{"Question": "?", "label": "no", "picture": "0.png"}]))
    said = refused(folder, source=source)
    assert "column 'question' is missing (did you mean 'Question'?)" in said
    assert "column 'answer' is missing: name the right one under columns.answer" in said
    assert "no column 'image' or 'images'" in said
    assert said.endswith("Its columns are Question, label, picture")


def test_a_column_that_the_config_names_has_to_be_there(folder: Path) -> None:
    source = str(write(folder / "x.jsonl", [row(0)]))
    assert "column 'case' is missing" in refused(folder, source=source, columns={"cluster": "case"})


LISTED = ["lung", "liver", "heart"]


@pytest.mark.parametrize("answer", ["B", "b", "liver", 1, "1", 1.0])
@pytest.mark.parametrize(
    ("given", "columns"),
    [
        ({"choices": LISTED}, {}),
        ({"choices": json.dumps(LISTED)}, {}),
        ({"A": "lung", "B": "liver", "C": "heart", "D": ""}, {"choices": ["A", "B", "C", "D"]}),
    ],
)
def test_choices_come_in_three_forms_and_their_answer_in_three(
    folder: Path, answer: Any, given: Row, columns: Row
) -> None:
    source = str(write(folder / "x.jsonl", [row(0, answer=answer, **given)]))
    (found,), _ = made(folder, source=source, columns=columns, answer_type="choice")
    assert (found["answer"], found["choices"]) == ("B", LISTED)
    assert "A. lung\nB. liver\nC. heart\n" in found["instruction"]


@pytest.mark.parametrize(
    ("answer", "choices", "said"),
    [
        ("A", ["B", "A"], "by its letter 'B' or by its text 'A'"),
        (1, ["1", "2"], "by its index '2' or by its text '1'"),
        (2, ["x", "y"], "set answers: index-from-1"),
        ("C", ["x", "y"], "expected the letter, the index from 0 or the text of one of 2 choices"),
        ("kidney", LISTED, "expected the letter"),
    ],
)
def test_an_answer_that_names_two_choices_or_none_is_refused(
    answer: Any, choices: list[str], said: str
) -> None:
    with pytest.raises(VistaError, match="column 'answer' is") as error:
        letter_of(answer, choices, "auto", "answer")
    assert said in str(error.value)


def test_what_an_answer_is_may_be_said() -> None:
    forms = {"letter": "A", "index": "B", "index-from-1": "A", "text": "A"}
    answers = {"letter": "a", "index": 1, "index-from-1": 1, "text": "1"}
    for form, letter in forms.items():
        assert letter_of(answers[form], ["1", "0"], form, "answer") == letter  # type: ignore[arg-type]


def test_the_type_of_answers_may_be_a_column(folder: Path) -> None:
    rows = [row(0, kind="number", answer=4), row(1, kind="choice", answer="B", choices=["x", "y"])]
    source = str(write(folder / "x.jsonl", rows))
    found, _ = made(folder, source=source, answer_type=None, columns={"answer_type": "kind"})
    assert [(each["answer_type"], each["answer"], each["choices"]) for each in found] == [
        ("number", "4", None),
        ("choice", "B", ["x", "y"]),
    ]


def test_a_template_and_a_system_turn_replace_ours(folder: Path) -> None:
    source = str(write(folder / "x.jsonl", [row(0, answer="y", choices=["x", "y"])]))
    said = {"instruction": "Q: {question}\n{choices}\nGo.", "system": ""}
    (found,), _ = made(folder, source=source, answer_type="choice", **said)
    assert found["instruction"] == "Q: is there a 0 ?\nA. x\nB. y\nGo."
    assert found["system"] is None


# --- conversations ---


def conversation(user: str, assistant: str, sharegpt: bool) -> list[Row]:
    if sharegpt:
        return [{"from": "human", "value": user}, {"from": "gpt", "value": assistant}]
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


@pytest.mark.parametrize("sharegpt", [True, False])
def test_conversations_hold_question_answer_and_rationale(folder: Path, sharegpt: bool) -> None:
    name = "conversations" if sharegpt else "messages"
    rows = [
        {
            name: conversation("<image>How many?", f"One by one.\nAnswer: {number}", sharegpt),
            "images": ["0.png"],
        }
        for number in range(4)
    ]
    entry = {
        "source": str(write(folder / "x.jsonl", rows)),
        "columns": {"messages": name},
        "answer_type": "number",
    }
    found, counts = made(folder, **entry)
    assert [each["answer"] for each in found] == ["0", "1", "2", "3"]
    assert found[0]["instruction"].startswith("How many?\n")
    source = {"seed": entry["source"]}
    found, counts = made(folder, "seed", **{**entry, "source": source})
    assert [each["rationale"] for each in found] == [f"One by one.\nAnswer: {number}" for number in range(4)]
    assert counts["right_rationales"] == 4


def test_conversations_with_several_questions_are_refused_with_their_rows(folder: Path) -> None:
    turns = [*conversation("a?", "Answer: 1", False), *conversation("b?", "Answer: 2", False)]
    rows = [
        {"messages": conversation("a?", "Answer: 1", False), "images": ["0.png"]},
        {"messages": turns, "images": ["0.png"]},
        {"messages": conversation("a?", "I cannot say.", False), "images": ["0.png"]},
        {"messages": conversation("<image><image>a?", "Answer: 1", False), "images": ["0.png"]},
    ]
    source = str(write(folder / "x.jsonl", rows))
    said = refused(folder, source=source, columns={"messages": "messages"}, answer_type="number")
    assert "x.jsonl: line 2: the turns are of user, assistant, user, assistant" in said
    assert "x.jsonl: line 3: no answer is found in the assistant's turn" in said
    assert "x.jsonl: line 4: the question has 2 <image> marks, but there are 1 images" in said


# --- splits ---


def test_everything_is_test_unless_the_config_says_otherwise(folder: Path, suite: Suite) -> None:
    source = str(write(folder / "x.jsonl", [row(number) for number in range(5)]))
    task = benchmark(kind="table", answer_type="closed", source=source)
    assert task.sizes.model_dump() == {"seed": 0, "train": 0, "test": None}
    held = suite.model_copy(update={"tasks": {"mine": task}})
    assert queries(held, "mine", "test") == 5
    split = str(write(folder / "y.jsonl", [row(0, split="train")]))
    assert "has a column 'split'" in refused(folder, source=split)


def test_a_column_says_the_split(folder: Path) -> None:
    folds = ["train"] * 5 + ["val", "test", "test", "extra"]
    rows = [row(number, fold=fold) for number, fold in enumerate(folds)]
    entry = {
        "source": str(write(folder / "x.jsonl", rows)),
        "columns": {"split": "fold"},
        "split": {"train": ["train"], "test": ["test", "val"], "unused": ["extra"]},
        "sizes": {"seed": 2},
    }
    found = {split: made(folder, split, **entry) for split in ("seed", "train", "test")}
    ids = {split: {each["query_id"] for each in rows} for split, (rows, _) in found.items()}
    assert ids["test"] == {"mine-00005", "mine-00006", "mine-00007"}
    assert ids["seed"] | ids["train"] == {f"mine-{number:05d}" for number in range(5)}
    assert len(ids["seed"]) == 2
    assert found["test"][1]["other"] == 1
    del entry["split"]["unused"]  # type: ignore[attr-defined]
    assert "line 9: column 'fold': value 'extra' is in no split" in refused(folder, **entry)


def test_files_say_the_split_and_parts_that_none_names_are_refused(folder: Path) -> None:
    write(folder / "a.jsonl", [row(0), row(1)])
    write(folder / "b.jsonl", [row(1, question="Is there a  1 ?"), row(0, question="what else ?")])
    source = {"train": str(folder / "a.jsonl"), "val": str(folder / "b.jsonl")}
    with pytest.raises(ValidationError, match="part 'val' is in no split"):
        benchmark(kind="table", answer_type="closed", source=source)
    entry = {"source": source, "split": {"test": ["val"]}}
    found, counts = made(folder, "train", **entry)
    assert [each["query_id"] for each in found] == ["mine-train-00000", "mine-train-00001"]
    assert (counts["duplicates"], counts["shared_images"], counts["shared_kept"]) == (1, 2, 2)
    found, counts = made(folder, "train", duplicates="remove", **entry)
    assert (len(found), counts["removed"]) == (1, 1)
    assert "lower the sizes, or set shared_images: keep" in refused(
        folder, "train", shared_images="drop", **entry
    )


def test_shares_never_put_a_picture_or_a_cluster_into_two_splits(folder: Path) -> None:
    rows = [row(number, image=f"{number % 20}.png", case=f"c{number % 20 // 2}") for number in range(60)]
    entry = {
        "source": str(write(folder / "x.jsonl", rows)),
        "columns": {"cluster": "case"},
        "split": {"test": 0.3, "seed": 0.2},
    }
    shown, sizes = defaultdict(set), {}
    for split in ("seed", "train", "test"):
        found, _ = made(folder, split, **entry)
        sizes[split] = len(found)
        for each in found:
            shown[each["cluster_id"]].add(split)
    assert sizes == {"seed": 12, "train": 30, "test": 18}
    assert len(shown) == 10
    assert all(len(splits) == 1 for splits in shown.values())
    other, _ = made(folder, "test", seed=1, **entry)
    assert {each["cluster_id"] for each in other} != {
        name for name, splits in shown.items() if splits == {"test"}
    }


def test_an_empty_split_is_an_error_that_says_where_the_rows_are(folder: Path) -> None:
    rows = [row(0, split="train"), row(1, split="train")]
    source = str(write(folder / "x.jsonl", rows))
    said = refused(folder, source=source, columns={"split": "split"})
    assert "no row is in the test split (2 in train)" in said


def test_rationales_are_gold_in_the_seed_split_alone_and_have_to_be_there(folder: Path) -> None:
    rows = [row(number, why="Seen.\nAnswer: no") for number in range(6)]
    entry = {"source": str(write(folder / "x.jsonl", rows)), "split": {"seed": 0.4, "test": 0.3}}
    columns = {"rationale": "why"}
    assert benchmark(kind="table", answer_type="closed", columns=columns, **entry).brings_rationales  # type: ignore[attr-defined]
    assert not benchmark(kind="table", answer_type="closed", **entry).brings_rationales
    seed, counts = made(folder, "seed", columns=columns, **entry)
    train, _ = made(folder, "train", columns=columns, **entry)
    assert {each["rationale"] for each in seed} == {"Seen.\nAnswer: no"}
    assert {each["rationale"] for each in train} == {None}
    assert counts["right_rationales"] == len(seed)
    write(folder / "x.jsonl", [{**each, "why": ""} for each in rows])
    assert "no rationale; write one" in refused(folder, "seed", columns=columns, **entry)


# --- mistakes ---


def test_mistakes_of_rows_are_one_error_with_file_and_row(folder: Path) -> None:
    secret = folder / "secret.png"
    secret.write_bytes(picture(1))
    (folder / "pictures/broken.png").write_bytes(picture(0)[:60])
    lines = [
        json.dumps(row(0)),
        '{"question": "?", ',
        json.dumps(row(0, image="none.png")),
        json.dumps(row(0, image="broken.png")),
        json.dumps(row(0, image="../secret.png")),
        json.dumps(row(0, image=str(secret))),
        json.dumps(row(0, question="")),
        json.dumps(row(0, answer="")),
        json.dumps(row(0, answer=["no", "yes"])),
        json.dumps(row(0, image=None)),
        json.dumps(row(0, image="https://x.org/a.png")),
        "[1]",
    ]
    (folder / "x.jsonl").write_text("\n".join(lines))
    said = refused(folder, source=str(folder / "x.jsonl"))
    expected = {
        2: "not JSON",
        3: "none.png (No such file or directory); copy it there",
        4: "the image cannot be read",
        5: "is outside",
        6: "is outside",
        7: "the question is empty",
        8: "the answer is empty",
        9: "expected text",
        10: "there is no image",
        11: "download the picture",
        12: "expected an object, found list",
    }
    for number, text in expected.items():
        (line,) = [each for each in said.splitlines() if f"x.jsonl: line {number}: " in each]
        assert text in line
    assert "line 1:" not in said


def test_at_most_twenty_rows_are_listed(folder: Path) -> None:
    source = str(write(folder / "x.jsonl", [row(0, question="") for _ in range(30)]))
    said = refused(folder, source=source)
    assert said.count("the question is empty") == 20
    assert "and perhaps more" in said


def test_an_id_twice_or_an_answer_that_its_own_verifier_refuses_is_an_error(folder: Path) -> None:
    source = str(write(folder / "x.jsonl", [row(0, id="a"), row(1, id="a"), row(2, id=None)]))
    said = refused(folder, source=source, columns={"id": "id"})
    assert "line 2: id 'a' is already the id of an earlier row" in said
    assert "line 3: column 'id' is empty" in said
    source = str(write(folder / "y.jsonl", [row(0, answer="several")]))
    assert "line 1: answer 'several' is not a number" in refused(folder, source=source, answer_type="number")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"question,answer,image\nis it ?,no,0.png\na,b\nc,d,e,f\n", "line 3 has 2, line 4 has 4"),
        ("x.csv", b"question,answer,image\n\xff\xfe,no,0.png\n", "not UTF-8"),
        ("x.csv", b'question,answer,image\n"is it ?,no,0.png\n', "not CSV"),
        ("x.csv", b"", "no line with the names"),
        ("x.csv", b"question,question,answer,image\n", "there twice"),
        ("x.jsonl", "{'a': 1}\n".encode("utf-16"), "its columns are none"),
        ("x.json", b'{"a": 1}\n{"a": 2}\n', "should end with .jsonl"),
        ("x.json", b'{"a": 1}', "expected a list of objects"),
        ("x.parquet", b"PAR1", "not a readable parquet file"),
        ("x.xlsx", b"", "the name should end with .parquet"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    folder: Path, name: str, content: bytes, said: str
) -> None:
    (folder / name).write_bytes(content)
    assert said in refused(folder, source=str(folder / name)).replace("Its", "its")


def test_a_missing_file_and_a_folder_of_something_else_are_refused(folder: Path) -> None:
    assert "no file nowhere.jsonl" in refused(folder, source=["nowhere.jsonl"])
    assert "none that `datasets` saved" in refused(folder, source=str(folder / "pictures"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"answer_type": None}, "say how answers are judged"),
        ({"columns": {"answer_type": "x"}}, "not both"),
        ({"columns": {"choices": "options"}}, "are no choices"),
        ({"instruction": "{answer}?"}, "expected a template with {question}"),
        (
            {
                "instruction": "{question",
            },
            "not a template",
        ),
        ({"answer_type": "choice", "instruction": "{question}"}, "no {choices}"),
        ({"split": {"test": 0.5, "seed": 0.5}}, "leave no rows to train on"),
        ({"split": {"test": ["a"], "train": ["a"]}}, "'a' is in two splits"),
        ({"source": {"train": "a", "test": "b"}, "split": {"test": ["tset"]}}, "is no part of the source"),
        ({"source": {"repo": "a/b"}}, "revision"),
        ({"source": {"repo": "a/b", "revision": "main"}}, "revision"),
        ({"columns": {"anwser": "x"}}, "anwser"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused_before_any_file_is_read(entry: Row, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Task).validate_python(
            {"kind": "table", "source": "x.jsonl", "answer_type": "closed", **entry}
        )
    assert said in str(error.value)


def test_a_file_that_changes_between_the_check_and_the_reading_of_pictures_is_refused(folder: Path) -> None:
    source = write(folder / "x.jsonl", [row(0), row(1)])
    task = benchmark(kind="table", answer_type="closed", images=str(folder / "pictures"), source=str(source))
    prepared = plugins.make(task).prepare("mine", "test")
    write(source, [row(0)])
    with pytest.raises(VistaError, match="row '00001' changed while it was read"):
        list(prepared.rows)


def test_a_row_that_is_left_out_may_have_the_id_of_another(folder: Path) -> None:
    rows = [row(0, id="a", split="old"), row(1, id="a", split="test")]
    entry = {"source": str(write(folder / "x.jsonl", rows)), "columns": {"id": "id"}}
    (found,), counts = made(folder, split={"test": ["test"], "unused": ["old"]}, **entry)
    assert found["instruction"].startswith("is there a 1 ?")
    assert counts["other"] == 1


# --- on the hub, in the cache ---


def test_a_data_set_of_the_hub_is_read_as_its_card_says_from_the_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "1" * 40
    snapshot = folder / "cached"
    (snapshot / "data").mkdir(parents=True)
    for split in ("train", "validation"):
        as_parquet(folder, [row(number) for number in range(6)])
        (folder / "rows-0.parquet").rename(snapshot / f"data/{split}-00000-of-00001.parquet")
    files = "".join(f"  - split: {s}\n    path: data/{s}-*\n" for s in ("train", "validation"))
    (snapshot / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(snapshot))
    entry = {"source": {"repo": "a/b", "revision": revision}, "images": None}
    found, _ = made(folder, split={"test": ["validation"]}, **entry)
    assert [each["query_id"] for each in found] == [f"mine-validation-{number:05d}" for number in range(3)]
    assert "has the parts train, validation" in refused(folder, split={"test": ["dev"]}, **entry)
    source = {**entry["source"], "config": "big"}  # type: ignore[dict-item]
    assert "has the configurations default, not 'big'" in refused(folder, source=source, images=None)


# --- the doctor, the suite ---


def test_the_doctor_reads_what_the_job_reads_and_shows_three_rows(folder: Path, suite: Suite) -> None:
    rows = [
        row(number, image=f"{number % 4}.png", fold="train" if number < 6 else "test") for number in range(10)
    ]
    entry = {
        "kind": "table",
        "answer_type": "closed",
        "images": str(folder / "pictures"),
        "source": str(write(folder / "x.jsonl", rows)),
        "split": {"train": ["train"], "test": ["test"]},
        "columns": {"split": "fold"},
    }
    held = suite.model_copy(update={"tasks": {"mine": benchmark(**entry)}})
    found = check_data(held)
    told = {finding.subject: finding.message for finding in found}
    assert told["task mine, test"] == "4 queries about 4 pictures"
    assert [finding.verdict for finding in found].count("warn") == 1
    assert any("6 queries are about pictures of the test split" in finding.message for finding in found)
    assert sum(finding.subject.startswith("query mine-") for finding in found) == 3
    shown = told["query mine-00006"]
    assert shown.splitlines()[0].startswith("system: You are")
    assert "instruction: is there a 6 ?" in shown
    assert "images: 1 (24×22)" in shown
    assert shown.endswith("answer: no (closed)")
    write(folder / "x.jsonl", [{**rows[0], "image": "none.png"}])
    (finding,) = check_data(held)
    assert finding.verdict == "fail"
    assert refused(folder, **entry) == finding.message


def test_twelve_lines_of_yaml_in_a_folder_of_ones_own_are_a_suite(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = code(section(root, "adding.md", "Your own data"), "yaml")
    assert len(text.splitlines()) <= 12
    write(folder / "questions.jsonl", [row(0)])
    (folder / "mine.yaml").write_text(text)
    monkeypatch.chdir(folder)
    loaded = load_suite(Path("mine.yaml"), checkout=root)
    assert loaded.training.seed.batch_size == 32
    assert loaded.models["qwen2.5-vl-3b"].training.accelerate == root / "config/accelerate/fsdp.yaml"
    generate_split(loaded, Paths(folder / "results"), "mine", "test")
    assert len(read_queries(Paths(folder / "results").queries("mine", "test"))) == 1
    (folder / "models.yaml").write_text("other: {kind: path, path: /x}\n")
    with pytest.raises(VistaError, match="unknown model 'qwen2"):
        load_suite(Path("mine.yaml"), checkout=root)


def test_a_loose_picture_that_changed_is_noticed_in_whatever_split_it_is(
    folder: Path, suite: Suite, tmp_path: Path
) -> None:
    """Those of the test split decide which rows of the train split are about a picture of it."""
    rows = [row(n, split="train" if n < 3 else "test") for n in range(5)]
    said = {"answer_type": "closed", "images": str(folder / "pictures"), "columns": {"split": "split"}}
    source = str(write(folder / "x.jsonl", rows))
    task = benchmark(kind="table", source=source, split={"train": ["train"], "test": ["test"]}, **said)
    held = suite.model_copy(update={"tasks": {"mine": task}})
    paths = Paths(tmp_path / "results")
    for split in ("train", "test"):
        generate_split(held, paths, "mine", split)
        made_from = paths.queries("mine", split)
        assert changed_picture(made_from) is None
        for number in (0, 4):
            before = (folder / "pictures" / f"{number}.png").read_bytes()
            (folder / "pictures" / f"{number}.png").write_bytes(before + b"more")
            assert changed_picture(made_from) == str(folder / "pictures" / f"{number}.png")
            (folder / "pictures" / f"{number}.png").write_bytes(before)
        (folder / "pictures" / "39.png").write_bytes(b"of no row")
        assert changed_picture(made_from) is None
