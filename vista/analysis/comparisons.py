"""Which runs are compared: the reference of every run, and what each method is compared with.

All of it follows from the methods' settings, not from their names, so that an ablation added to
``methods.yaml`` is compared without a change here. Serves the main and the ablation table of the
analysis stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from vista.config import (
    BaseMethod,
    ExternalMethod,
    Improving,
    Method,
    OnlineMethod,
    SeedMethod,
    SelectMethod,
    SelfImprovement,
    Suite,
)
from vista.grid import Run, runs

ALL_MODELS = "all models"  # instead of a model's name; no model can have this one

# The components of a method, and the kind of each that is the paper's; off is the kind "none".
COMPONENTS = {"resample": "prefix", "filter": "vas"}

# component: one or both are off in the reference. alternative: the reference has the paper's, this
# method another. setting: anything else that differs. sweep: a value of a sweep. decoding: the same
# checkpoints, decoded otherwise. baseline: the whole of VISTA, or a method that samples as it trains,
# against a method with neither component. seed: against SFT-Seed.
Kind = Literal["component", "alternative", "setting", "sweep", "decoding", "baseline", "seed"]


def reference_of(suite: Suite, run: Run) -> Run | None:
    """The SFT-Seed run of the same model, train set and seed; ``None`` if the suite has none."""
    for name, method in suite.methods.items():
        if isinstance(method, SeedMethod):
            return replace(run, method=name, round=0)
    return None


def counterpart_of(suite: Suite, name: str) -> str | None:
    """The method that is like ``name`` but neither resamples nor filters; its rounds may differ.

    For VISTA-SFT that is ReST-EM, for VISTA-DPO plain DPO+NLL; ``None`` if the suite has no
    such method or ``name`` itself neither resamples nor filters.
    """
    method = suite.methods[name]
    if not isinstance(method, SelfImprovement) or name in suite.swept:
        return None
    if _is_off(method, COMPONENTS):
        return None
    for other, spec in suite.methods.items():
        plain = isinstance(spec, SelfImprovement) and _is_off(spec, COMPONENTS)
        if plain and set(_differing(method, spec)) <= set(COMPONENTS):
            return other
    return None


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same model, train set, seed and round."""

    run: Run
    against: Run


def counterparts(suite: Suite) -> list[Comparison]:
    """Every run whose method has a plain counterpart, with the counterpart's run of that round."""
    found = []
    everything = set(runs(suite))
    for run in runs(suite):
        other = counterpart_of(suite, run.method)
        if other is not None and not isinstance(suite.methods[other], BaseMethod):
            against = replace(run, method=other)
            if against in everything:
                found.append(Comparison(run, against))
    return found


@dataclass(frozen=True)
class Contrast:
    """A method, the method that it is compared with, and what differs between the two."""

    kind: Kind
    method: str
    against: str
    differs: str  # such as "filter", "resample + filter" or "filter.tau = -1.5"


def contrasts(suite: Suite) -> list[Contrast]:
    """Everything that the ablation table compares, in the order of the suite's methods.

    A swept method is compared with the method that it varies; test-time selection against the same
    checkpoints without it; every other self-improvement method against those that differ from it in one
    part (or in both components, which are then off), and against SFT-Seed, as what was made elsewhere is;
    methods with both of VISTA's components against every baseline of the same objective, and against methods
    that sample as they train; of these each against the baselines that train on single responses, and against
    another that differs in one setting. Rounds are not a part: methods are compared round by round.
    """
    found = []
    for name, method in suite.methods.items():
        if (swept := suite.swept.get(name)) is not None:
            value = str(swept.value).lower() if isinstance(swept.value, bool) else swept.value
            found.append(Contrast("sweep", name, swept.of, f"{swept.set} = {value}"))
        elif isinstance(method, SelectMethod):
            found.append(Contrast("decoding", name, method.of, "decoding"))
        elif isinstance(method, SelfImprovement):
            others = [other for other in suite.methods if other != name and other not in suite.swept]
            found += [each for other in others if (each := _contrast(suite, name, method, other))]
        elif isinstance(method, OnlineMethod):
            found += _online_contrasts(suite, name, method)
        if isinstance(method, Improving | ExternalMethod) and name not in suite.swept:
            first = next((each for each, spec in suite.methods.items() if isinstance(spec, SeedMethod)), None)
            found += [Contrast("seed", name, first, "")] if first else []
    return found


