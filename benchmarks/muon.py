"""What Muon's orthogonalisation, which pretrains tiny models, costs in torch's bfloat16 beside float32.

Run: ``OMP_NUM_THREADS=1 python benchmarks/muon.py``

In turns on one matrix of a nano model's size; medians of CPU milliseconds, their spread, and the ratio. A
processor without instructions for bfloat16 emulates them.
"""

from __future__ import annotations

import statistics
import time
from unittest.mock import patch

import torch
from torch.optim import _muon

SHAPE = (256, 128)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # torch's defaults
STEPS, TIMES, TURNS = 4, 20, 5  # steps as in vista.models.pretrain


def milliseconds(gradient: torch.Tensor, kept: bool) -> float:
    """CPU time of one orthogonalisation; with ``kept``, in the gradient's own precision."""
    own = patch.object(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    began = time.process_time()
    for _ in range(TIMES):
        if kept:
            with own:
                _muon._zeropower_via_newtonschulz(gradient, COEFFICIENTS, STEPS, 1e-7)
        else:
            _muon._zeropower_via_newtonschulz(gradient, COEFFICIENTS, STEPS, 1e-7)
    return 1000 * (time.process_time() - began) / TIMES


def main() -> None:
    torch.set_num_threads(1)
    gradient = torch.randn(*SHAPE, generator=torch.Generator().manual_seed(0))
    found: dict[str, list[float]] = {"bfloat16": [], "float32": []}
    for turn in range(1 + TURNS):
        for name, taken in found.items():
            spent = milliseconds(gradient, name == "float32")
            taken += [spent] if turn else []
    for name, taken in found.items():
        print(f"{name:9} {statistics.median(taken):7.2f} ms, spread {max(taken) / min(taken):.2f}")
    one, other = (statistics.median(taken) for taken in found.values())
    print(f"bfloat16 / float32: {one / other:.1f}")


if __name__ == "__main__":
    main()
