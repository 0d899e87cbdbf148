"""The analysis stage: which tables and figures there are, and what each is made from."""

from __future__ import annotations

from vista import grid, reads
from vista.analysis.plan import ablation_names, results_names, table_names
from vista.config import SelfImprovement
from vista.dag.inputs import Inputs
from vista.figures.plan import FIGURES, figures
from vista.paths import TABLE_SUFFIXES, manifest_of
from vista.plugins import module_of


class Outputs(Inputs):
    """Tables, figures and the gallery, with their inputs."""

    def predictions(self) -> list[str]:
        """Predictions of every run of the grid."""
        return [str(self.paths.predictions(run.id)) for run in grid.runs(self.suite)]

    def manifests(self) -> list[str]:
        """Manifests that the tables take counts from."""
        return [path + ".manifest.json" for path in [*self.predictions(), *self._counted()]]

    def _counted(self) -> list[str]:
        found: dict[str, None] = {}
        for run in grid.runs(self.suite):
            if grid.is_trained(self.suite, run):
                found[str(self.paths.training_set(run.id))] = None
                read = self.reads.curation(run)
                files = [*(read.seed.samples if read.seed else []), *read.rollouts]
                found.update(dict.fromkeys(map(str, files)))
        return list(found)

    def table_commands(self) -> dict[str, str]:
        """The rules that make tables from scores and rollouts, with the command that each calls."""
        tables = ("ablation", "difficulty", "audit", "prefix", "distributions")
        return {"results": "tables", **{table: table for table in tables}}

    def table_inputs(self, rule: str) -> list[str]:
        """What the tables of a rule are made from.

        Raises:
            VistaError: they need scenes, which a task does not have.
        """
        long = str(self.paths.long)
        return {
            "results": lambda: [long, *self.manifests(), *self._reported()],
            "ablation": lambda: [long, *self.manifests()],
            "difficulty": lambda: [long, *self._difficulty_inputs()],
            "audit": self._audit_inputs,
            "prefix": self._prefix_inputs,
            "distributions": self._distribution_inputs,
        }[rule]()

    def table_outputs(self, rule: str) -> list[str]:
        """The tables that a rule makes, as CSV, Markdown and LaTeX, and their manifests."""
        several = {"results": results_names, "ablation": ablation_names}
        names = several[rule](self.suite) if rule in several else [rule]
        return [path for name in names for path in self.table(name)]

    def table_code(self, rule: str) -> str:
        """The code of a rule's tables, with the plug-ins whose decisions they repeat."""
        filters = [] if rule != "audit" else reads.audited_filters(self.suite)
        named = dict.fromkeys(module_of(settings) for settings in filters)
        return self.code(self.table_commands()[rule], *named)

    def every_table(self) -> list[str]:
        """The CSV of every table that the suite can have."""
        return [str(self.paths.table(name, "csv")) for name in table_names(self.suite)]

    def table(self, name: str) -> list[str]:
        """A table as CSV, Markdown and LaTeX, and their manifests."""
        files = [self.paths.table(name, suffix) for suffix in TABLE_SUFFIXES]
        return [str(path) for file in files for path in (file, manifest_of(file))]

    def _distribution_inputs(self) -> list[str]:
        """Queries, rollouts and tokenizers that the distributions are counted in."""
        bases = [str(manifest_of(self.paths.base(model))) for model in self.suite.models]
        return [*bases, *map(str, reads.distribution_files(self.suite, self.paths))]

    def figures(self) -> list[str]:
        """Every figure of the suite as PDF and PNG."""
        return [file for name in figures(self.suite) for file in self.figure(name)]

    def figure(self, name: str) -> list[str]:
        """A figure as PDF and PNG, and their manifests."""
        files = [self.paths.figure(name, suffix) for suffix in ("pdf", "png")]
        return [str(path) for file in files for path in (file, manifest_of(file))]

    def figure_table(self, name: str) -> str:
        """The table that a figure is drawn from."""
        return str(self.paths.table(FIGURES[name], "csv"))

    def _difficulty_inputs(self) -> list[str]:
        """Queries, rollouts and training sets that the table of difficulty is made from."""
        found = dict.fromkeys(self.test_queries())
        for run in grid.runs(self.suite):
            if isinstance(self.suite.methods[run.method], SelfImprovement):
                found.update(dict.fromkeys(self.curation_inputs(run.id)))
                found[str(self.paths.training_set(run.id))] = None
        return list(found)

    def _audit_inputs(self) -> list[str]:
        """Train queries, solutions and scores that the audit reads; an error where there are no scenes."""
        pools = reads.scored_pools(self.suite)
        return [str(file) for file in reads.input_files(self.suite, self.paths, pools)]

    def _prefix_inputs(self) -> list[str]:
        """Train queries, samples, resamples and tokenizers that the table of prefixes reads."""
        items = reads.prefix_resamples(self.suite)
        bases = {str(manifest_of(self.paths.base(item.policy.model))): None for item in items}
        files = reads.input_files(self.suite, self.paths, items)
        return [*bases, *(str(file) for file in files)]

    def _reported(self) -> list[str]:
        """The file of published accuracies, if the suite names one."""
        return [] if self.suite.reported is None else [str(self.suite.reported)]

    def cases(self) -> list[str]:
        """Every file of cases."""
        return [str(self.paths.cases(pool.policy.id)) for pool in reads.case_pools(self.suite)]

    def named_cases(self) -> list[str]:
        """The same, each behind its model's name."""
        pools = reads.case_pools(self.suite)
        return [f"{pool.policy.model}={self.paths.cases(pool.policy.id)}" for pool in pools]

    def gallery(self) -> list[str]:
        """The page to browse cases, where the suite has cases."""
        return [str(self.paths.figure("cases", "html"))] if reads.case_pools(self.suite) else []
