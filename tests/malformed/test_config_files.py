"""Suites, models and methods that no run can be made of: YAML's traps, and values out of range."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.malformed.harness import CONFIG, PLAN, Case, Spoil, World, case, refused
from vista.config import load_suite, load_yaml, parse_yaml
from vista.errors import VistaError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def suite(**changes: object) -> Spoil:
    """Change fields of the suite file."""
    return lambda world: world.yaml("suite.yaml", lambda value: value.update(changes))


def of(name: str, *keys: str, **changes: object) -> Spoil:
    """Change fields of a section of a file."""

    def edit(value: dict) -> None:  # type: ignore[type-arg]
        for key in keys:
            value = value.setdefault(key, {})
        value.update(changes)

    return lambda world: world.yaml(name, edit)


def appended(name: str, text: str) -> Spoil:
    return lambda world: world.write(name, world.path(name).read_text() + text)


def replaced(name: str, old: str, new: str) -> Spoil:
    return lambda world: world.replace(name, old, new)


def content(name: str, text: str | bytes) -> Spoil:
    return lambda world: world.write(name, text)


def removed(name: str) -> Spoil:
    return lambda world: world.path(name).unlink()


def folder_instead(name: str) -> Spoil:
    def spoil(world: World) -> None:
        world.path(name).unlink()
        world.path(name).mkdir()

    return spoil


YAML = [
    case("an empty suite file", CONFIG, "suite.yaml", content("suite.yaml", "")),
    case("a list where a map is wanted", CONFIG, "suite.yaml", content("suite.yaml", "- a\n- b\n")),
    case("a models file that is a list", CONFIG, "models.yaml", content("models.yaml", "- nano\n")),
    case("an empty methods file", CONFIG, "methods.yaml", content("methods.yaml", "")),
    # Then the checkout's is taken.
    case("a models file that is missing", CONFIG, "unknown model 'nano'", removed("models.yaml")),
    case("a suite file that is a folder", CONFIG, "suite.yaml", folder_instead("suite.yaml")),
    case("a models file that is a folder", CONFIG, "models.yaml", folder_instead("models.yaml")),
    case("a file that is not text", CONFIG, "suite.yaml", content("suite.yaml", b"name: \xff\xfe\x00tiny")),
    case("a file in latin-1", CONFIG, "suite.yaml", content("suite.yaml", "name: grün".encode("latin-1"))),
    case(
        "a tab for indentation",
        CONFIG,
        ["suite.yaml", "line"],
        appended("suite.yaml", "wording:\n\thint: x\n"),
    ),
    case("a bracket that is not closed", CONFIG, ["suite.yaml", "line"], appended("suite.yaml", "only: {\n")),
    case(
        "a key that stands twice",
        CONFIG,
        ["suite.yaml", "'shards'", "twice"],
        appended("suite.yaml", "shards: 1\nshards: 2\n"),
    ),
    case(
        "a model that stands twice",
        CONFIG,
        ["models.yaml", "'nano'", "twice"],
        appended("models.yaml", "nano: {kind: path, path: elsewhere}\n"),
    ),
    case(
        "a key that stands twice deep inside",
        CONFIG,
        ["methods.yaml", "'tau'", "twice"],
        appended("methods.yaml", "m: {kind: self-improvement, filter: {kind: vas, tau: 0, tau: 1}}\n"),
    ),
    case("an anchor bomb", CONFIG, "suite.yaml", appended("suite.yaml", f"{BOMB}wording: *i\n")),
    case(
        "an anchor that holds itself",
        CONFIG,
        "suite.yaml",
        appended("suite.yaml", "wording: &w {hint: *w}\n"),
    ),
    case("an alias of nothing", CONFIG, "suite.yaml", appended("suite.yaml", "wording: *nothing\n")),
    case(
        "a tag that makes a python object",
        CONFIG,
        ["suite.yaml", "python/object"],
        appended("suite.yaml", "wording: !!python/object/apply:os.system ['touch owned']\n"),
    ),
    case("two documents", CONFIG, "suite.yaml", appended("suite.yaml", "---\nname: second\n")),
    case(
        "very deep nesting", CONFIG, "suite.yaml", appended("suite.yaml", f"only: {'[' * 5000}{']' * 5000}\n")
    ),
    case("a key that is no text", CONFIG, "suite.yaml", appended("suite.yaml", "? [a, b]\n: 1\n")),
    case(
        "a key that is a number", CONFIG, "models.yaml", appended("models.yaml", "3: {kind: path, path: x}\n")
    ),
]

SPOILT_TEXTS = {
    "suite.yaml: wording.hint": 'wording: {hint: "{instruction} SIGN {answer}"}\n',
    "suite.yaml: prompts.suffix": 'prompts: {suffix: "SIGN"}\n',
    "suite.yaml: reported": 'reported: "SIGN.csv"\n',
    "suite.yaml: plugins.1": 'plugins: [a, "SIGN"]\n',
    "suite.yaml: key": '"SIGN": 3\n',
    "models.yaml: other.prompts.answer_mark": 'other: {kind: path, prompts: {answer_mark: "SIGN"}}\n',
    "models.yaml: other.chat.style": 'other: {kind: path, path: x, chat: {style: "SIGN"}}\n',
    "models.yaml: other.path": 'other: {kind: path, path: "SIGN"}\n',
    "methods.yaml: other.kind": 'other: {kind: "SIGN"}\n',
}
TEXTS = [
    case(
        f"{sign} in {where}",
        CONFIG,
        [where, "remove it from the text", sign],
        appended(where.partition(":")[0], text.replace("SIGN", escape)),
    )
    for where, text in SPOILT_TEXTS.items()
    for sign, escape in (("half of a character (U+D800)", r"\ud800"), ("control character (U+001B)", r"\e"))
]
MEANINGS = [
    case(
        f"{text} for a value",
        CONFIG,
        [
            "suite.yaml",
            "line",
            f"{text} is ",
            "as one reads YAML; write ",
            f"quote it if text is meant: '{text}'",
        ],
        appended("suite.yaml", f"plugins: [{text}]\n"),
    )
    for text in [
        *("yes", "No", "ON", "off", "017", "-017", "00", "0_1", "018", "1:30", "1:30:59.5", "190:20:30"),
        *("0b101", "-0b1", "1_000", "1_0.5", "0x1_F", "1_0e3"),
    ]
]
ALL_AT_ONCE = [
    case(
        "several traps in one file",
        CONFIG,
        ["line 1,", "'on'", "line 3,", "017", "line 4,", "twice", "line 5, column 8", "'no'"],
        content("suite.yaml", "on: 1\nname: x\nseeds: [1, 017]\nname: y\ntask: [no]\n"),
    ),
    case(
        "traps in both files of entries",
        CONFIG,
        ["models.yaml", "017", "methods.yaml", "'off'"],
        lambda world: (
            world.write("models.yaml", "a: 017\n"),
            world.write("methods.yaml", "a: off\n"),
        ),
    ),
]

NAMES = [
    case(
        "a method named no, which is a boolean",
        CONFIG,
        ["methods.yaml", "line", "key no", "quote it: 'no'"],
        appended("methods.yaml", "no: {kind: base}\n"),
    ),
    case(
        "a task named on, which is a boolean",
        CONFIG,
        ["suite.yaml", "line", "key on", "quote it: 'on'"],
        replaced(
            "suite.yaml", "  cells:\n", "  on: {kind: grid, questions: [open], sizes: {test: 1}}\n  cells:\n"
        ),
    ),
    case(
        "a method named off in a list",
        CONFIG,
        ["suite.yaml", "line", "off is a boolean or text", "quote"],
        replaced("suite.yaml", "- sft-seed\n", "- off\n"),
    ),
    case("a name with a slash", CONFIG, ["suite.yaml: name", "a/b"], suite(name="a/b")),
    case("a name that goes up", CONFIG, ["suite.yaml: name", "'..'"], suite(name="..")),
    case(
        "a task that goes up",
        CONFIG,
        ["tasks", "../x"],
        of("suite.yaml", "tasks", **{"../x": {"kind": "grid"}}),
    ),
    case(
        "a train set with spaces", CONFIG, ["train_sets", "my set"], suite(train_sets={"my set": ["cells"]})
    ),
    case(
        "a task with shell metacharacters",
        CONFIG,
        ["train_sets", "$(touch owned)"],
        suite(train_sets={"$(touch owned)": ["cells"]}),
    ),
    case(
        "a model with a semicolon",
        CONFIG,
        ["models", "nano;ls"],
        suite(models=["nano;ls"]),
    ),
    case("a name with a line break", CONFIG, "suite.yaml: name", suite(name="tiny\n")),
    case("a name that is empty", CONFIG, "suite.yaml: name", suite(name="")),
    case("a name of a thousand letters", CONFIG, "suite.yaml: name", suite(name="a" * 1000)),
    case(
        "a model named twice",
        CONFIG,
        ["suite.yaml: models", "'nano'", "twice"],
        suite(models=["nano", "nano"]),
    ),
    case(
        "a method named twice",
        CONFIG,
        ["suite.yaml: methods", "'vista'", "twice"],
        suite(methods=["zero-shot", "vista", "vista"]),
    ),
    case("a seed named twice", CONFIG, ["suite.yaml: seeds", "twice"], suite(seeds=[0, 0])),
    case(
        "a task twice in a train set",
        CONFIG,
        ["suite.yaml: train_sets.grids", "'cells'", "twice"],
        suite(train_sets={"grids": ["cells", "cells"]}),
    ),
    case(
        "a train set without tasks", CONFIG, ["suite.yaml: train_sets.grids"], suite(train_sets={"grids": []})
    ),
    case(
        "a task that is trained on and out of domain",
        CONFIG,
        ["suite.yaml: out_of_domain", "'cells'"],
        suite(out_of_domain=["cells"]),
    ),
    case("results that are no folder", CONFIG, "results", suite(results="suite.yaml")),
]

NUMBERS = [
    case(
        "a learning rate that is not a number",
        CONFIG,
        "training.sft.learning_rate",
        replaced("suite.yaml", "  sft:\n    epochs: 1\n", "  sft: {learning_rate: .nan}\n"),
    ),
    case(
        "an infinite learning rate",
        CONFIG,
        "training.sft.learning_rate",
        of("suite.yaml", "training", "sft", learning_rate=float("inf")),
    ),
    case(
        "a negative learning rate",
        CONFIG,
        "training.sft.learning_rate",
        of("suite.yaml", "training", "sft", learning_rate=-1.0),
    ),
    case(
        "a threshold that is not a number",
        CONFIG,
        "vista.self-improvement.filter.tau",
        of("methods.yaml", "vista", "filter", tau=float("nan")),
    ),
    case(
        "an infinite temperature",
        CONFIG,
        "rollouts.temperature",
        suite(method_defaults={"rollouts": {"temperature": float("inf")}}),
    ),
    case("a k of zero", CONFIG, "rollouts.k", suite(method_defaults={"rollouts": {"k": 0}})),
    case("a huge k", CONFIG, "rollouts.k", suite(method_defaults={"rollouts": {"k": 10**9}})),
    case("an enormous integer", CONFIG, "suite.yaml: shards", suite(shards=10**400)),
    case(
        "an integer of five thousand digits",
        CONFIG,
        "suite.yaml",
        replaced("suite.yaml", "name: tiny", "name: tiny\nshards: 1" + "0" * 5000),
    ),
    case("a number of shards beyond reason", CONFIG, "suite.yaml: shards", suite(shards=10**7)),
    case("a negative seed", CONFIG, ["suite.yaml: seeds"], suite(seeds=[-1])),
    case("a fraction of a shard", CONFIG, ["suite.yaml: shards", "1.5"], suite(shards=1.5)),
    case("a boolean for a number", CONFIG, ["suite.yaml: shards", "boolean"], suite(shards=True)),
    case("a text for a number", CONFIG, ["suite.yaml: gpus", "'many'"], suite(gpus="many")),
    case("no seeds", CONFIG, "suite.yaml: seeds", suite(seeds=[])),
    case("a null where a map is wanted", CONFIG, "suite.yaml: tasks", suite(tasks=None)),
    case(
        "a number of epochs in a date",
        CONFIG,
        "training.sft.epochs",
        replaced("suite.yaml", "  sft:\n    epochs: 1\n", "  sft: {epochs: 2026-01-01}\n"),
    ),
]

SMALL = 1e-320  # float32 knows it as zero
NUMBERS += [
    *(
        case(
            f"a {what} of {value}",
            CONFIG,
            what,
            suite(method_defaults={"rollouts": {"k": 2, "max_new_tokens": 40, "temperature": value}})
            if what == "rollouts.temperature"
            else of("suite.yaml", "training", "sft", **{what: value}),
        )
        for what, values in (
            ("rollouts.temperature", (SMALL, 1e-30, 0.0099, 1e30, -0.5)),
            ("learning_rate", (SMALL, 0.0, 1e-30)),
            ("max_grad_norm", (SMALL, 0.0)),
            ("batch_size", (0, -1, 2.0, 10**30, True, 1.5)),
            ("epochs", (1.0, True, 10**30)),
        )
        for value in values
    ),
    case("a seed with a dot", CONFIG, ["suite.yaml", "seeds", "without a dot"], suite(seeds=[1.0])),
    case("a boolean for a seed", CONFIG, ["suite.yaml", "seeds", "boolean"], suite(seeds=[True])),
    case("a huge seed", CONFIG, ["suite.yaml", "seeds", "at most"], suite(seeds=[10**30])),
    case("rounds that are a boolean", CONFIG, ["max_rounds", "boolean"], suite(max_rounds={"nano": True})),
    case("rounds with a dot", CONFIG, ["max_rounds", "without a dot"], suite(max_rounds={"nano": 1.0})),
    case("rounds beyond reason", CONFIG, ["max_rounds", "at most"], suite(max_rounds={"nano": 10**30})),
    case(
        "a sweep over a temperature that is too low",
        CONFIG,
        ["sweeps.cold.values", "at least 0.01"],
        suite(sweeps={"cold": {"method": "vista", "set": "rollouts.temperature", "values": [SMALL]}}),
    ),
    case(
        "a sweep whose names are too long",
        CONFIG,
        ["sweeps.long.values", "valid method name"],
        suite(
            sweeps={
                "long": {"method": "vista", "set": "filter.layers", "values": [[i / 97 for i in range(60)]]}
            }
        ),
    ),
]

ENTRIES = [
    case(
        "a model of no known kind",
        CONFIG,
        ["models.yaml: nano", "'paht'"],
        of("models.yaml", "nano", kind="paht"),
    ),
    case("a model that is a text", CONFIG, "models.yaml: nano", content("models.yaml", "nano: checkpoint\n")),
    case("a method that is a list", CONFIG, "methods.yaml: vista", of("methods.yaml", vista=["sft"])),
    case(
        "a method without a kind",
        CONFIG,
        ["methods.yaml: vista", "kind"],
        of("methods.yaml", vista={"rounds": 1}),
    ),
    case(
        "a filter of no known kind",
        CONFIG,
        ["filter", "'vass'"],
        of("methods.yaml", "vista", "filter", kind="vass"),
    ),
    case(
        "a default for a section that no method has",
        CONFIG,
        ["suite.yaml: method_defaults", "rolouts"],
        suite(method_defaults={"rolouts": {"k": 2}}),
    ),
    case(
        "a default for a kind of resampling that is not there",
        CONFIG,
        ["suite.yaml: method_defaults", "resample.prefx"],
        suite(method_defaults={"rollouts": {"k": 2, "max_new_tokens": 40}, "resample.prefx": {"j": 2}}),
    ),
    case(
        "a hub model that is named by one word",
        CONFIG,
        "repo",
        of("models.yaml", nano={"kind": "hub", "repo": "qwen", "revision": None}),
    ),
    case(
        "a wording without its placeholder",
        CONFIG,
        ["suite.yaml: wording.hint", "{answer}"],
        of("suite.yaml", "wording", hint="say it"),
    ),
    case(
        "an endpoint that is no address",
        CONFIG,
        "seed_rationales",
        suite(
            seed_rationales={
                "kind": "teacher",
                "endpoint": "localhost:8000",
                "model": "m",
                "cache": "c",
                "max_requests": 1,
            }
        ),
    ),
    case(
        "a sweep of a setting that is not there",
        CONFIG,
        ["sweeps.tau", "filter.tua"],
        suite(sweeps={"tau": {"method": "vista", "set": "filter.tua", "values": [0]}}),
    ),
    case(
        "a sweep over what is not a number",
        CONFIG,
        "sweeps.tau.values",
        suite(sweeps={"tau": {"method": "vista", "set": "filter.tau", "values": [float("nan")]}}),
    ),
    case(
        "a sweep over a number in quotes",
        CONFIG,
        ["sweeps.tau.values", "'0.5'", "without quotes"],
        suite(sweeps={"tau": {"method": "vista", "set": "filter.tau", "values": ["0.5"]}}),
    ),
    case("a table that is not there", CONFIG, ["suite.yaml: tables", "'mian'"], suite(tables=["mian"])),
]

ASSUMPTIONS = [
    case(
        "an unknown assumption", f"{PLAN} --assume gpu_tflop=3", ["gpu_tflop", "known:"], lambda world: None
    ),
    case(
        "an assumption that is not a number",
        f"{PLAN} --assume gpu_tflops=fast",
        ["gpu_tflops", "'fast'"],
        lambda world: None,
    ),
    case("an assumption of nan", f"{PLAN} --assume gpu_tflops=.nan", "gpu_tflops", lambda world: None),
    case("an infinite assumption", f"{PLAN} --assume gpu_tflops=.inf", "gpu_tflops", lambda world: None),
    case("a negative assumption", f"{PLAN} --assume utilisation=-1", "utilisation", lambda world: None),
    case("an assumption of nothing", f"{PLAN} --assume gpu_tflops=", "gpu_tflops", lambda world: None),
    case(
        "an assumption of a zero speed", f"{PLAN} --assume utilisation=0", "utilisation", lambda world: None
    ),
    case(
        "assumptions for a rule that is not there",
        f"{PLAN} --assume cpu_seconds='{{trian: 3}}'",
        ["cpu_seconds", "trian"],
        lambda world: None,
    ),
    case(
        "negative seconds of a rule",
        f"{PLAN} --assume cpu_seconds='{{train: -3}}'",
        "cpu_seconds",
        lambda world: None,
    ),
    case("a file of assumptions that is missing", f"{PLAN} --assume no.yaml", "no.yaml", lambda world: None),
    case(
        "a file of assumptions that is a list",
        f"{PLAN} --assume a.yaml",
        "a.yaml",
        content("a.yaml", "- 3\n"),
    ),
    case(
        "an assumption that is no yaml", f"{PLAN} --assume 'gpu_tflops={{'", "gpu_tflops", lambda world: None
    ),
]


@pytest.mark.parametrize(
    "spoilt", [*YAML, *TEXTS, *MEANINGS, *ALL_AT_ONCE, *NAMES, *NUMBERS, *ENTRIES, *ASSUMPTIONS]
)
def test_a_malformed_configuration_is_refused(spoilt: Case, world: World) -> None:
    refused(world, spoilt)
    assert not world.path("owned").exists()


def test_a_number_in_scientific_notation_without_a_dot_is_that_number(world: World) -> None:
    world.replace("suite.yaml", "  sft:\n    epochs: 1\n", "  sft: {learning_rate: 1e-3}\n")
    assert load_suite(world.path("suite.yaml")).training.sft.learning_rate == 0.001


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("2026-11-25", "2026-11-25"), ("2026-13-45", "2026-13-45"), ("=", "="), ("y", "y"), ("n", "n")),
        *(("1e-3", 1e-3), ("1.0e-3", 1e-3), (".5", 0.5), ("1.", 1.0), ("+3", 3), ("-0", 0), ("0", 0)),
        *(("0x1F", 31), ("0o17", 15), ("1e3", 1000.0), ("123456789012345678901", 123456789012345678901)),
        *(("~", None), ("null", None), ("Null", None), ("", None), ("nil", "nil"), ("none", "none")),
        *(("true", True), ("False", False), ("tRue", "tRue"), (".inf", math.inf), ("-.Inf", -math.inf)),
        *(("'017'", "017"), ('"no"', "no"), ("'1:30'", "1:30"), ("12:", {"12": None}), ("1.2.3", "1.2.3")),
    ],
)
def test_a_value_is_read_as_yaml_1_2_means_it(text: str, value: object) -> None:
    if isinstance(value, dict):
        with pytest.raises(ValueError, match="key 12 is read as something else than text"):
            parse_yaml(f"a: {{{text}}}")
        return
    read = parse_yaml(f"a: {text}\n")["a"]
    assert read == value
    assert type(read) is type(value)


@given(st.one_of(st.integers(), st.floats(allow_nan=False)))
def test_a_number_is_read_as_python_writes_it(number: float) -> None:
    text = repr(number).replace("inf", ".inf")
    read = parse_yaml(f"a: {text}\n")["a"]
    assert read == number
    assert type(read) is type(number)


@pytest.mark.parametrize(
    "text",
    [
        *("!!bool x", "!!timestamp x", "!!int 'x'", "!!float 5", "!!binary aGk=", "!!set {b, c}", "!mine x"),
        *("!!null x", "!!python/object:os.x {}", "!!omap [{b: 1}]", "<<"),
    ],
)
def test_a_tag_that_makes_something_else_of_a_value_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)line 1, column 4: .*line 2, column 4: 017 is octal"):
        parse_yaml(f"a: {text}\nb: 017\n")


def test_a_tag_that_says_what_a_value_is_may_stay() -> None:
    assert parse_yaml("!!map\na: !!str 5\nb: !!int 5\nc: !!seq [! x]\n") == {"a": "5", "b": 5, "c": ["x"]}


def test_a_config_in_json_is_read_as_json_means_it(world: World) -> None:
    value = {"name": "\U0001f600", "b": ["/", 1e-3, {"c": None, "d": True}]}
    world.write("a.json", json.dumps(value, indent="\t").replace("/", r"\/"))
    assert load_yaml(world.path("a.json")) == value
    with pytest.raises(ValueError, match="line 1, column 10: key 'a' appears twice"):
        parse_yaml('{"a": 1, "a": 2}')


def test_an_error_about_one_key_of_a_section_does_not_quote_the_section(world: World) -> None:
    world.yaml("suite.yaml", lambda value: value.update(seeds=[1.0]))
    with pytest.raises(
        VistaError, match=r"seeds: expected a whole number, not 1\.0; write it without a dot; found \[1\.0\]$"
    ):
        load_suite(world.path("suite.yaml"))


@pytest.mark.parametrize("text", ["\0", "a: \x07", "\x1b[2J"])
def test_signs_that_no_text_has_are_one_error(world: World, text: str) -> None:
    world.write("a.yaml", text)
    with pytest.raises(VistaError, match=r"a\.yaml: not valid YAML: .*; save it as plain text in UTF-8"):
        load_yaml(world.path("a.yaml"))


def test_anchors_and_merged_keys_are_read_as_yaml_means_them(world: World) -> None:
    world.write("a.yaml", "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n")
    assert load_yaml(world.path("a.yaml"))["b"] == {"x": 1, "y": 3}


def test_a_number_that_is_none_hides_no_other_mistake(world: World) -> None:
    wrong = {"seeds": [1.0], "threads": True, "zzz": 1, "scoring": {"batch_size": True, "q": 1}}
    world.yaml("suite.yaml", lambda value: value.update(wrong))
    with pytest.raises(VistaError) as refused:
        load_suite(world.path("suite.yaml"))
    for key in ("seeds", "threads", "zzz", "scoring.batch_size", "scoring.q"):
        assert f"suite.yaml: {key}: " in str(refused.value)
