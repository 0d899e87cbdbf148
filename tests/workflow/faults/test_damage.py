"""Files that something changes without the DAG: found, named, refused, made again.

In the ordinary run the damaged files that are made again are those from a training set on, so that few jobs
have to run; ``make test-faults`` (``VISTA_KILLS`` above 5) takes one of every stage.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.checkout import EVERY_JOB, Checkout
from tests.workflow.faults.conftest import KILLS, assert_a_plain_rerun_completes
from vista import verify
from vista.analysis.collect import collect
from vista.analysis.tables import results_tables
from vista.config import Suite
from vista.curation.curate import curate
from vista.errors import VistaError
from vista.evaluation.evaluate import evaluate
from vista.figures import drawing
from vista.grid import Run
from vista.models.build import build_model
from vista.paths import Paths, manifest_of
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard
from vista.rollouts.score import score_shard
from vista.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

SEED = Run.parse("nano-smoke/grids/sft-seed/seed0/round0")
STAR = Run.parse("nano-smoke/grids/star/seed0/round1")
VISTA = Run.parse("nano-smoke/grids/vista-sft/seed0/round1")
NEXT = Run.parse("nano-smoke/grids/vista-sft/seed0/round2")
DPO = Run.parse("nano-smoke/grids/vista-dpo/seed0/round1")
K6 = "k6-t1-n80"
PREFIX = f"{K6}+prefix-j3-top1-swapped"

Reader = Callable[[Suite, Paths], object]


def draw_main(suite: Suite, paths: Paths) -> None:
    drawing.Recorder("analysis", {}, [paths.table("main", "csv")])


# A file of each stage, and who reads it next.
FILES: dict[str, tuple[str, Reader]] = {
    "corpus": ("tasks/printed/train.parquet", lambda s, p: build_model(s, p, "nano-smoke")),
    "queries": ("tasks/grid-closed/train.parquet", lambda s, p: sample_shard(s, p, SEED, K6, 0)),
    "model": ("models/nano-smoke/model.safetensors", lambda s, p: train(s, p, SEED)),
    "samples": (
        f"rollouts/{VISTA.id}/samples/{K6}/0-of-1.parquet",
        lambda s, p: resample_shard(s, p, VISTA, PREFIX, 0),
    ),
    "resamples": (
        f"rollouts/{VISTA.id}/resamples/{PREFIX}/0-of-1.parquet",
        lambda s, p: score_shard(s, p, VISTA, f"{PREFIX}+positives", 0),
    ),
    "scores": (
        f"rollouts/{VISTA.id}/scores/{PREFIX}+positives/0-of-1.parquet",
        lambda s, p: curate(s, p, NEXT),
    ),
    "training set": (f"curation/{STAR.id}/train.parquet", lambda s, p: train(s, p, STAR)),
    "checkpoint": (f"training/{DPO.id}/model.safetensors", lambda s, p: evaluate(s, p, DPO)),
    "tokenizer": (f"training/{SEED.id}/tokenizer.json", lambda s, p: sample_shard(s, p, SEED, K6, 0)),
    "predictions": (f"evaluation/{SEED.id}/predictions.parquet", collect),
    "long": ("long.csv", results_tables),
    "table": ("tables/main.csv", draw_main),
}


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0b100
    file.write_bytes(content)


def lose(file: Path) -> None:
    file.unlink()


@pytest.fixture(scope="module")
def spoiled(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A copy whose files are damaged and put back, one after the other."""
    checkout = finished.copy(tmp_path_factory.mktemp("spoiled"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout.folder)
        yield checkout


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lose])
@pytest.mark.parametrize("what", FILES)
def test_a_damaged_file_is_named_alone_and_refused_by_the_next_stage(
    spoiled: Checkout, what: str, damage: Callable[[Path], None]
) -> None:
    name, read = FILES[what]
    file = spoiled.results / name
    sound, times = file.read_bytes(), file.stat()
    damage(file)
    try:
        done = spoiled.vista("verify", "results/smoke/suite.json")
        assert done.returncode == 2
        named = [line.split(": ")[0] for line in done.stdout.splitlines() if "expected" in line]
        assert named == [f"results/smoke/{name}"]
        assert ("cut short" in done.stdout) == (damage is truncate)
        suite = spoiled.suite()
        with pytest.raises(VistaError, match=re.escape(str(file))) as refused:
            read(suite, Paths(suite.results))
        told = re.search(r"vista verify .*suite\.json`, which prints", str(refused.value))
        assert told or damage is lose, "a file that is not there may be missed by whoever opens it"
    finally:
        file.write_bytes(sound)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_results_that_nobody_touched_are_found_sound(spoiled: Checkout) -> None:
    done = spoiled.vista("verify", "--configfile", "config/smoke.yaml")
    assert done.returncode == 0, done.stdout
    assert "all are what was made" in done.stdout


