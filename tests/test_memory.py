"""A job keeps to the memory that its rule asks for, and allocates nothing enormous that a file asks for."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from tests.nano import checkpoint, query
from vista import memory
from vista.chat import encode_queries
from vista.config import ModelStage
from vista.engines.presenter import _check_sizes, load_processor
from vista.errors import VistaError, is_out_of_memory
from vista.images import decoded
from vista.records import QUERY, read_table, write_rows

SQUARE = {"height": 448, "width": 448}
TILED = {"crop_to_patches": True, "min_patches": 3_000, "max_patches": 3_000, "size": SQUARE}
ENORMOUS: list[tuple[str, dict[str, Any], str]] = [
    ("nano-qwen2.5-vl", {"size": {"shortest_edge": 10**9, "longest_edge": 2 * 10**9}}, "shortest_edge"),
    ("nano-qwen2.5-vl", {"min_pixels": 10**9, "max_pixels": 2 * 10**9}, "shortest_edge"),
    ("nano-internvl", {"size": {"height": 31_623, "width": 31_623}}, "31623"),
    ("nano-internvl", TILED, "min_patches: 3000"),
    ("nano-internvl", {"crop_to_patches": True, "max_patches": 10**9}, "max_patches: 1000000000"),
]


def strangers(root: Path, folder: Path, name: str, changes: dict[str, Any]) -> Path:
    """A checkpoint whose image processor has been changed; its file."""
    shutil.copytree(root / "tests/frozen" / name, folder)
    file = folder / "processor_config.json"
    config = json.loads(file.read_text())
    config["image_processor"] |= changes
    file.write_text(json.dumps(config))
    return file


def job(program: str, given: str | None, *arguments: str) -> tuple[int, str, float]:
    """Run a program as a job; its status, what it said, and the most that it held, in MB."""
    code = textwrap.dedent(program) + "\nwith told():\n    work()\n"
    environment = {name: value for name, value in os.environ.items() if name != memory.VARIABLE}
    environment |= {} if given is None else {memory.VARIABLE: given}
    # Not `ru_maxrss`: a process begins with that of whoever started it.
    measured = (
        "import atexit, os, sys\n"
        "from vista import memory\n"
        "atexit.register(lambda: print(memory._status(os.getpid(), 'VmHWM')))\n"
        "from vista.errors import told\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", measured + code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    words = done.stdout.split()
    return done.returncode, done.stderr, float(words[-1]) / (1 << 20) if words else 0.0


@pytest.mark.parametrize(("name", "changes", "said"), ENORMOUS, ids=str)
def test_a_processor_that_asks_for_enormous_images_is_refused_by_its_file(
    root: Path, tmp_path: Path, name: str, changes: dict[str, Any], said: str
) -> None:
    file = strangers(root, tmp_path / "mine", name, changes)
    with pytest.raises(VistaError) as caught:
        load_processor(file.parent)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)


def test_so_is_one_that_writes_more_image_tokens_than_a_tokenizer_survives(
    root: Path, tmp_path: Path
) -> None:
    file = strangers(root, tmp_path / "mine", "nano-internvl", {})
    file.write_text(json.dumps(json.loads(file.read_text()) | {"image_seq_length": 10**9}))
    with pytest.raises(VistaError, match=r"processor_config.json: image_seq_length: 1000000000 is more than"):
        load_processor(file.parent)


def test_the_most_patches_of_one_image_are_no_tiles(root: Path, tmp_path: Path) -> None:
    from transformers import Kimi_K25ImageProcessor

    presenter = load_processor(root / "tests/frozen/nano-internvl")
    presenter.inner.image_processor = Kimi_K25ImageProcessor()
    assert presenter.image_processor.max_patches > 5_000
    _check_sizes(presenter, tmp_path)


def test_it_costs_a_job_no_memory(root: Path, tmp_path: Path) -> None:
    file = strangers(root, tmp_path / "mine", *ENORMOUS[3][:2])  # one that only trying tells
    program = """
        from pathlib import Path
        def work():
            from vista.engines.checkpoints import load_checkpoint
            load_checkpoint(Path(sys.argv[1]))
    """
    status, said, most = job(program, None, str(file.parent))
    assert status == 2, said
    assert said.count("error: ") == 1
    assert f"{file}: an image of 64×64 pixels takes more than 1 GB" in said
    assert most < 2_000


@pytest.mark.parametrize("name", ["nano-qwen2.5-vl", "nano-internvl"])
def test_ordinary_processors_are_taken_and_no_limit_stays(root: Path, name: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    load_processor(root / "tests/frozen" / name)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


GREEDY = """
    def work():
        kept = [bytearray(500_000_000) for _ in range(20)]
