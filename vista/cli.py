"""The command line: what people type. ``vista.stages`` has what Snakemake runs.

``vista --help`` lists both. What is imported at the top, every command waits for: so there is nothing heavy.

Exit status: 0 done, 2 a mistake that the message says how to correct, 1 a bug.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vista import stages
from vista.errors import told

if TYPE_CHECKING:
    from rich.console import Console

    from vista.config import Suite

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

# The panels of ``vista --help``, in its order.
BEFORE, AFTER = "Before a run", "Results"


def version(asked: bool) -> None:
    """Print the versions that matter, and end."""
    if asked:
        from vista.versions import told_versions

        typer.echo(told_versions())
        raise typer.Exit


@app.callback()
def vista(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show versions and exit.")
    ] = False,
) -> None:
    """Choose training data for vision-language models by what they look at, and compare the methods.

    Runs are started with snakemake: `snakemake --cores all TARGET --configfile FILE`.
    """


# --- which suite is meant ---

SuiteArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A suite file, such as config/smoke.yaml; or a results folder, or the resolved suite in it, "
        "such as results/smoke/suite.json.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--configfile", help="A suite file, as for snakemake.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_suite(named: Path | None, configfile: Path | None) -> tuple[Suite, Path | None]:
    """The suite that the user names, and the file that it was written in if that is known."""
    from vista.suites import named_suite

    return named_suite(named, configfile)


def console() -> Console:
    """A terminal; plain text of unlimited width if the output goes to a file or a pipe."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=4000, color_system=None)


def echo_json(value: Any) -> None:
    """Print a value as JSON, in ASCII: what it quotes may be a stranger's, and controls no terminal."""
    typer.echo(json.dumps(value, indent=2))


# --- before a run ---


@app.command(rich_help_panel=BEFORE)
def config(suite: SuiteArgument = None, configfile: ConfigFile = None) -> None:
    """Check a suite file and the models and methods it names, and print the resolved suite."""
    typer.echo(open_suite(suite, configfile)[0].model_dump_json(indent=2))


@app.command(rich_help_panel=BEFORE)
def schema(folder: Annotated[Path, typer.Argument(help="Where to write the schemas.")]) -> None:
    """Write the JSON schemas of suite files, models.yaml and methods.yaml, for editors."""
    from vista.config import json_schemas
    from vista.records import write_json

    for name, value in json_schemas().items():
        write_json(folder / f"{name}.schema.json", value)


Assume = Annotated[
    list[str] | None,
    typer.Option(help="A YAML file of assumptions, or one as name=value; may be given several times."),
]


@app.command(rich_help_panel=BEFORE)
def plan(
    suite: SuiteArgument = None, configfile: ConfigFile = None, assume: Assume = None, as_json: Json = False
) -> None:
    """Estimate what a suite would run, share, and cost in GPU hours and disk. Reads only the config."""
    from vista.planning.assumptions import load_assumptions
    from vista.planning.plan import as_dict, make_plan, show

    made = make_plan(open_suite(suite, configfile)[0], load_assumptions(assume or []))
    if as_json:
        echo_json(as_dict(made))
    else:
        show(made, console())


@app.command(rich_help_panel=BEFORE)
def doctor(
    suite: SuiteArgument = None, configfile: ConfigFile = None, assume: Assume = None, as_json: Json = False
) -> None:
    """Check models, data, GPUs, disk and versions before a run. Exit status 2 if any check fails."""
    from vista.planning.assumptions import load_assumptions
    from vista.planning.doctor import examine
    from vista.planning.findings import as_dict, has_failed, show

    opened, _ = open_suite(suite, configfile)
    findings = examine(opened, load_assumptions(assume or []))
    if as_json:
        echo_json(as_dict(opened, findings))
    else:
        show(findings, console())
    if has_failed(findings):
        raise typer.Exit(2)


# --- results ---


def complete_tables(incomplete: str) -> list[str]:
    """The tables there are, for the shell to complete."""
    found = [*Path("results").glob("tables/*.csv"), *Path("results").glob("*/tables/*.csv")]
    found += Path("results/reference").glob("*/*.csv")
    return sorted(str(file) for file in found if str(file).startswith(incomplete))


def complete_columns(ctx: typer.Context, incomplete: str) -> list[str]:
    """The columns of the table that was typed before."""
    with Path(ctx.params["table"]).open(encoding="utf-8") as lines:
        names = lines.readline().strip().split(",")
    return [name for name in names if name.startswith(incomplete)]