def test_results_may_be_copied_elsewhere(finished: Checkout, tmp_path: Path) -> None:
    moved = finished.copy(tmp_path)
    elsewhere = tmp_path / "other/place"
    elsewhere.parent.mkdir()
    moved.results.rename(elsewhere)
    suite = finished.suite().model_copy(update={"results": elsewhere})
    report = verify.verify(suite)
    assert report.outputs > 50
    assert not report.damaged
    # What is damaged there is named there.
    flip_a_bit(elsewhere / "evaluation" / SEED.id / "predictions.parquet")
    damaged = verify.verify(suite).damaged
    assert list(damaged) == [f"evaluation/{SEED.id}/predictions.parquet"]
    files = verify.files_to_make(suite, damaged)
    line = verify.command(suite, [str(file) for file in files.values()], Path("config/smoke.yaml"))
    assert line.endswith(f"--forcerun {elsewhere}/evaluation/{SEED.id}/predictions.parquet")


def printed(checkout: Checkout) -> list[str]:
    """The command that ``vista verify`` prints."""
    done = checkout.vista("verify", "results/smoke/suite.json")
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("  snakemake "))
    return shlex.split(line)


def jobs(checkout: Checkout, *command: str) -> dict[str, int]:
    """How many jobs of each rule a command plans."""
    done = checkout.run(*command, *EVERY_JOB)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    said = done.stdout + done.stderr
    return dict(Counter(re.findall(r"^(?:local)?rule (\w+):$", said, flags=re.MULTILINE)))


def test_the_printed_command_plans_what_removing_the_files_would(copy: Checkout) -> None:
    """All that was made from them, and nothing else."""
    damaged = {
        f"curation/{STAR.id}/train.parquet": truncate,
        f"training/{DPO.id}/model.safetensors": lose,
        f"rollouts/{VISTA.id}/samples/{K6}/0-of-1.parquet": flip_a_bit,
        f"evaluation/{SEED.id}/predictions.parquet": lose,
        "tables/main.csv": truncate,
    }
    for name, damage in damaged.items():
        damage(copy.results / name)
    planned = jobs(copy, *printed(copy))
    copy.remove(*(name.removesuffix("/model.safetensors") for name in damaged))
    assert planned == jobs(copy, *copy.command())
    assert planned["curate"] == 2, "STaR's, and that of the second round"


@pytest.mark.parametrize(
    "name",
    [
        "tasks/grid-noisy/test.parquet",
        f"curation/{STAR.id}/train.parquet",
        f"training/{DPO.id}",
        f"rollouts/{VISTA.id}/scores/{PREFIX}+positives/0-of-1.parquet",
    ],
)
def test_what_is_gone_with_its_manifest_is_made_again_with_all_that_follows(
    copy: Checkout, name: str
) -> None:
    output, aside = copy.results / name, copy.folder / "aside"
    aside.mkdir()
    for path in {output, output if output.is_dir() else manifest_of(output)}:
        path.rename(aside / path.name)
    planned = jobs(copy, *printed(copy))
    for path in aside.iterdir():
        path.rename(output.parent / path.name)
    assert copy.vista("verify", "results/smoke/suite.json").returncode == 0
    copy.remove(name)
    assert planned == jobs(copy, *copy.command())


def test_swapped_predictions_are_made_again(copy: Checkout) -> None:
    main_csv = copy.main_csv.read_bytes()
    files = [copy.results / f"evaluation/{run.id}/predictions.parquet" for run in (STAR, DPO)]
    for first, second in (files, map(manifest_of, files)):
        first.rename(copy.folder / "aside")
        second.rename(first)
        (copy.folder / "aside").rename(second)
    with pytest.raises(VistaError, match="the manifest of"):
        collect(copy.suite(), Paths(copy.results))
    done = copy.run(*printed(copy))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert copy.vista("verify", "results/smoke/suite.json").returncode == 0
    assert_a_plain_rerun_completes(copy, main_csv)


def test_the_printed_command_makes_damaged_and_lost_files_again_with_all_that_follows(copy: Checkout) -> None:
    main_csv = copy.main_csv.read_bytes()
    chosen = ("training set", "checkpoint", "predictions", "long", "table") if KILLS <= 5 else tuple(FILES)
    files = [copy.results / FILES[what][0] for what in chosen]
    sound = {file: file.read_bytes() for file in files}
    for number, file in enumerate(files):
        (truncate, flip_a_bit, lose)[number % 3](file)
    done = copy.run(*printed(copy))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    assert copy.vista("verify", "results/smoke/suite.json").returncode == 0
    assert jobs(copy, *copy.command()) == {}
    assert_a_plain_rerun_completes(copy, main_csv)
    weights = [file for file in files if file.suffix != ".csv"]
    assert all(file.read_bytes() == sound[file] for file in weights)
