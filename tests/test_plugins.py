"""Plug-ins: how a kind finds its settings class and the class that does the work, and what is said if not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

import vista.filters
from vista import plugins
from vista.config import Filter, Objective, Resample, json_schemas, load_suite, load_yaml
from vista.errors import VistaError
from vista.filters import Context, FilterSettings
from vista.filters.vas import VasSettings, VisionAwareAttention
from vista.plugins import Plugin

FILTERS = Plugin("filter", FilterSettings, "vista.filters")
BRIEF = """
from typing import Literal
from vista.filters import Filter, FilterSettings

class BriefSettings(FilterSettings):
    kind: Literal["brief"]
    longest: int = 2

class Brief(Filter[BriefSettings]):
    def keep(self, positives, context):
        return [len(each.token_ids) <= self.settings.longest for each in positives]
"""
WITHOUT_A_CLASS = BRIEF.split("class Brief(")[0]

Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test names or installs is gone after it."""
    before = set(sys.modules)
    yield
    plugins.name_modules([])
    plugins._entry_points.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith(("my_lab", "other_lab")):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module into a folder that Python imports from."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        return file

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes what pip would of package ``my-lab``, which has one module and one filter."""

    def install(kind: str, module: str) -> None:
        info = tmp_path / "my_lab-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vista.filters]\n{kind} = {module}\n")
        (info / "RECORD").write_text(f"{module}.py,,\nmy_lab-1.0.dist-info/METADATA,,\n")
        monkeypatch.syspath_prepend(tmp_path)
        plugins._entry_points.cache_clear()

    return install


def refused(value: object, field: object = Filter) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(field).validate_python(value)
    (error,) = caught.value.errors()
    return str(error["msg"])


# --- the package's own ---


def test_a_kind_of_the_package_is_the_module_of_that_name() -> None:
    assert FILTERS.settings("vas") is VasSettings
    assert plugins.implementation(VasSettings(kind="vas")) is VisionAwareAttention
    assert {"none", "vas", "random-drop"} <= set(FILTERS.kinds())


@pytest.mark.parametrize(
    ("field", "noun", "kind", "meant"),
    [
        (Filter, "filter", "vass", "vas"),
        (Objective, "objective", "sftt", "sft"),
        (Resample, "resampler", "random_prefix", "random-prefix"),
    ],
)
def test_an_unknown_kind_is_refused_with_those_that_there_are(
    field: object, noun: str, kind: str, meant: str
) -> None:
    said = refused({"kind": kind}, field)
    assert said.startswith(f"there is no {noun} of kind {kind!r}; did you mean {meant!r}? ")
    assert meant in said.split("known: ")[1].split(", ")
    assert "did you mean" not in refused({"kind": "something else"}, field)


def test_kinds_are_listed_and_settings_read_without_importing_the_others_or_torch() -> None:
    code = """
import sys
from vista.config import Filter, Methods
from vista.filters import FilterSettings
from vista.plugins import Plugin
loaded = lambda: {name for name in sys.modules if name.startswith("vista.filters.")}
before = loaded()
assert "vig" in Plugin("filter", FilterSettings, "vista.filters").kinds()
assert loaded() == before and "vista.filters.vig" not in before, loaded()
Methods.model_validate({"a": {"kind": "self-improvement", "filter": {"kind": "logprob"}}})
assert loaded() - before == {"vista.filters.logprob"}, loaded()
assert "vista.resamplers.prefix" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_built_in_plug_in_loads_torch_when_it_is_imported(root: Path) -> None:
    folders = [root / "vista" / name for name in ("filters", "objectives", "resamplers")]
    names = [f"vista.{folder.name}.{file.stem}" for folder in folders for file in folder.glob("[a-z]*.py")]
    assert len(names) > 12
    code = f"import {', '.join(names)}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_whose_name_begins_with_an_underscore_is_no_plug_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_shared", "extra_one"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.setattr(vista.filters, "__path__", [*vista.filters.__path__, str(tmp_path)])
    kinds = FILTERS.kinds()
    assert "extra-one" in kinds
    assert "-shared" not in kinds
    assert refused({"kind": "_shared"}).startswith("there is no filter of kind '_shared'")


