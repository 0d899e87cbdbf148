"""What the tests of faults share: runs that can be watched, and what must hold after any of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from safetensors import safe_open

from tests.checkout import Checkout
from vista import verify

# `make test-faults` sets it to 100.
KILLS = int(os.environ.get("VISTA_KILLS", "5"))
PATIENCE = 600.0  # seconds until a test gives up on what never comes


@dataclass
class Watched:
    """A Snakemake that was started, and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, checkout: Checkout, *arguments: str) -> Watched:
        log = checkout.folder / "said.txt"
        return cls(checkout.start(*arguments, log=log), log)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, happened: Callable[[], bool]) -> bool:
        """Wait until it has happened; ``False`` if Snakemake ended before."""
        end = time.monotonic() + PATIENCE
        while not happened():
            if self.process.poll() is not None:
                return happened()
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"it never happened:\n{self.said[-4000:]}")
            time.sleep(0.02)
        return True

    def finished_jobs(self) -> int:
        return len(re.findall(r"^Finished jobid", self.said, flags=re.MULTILINE))

    def running(self, rule: str = r"\w+") -> bool:
        """Whether a job of this rule, or any job, was started."""
        return re.search(rf"^(local)?rule {rule}:", self.said, flags=re.MULTILINE) is not None

    def end(self) -> int:
        """Wait for its end and return its exit status."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """As a power cut does, to it and to its jobs."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def assert_nothing_is_half_written(checkout: Checkout) -> None:
    """What stands under a final name is whole, and what has a manifest is what the manifest says."""
    for file in checkout.results.rglob("*"):
        if any(part.startswith(".") for part in file.relative_to(checkout.results).parts):
            continue
        assert ".part" not in file.name
        if file.suffix == ".parquet":
            pq.read_metadata(file)
        elif file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".safetensors":
            safe_open(file, "pt")
    if (checkout.results / "suite.json").is_file():
        found = verify.verify(checkout.suite()).damaged
        assert not found, found


def assert_a_plain_rerun_completes(checkout: Checkout, main_csv: bytes) -> None:
    done = checkout.snakemake()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert checkout.main_csv.read_bytes() == main_csv
    assert_nothing_is_half_written(checkout)
