"""Which tables and figures a suite has, for the commands that write them and the rules that ask for them.

Pure functions of the suite.
"""

from __future__ import annotations

from vista.config import Improving, Suite
from vista.config.blind import blind_tasks
from vista.config.tables import is_a_sample
from vista.grid import is_trained, rollout_files, runs
from vista.measured import first_policies, first_pools, first_resamples, has_scenes


def results_names(suite: Suite) -> list[str]:
    """The tables of ``vista tables``."""
    return [
        *("main", "tasks", "runs"),
        *(["benchmarks"] if len(suite.train_sets) > 1 else []),
        *(["rounds"] if methods_with_rounds(suite) else []),
        *(["ood"] if suite.out_of_domain else []),
        *(["blind"] if blind_tasks(suite) else []),
        *([] if suite.reported is None else ["reported"]),
    ]


def ablation_names(suite: Suite) -> list[str]:
    """The tables of ``vista ablation``: the ablation itself, one for each sweep, and one across models."""
    across = ["across_models"] if is_a_sample(suite) else []
    return ["ablation", *(sweep_name(sweep) for sweep in sweeps(suite)), *across]


def table_names(suite: Suite) -> list[str]:
    """Every table that the suite can have."""
    scenes = has_scenes(suite)
    return [
        *results_names(suite),
        *ablation_names(suite),
        *("findings", "resolution", "difficulty", "distributions", "cost"),
        *(["training"] if trains(suite) else []),
        *(["faithfulness"] if scenes else []),
        *(["audit"] if scenes and first_pools(suite) else []),
        *(["prefix"] if scenes and first_resamples(suite) else []),
    ]


def findings_sources(suite: Suite) -> list[str]:
    """The tables that the findings are read from."""
    made = table_names(suite)
    return [name for name in ("ablation", "distributions", "audit", "prefix") if name in made]


def trains(suite: Suite) -> bool:
    """Whether any run of the suite is trained."""
    return any(is_trained(suite, run) for run in runs(suite))


def methods_with_rounds(suite: Suite) -> list[str]:
    """The methods of several rounds, in the suite's order."""
    return [
        name for name, method in suite.methods.items() if isinstance(method, Improving) and method.rounds > 1
    ]


def sweeps(suite: Suite) -> dict[str, list[str]]:
    """By sweep the methods that it makes, in the order of its values."""
    found: dict[str, list[str]] = {}
    for method, swept in suite.swept.items():
        found.setdefault(swept.sweep, []).append(method)
    return found


def sweep_name(sweep: str) -> str:
    """The name of a sweep's table."""
    return f"sweep_{sweep.replace('-', '_')}"


# Figure → the tables it is drawn from; ``sweeps`` from those of all sweeps.
FIGURES: dict[str, tuple[str, ...]] = {
    "data_imbalance": ("distributions",),
    "attention": ("distributions",),
    "rounds": ("main", "runs"),
    "sweeps": (),
    "ood": ("ood",),
    "difficulty": ("difficulty",),
    "faithfulness": ("faithfulness",),
    "vas": ("distributions",),
    "detectors": ("audit",),
    "filters": ("audit",),
    "critical_tokens": ("distributions",),
    "across_models": ("across_models", "ablation"),
    "cost": ("main",),
    "reported": ("reported",),
    "training": ("training",),
}


def figures(suite: Suite) -> list[str]:
    """The figures that the suite has something to draw for, in the order of ``FIGURES``."""
    scenes = has_scenes(suite)
    shown = {
        "data_imbalance": bool(first_policies(suite)),
        "attention": any(rollout_files(method).scores for _, method in first_policies(suite)),
        "sweeps": bool(suite.swept),
        "across_models": is_a_sample(suite),
        "ood": bool(suite.out_of_domain),
        "difficulty": bool(first_policies(suite)),
        "faithfulness": scenes and bool(first_policies(suite)),
        "vas": scenes and bool(first_pools(suite)),
        "detectors": scenes and bool(first_pools(suite)),
        "filters": scenes and bool(first_pools(suite)),
        "critical_tokens": scenes and bool(first_resamples(suite)),
        "reported": suite.reported is not None,
        "training": trains(suite),
    }
    return [name for name in FIGURES if shown.get(name, True)]


def figure_tables(suite: Suite, figure: str) -> list[str]:
    """The tables that a figure is drawn from, in an order that the suite's file does not decide."""
    if figure == "sweeps":
        return sorted(sweep_name(sweep) for sweep in sweeps(suite))
    return list(FIGURES[figure])
