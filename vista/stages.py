"""The commands that Snakemake runs, by hand too: one for each rule of the DAG.

Each takes the plan that Snakemake hands its jobs, or the resolved suite, ``<results>/suite.json``.
What is imported at the top, ``vista --version`` imports as well: nothing but typer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Annotated, TypeVar, cast, get_args

import typer

if TYPE_CHECKING:
    from vista.config import Suite
    from vista.grid import Run
    from vista.paths import Paths
    from vista.records import Split

PANEL = "Stages, which Snakemake runs"
app = typer.Typer()

# The commands by stage, in the order of the DAG. Their help is lettered by it.
STAGE_COMMANDS = {
    "tasks": ["tasks"],
    "models": ["models", "check", "adopt"],
    "rollouts": ["encodable", "sample", "resample", "score", "gains", "cases"],
    "curation": ["curate"],
    "training": ["train"],
    "evaluation": ["evaluate", "ask", "grade", "requests", "respond"],
    "analysis": [
        *("collect", "tables", "ablation", "findings", "resolution", "difficulty", "faithfulness", "cost"),
        *("audit", "prefix", "distributions", "history", "pilot", "figure"),
    ],
}
Command = TypeVar("Command", bound=Callable[..., None])


def stage_command(command: Command) -> Command:
    """Register a command of ``STAGE_COMMANDS``; its help begins with its stage, such as ``Stage 3b``."""
    for number, commands in enumerate(STAGE_COMMANDS.values(), 1):
        if command.__name__ in commands:
            letter = ascii_lowercase[commands.index(command.__name__)] if len(commands) > 1 else ""
            text = f"Stage {number}{letter}: {command.__doc__}"
            app.command(help=text, rich_help_panel=PANEL)(command)
            return command
    raise AssertionError(f"{command.__name__} is in no stage")


def _split(text: str) -> str:
    from vista.records import Split

    if text not in get_args(Split):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(get_args(Split))}")
    return text


def _run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The runs of the suite that was typed before, for the shell to complete."""
    from vista.config import load_resolved
    from vista.grid import runs

    suite = load_resolved(Path(ctx.params["suite_file"]))
    return [run.id for run in runs(suite) if run.id.startswith(incomplete)]


SuiteArgument = Annotated[
    Path, typer.Argument(help="The resolved suite, <results>/suite.json; Snakemake hands its plan.")
]
RunArgument = Annotated[
    str, typer.Argument(help="model/train_set/method/seedS/roundR", autocompletion=_run_names)
]
NameArgument = Annotated[str, typer.Argument(help="Name of the rollout file, as in its path.")]
ShardArgument = Annotated[int, typer.Argument(min=0, help="Which shard, from 0.")]


def _from_hub(suite: Suite, command: str, name: str) -> bool:
    """Whether a command still has to fetch its model or task from the hub."""
    from vista.config import HubModel

    entry = suite.models.get(name) if command == "models" else None
    spec = suite.tasks.get(name) if command == "tasks" else None
    return (isinstance(entry, HubModel) and entry.path is None) or (spec is not None and spec.on_hub)


def _open(file: Path, command: str, *arguments: str) -> tuple[Suite, Paths]:
    """Load the suite and prepare the process for a command, before anything heavy is imported."""
    from vista import devices, memory, planned
    from vista.dag import Dag, digests
    from vista.manifest import ORIGIN
    from vista.paths import Paths
    from vista.warm import tell_libraries

    suite, plan = planned.start(file, command, *arguments)
    ORIGIN.digests = partial(digests, suite, plan, command, *arguments)
    if devices.are_offered():
        asked = Dag(suite).gpus_of(command, arguments[0] if arguments else "")
        planned.AT_END.append(devices.take(asked, " ".join(["vista", command, *arguments])))
    tell_libraries(
        suite.threads,
        offline=not _from_hub(suite, command, arguments[0] if arguments else ""),
        reports=command == "train" and "wandb" in suite.training.report_to,
    )
    memory.reuse_freed()
    return suite, Paths(suite.results)