"""


@pytest.mark.parametrize(
    ("rule", "raised"),
    [
        ("sample", r"resources\.rollouts\.memory_gb of the model's entry in models\.yaml"),
        ("train", r"resources\.training\.memory_gb of the model's entry in models\.yaml"),
        ("collect", r"`snakemake --set-resources collect:mem_mb=1000`"),
    ],
)
def test_a_job_over_its_limit_ends_with_one_message_that_says_what_to_raise(rule: str, raised: str) -> None:
    status, said, most = job(GREEDY, f"{rule}:500")
    assert status == 2
    assert said.count("\n") == 1
    assert re.search(rf"^error: .*: out of memory \(MemoryError; limit 0\.5 GB: {raised}\)", said)
    assert most < 4_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library may not be glibc")
def test_what_is_freed_is_used_again_and_not_given_back_to_the_kernel() -> None:
    code = """
        import resource, sys
        from vista import memory

        if sys.argv[1] == "reuse":
            memory.reuse_freed()

        def step():
            activations = [b"1" * (2 << 20) for _ in range(32)]

        step()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(4):
            step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(code), how], check=True, capture_output=True, text=True
            ).stdout
        )
        for how in ("default", "reuse")
    }
    assert faults["reuse"] < faults["default"] / 10


def test_by_hand_there_is_no_limit() -> None:
    program = """
        import resource
        def work():
            assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    """
    assert job(program, None)[0] == 0


def test_a_harder_limit_of_the_machine_stays() -> None:
    program = """
        import resource
        resource.setrlimit(resource.RLIMIT_DATA, (900_000_000, 900_000_000))
        def work():
            assert resource.getrlimit(resource.RLIMIT_DATA) == (900_000_000, 900_000_000)
    """
    status, said, _ = job(program, "sample:100000")
    assert status == 0, said


def test_so_does_one_that_the_user_set() -> None:
    program = """
        import resource
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (900_000_000, hard))
        def work():
            assert resource.getrlimit(resource.RLIMIT_DATA) == (900_000_000, hard)
    """
    status, said, _ = job(program, "sample:100000")
    assert status == 0, said


WATCHED = """
    import time
    from pathlib import Path
    from vista import memory
    memory.DEVICES, memory.PERIOD, memory.RESERVED, memory.POOLS = Path(sys.argv[1]), 0.05, 0, 0
    def work():
        {}
        time.sleep(60)
"""
CHILD = "import subprocess; subprocess.Popen([sys.executable, '-c', 'b = bytearray(700_000_000); input()'])"


@pytest.fixture
def unhidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable hides GPUs, as one does from the other tests."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("unhidden")
@pytest.mark.parametrize("takes", ["kept = bytearray(b'1') * 700_000_000", CHILD], ids=["itself", "a child"])
def test_where_there_is_a_gpu_what_job_and_children_hold_is_watched(tmp_path: Path, takes: str) -> None:
    (tmp_path / "nvidia0").touch()
    status, said, _ = job(WATCHED.format(takes), "evaluate:500", str(tmp_path))
    assert status == 2
    assert said.count("\n") == 1
    assert re.search(
        r"out of memory \(it holds 0\.\d GB; limit 0\.5 GB: resources\.evaluation\.memory_gb", said
    )


