"""What adapters of benchmarks that are published as parquet files share. Part of stage ``tasks``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from vista.tasks.benchmarks.items import Benchmark, Published, PublishedSplit
from vista.tasks.benchmarks.sources import matches
from vista.tasks.benchmarks.tables import Columns, parquet_rows


class ParquetBenchmark(Benchmark):
    """Files named after their split, as the hub's own converter names them, or one plain file."""

    schemas: ClassVar[Sequence[Columns]]  # columns by name and kind; the files have one of these

    def patterns(self, split: PublishedSplit) -> list[list[str]]:
        """Shards in ``data/``, shards beside the card, or one file."""
        return [[f"data/{split}-*.parquet", f"{split}-*.parquet", f"{split}.parquet"]]

    def rows(self, root: Path, split: PublishedSplit) -> Iterator[Published]:
        """All rows of the split's files, in the order of the files' names."""
        return parquet_rows(matches(root, self.patterns(split)[0]), self.schemas)
