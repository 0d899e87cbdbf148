"""VISTA-bench: a reproducible harness for vision-aware self-improvement training.

The stages, in the order in which data flows through them:
tasks → models → rollouts → curation → training → evaluation → analysis.
Run them all with ``snakemake --cores all results/tables/main.csv``.
"""

__version__ = "0.1.0"
