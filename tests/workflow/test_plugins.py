"""docs/adding.md, done literally: plug-ins in one's own package, run by Snakemake, staleness included."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.checkout import EVERY_JOB, Checkout
from tests.documents import code, section
from vista.manifest import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

TARGETS = ("results/smoke/tables/main.csv", "results/smoke/tables/cost.csv")


class Lab:
    """A repository of somebody's own, with what the document puts into it."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "lab"
        self.installed = folder / "installed"
        self.source.mkdir()

    def write(self, name: str, text: str) -> None:
        (self.source / name).write_text(text)

    def install(self) -> None:
        """``pip install`` it, to where nothing else is."""
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--no-index", "--upgrade", "--target", str(self.installed), str(self.source)]
        subprocess.run(command, check=True, capture_output=True)


class Installed(Checkout):
    """A checkout in whose environment a lab is installed."""

    lab: Path

    @property
    def environment(self) -> dict[str, str]:
        found = super().environment
        return {**found, "PYTHONPATH": f"{found['PYTHONPATH']}:{self.lab}"}


def with_lab(checkout: Checkout, lab: Lab) -> Checkout:
    made = replace(Installed(checkout.folder))
    object.__setattr__(made, "lab", lab.installed)
    return made


def planned(checkout: Checkout) -> dict[str, int]:
    """How many jobs of each rule a dry run would start."""
    done = checkout.snakemake(*TARGETS, *EVERY_JOB)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(
        Counter(re.findall(r"^(?:local)?rule (\w+):$", done.stdout + done.stderr, flags=re.MULTILINE))
    )


def use(checkout: Checkout, method: str) -> str:
    """Add a method of the document to methods.yaml and to the suite; returns its name."""
    with (checkout.folder / "config/methods.yaml").open("a") as file:
        file.write("\n" + method)
    (name,) = yaml.safe_load(method)
    suite = checkout.folder / "config/smoke.yaml"
    value = yaml.safe_load(suite.read_text())
    value["methods"].append(name)
    suite.write_text(yaml.safe_dump(value))
    return str(name)


def test_a_filter_in_a_package_of_ones_own_reruns_nothing_until_a_method_names_it(
    copy: Checkout, root: Path, tmp_path: Path
) -> None:
    module, project, method = code(section(root, "adding.md", "A filter"))
    assert len(module.splitlines()) <= 20
    lab = Lab(tmp_path)
    lab.write("brevity.py", module)
    lab.write("pyproject.toml", project)
    lab.install()
    checkout = with_lab(copy, lab)
    assert planned(checkout) == {}  # installed, and named by no method

    name = use(checkout, method)
    first = planned(checkout)
    assert first == {"curate": 1, "train": 1, "evaluate": 1, "collect": 1, "results": 1, "cost": 1}
    done = checkout.snakemake(*TARGETS)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert f",{name}," in checkout.main_csv.read_text()
    rows = checkout.results / f"curation/nano-smoke/grids/{name}/seed0/round1/train.parquet"
    manifest = read_manifest(rows)
    (plugin,) = manifest.settings["plugins"]
    assert (plugin["package"], plugin["version"], plugin["module"]) == ("my-lab", "1.0", "brevity")
    assert manifest.counts["dropped_by_filter"] > 0
    assert planned(checkout) == {}

    source = lab.installed / "brevity.py"
    source.write_text("# A comment.\n" + source.read_text().replace("The fewer tokens", "The fewer words"))
    assert planned(checkout) == {}
    source.write_text(source.read_text().replace("-float(", "-2 * float("))
    edited = planned(checkout)
    assert edited["curate"] == edited["train"] == edited["evaluate"] == 1
    assert not {"sample", "resample", "score", "models", "tasks"} & set(edited)

    source.write_text("import nothing_that_exists\n")
    done = checkout.snakemake(*TARGETS, "--dry-run")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "my-lab 1.0" in said
    assert "nothing_that_exists" in said
    assert "Traceback" not in said

    source.unlink()
    for metadata in lab.installed.glob("*.dist-info/entry_points.txt"):
        metadata.unlink()
    said = (lambda done: done.stdout + done.stderr)(checkout.snakemake(*TARGETS, "--dry-run"))
    assert "there is no filter of kind 'brevity'" in said
    assert "Traceback" not in said


def test_a_module_that_the_suite_names_holds_plug_ins_too(copy: Checkout, root: Path) -> None:
    module, _, method = code(section(root, "adding.md", "A filter"))
    (copy.folder / "my_lab").mkdir()
    (copy.folder / "my_lab/__init__.py").write_text("")
    (copy.folder / "my_lab/vista.py").write_text(module)
    suite = copy.folder / "config/smoke.yaml"
    suite.write_text(suite.read_text() + "\nplugins: [my_lab.vista]\n")
    assert planned(copy) == {}
    use(copy, method)
    assert planned(copy)["curate"] == 1
    suite.write_text(suite.read_text().replace("my_lab.vista", "my_lab.nothing"))
    done = copy.snakemake(*TARGETS, "--dry-run")
    assert done.returncode != 0
    assert "plugins: my_lab.nothing" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("title", "group", "field", "first"),
    [
        ("A resampler", "vista.resamplers", "resample", "resample"),
        ("An objective", "vista.objectives", "objective", "train"),
    ],
)
def test_the_resampler_and_the_objective_of_the_document_are_planned(
    copy: Checkout, root: Path, tmp_path: Path, title: str, group: str, field: str, first: str
) -> None:
    text = section(root, "adding.md", title)
    (module,) = code(text, "python")
    (name,) = re.findall(r'kind: Literal\["([\w-]+)"\]', module)
    lab = Lab(tmp_path)
    lab.write(f"{name}.py", module)
    lab.write(
        "pyproject.toml",
        f'[project]\nname = "my-lab"\nversion = "1.0"\n[project.entry-points."{group}"]\n{name} = "{name}"\n',
    )
    lab.install()
    checkout = with_lab(copy, lab)
    (setting,) = re.findall(rf"`{field}: (\{{kind: {name}[^`]*\}})`", text)
    use(checkout, f"mine:\n  kind: self-improvement\n  {field}: {setting}\n")
    jobs = planned(checkout)
    assert jobs[first] == 1
    assert not {"models", "tasks", "sample", "score"} & set(jobs)