def _run(suite: Suite, name: str) -> Run:
    from vista.grid import run_named

    return run_named(suite, name)


def end() -> None:
    """End the job that a command began in this process, if one did."""
    if (planned := sys.modules.get("vista.planned")) is not None:
        planned.end()


@app.command(rich_help_panel=PANEL)
def suite(
    suite_file: SuiteArgument, to: Annotated[Path, typer.Argument(help="The YAML file to write.")]
) -> None:
    """Write a resolved suite as readable YAML, with every default spelled out, and as a page beside it."""
    import yaml

    from vista.analysis.page import Listing, Page, html
    from vista.manifest import Recorder
    from vista.records import write_text

    resolved, _ = _open(suite_file, "suite")
    recorder = Recorder("analysis", {"suite": resolved.name}, [])
    text = yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    title = f"Suite `{resolved.name}` as it was run"
    page = Page("suite", title, ["Every setting, defaults spelled out.", Listing(text)])
    for file, content in ((to, text), (to.with_suffix(".html"), html(page))):
        write_text(file, content)
        recorder.write(file, {})


@stage_command
def tasks(
    suite_file: SuiteArgument,
    task: Annotated[str, typer.Argument(help="Name of the task.")],
    split: Annotated[str, typer.Argument(parser=_split, metavar="SPLIT", help="Which split.")],
) -> None:
    """Write one split of a task's queries."""
    suite, paths = _open(suite_file, "tasks", task, split)
    from vista.tasks.generate import generate_split

    generate_split(suite, paths, task, cast("Split", split))


@stage_command
def models(
    suite_file: SuiteArgument, model: Annotated[str, typer.Argument(help="Name of the model.")]
) -> None:
    """Build or fetch a base checkpoint."""
    suite, paths = _open(suite_file, "models", model)
    from vista.models.build import build_model

    build_model(suite, paths, model)


@stage_command
def check(
    suite_file: SuiteArgument, model: Annotated[str, typer.Argument(help="Name of the model.")]
) -> None:
    """Check that a base checkpoint samples, scores and trains as it should, before anything is spent."""
    suite, paths = _open(suite_file, "check", model)
    from vista.fitness import check_model

    check_model(suite, paths, model)


@stage_command
def adopt(suite_file: SuiteArgument, run: RunArgument) -> None:
    """Check a checkpoint or an adapter that was trained elsewhere against its base, and link or merge it."""
    suite, paths = _open(suite_file, "adopt", run)
    from vista.models.adopt import adopt as work

    work(suite, paths, _run(suite, run))


@stage_command
def encodable(
    suite_file: SuiteArgument, model: Annotated[str, typer.Argument(help="Name of the model.")]
) -> None:
    """Check that a model's processor takes every query, before anything is spent."""
    suite, paths = _open(suite_file, "encodable", model)
    from vista.rollouts.encodable import check_encodable

    check_encodable(suite, paths, model)


@stage_command
def sample(suite_file: SuiteArgument, policy: RunArgument, name: NameArgument, shard: ShardArgument) -> None:
    """Sample solutions to the train (or seed) queries from a policy and verify them."""
    suite, paths = _open(suite_file, "sample", policy, name, str(shard))
    from vista.rollouts.sample import sample_shard

    sample_shard(suite, paths, _run(suite, policy), name, shard)


@stage_command
def resample(
    suite_file: SuiteArgument, policy: RunArgument, name: NameArgument, shard: ShardArgument
) -> None:
    """Try failed solutions again: from prefixes, with a hint, or as a control."""
    suite, paths = _open(suite_file, "resample", policy, name, str(shard))
    from vista.rollouts.resample import resample_shard

    resample_shard(suite, paths, _run(suite, policy), name, shard)


