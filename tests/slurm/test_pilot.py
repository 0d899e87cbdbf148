"""A pilot of the smoke suite through ``profiles/slurm`` on a real Slurm; see ``test_faults``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.test_faults import POLLING, cluster, make_checkout, on_cluster

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

__all__ = ["cluster"]
TARGET = "results/smoke-pilot/tables/pilot.csv"


def test_a_pilot_goes_through_the_cluster_to_its_table(root: Path, tmp_path: Path, cluster: Cluster) -> None:
    checkout = on_cluster(make_checkout(root, tmp_path))
    words = ("snakemake", TARGET, "--profile", "profiles/slurm", "--configfile", "config/smoke.yaml")
    done = checkout.run(*words, "--config", "pilot=4", "gpus=1", *POLLING)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    table = pd.read_csv(checkout.folder / TARGET)
    assert (table["planned"] == table["done"]).all()
    assert table[table["stage"] == "training"]["seconds"].gt(0).all()