@app.command(rich_help_panel=AFTER)
def show(
    table: Annotated[
        Path,
        typer.Argument(
            help="A table's CSV, such as results/tables/main.csv.", autocompletion=complete_tables
        ),
    ],
    row: Annotated[str, typer.Argument(help="column=value pairs joined by commas, or the row's number.")],
    column: Annotated[str, typer.Argument(help="The column of the number.", autocompletion=complete_columns)],
    as_json: Json = False,
    cases: Annotated[
        int,
        typer.Option(
            min=0,
            help="Show so many of its responses instead: wrong ones, or those in which the sides of a "
            "difference differ. With --json all of them.",
        ),
    ] = 0,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write a page of its responses with their images instead, with filters and search; --cases: "
            "how many of each sort, else 100.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Show where a number in a table comes from: runs, predictions, checkpoint, training set, commit."""
    from vista.behind import ON_A_PAGE, cases_of, drawn_cases, page_of
    from vista.provenance import drawn, trace
    from vista.shown import in_one_line

    if page is not None:
        said = page_of(table, row, column, cases or ON_A_PAGE, page)
        if as_json:
            echo_json({"page": str(page), "said": said})
        else:
            console().print(in_one_line(said), markup=False)
        return
    if cases:
        responses = cases_of(table, row, column)
        if as_json:
            echo_json({"cases": [case.as_dict() for case in responses]})
        else:
            for line in drawn_cases(responses, cases):
                console().print(line)
        return
    found = trace(table, row, column)
    if as_json:
        echo_json(found.as_dict())
        return
    terminal = console()
    for part in drawn(found):
        terminal.print(part)


@app.command(rich_help_panel=AFTER)
def verify(suite: SuiteArgument = None, configfile: ConfigFile = None, as_json: Json = False) -> None:
    """Find outputs that changed since they were made, and print the command that makes them again.

    Exit status 2 if there are any.
    """
    from vista import verify as work

    opened, file = open_suite(suite, configfile)
    report = work.verify(opened)
    if as_json:
        echo_json(work.as_dict(report, opened, file or work.file_of(opened)))
    else:
        work.tell(report, opened, file or work.file_of(opened), console())
    if report.damaged:
        raise typer.Exit(2)


@app.command(rich_help_panel=AFTER)
def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FILE…",
            help="Scores: predictions.parquet, long.csv:MODEL/TRAIN_SET/METHOD, a log of lmms-eval, or a "
            "CSV, JSONL or parquet with the columns id, score and, if you have them, cluster, seed, task. A "
            "pattern in quotes means several files.",
            show_default=False,
        ),
    ],
    against: Annotated[
        str | None, typer.Option(help="The name of what the others are compared with; else the first.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="The column of the scores; metric.field inside a dictionary.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Only this task; may be given several times.")
    ] = None,
    common: Annotated[bool, typer.Option("--common", help="Leave out what is not in all files.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Compare systems by their scores on the same items: intervals, paired differences, tests, power.

    Needs no suite. The statistics are those of our tables.
    """
    from vista.analysis.scored import in_common, read_systems

    read = read_systems(systems, metric)
    left_out = in_common(read, task or [], common)
    from vista.analysis import compare as work  # only now: pandas and scipy take longest

    found = work.compare(read, against, left_out)
    if as_json:
        echo_json(found.as_dict())
    elif as_markdown:
        typer.echo(work.markdown(found))
    else:
        work.show(found, console())


@app.command(rich_help_panel=AFTER)
def export(
    run: Annotated[
        str,
        typer.Argument(help="model/train_set/method/seedS/roundR; or the run's folder in the results."),
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; it must be new or empty.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="trl, llama-factory, ms-swift or hub-folder: who is to read the training set."
        ),
    ] = None,
    what: Annotated[str, typer.Option("--what", help="data: the training set; or checkpoint.")] = "data",
    suite: Annotated[
        Path | None,
        typer.Option("--suite", help="A suite file, or a results folder, or the suite.json in it."),
    ] = None,
    configfile: ConfigFile = None,
    push: Annotated[
        str | None,
        typer.Option("--push", help="Upload the folder to this repository of the hub, owner/name."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Whether anybody may see what is pushed.")] = False,
) -> None:
    """Write a run's training set, or its checkpoint, as a folder for other programs, with a card."""
    from vista.export.folder import export as work

    typer.echo(work(run, out, to, what, suite, configfile, push, public))


@app.command(hidden=True)
def colocate(descriptor: Annotated[int, typer.Argument(help="One end of a pipe.")]) -> None:
    """Sample with vLLM for a training, which starts this in vLLM's environment."""
    from vista.engines.colocated import serve

    serve(descriptor)


app.add_typer(stages.app)


def main() -> None:
    """Run the command line; a user's mistake, a full disk or too little memory gives one message."""
    with told():
        try:
            app()
        finally:
            stages.end()


if __name__ == "__main__":
    main()
