"""A full disk and a read-only one: one message, nothing half-written, and a rerun that completes.

The disk is a tmpfs in a mount namespace of its own, which any user may have where the kernel allows it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.workflow.faults.conftest import assert_nothing_is_half_written

STAR = "nano-smoke/grids/star/seed0/round1"
ZERO_SHOT = "evaluation/nano-smoke/grids/zero-shot/seed0/round0/predictions.parquet"


@dataclass
class Disk:
    """A small disk, seen by what runs in its namespace alone.

    Attributes:
        keeper: The process that keeps the namespace.
        enter: The command that runs another one in it.
        folder: Where the disk is mounted.
    """

    keeper: int
    enter: list[str]
    folder: Path

    def run(self, *command: str, checkout: Checkout | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.enter, "env", f"--chdir={'/' if checkout is None else checkout.folder}", *command],
            env=dict(os.environ) if checkout is None else checkout.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def mount(self, *options: str) -> None:
        what = [] if "remount" in options else ["-t", "tmpfs", "disk"]
        done = self.run("mount", "-o", ",".join(options), *what, str(self.folder))
        assert done.returncode == 0, done.stderr

    def seen(self, path: Path) -> Path:
        """A path as this process can read it."""
        return Path(f"/proc/{self.keeper}/root{path}")


def namespace(kind: list[str]) -> tuple[subprocess.Popen[bytes], str]:
    keeper = subprocess.Popen(
        ["unshare", *kind, "sh", "-c", "echo ready; exec sleep infinity"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert keeper.stdout is not None
    if keeper.stdout.readline().strip() == b"ready":
        return keeper, ""
    assert keeper.stderr is not None
    return keeper, keeper.stderr.read().decode().strip()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    reasons = []
    for kind, enter in ((["-rm"], ["--user", "--preserve-credentials"]), (["-m"], [])):
        keeper, reason = namespace(kind)
        if reason:
            reasons.append(reason)
            continue
        made = Disk(keeper.pid, ["nsenter", f"--target={keeper.pid}", "--mount", *enter], folder)
        try:
            made.mount("size=1m")
            yield made
        finally:
            keeper.kill()
            keeper.wait()
        return
    pytest.skip(f"no mount namespace can be made here: {'; '.join(reasons)}")


WRITERS = {
    "parquet": "records.write_rows(folder / 'x.parquet', [row] * 3, schema)",
    "text": "records.write_text(folder / 'x.csv', noise.hex())",
    "json": "records.write_json(folder / 'x.json', noise.hex())",
    "checkpoint": "save_checkpoint(network(), Processor(), folder / 'x')",
    "figure": "drawing.save(drawing.nothing('why'), folder / 'x', None)",
    "state": "torch.save({'x': torch.randn(1_000_000)}, folder / '.state.pt')",
    "safetensors": "save_file({'x': torch.randn(1_000_000)}, folder / '.state.safetensors')",
    "copy": "shutil.copy(sys.executable, folder / '.copy')",
}
SCRIPT = """
import os, shutil, sys
from pathlib import Path
import pyarrow as pa
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from vista import records
from vista.engines.checkpoints import save_checkpoint
from vista.errors import told
from vista.figures import drawing

folder = Path(sys.argv[1])
noise = os.urandom(2_000_000)
row, schema = {"x": noise}, pa.schema([("x", pa.binary())])

def network():
    return LlamaForCausalLM(LlamaConfig(hidden_size=64, intermediate_size=64, vocab_size=8000,
        num_hidden_layers=1, num_attention_heads=1))

class Processor:
    def save_pretrained(self, folder):
        pass

for name, line in WRITERS.items():
    print(f"== {name}", file=sys.stderr, flush=True)
    try:
        with told():
            exec(line)
    except SystemExit as ended:
        print(f"status {ended.code}", file=sys.stderr)
    for file in folder.glob(".[!f]*"):
        file.unlink()
    print("left:", sorted(file.name for file in folder.iterdir()), file=sys.stderr)
