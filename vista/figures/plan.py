"""Which figures a suite has, and the tables that each is drawn from: the plan of the rule ``figure``.

Pure functions of the suite, for the Snakefile. Each figure is a module of this folder.
"""

from __future__ import annotations

from vista.config import Suite
from vista.grid import rollout_files
from vista.reads import first_policies, first_pools, first_resamples, has_scenes

# Figure → the table it is drawn from.
FIGURES = {
    "data_imbalance": "distributions",
    "attention": "distributions",
    "rounds": "main",
    "sweeps": "ablation",
    "ood": "ood",
    "difficulty": "difficulty",
    "vas": "distributions",
    "detectors": "audit",
    "critical_tokens": "distributions",
    "cost": "main",
    "reported": "reported",
}


def figures(suite: Suite) -> list[str]:
    """The figures that the suite has something to draw for, in the order of ``FIGURES``."""
    scenes = has_scenes(suite)
    shown = {
        "data_imbalance": bool(first_policies(suite)),
        "attention": any(rollout_files(method).scores for _, method in first_policies(suite)),
        "sweeps": bool(suite.swept),
        "ood": bool(suite.out_of_domain),
        "difficulty": bool(first_policies(suite)),
        "vas": scenes and bool(first_pools(suite)),
        "detectors": scenes and bool(first_pools(suite)),
        "critical_tokens": scenes and bool(first_resamples(suite)),
        "reported": suite.reported is not None,
    }
    return [name for name in FIGURES if shown.get(name, True)]
