"""Writing a table of the analysis stage: as CSV, Markdown and LaTeX, each with its manifest."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vista.analysis.page import Page, latex, markdown
from vista.manifest import Recorder
from vista.paths import TABLE_SUFFIXES, Paths
from vista.records import write_text


def write_table(
    paths: Paths, recorder: Recorder, table: pd.DataFrame, page: Page, counts: Mapping[str, float]
) -> None:
    """Write the three files of a table, then their manifests.

    Args:
        paths: Where everything lies.
        recorder: What the table is made from.
        table: Every column of the CSV, as text or as numbers with four decimals.
        page: The table to read; its name is that of the files.
        counts: What the manifests count.
    """
    texts = {
        "csv": table.to_csv(index=False, lineterminator="\n", float_format="%.4f"),
        "md": markdown(page),
        "tex": latex(page),
    }
    files = {paths.table(page.name, suffix): texts[suffix] for suffix in TABLE_SUFFIXES}
    for file, text in files.items():
        write_text(file, text)
    for file in files:
        recorder.write(file, dict(counts))