"""


def said_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    parts = done.stderr.split("== ")[1:]
    return {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in parts}


@pytest.mark.slow
def test_every_writer_says_that_the_disk_is_full_and_leaves_nothing(disk: Disk) -> None:
    filled = disk.run("dd", "if=/dev/zero", f"of={disk.folder}/.filler", "bs=4k")
    assert "No space left" in filled.stderr
    script = f"WRITERS = {WRITERS!r}\n{SCRIPT}"
    done = disk.run(sys.executable, "-c", script, str(disk.folder))
    said = said_of(done)
    assert said.keys() == WRITERS.keys(), done.stderr[-3000:]
    for name, text in said.items():
        assert "status 2" in text, f"{name}: {text}"
        assert text.count("error: ") == 1, f"{name}: {text}"
        assert "No space left on device" in text, f"{name}: {text}"
        assert "MB free on the disk at" in text, f"{name}: {text}"
        assert "make room" in text
        assert "Traceback" not in text
        assert "left: ['.filler']" in text, f"{name}: {text}"
    for name in ("parquet", "text", "json", "checkpoint", "figure"):
        assert f"error: {disk.folder}/x" in said[name], f"{name}: {said[name]}"


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_full_disk_ends_one_job_and_with_room_made_a_plain_rerun_completes(
    copy: Checkout, disk: Disk
) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.remove(f"training/{STAR}", ZERO_SHOT)
    results = put_on(disk, copy)
    used = int(disk.run("df", "--output=used", "-B1k", str(results)).stdout.split()[-1])
    disk.mount("remount", f"size={used + 1200}k")  # enough for logs and predictions, not for weights
    done = run_snakemake(disk, copy)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    errors = {line.strip() for line in said.splitlines() if line.strip().startswith("error: ")}
    assert len(errors) == 1, said[-4000:]  # from the job, and quoted at the end
    assert f"error: results/smoke/training/{STAR}: No space left on device" in said
    assert f"free on the disk at {results}" in said
    assert said.count("Error in rule") == 1
    assert "Traceback" not in said
    on_disk = Checkout(disk.seen(copy.folder))
    assert (on_disk.results / ZERO_SHOT).is_file()
    assert_nothing_is_half_written(on_disk)
    assert not list(on_disk.results.rglob("*.part"))
    disk.mount("remount", "size=100m")
    done = run_snakemake(disk, copy)
    assert done.returncode == 0, done.stderr[-4000:]
    assert on_disk.main_csv.read_bytes() == main_csv


@pytest.mark.slow
@pytest.mark.end_to_end
def test_a_read_only_results_folder_is_named_before_any_job(copy: Checkout, disk: Disk) -> None:
    main_csv = copy.main_csv.read_bytes()
    copy.remove("tables/main.csv")
    put_on(disk, copy)
    disk.mount("remount", "ro")
    said = refused_by_snakemake(disk, copy)
    assert "\nresults/smoke/.lock: Read-only file system; mount it writable" in said
    # What the Snakefile writes while it is read: the suite, then checksums of the code.
    said = refused_by_snakemake(disk, copy, "--config", "eval_batch_size=8")
    assert "\nresults/smoke/suite.json: Read-only file system" in said
    module = copy.folder / "vista/analysis/tables.py"
    text = module.read_text()
    module.write_text(text + "\n\nEDITED = 1\n")
    assert "\nresults/smoke/code/tables" in refused_by_snakemake(disk, copy)
    module.write_text(text)
    disk.mount("remount", "rw")
    done = run_snakemake(disk, copy)
    assert done.returncode == 0, done.stderr[-4000:]
    assert Checkout(disk.seen(copy.folder)).main_csv.read_bytes() == main_csv


def put_on(disk: Disk, checkout: Checkout) -> Path:
    """Move the results of a checkout to the disk; where they are then."""
    kept = checkout.folder.parent / "kept"
    results = checkout.folder / "results"
    results.rename(kept)
    results.mkdir()
    disk.folder = results
    disk.mount("size=100m")
    done = disk.run("cp", "-a", f"{kept}/.", str(results))
    assert done.returncode == 0, done.stderr
    return results


def run_snakemake(disk: Disk, checkout: Checkout, *more: str) -> subprocess.CompletedProcess[str]:
    return disk.run(*checkout.command("results/smoke/tables/main.csv"), *more, checkout=checkout)


def refused_by_snakemake(disk: Disk, checkout: Checkout, *more: str) -> str:
    done = run_snakemake(disk, checkout, *more)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "vista/errors.py" not in done.stderr
    assert "rule results:" not in done.stderr
    return done.stderr
