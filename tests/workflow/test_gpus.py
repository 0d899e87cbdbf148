"""A machine of several GPUs and no scheduler: what Snakemake hands its jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.promise.world import TABLE, Clone, make_clone
from tests.test_devices import UUIDS, listing, nvidia_smi
from vista.dag.told import SHOWN

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

LONGEST = 1500  # characters of a line


@pytest.fixture
def clone(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone on a machine of four GPUs, whose suite asks for them."""
    nvidia_smi(tmp_path / "bin", listing(*UUIDS[:4]))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    clone = make_clone(root, tmp_path / "clone")
    clone.config |= {"gpus": 1, "shards": 4}
    clone.write_config()
    return clone


def logs(clone: Clone) -> dict[str, str]:
    """What each log says of GPUs."""
    folder = clone.results / "logs"
    found = {str(log.relative_to(folder)): log.read_text() for log in folder.rglob("*.log")}
    return {name: "".join(re.findall(r"on GPU (\S+)", text)) for name, text in found.items()}


def test_every_job_on_a_machine_of_several_gpus_has_its_own(clone: Clone) -> None:
    models = (clone.folder / "models.yaml").read_text()
    (clone.folder / "models.yaml").write_text(models.replace("{device_batch_size: 8}", "{processes: 8}"))
    refused = clone.run(*clone.command(cores=4))
    assert refused.returncode == 1
    assert "vista train nano-smoke/both/rest-em/seed0/round1: asks for 8 GPUs, and 4 may" in refused.stdout
    assert logs(clone) == {}, "nothing was begun"

    (clone.folder / "models.yaml").write_text(models)
    dry = clone.run(*clone.command("-n", TABLE)).stdout
    assert re.search(r"(?m)^sample nano-smoke/both/\S+ \S+ \d$", dry)
    assert len(re.findall(r"(?m)^sample \S+/", dry)) == SHOWN
    assert re.search(r"(?m)^sample … \(\d+ more; --printshellcmds shows all\)$", dry)
    assert re.search(r"(?m)^total +\d+$", dry)
    assert "input:" not in dry
    whole = clone.run(*clone.command("-n", "--printshellcmds", TABLE)).stdout
    assert len(re.findall(r"(?m)^rule sample:$", whole)) > SHOWN
    assert "vista sample" in whole
    done = clone.run(*clone.command(cores=4))
    assert done.returncode == 0, done.stdout[-4000:]
    assert clone.table.read_bytes() == clone.clean_table()
    assert re.search(
        r"(?m)^\d+ of \d+ jobs done \(\d+ %\), \d at work, about \d+ min \d+ s left$", done.stdout
    )
    assert re.search(r"(?m)^(\d+) of \1 jobs done \(100 %\), 0 at work$", done.stdout)
    assert max(map(len, done.stdout.splitlines())) < LONGEST
    said = logs(clone)
    for name, devices in said.items():
        runs_model = name.startswith(("models", "rollouts", "training", "evaluation"))
        assert re.fullmatch("[0-3]" if runs_model and "encodable" not in name else "", devices), name