def _contrast(suite: Suite, name: str, method: SelfImprovement, other: str) -> Contrast | None:
    """How ``method`` is compared with ``other``, if at all; one of the two is the reference."""
    spec = suite.methods[other]
    if isinstance(spec, OnlineMethod) and all(_is_the_papers(method, part) for part in COMPONENTS):
        return Contrast("baseline", name, other, "online")
    if not isinstance(spec, SelfImprovement):
        return None
    parts = _differing(method, spec)
    if not parts:
        return None
    text = " + ".join(parts)
    if len(parts) > 1 and _is_baseline(spec) and all(_is_the_papers(method, part) for part in COMPONENTS):
        plain = set(parts) == set(COMPONENTS) and _is_off(spec, parts)
        if method.objective.kind == spec.objective.kind and not plain:
            return Contrast("baseline", name, other, text)
    components = [part for part in parts if part in COMPONENTS]
    if components == parts:
        if _is_off(spec, parts) and (len(parts) == 1 or all(_is_the_papers(method, part) for part in parts)):
            return Contrast("component", name, other, text)
        on = not _is_off(method, parts)
        if len(parts) == 1 and on and _is_the_papers(spec, parts[0]) and not _is_the_papers(method, parts[0]):
            return Contrast("alternative", name, other, text)
        kinds = [getattr(each, parts[0]).kind for each in (method, spec)]
        if len(parts) > 1 or kinds[0] != kinds[1]:
            return None
    names = list(suite.methods)
    later = names.index(name) > names.index(other)
    return Contrast("setting", name, other, text) if len(parts) == 1 and later else None


def _online_contrasts(suite: Suite, name: str, method: OnlineMethod) -> list[Contrast]:
    """With plain loops that train offline, and with earlier ones of the kind that differ in one setting."""
    plain = [
        other
        for other, spec in suite.methods.items()
        if isinstance(spec, SelfImprovement)
        and other not in suite.swept
        and _is_baseline(spec)
        and not spec.objective.pairs
    ]
    found = [Contrast("baseline", name, other, "online") for other in plain]
    stated = _settings_of(method)
    for other, spec in suite.methods.items():
        if other == name:
            break
        if isinstance(spec, OnlineMethod) and other not in suite.swept:
            theirs = _settings_of(spec)
            parts = [each for each in (stated | theirs) if stated.get(each) != theirs.get(each)]
            if len(parts) == 1:
                found.append(Contrast("setting", name, other, parts[0]))
    return found


def _settings_of(method: OnlineMethod) -> dict[str, Any]:
    """By name; those of the objective one by one."""
    stated = method.model_dump(exclude={"kind", "rounds", "objective"})
    return stated | {f"objective.{key}": value for key, value in method.objective.model_dump().items()}


def _is_off(method: SelfImprovement, parts: Iterable[str]) -> bool:
    """Whether a method has none of these components."""
    return all(getattr(method, part).kind == "none" for part in parts)


def _is_the_papers(method: SelfImprovement, part: str) -> bool:
    """Whether a component of a method is VISTA's own."""
    return bool(getattr(method, part).kind == COMPONENTS[part])


def _is_baseline(method: SelfImprovement) -> bool:
    """Whether a method has neither component, nor a control of one."""
    own = method.resample
    return not own.cuts and own.matched is None and method.filter.kind == "none"


def _differing(method: SelfImprovement, other: Method) -> list[str]:
    """The parts in which two self-improvement methods differ; the number of rounds does not count."""
    names = [name for name in SelfImprovement.model_fields if name not in ("kind", "rounds")]
    return [name for name in names if getattr(method, name) != getattr(other, name)]
