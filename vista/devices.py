"""Which GPUs a job on this machine may use: each job has its own.

``snakemake`` counts GPUs but hands none out. Where it runs jobs on its own machine, it says which devices
there are (``VISTA_DEVICES``). A job takes as many as it asks for, by a lock (``flock``) on a file for each,
and shows itself only these (``CUDA_VISIBLE_DEVICES``). The kernel gives a lock back when its holder is gone.
The files are of this machine and user, so that several ``snakemake`` share them.

Where a scheduler runs the jobs, it chooses the devices. A command that is run by hand sees what its caller
does.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vista import lock
from vista.errors import VistaError, writing

OFFERED = "VISTA_DEVICES"  # environment variable: what the jobs of this snakemake choose from
VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS = 60.0  # that nvidia-smi may take
PAUSE = 0.2  # seconds between two looks at devices that others have
TOLD = 20  # looks after which a job says for whom it waits
# How CUDA names devices; what follows a word of another form is not visible.
NAME = re.compile(r"\d+|(GPU|MIG)-\S+")
DEV = Path("/dev")


@dataclass(frozen=True)
class Device:
    """A GPU, or a part of one.

    Attributes:
        name: As ``CUDA_VISIBLE_DEVICES`` has it: a number, or a UUID.
        key: The same for the same device, whatever the caller calls it.
    """

    name: str
    key: str


def of_machine(environment: Mapping[str, str] = os.environ) -> list[Device]:
    """The devices that this process may use, in the order of ``CUDA_VISIBLE_DEVICES`` if that is set."""
    given = environment.get(VISIBLE)
    names = None if given is None else visible(given)
    if names == []:
        return []
    listed = _listed(environment)
    if names is None:
        names = [str(number) for number in range(len(listed))]
    found = {_key(name, listed): name for name in reversed(names)}  # by two names of one, the first
    return [Device(found[key], key) for key in reversed(found)]


def visible(given: str) -> list[str]:
    """The devices that a value of ``CUDA_VISIBLE_DEVICES`` names: as for CUDA, those before a wrong word."""
    found: list[str] = []
    for word in given.split(","):
        if not NAME.fullmatch(word.strip()):
            break
        found.append(word.strip())
    return list(dict.fromkeys(found))


def _listed(environment: Mapping[str, str]) -> list[str]:
    """The UUID of each GPU by number; just the numbers if ``nvidia-smi`` does not say."""
    command = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if command is not None:
        asked = [command, "--query-gpu=uuid", "--format=csv,noheader"]
        try:
            done = subprocess.run(  # noqa: S603 - nothing in it is from outside
                asked, capture_output=True, text=True, check=True, timeout=SECONDS
            )
            return [line.strip() for line in done.stdout.splitlines() if line.strip()]
        except (OSError, subprocess.SubprocessError):
            pass  # a login node has no device files either; where a GPU is lost, the others are there
    return [str(number) for number, _ in enumerate(DEV.glob("nvidia[0-9]*"))]


def _key(name: str, listed: Sequence[str]) -> str:
    if name.isdigit():
        return listed[int(name)] if int(name) < len(listed) else name
    return next((uuid for uuid in listed if uuid.startswith(name)), name)  # a UUID may be cut short


def offer(devices: Sequence[Device]) -> None:
    """Let the jobs that this process starts choose from ``devices``; from none: they see what it sees.

    Raises:
        VistaError: the folder of the locks is not this user's.
    """
    os.environ.pop(OFFERED, None)
    if devices:
        folder = _folder(Path(tempfile.gettempdir()))
        value = {"folder": str(folder), "devices": [[each.name, each.key] for each in devices]}
        os.environ[OFFERED] = json.dumps(value)


def _folder(parent: Path) -> Path:
    """The folder of this user's locks on this machine.

    Raises:
        VistaError: it is somebody else's, who could keep devices from the jobs.
    """
    folder = parent / f"vista-devices-{os.getuid()}"
    with writing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise VistaError(
            f"{folder}: not a folder of yours, so locks of GPUs cannot be kept there; have it removed, or "
            "export TMPDIR with the path of another folder on this machine"
        )
    return folder


def are_offered() -> bool:
    """Whether the ``snakemake`` that started this process leaves it to its jobs to choose."""
    return OFFERED in os.environ


def take(count: int, what: str) -> Callable[[], None]:
    """Take devices of those that are offered, for this process and what it starts; wait until they are free.

    Of those who choose from the same devices one at a time looks for free ones, so a job that wants several
    gets them as they are given back; the others wait. It takes all that it wants or none, so that two jobs
    that choose from different but common devices cannot each hold what the other waits for.

    Args:
        count: How many; with none, the process sees no device.
        what: The job, in words.

    Returns:
        Gives them back; the end of the process does as well.

    Raises:
        VistaError: more than are offered.
    """
    # What this process starts belongs to this job, and takes nothing of its own.
    value = json.loads(os.environ.pop(OFFERED))
    folder = Path(value["folder"])
    devices = [Device(name, key) for name, key in value["devices"]]
    if count > len(devices):
        raise VistaError(f"{what}: {too_many(count, len(devices))}")
    held = _wait_for(folder, devices, count, what) if count else {}
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(device.name for device in held)
    for handle in held.values():
        os.set_inheritable(handle, True)  # the launcher of several processes takes this one's place
    if held:
        print(f"{what}: on GPU {os.environ[VISIBLE]}", file=sys.stderr, flush=True)

    def give_back() -> None:
        for handle in held.values():
            os.close(handle)
        if before is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = before

    return give_back


def too_many(asked: int, there: int) -> str:
    """Says that a job asks for more devices than there are."""
    return (
        f"asks for {asked} GPUs, and {there} may be used on this machine; lower `gpus` of the suite, or "
        "`training.processes` or `resources` of the model's entry, or run it on a larger machine"
    )


def _wait_for(folder: Path, devices: Sequence[Device], count: int, what: str) -> dict[Device, int]:
    """Take ``count`` of the devices, as soon as they are free."""
    queue = _hash(*sorted(device.key for device in devices))
    looks = 0
    with _locked(folder / f"queue-{queue}"):
        while True:
            with _locked(folder / "mutex"):
                held = _free(folder, devices, count)
            if held:
                break
            if looks == TOLD:
                _tell(folder, devices, count, what)
            looks += 1
            time.sleep(PAUSE)
    for device, handle in held.items():
        lock.sign(_file(folder, device), handle, what)
    return held


def _free(folder: Path, devices: Sequence[Device], count: int) -> dict[Device, int]:
    """The first ``count`` devices that nobody has, now this process's; none if there are fewer."""
    held: dict[Device, int] = {}
    for device in devices:
        if len(held) < count and (handle := lock.acquire(_file(folder, device))) is not None:
            held[device] = handle
    if len(held) < count:
        for handle in held.values():
            os.close(handle)
        return {}
    return held


def _tell(folder: Path, devices: Sequence[Device], count: int, what: str) -> None:
    files = [_file(folder, device) for device in devices]
    owners = [str(lock.owner(file)) for file in files if lock.is_held(file)]
    said = f"{what}: waits for {count} of {len(devices)} GPUs; at work there: {', '.join(owners)}"
    print(said, file=sys.stderr)


def _file(folder: Path, device: Device) -> Path:
    safe = device.key if re.fullmatch(r"[\w-]{1,100}", device.key) else _hash(device.key)
    return folder / f"gpu-{safe}"


def _hash(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Hold the lock of a file within the block; wait for it."""
    with writing(file), file.open("a") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
