"""Stage 1, ``tasks``: from a benchmark to the queries of its splits."""