# --- of a module that the suite names ---


def test_a_module_that_the_suite_names_adds_its_kinds(write: Write) -> None:
    file = write("my_lab", BRIEF)
    assert "brief" not in FILTERS.kinds()
    plugins.name_modules(["my_lab"])
    assert FILTERS.kinds()[-1] == "brief"
    settings = TypeAdapter(Filter).validate_python({"kind": "brief", "longest": 3})
    assert TypeAdapter(Filter).dump_python(settings) == {"kind": "brief", "longest": 3}
    assert type(plugins.make(settings)).__name__ == "Brief"
    assert plugins.make(settings).keep([], Context("q", [], {}, lambda: None)) == []  # type: ignore[arg-type, return-value]
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    said = {"kind": "brief", "module": "my_lab", "sha256": sha256}
    assert plugins.origins(VasSettings(kind="vas"), settings) == {"plugins": [said]}
    assert plugins.origins(VasSettings(kind="vas")) == {}
    plugins.name_modules([])
    assert refused({"kind": "brief"}).startswith("there is no filter of kind 'brief'")


def test_a_module_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab_here.py").write_text(BRIEF)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    plugins.name_modules(["my_lab_here"])
    assert FILTERS.settings("brief").__module__ == "my_lab_here"


def test_settings_of_a_plug_in_are_held_to_its_fields(write: Write) -> None:
    write("my_lab", BRIEF)
    plugins.name_modules(["my_lab"])
    assert "Extra inputs" in refused({"kind": "brief", "shortest": 1})
    assert "valid integer" in refused({"kind": "brief", "longest": "long"})


def test_a_module_that_cannot_be_imported_is_named_with_the_reason(write: Write) -> None:
    write("my_lab", "1 / 0\n")
    with pytest.raises(VistaError, match=r"plugins: my_lab: .*ZeroDivisionError: division by zero"):
        plugins.name_modules(["my_lab"])
    with pytest.raises(VistaError, match=r"plugins: other_lab\.vista: .*No module named 'other_lab'"):
        plugins.name_modules(["other_lab.vista"])


def test_a_module_that_cannot_be_imported_hides_no_other_mistake(root: Path) -> None:
    value = {**load_yaml(root / "config/smoke.yaml"), "plugins": ["my_lab_nowhere"], "sedes": [0]}
    with pytest.raises(VistaError) as caught:
        load_suite(root / "config/smoke.yaml", value, root)
    said = str(caught.value)
    assert "plugins: my_lab_nowhere: module my_lab_nowhere cannot be imported" in said
    assert "found ['my_lab_nowhere']" in said
    assert "sedes: unknown key; did you mean 'seeds'?" in said
    load_suite(root / "config/smoke.yaml", root=root)
    assert plugins._named == []


def test_settings_without_a_class_that_does_the_work_are_refused(write: Write) -> None:
    write("my_lab", WITHOUT_A_CLASS)
    plugins.name_modules(["my_lab"])
    settings = FILTERS.settings("brief").model_validate({"kind": "brief"})
    with pytest.raises(VistaError, match=r"module my_lab: .*generic in BriefSettings.*found none"):
        plugins.make(settings)
    assert "generic in BriefSettings" in refused({"kind": "brief"})  # already when the config is read


def test_settings_with_two_classes_that_do_the_work_are_refused(write: Write) -> None:
    write("my_lab", BRIEF + BRIEF.split("\n\n")[2].replace("Brief(", "Briefer("))
    plugins.name_modules(["my_lab"])
    settings = FILTERS.settings("brief").model_validate({"kind": "brief"})
    with pytest.raises(VistaError, match=r"found Brief, Briefer"):
        plugins.make(settings)


def test_two_plug_ins_of_one_kind_are_refused(write: Write) -> None:
    write("my_lab", BRIEF)
    write("other_lab", BRIEF.replace('"brief"', '"brief", "vas"'))
    plugins.name_modules(["my_lab", "other_lab"])
    assert refused({"kind": "brief"}) == (
        "filter 'brief' of plugins: my_lab and filter 'brief' of plugins: other_lab: "
        "both are called 'brief'; rename one of them"
    )
    assert refused({"kind": "vas"}).startswith("filter 'vas' and filter 'vas' of plugins: other_lab: both")