@pytest.mark.usefixtures("unhidden")
def test_what_forked_children_share_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    program = """
        import os, time
        from pathlib import Path
        from vista import memory
        memory.DEVICES, memory.PERIOD = Path(sys.argv[1]), 0.05
        memory.RESERVED = memory.POOLS = 0
        def work():
            kept = bytearray(b'1') * 300_000_000
            children = []
            for _ in range(3):
                child = os.fork()
                if not child:
                    time.sleep(1)
                    os._exit(0)
                children.append(child)
            for child in children:
                os.waitpid(child, 0)
    """
    status, said, _ = job(program, "evaluate:700", str(tmp_path))
    assert status == 0, said


@pytest.mark.usefixtures("unhidden")
def test_without_a_visible_gpu_the_kernel_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "DEVICES", tmp_path)
    assert not memory._has_gpu()
    (tmp_path / "nvidia0").touch()
    assert memory._has_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not memory._has_gpu()


def test_a_batch_is_halved_within_a_jobs_limit(root: Path) -> None:
    program = """
        import torch
        from vista.engines.batching import BatchSize
        def work():
            batch = BatchSize(64, "sampling")
            def once():
                batch.trying(["query 'q1'"] * batch.size)
                return torch.zeros(batch.size, 100_000_000, dtype=torch.uint8).shape[0]
            assert batch.until_it_fits(once) in (8, 16), batch.size
    """
    status, said, _ = job(program, "sample:1000")
    assert status == 0, said
    assert "query 'q1': out of memory while sampling 64 at once" in said
    assert "limit 1.0 GB: resources.rollouts.memory_gb" in said


def test_a_lack_of_gpu_memory_is_not_told_of_as_this_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from vista.errors import lack

    monkeypatch.setenv(memory.VARIABLE, "sample:500")
    assert "limit" not in lack(torch.OutOfMemoryError("CUDA out of memory"))


def test_what_fails_under_a_limit_only_is_a_lack_of_memory_there() -> None:
    error = RuntimeError("could not create a primitive")
    assert not is_out_of_memory(error)
    with memory.at_most(10**12):
        assert is_out_of_memory(error)
        assert is_out_of_memory(RuntimeError("can't start new thread"))
    assert not is_out_of_memory(error)


def test_where_memory_runs_out_the_file_or_the_query_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: Any, **__: Any) -> None:
        raise MemoryError

    file = tmp_path / "rows.parquet"
    write_rows(file, [], QUERY)
    monkeypatch.setattr("pyarrow.parquet.read_table", starve)
    with pytest.raises(VistaError, match=rf"{file}: out of memory"):
        read_table(file, QUERY)
    shown = query(0)["images"][0]["bytes"]
    monkeypatch.setattr(Image.Image, "convert", starve)
    with pytest.raises(VistaError, match="query 'q0': image 0: out of memory"):
        decoded(shown, "query 'q0': image 0")
    monkeypatch.undo()
    monkeypatch.setattr("vista.chat._encode_together", starve)
    with pytest.raises(VistaError, match=r"query 'q1': out of memory .*2,304 pixels"):
        encode_queries(checkpoint("internvl").processor, [query(0), query(1, size=(48, 48))])


def test_the_part_of_a_models_resources_is_that_which_the_rule_asks_for(root: Path) -> None:
    rules = "\n".join(file.read_text() for file in root.glob("workflow/rules/*.smk"))
    found = dict[str, str]()
    for rule in re.split(r"^ *rule(?: |:$)", rules, flags=re.M)[1:]:
        command = re.search(r'" ?(?:vista|\{params\.vista:q\}) (\S+)', rule)
        asked = re.search(r'PLAN\.memory\("(\w+)"', rule)
        if command and asked:
            named = ["sample", "resample", "score", "gains"] if "{" in command[1] else [command[1]]
            found |= dict.fromkeys(named, asked[1])
    assert found == memory.PARTS
    assert set(found.values()) == set(get_args(ModelStage))
