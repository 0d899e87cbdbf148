"""How the examples of an optimiser step are shared among processes and forward passes.

Serves ``vista train``, and the config, which refuses sizes that leave a rest. Free of torch.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shares:
    """A step of ``batch_size`` examples, spread over ``processes`` with at most ``at_once`` in a pass."""

    batch_size: int
    processes: int
    at_once: int | None  # None: a process's whole share

    @property
    def device_batch(self) -> int:
        """Examples per process and forward pass."""
        share = max(1, self.batch_size // self.processes)
        return share if self.at_once is None else min(share, self.at_once)

    @property
    def passes(self) -> int:
        """Forward passes of each process."""
        return self.batch_size // (self.processes * self.device_batch)

    @property
    def leaves_no_rest(self) -> bool:
        """Whether processes and passes share the step evenly."""
        return self.passes * self.processes * self.device_batch == self.batch_size


def smallest_step(processes: int, k: int) -> int:
    """The fewest responses that give each process one group of ``k``."""
    return processes * k


def in_whole_groups(batch_size: int, processes: int, k: int) -> bool:
    """Whether every process's share of a step of ``batch_size`` responses is whole groups of ``k``."""
    return batch_size > 0 and batch_size % smallest_step(processes, k) == 0
