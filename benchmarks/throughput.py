"""Tokens per second of every job of a finished suite that runs a model, from the manifests.

Run: ``python benchmarks/throughput.py results`` (any suite's results folder).

Seconds are those of the whole job after its imports, model loading included; so a suite of many
small jobs looks slower than its loops are.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from vista.errors import VistaError
from vista.manifest import Manifest


def manifests(results: Path) -> list[Manifest]:
    """All manifests below a results folder that count tokens; one for each job."""
    found = []
    for path in sorted(results.rglob("*manifest.json")):
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        # Critical tokens are written by the job that writes the resamples.
        if "tokens" in manifest.counts and "/critical/" not in str(path):
            found.append(manifest)
    return found


def work(manifest: Manifest) -> str:
    """What a job did, for a row of the table."""
    kinds = [kind for kind in ("samples", "resamples", "scores") if kind in manifest.settings]
    objective = manifest.settings.get("objective", {}).get("kind", "")
    return " ".join([manifest.stage, *kinds, objective]).strip()


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


if __name__ == "__main__":
    main()
