"""Tokens per second of every job of a finished suite that runs a model, and what starting all jobs took.

Run: ``python benchmarks/throughput.py results`` (any suite's results folder).

Seconds are those of the whole job after its imports, model loading included; so a suite of many
small jobs looks slower than its loops are. The start of a job is what its benchmark file has beyond that:
its shell, Python, imports or the fork in their place, and reading the plan. Snakemake itself and the process
that forks are no jobs, and not in it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import pandas as pd

from vista.analysis.cost import STAGES, measured_by, output_name, read_benchmarks
from vista.errors import VistaError, told
from vista.manifest import Manifest, find_outputs, read_manifest
from vista.paths import Paths


def manifests(results: Path) -> list[Manifest]:
    """The manifests of a results folder that count tokens; one for each job."""
    found = []
    for path in sorted(find_outputs(results, STAGES)):
        # Critical tokens are written by the job that writes the resamples.
        if "critical" not in path.parts and "tokens" in (manifest := read_manifest(path)).counts:
            found.append(manifest)
    return found


def work(manifest: Manifest) -> str:
    """What a job did, for a row of the table."""
    kinds = [kind for kind in ("samples", "resamples", "scores") if kind in manifest.settings]
    objective = manifest.settings.get("objective", {}).get("kind", "")
    return " ".join([manifest.stage, *kinds, objective]).strip()


def starts(results: Path) -> pd.DataFrame:
    """Every job with a benchmark file and a manifest: ``stage, seconds, start``."""
    paths = Paths(results)
    benchmarks = read_benchmarks(paths, [])
    rows = []
    for stage in STAGES:
        worked = {
            output_name(paths, output): read_manifest(output).seconds
            for output in find_outputs(results, [stage])
            if output.is_relative_to(results / stage)
        }
        for job in benchmarks[benchmarks["stage"] == stage].to_dict("records"):
            own = [seconds for name, seconds in worked.items() if measured_by(name, job["name"])]
            if own:
                start = max(0.0, job["seconds"] - max(own))
                rows.append({"stage": stage, "seconds": job["seconds"], "start": start})
    return pd.DataFrame(rows, columns=["stage", "seconds", "start"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    results = parser.parse_args().results
    groups: dict[tuple[str, str], list[Manifest]] = defaultdict(list)
    for manifest in manifests(results):
        groups[work(manifest), manifest.device].append(manifest)
    if not groups:
        raise VistaError(f"{results}: no manifest that counts tokens; run a suite first")
    print(f"{'work':28} {'device':24} {'jobs':>5} {'tokens':>12} {'seconds':>9} {'tokens/s':>9}")
    for (name, device), members in sorted(groups.items()):
        tokens = sum(member.counts["tokens"] for member in members)
        seconds = sum(member.seconds for member in members)
        print(f"{name:28} {device:24} {len(members):5} {tokens:12.0f} {seconds:9.1f} {tokens / seconds:9.0f}")
    jobs = starts(results)
    print(f"\n{'stage':12} {'jobs':>5} {'seconds':>9} {'starts':>9} {'share':>7}")
    for stage, own in [*jobs.groupby("stage", sort=False), ("all", jobs)]:
        seconds, start = own["seconds"].sum(), own["start"].sum()
        print(f"{stage:12} {len(own):5} {seconds:9.1f} {start:9.1f} {start / seconds:7.1%}")


if __name__ == "__main__":
    with told():
        main()