# --- of an installed package ---


def test_an_entry_point_adds_a_kind_which_is_imported_only_if_it_is_used(
    write: Write, install: Callable[[str, str], None]
) -> None:
    file = write("my_lab", BRIEF)
    install("brief", "my_lab")
    assert "brief" in FILTERS.kinds()
    TypeAdapter(Filter).validate_python({"kind": "vas"})
    assert "my_lab" not in sys.modules
    settings = TypeAdapter(Filter).validate_python({"kind": "brief"})
    assert type(plugins.make(settings)).__name__ == "Brief"
    assert plugins.origin(settings) == {
        "kind": "brief",
        "module": "my_lab",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "package": "my-lab",
        "version": "1.0",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_like_it\n", "cannot be imported (ModuleNotFoundError: No module named"),
        ("class Brief: ...\n", 'defines no subclass of FilterSettings with `kind: Literal["brief"]`'),
    ],
)
def test_a_package_whose_module_does_not_serve_is_named(
    write: Write, install: Callable[[str, str], None], text: str, said: str
) -> None:
    write("my_lab", text)
    install("brief", "my_lab")
    message = refused({"kind": "brief"})
    assert message.startswith("filter 'brief' of package my-lab 1.0: module my_lab ")
    assert said in message


def test_a_broken_package_that_no_method_names_is_left_out_of_schemas_and_hides_no_mistake(
    write: Write, install: Callable[[str, str], None], root: Path, tmp_path: Path
) -> None:
    write("my_lab", "import nothing_like_it\n")
    install("brief", "my_lab")
    schema = json.dumps(json_schemas()["methods"])
    assert '"random-drop"' in schema
    assert '"brief"' not in schema
    methods = tmp_path / "methods.yaml"
    methods.write_text("mine: {kind: self-improvement, ronuds: 2}\n")
    raw = load_yaml(root / "config/smoke.yaml")
    value = {**raw, "methods": ["mine"], "methods_file": str(methods), "method_overrides": {}}
    with pytest.raises(VistaError, match="ronuds: unknown key; did you mean 'rounds'"):
        load_suite(root / "config/smoke.yaml", value, root)


def test_a_package_and_a_module_of_one_kind_are_refused(
    write: Write, install: Callable[[str, str], None]
) -> None:
    write("my_lab", BRIEF)
    write("other_lab", BRIEF)
    install("brief", "my_lab")
    plugins.name_modules(["other_lab"])
    assert refused({"kind": "brief"}).startswith("filter 'brief' of package my-lab 1.0 and filter 'brief' of")


def test_a_misspelt_setting_of_a_plug_in_is_recognised(root: Path) -> None:
    raw = load_yaml(root / "config/testbed.yaml")
    raw["method_overrides"] = {"vista-sft": {"filter": {"kind": "vas", "tua": -1.5}}}
    with pytest.raises(VistaError, match=r"filter\.tua: unknown key; did you mean 'tau'\?"):
        load_suite(root / "config/testbed.yaml", raw, root)


def test_a_class_that_lacks_a_method_is_told_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacking.py").write_text(
        "from typing import Literal\nfrom vista.filters import ScoreFilter, ScoreFilterSettings\n"
        "class LackingSettings(ScoreFilterSettings):\n    kind: Literal['lacking']\n"
        "class Lacking(ScoreFilter[LackingSettings]):\n    def valeu(self, *_): return 0.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plugins.name_modules(["lacking"])
    with pytest.raises(ValidationError, match="class Lacking lacks value; define it"):
        TypeAdapter(Filter).validate_python({"kind": "lacking"})
    plugins.name_modules([])


@pytest.mark.parametrize("text", ["1 / 0\n", "raise SystemExit('boo')\n"])
def test_a_module_that_fails_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "failing.py").write_text(f"X = 1\n{text}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VistaError, match=r"plugins: failing: .*failing\.py, line 2"):
        plugins.name_modules(["failing"])
    plugins.name_modules([])
