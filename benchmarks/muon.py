"""What a step of Muon, which pretrains tiny models, costs with torch's own and with ours.

Run: ``OMP_NUM_THREADS=1 python benchmarks/muon.py``

In turns on matrices of a nano model's sizes; medians of CPU milliseconds, their spread, and the ratio. Ours
computes in float32, torch's in bfloat16, which a processor without instructions for it emulates.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import torch

from vista.models.muon import Muon

SHAPES = [(128, 128)] * 8 + [(256, 128)] * 4 + [(128, 256)] * 2
TIMES, TURNS = 5, 5


def milliseconds(optimizer: torch.optim.Optimizer) -> float:
    """CPU time of one step."""
    began = time.process_time()
    for _ in range(TIMES):
        optimizer.step()
    return 1000 * (time.process_time() - began) / TIMES


def matrices() -> list[torch.nn.Parameter]:
    """Random ones with random gradients."""
    numbers = torch.Generator().manual_seed(0)
    found = [torch.nn.Parameter(torch.randn(*shape, generator=numbers)) for shape in SHAPES]
    for matrix in found:
        matrix.grad = torch.randn(*matrix.shape, generator=numbers)
    return found


def main() -> None:
    torch.set_num_threads(1)
    theirs = torch.optim.Muon(
        matrices(), lr=1e-3, weight_decay=0.0, ns_steps=4, adjust_lr_fn="match_rms_adamw"
    )
    steps: Mapping[str, torch.optim.Optimizer] = {"torch's": theirs, "ours": Muon(matrices(), lr=1e-3)}
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(1 + TURNS):
        for name, optimizer in steps.items():
            spent = milliseconds(optimizer)
            found[name] += [spent] if turn else []
    for name, taken in found.items():
        print(f"{name:8} {statistics.median(taken):7.2f} ms, spread {max(taken) / min(taken):.2f}")
    one, other = (statistics.median(taken) for taken in found.values())
    print(f"torch's / ours: {one / other:.1f}")


if __name__ == "__main__":
    main()