@stage_command
def score(suite_file: SuiteArgument, policy: RunArgument, name: NameArgument, shard: ShardArgument) -> None:
    """Score solutions by their attention to the prompt's segments."""
    suite, paths = _open(suite_file, "score", policy, name, str(shard))
    from vista.rollouts.score import score_shard

    score_shard(suite, paths, _run(suite, policy), name, shard)


@stage_command
def gains(suite_file: SuiteArgument, policy: RunArgument, name: NameArgument, shard: ShardArgument) -> None:
    """Measure how likely solutions are with and without their image."""
    suite, paths = _open(suite_file, "gains", policy, name, str(shard))
    from vista.rollouts.gains import gains_shard

    gains_shard(suite, paths, _run(suite, policy), name, shard)


@stage_command
def cases(suite_file: SuiteArgument, policy: RunArgument) -> None:
    """Select solutions worth a look and read them token by token."""
    suite, paths = _open(suite_file, "cases", policy)
    from vista.rollouts.cases import policy_cases

    policy_cases(suite, paths, policy)


@stage_command
def curate(suite_file: SuiteArgument, run: RunArgument) -> None:
    """Select a run's training set from its policy's rollouts."""
    suite, paths = _open(suite_file, "curate", run)
    from vista.curation.curate import curate as work

    work(suite, paths, _run(suite, run))


@stage_command
def train(suite_file: SuiteArgument, run: RunArgument) -> None:
    """Train a run's checkpoint, through `accelerate launch` if the model asks for it."""
    suite, paths = _open(suite_file, "train", run)
    from vista.training.launch import become_launcher

    become_launcher(suite, suite_file, _run(suite, run))
    from vista.training.train import train as work

    work(suite, paths, _run(suite, run))


@stage_command
def evaluate(suite_file: SuiteArgument, run: RunArgument) -> None:
    """Evaluate a run's checkpoint on every test query, through lmms-eval."""
    suite, paths = _open(suite_file, "evaluate", run)
    from vista.evaluation.evaluate import evaluate as work

    work(suite, paths, _run(suite, run))


@stage_command
def ask(suite_file: SuiteArgument, run: RunArgument) -> None:
    """Evaluate a model at an endpoint: ask it every test query, through lmms-eval."""
    suite, paths = _open(suite_file, "ask", run)
    from vista.evaluation.ask import ask as work

    work(suite, paths, _run(suite, run))


@stage_command
def grade(suite_file: SuiteArgument, run: RunArgument) -> None:
    """Verify the responses of a run that were generated elsewhere."""
    suite, paths = _open(suite_file, "grade", run)
    from vista.evaluation.grade import grade as work

    work(suite, paths, _run(suite, run))


@stage_command
def requests(suite_file: SuiteArgument, task: Annotated[str, typer.Argument(help="Name of a task.")]) -> None:
    """Write down what a task of lmms-eval's own asks, for an engine's environment without lmms-eval."""
    suite, paths = _open(suite_file, "requests", task)
    from vista.evaluation.requests import requests as work

    work(suite, paths, task)


@stage_command
def respond(suite_file: SuiteArgument, run: RunArgument) -> None:
    """Generate a run's responses to every test query with vLLM, for `vista evaluate` to score."""
    suite, paths = _open(suite_file, "respond", run)
    from vista.evaluation.respond import respond as work

    work(suite, paths, _run(suite, run))


@stage_command
def collect(suite_file: SuiteArgument) -> None:
    """Gather the per-sample scores of all runs into long.csv."""
    suite, paths = _open(suite_file, "collect")
    from vista.analysis.collect import collect as work

    work(suite, paths)


@stage_command
def tables(suite_file: SuiteArgument) -> None:
    """Write the results tables."""
    suite, paths = _open(suite_file, "tables")
    from vista.analysis.tables import results_tables

    results_tables(suite, paths)


