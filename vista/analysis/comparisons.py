"""Which runs are set against which: the reference of every run, and a method's plain counterpart.

Both follow from the methods' settings, not from their names, so that an ablation added to
``methods.yaml`` is compared without a change here. Serves the main table of the analysis stage.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vista.config import BaseMethod, NoFilter, NoResample, SeedMethod, SelfImprovement, Suite
from vista.grid import Run, runs


def reference_of(suite: Suite, run: Run) -> Run | None:
    """The SFT-Seed run of the same model, train set and seed; ``None`` if the suite has none."""
    for name, method in suite.methods.items():
        if isinstance(method, SeedMethod):
            return replace(run, method=name, round=0)
    return None


def counterpart_of(suite: Suite, name: str) -> str | None:
    """The method that differs from ``name`` only in neither resampling nor filtering.

    For VISTA-SFT that is ReST-EM, for VISTA-DPO plain DPO+NLL; ``None`` if the suite has no
    such method or ``name`` itself neither resamples nor filters.
    """
    method = suite.methods[name]
    if not isinstance(method, SelfImprovement):
        return None
    plain = method.model_copy(update={"resample": NoResample(), "filter": NoFilter()})
    if plain == method:
        return None
    return next((other for other, spec in suite.methods.items() if spec == plain), None)


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same model, train set, seed and round."""

    run: Run
    against: Run


def counterparts(suite: Suite) -> list[Comparison]:
    """Every run whose method has a plain counterpart, with the counterpart's run of that round."""
    found = []
    for run in runs(suite):
        other = counterpart_of(suite, run.method)
        if other is not None and not isinstance(suite.methods[other], BaseMethod):
            found.append(Comparison(run, replace(run, method=other)))
    return found
