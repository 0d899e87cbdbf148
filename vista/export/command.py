"""The command ``vista export`` and its options, for ``vista.cli``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    suite_file: Annotated[
        Path | None, typer.Option("--suite", help="The resolved suite: <results>/suite.json.")
    ] = None,
    configfile: Annotated[
        Path | None, typer.Option("--configfile", help="A suite file, such as config/paper.yaml, instead.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", help="Upload the folder to this repository of the hub, owner/name."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Whether anybody may see what is pushed.")] = False,
) -> None:
    """Write a run's training set, or its checkpoint, as a folder for other programs, with a card."""
    from vista.export.folder import export as work

    typer.echo(work(run, out, to, what, suite_file, configfile, push, public))