@stage_command
def ablation(suite_file: SuiteArgument) -> None:
    """Write the ablation table: what each part of a method is worth."""
    suite, paths = _open(suite_file, "ablation")
    from vista.analysis.ablation import ablation_table

    ablation_table(suite, paths)


@stage_command
def findings(suite_file: SuiteArgument) -> None:
    """Write the table of findings: what the other tables say to the paper's claims."""
    suite, paths = _open(suite_file, "findings")
    from vista.analysis.findings import findings_table

    findings_table(suite, paths)


@stage_command
def resolution(suite_file: SuiteArgument) -> None:
    """Write the table of resolution: the smallest difference that each comparison finds."""
    suite, paths = _open(suite_file, "resolution")
    from vista.analysis.resolution import resolution_table

    resolution_table(suite, paths)


@stage_command
def difficulty(suite_file: SuiteArgument) -> None:
    """Write the table of training mass and accuracy by the difficulty of the queries."""
    suite, paths = _open(suite_file, "difficulty")
    from vista.analysis.difficulty import difficulty_table

    difficulty_table(suite, paths)


@stage_command
def faithfulness(suite_file: SuiteArgument) -> None:
    """Measure how many right test answers are faithful to the image (generated tasks only)."""
    suite, paths = _open(suite_file, "faithfulness")
    from vista.analysis.faithfulness import faithfulness_table

    faithfulness_table(suite, paths)


@stage_command
def cost(suite_file: SuiteArgument) -> None:
    """Write the cost table: where the time went."""
    suite, paths = _open(suite_file, "cost")
    from vista.analysis.cost import cost_table

    cost_table(suite, paths)


@stage_command
def audit(suite_file: SuiteArgument) -> None:
    """Measure how well scores detect unfaithful rationales (generated tasks only)."""
    suite, paths = _open(suite_file, "audit")
    from vista.analysis.audit import audit_table

    audit_table(suite, paths)


@stage_command
def prefix(suite_file: SuiteArgument) -> None:
    """Measure where prefix resampling cuts and what it rescues (generated tasks only)."""
    suite, paths = _open(suite_file, "prefix")
    from vista.analysis.prefix import prefix_table

    prefix_table(suite, paths)


@stage_command
def distributions(suite_file: SuiteArgument) -> None:
    """Write the distributions that the figures draw."""
    suite, paths = _open(suite_file, "distributions")
    from vista.analysis.distributions import distributions_table

    distributions_table(suite, paths)


@stage_command
def history(suite_file: SuiteArgument) -> None:
    """Gather what every training logged at each step."""
    suite, paths = _open(suite_file, "history")
    from vista.analysis.history import history_table

    history_table(suite, paths)


@stage_command
def pilot(suite_file: SuiteArgument) -> None:
    """Write what a pilot found, and the assumptions that it measured for `vista plan`."""
    suite, paths = _open(suite_file, "pilot")
    from vista.planning.pilot import pilot_table

    pilot_table(suite, paths)


@stage_command
def figure(
    name: Annotated[str, typer.Argument(help="Its module in vista/figures, such as rounds.")],
    tables: Annotated[list[str], typer.Argument(help="What it is drawn from.")],
    to: Annotated[Path, typer.Option(help="The files without their suffix; of the gallery, the file.")],
    plan: Annotated[Path | None, typer.Option(help="What Snakemake planned it with.")] = None,
) -> None:
    """Draw a figure, or write the gallery, as ``python -m vista.figures.NAME`` does."""
    from runpy import run_module

    from vista.analysis.plan import FIGURES
    from vista.errors import VistaError

    if name not in (known := [*FIGURES, "gallery"]):
        raise VistaError(f"there is no figure {name!r}; there are {', '.join(known)}")
    planned = [] if plan is None else ["--plan", str(plan)]
    sys.argv[:] = [f"vista figure {name}", *tables, "--to", str(to), *planned]
    run_module(f"vista.figures.{name}", run_name="__main__")
