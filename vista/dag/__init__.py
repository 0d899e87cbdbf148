"""What every output is made from: input files, code and settings, for the Snakefile's rules.

Functions of the suite and, for ``Dag.code``, of the package's source (``vista.closure``), so that
the DAG can be tested without running it. The Snakefile calls them through ``Dag``; the stages never do.
"""

from vista.dag.settings import Resources, Settings

__all__ = ["Dag"]


class Dag(Settings, Resources):
    """Answers of the grid to the questions of the rules, as strings that Snakemake takes."""
