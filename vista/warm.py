"""Jobs without their start: a process that has imported the libraries forks for each job on this machine.

torch, transformers, TRL and lmms-eval take four to seven seconds to import, as long as a small model's job
works; pandas, SciPy and matplotlib take two, as long as a table or a figure. Where Snakemake runs several
such jobs here, without GPUs, it starts one such process. ``vista`` in a job's shell asks it to fork, hands
over its arguments, environment, folder and open files, and waits for the end. What holds of a process of its
own holds of the fork:

* It imports our own modules itself, so it is held to the code that was planned (``vista.planned``).
* It is in the asker's process group, so a terminal's signals reach it; others are passed on. When the asker
  is killed, or the process that forks, it is killed.
* Its exit status, or the signal that ended it, is the asker's.
* The process that forks ends with the ``snakemake`` that started it, after its last fork.

Whoever asks in other circumstances (another user, environment or container), or finds nobody, runs the job
itself: only the start takes longer. ``VISTA_WARM=off`` has all jobs do so. Imports nothing heavy.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from vista import memory
from vista.deferred import defer
from vista.errors import writing

VARIABLE = "VISTA_WARM"  # environment variable: the name of the socket; or `off`
# The commands that import what is imported here: with models, and from files to files. Those that may read
# the hub need other variables as libraries are imported.
MODELS = ("check", "encodable", "sample", "resample", "score", "gains", "cases", "train", "evaluate")
TABLES = (
    *("curate", "collect", "tables", "ablation", "findings", "resolution", "difficulty", "cost", "audit"),
    *("faithfulness", "prefix", "distributions", "history", "figure"),
)
COMMANDS = (*MODELS, *TABLES)
RULES = {"results": "tables", "training": "history", "gallery": "figure"}  # whose command has another name
WORTHWHILE = 3  # jobs
LIBRARIES = (
    *("torch", "pandas", "pyarrow.parquet", "datasets", "lmms_eval.evaluator", "lmms_eval.tasks"),
    *("trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "peft", "deepspeed", "math_verify", "typer"),
)
TABLE_LIBRARIES = (
    *("pandas", "pyarrow.parquet", "pyarrow.compute", "scipy.stats", "statsmodels.stats.multitest", "jinja2"),
    *("statsmodels.stats.contingency_tables", "matplotlib.pyplot", "PIL.Image", "tabulate", "typer"),
)
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# What a shell, Snakemake or we set for one job. Any other variable may be read at an import.
FREE = (
    *("_", "SHLVL", "PWD", "OLDPWD", memory.VARIABLE),
    *("TMPDIR", "TMP", "TEMP", "TEMPDIR"),
    *(*THREADS, "GOTO_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
)
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PATIENCE = 60.0  # seconds for a message that has begun to arrive
SIZE = struct.Struct("!I")
DEATH_SIGNAL = 1  # prctl's PR_SET_PDEATHSIG
DIED = (
    "error: the process that had started this job was killed, and the job with it; if memory is short, give "
    "snakemake fewer --cores; then run the same command again"
)


def circumstances(environment: Mapping[str, str]) -> dict[str, Any]:
    """What has to be the same on both sides for a fork to be as good as a process of one's own."""
    spaces = [os.stat(f"/proc/self/ns/{name}").st_ino for name in ("mnt", "pid", "user")]
    fixed = {name: value for name, value in environment.items() if name not in FREE}
    return {
        "python": [sys.executable, sys.prefix, sys.version],
        "code": str(Path(__file__).resolve()),
        "spaces": spaces,
        "groups": sorted([os.getgid(), *os.getgroups()]),
        "environment": dict(sorted(fixed.items())),
    }


# --- who asks: `vista` in the shell of a job ---


def run_there(arguments: Sequence[str]) -> None:
    """Have the job run in a fork, and end as it ends; return at once if there is nobody to fork it."""
    name = os.environ.get(VARIABLE, "off")
    if name == "off" or not arguments or arguments[0] not in COMMANDS:
        return
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(_address(name))
            if _other_user(server):
                return
            told = {
                "arguments": list(arguments),
                "folder": os.getcwd(),
                "mask": _mask(),
                "group": os.getpgrp(),
            }
            told |= {"environment": dict(os.environ), "circumstances": circumstances(os.environ)}
            text = json.dumps(told).encode()
            socket.send_fds(server, [SIZE.pack(len(text))], [0, 1, 2])
            server.sendall(text)
            forked = _receive(server)
        except (OSError, EOFError):
            return  # it has ended, or never was
        if forked:
            _end_as(server, forked)


def _end_as(server: socket.socket, forked: int) -> None:
    """Wait for the end of a fork, and end in the same way."""
    with suppress(ProcessLookupError):  # it has ended
        # Kept open: it is how `forks` finds the fork, too.
        handle = os.pidfd_open(forked)
        for number in PASSED_ON:
            signal.signal(number, lambda found, _: _pass_on(handle, found))
    # A terminal sends it to the fork as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = _receive(server)
    except (OSError, EOFError):
        print(DIED, file=sys.stderr)
        os._exit(1)
    if os.WIFSIGNALED(status):
        ended_by = os.WTERMSIG(status)
        if ended_by != signal.SIGKILL:
            signal.signal(ended_by, signal.SIG_DFL)
        os.kill(os.getpid(), ended_by)
    os._exit(os.WEXITSTATUS(status))


def _pass_on(handle: int, number: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)


def forks(processes: Iterable[int]) -> Iterator[int]:
    """The forks that these processes wait for; they are no children of theirs."""
    for process in processes:
        with suppress(OSError):
            for file in Path(f"/proc/{process}/fdinfo").iterdir():
                for line in file.read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name == "Pid" and int(value) > 0:
                        yield int(value)


# --- who forks ---


def start(log: Path, threads: int, jobs: Iterable[str]) -> IO[bytes] | None:
    """Start the process that forks, if it is worthwhile, and tell the jobs of this ``snakemake`` about it.

    Args:
        log: Where what it prints goes.
        threads: How many a job computes with.
        jobs: The commands, or the rules, of the jobs that will run on this machine.

    Returns:
        What keeps it alive until it is closed, at the latest by the end of this process.

    Raises:
        VistaError: the log cannot be written.
    """
    asked = os.environ.pop(VARIABLE, "")
    commands = [RULES.get(job, job) for job in jobs]
    families = [
        name
        for name, family in (("models", MODELS), ("tables", TABLES))
        if sum(command in family for command in commands) >= WORTHWHILE
    ]
    if sys.platform != "linux" or asked == "off" or not families:
        return None
    name = f"vista-{secrets.token_hex(16)}"
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        said = log.open("wb")
    with said, socket.socket(socket.AF_UNIX) as listener:
        # Listens from now on: the first jobs wait until everything is imported.
        listener.bind(_address(name))
        listener.listen(256)
        os.environ[VARIABLE] = name
        handle = listener.fileno()
        started = subprocess.Popen(  # noqa: S603 - nothing in it is from outside
            [sys.executable, "-P", "-m", "vista.warm", str(handle), str(threads), *families],
            pass_fds=[handle],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
        )
    return started.stdin


def tell_libraries(threads: int, offline: bool = True, reports: bool = False) -> None:
    """Set the variables that libraries read as they are imported; import one of them only if it is used.

    Args:
        threads: How many this process computes with.
        offline: Whether everything it needs is on disk.
        reports: Whether it reports to wandb, a dependency of lmms-eval's that is silent otherwise.
    """
    for name in THREADS:
        os.environ[name] = str(threads)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE") if offline else ():
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("WANDB_MODE", "offline" if reports else "disabled")
    defer()


def serve(handle: int, threads: int, libraries: Iterable[str]) -> None:
    """Fork for whoever asks, until standard input ends; return in each fork, which is to run the job.

    Args:
        handle: Of the socket that listens.
        threads: How many a job computes with.
        libraries: What to import before.
    """
    mine = circumstances(os.environ)
    with socket.socket(fileno=handle) as listener:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the jobs
        tell_libraries(threads)
        for library in libraries:
            with suppress(Exception):  # an extra; a job that cannot do without it says so
                importlib.import_module(library)
        gc.collect()
        gc.freeze()  # forks neither search nor copy it
        told = Forks(listener, mine).next()
    if told is None:
        sys.exit(0)
    _become(told)


class Forks:
    """The forks that run, and who asked for them."""

    def __init__(self, listener: socket.socket, circumstances: Mapping[str, Any]) -> None:
        self.listener = listener
        self.circumstances = circumstances
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        self.selector.register(listener, selectors.EVENT_READ)
        self.running: dict[int, tuple[int, socket.socket]] = {}  # by handle, a fork and who asked for it

    def next(self) -> dict[str, Any] | None:
        """In each fork what it is to be, without anybody else's files; here, in the end, nothing."""
        is_open = True
        while is_open or self.running:
            for key, _ in self.selector.select():
                if self.selector.get_map().get(key.fd) is not key:
                    continue  # closed just now, and its number may be another's
                if key.fileobj is sys.stdin:
                    is_open = False
                    for each in (sys.stdin, self.listener):
                        self.selector.unregister(each)
                    self.listener.close()
                elif key.fileobj is self.listener and is_open:
                    told = self._fork()
                    if told is not None:
                        return told
                elif key.fd in self.running:
                    self._finish(key.fd)
                elif key.data in self.running:  # its asker is gone: it never says anything
                    self.selector.unregister(key.fileobj)
                    signal.pidfd_send_signal(key.data, signal.SIGKILL)
        return None

    def _fork(self) -> dict[str, Any] | None:
        """Fork for the next who asks; in the fork, what he asks for."""
        asker, _ = self.listener.accept()
        told = _asked(asker, self.circumstances)
        if told is None:
            asker.close()
            return None
        forked = os.fork()
        if forked == 0:
            self.selector.close()
            for handle, (_, other) in self.running.items():
                os.close(handle)
                other.close()
            asker.close()
            return told
        for file in told["files"]:
            os.close(file)
        print(f"{forked}: vista {' '.join(told['arguments'])}", flush=True)
        handle = os.pidfd_open(forked)
        self.running[handle] = (forked, asker)
        self.selector.register(handle, selectors.EVENT_READ)
        self.selector.register(asker, selectors.EVENT_READ, handle)
        with suppress(OSError):  # that it is gone is seen next
            _send(asker, forked)
        return None

    def _finish(self, handle: int) -> None:
        """Tell whoever asked for a fork how it has ended."""
        forked, asker = self.running.pop(handle)
        _, status = os.waitpid(forked, 0)
        self.selector.unregister(handle)
        os.close(handle)
        with suppress(KeyError):  # it was gone
            self.selector.unregister(asker)
        with suppress(OSError):
            _send(asker, status)
        asker.close()


def _asked(asker: socket.socket, mine: Mapping[str, Any]) -> dict[str, Any] | None:
    """What somebody asks for; ``None`` if it cannot be done for him."""
    files: list[int] = []
    try:
        asker.settimeout(PATIENCE)
        if _other_user(asker):
            return None
        head, files, _, _ = socket.recv_fds(asker, SIZE.size, 3)
        told: dict[str, Any] = json.loads(_exactly(asker, SIZE.unpack(head)[0]))
        differing = _differing(mine, told["circumstances"])
        if not differing and len(files) == 3:
            return told | {"files": files}
        what = f"vista {' '.join(told['arguments'])}"
        print(f"not forked: {what}; other circumstances: {', '.join(differing)}", flush=True)
        _send(asker, 0)
    except (OSError, EOFError, struct.error):
        pass  # it is gone
    for file in files:
        os.close(file)
    return None


def _differing(mine: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """The circumstances that are not the same; variables by name, since what they say may be secret."""
    here, there = mine["environment"], others["environment"]
    variables = sorted(name for name in {**here, **there} if here.get(name) != there.get(name))
    return [name for name in mine if name != "environment" and mine[name] != others[name]] + variables


def end_with_parent() -> None:
    """Have the kernel end this process when the one that started it ends, however it does."""
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)


def _become(told: Mapping[str, Any]) -> None:
    """Be the process that somebody asked for."""
    end_with_parent()
    for file, place in zip(told["files"], (0, 1, 2), strict=True):
        os.dup2(file, place)
        os.close(file)
    with suppress(OSError):  # the asker has ended
        os.setpgid(0, told["group"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(told["folder"])
    os.umask(told["mask"])
    os.environ.clear()
    os.environ.update(told["environment"])
    tempfile.tempdir = None  # asked for again
    sys.argv[:] = ["vista", *told["arguments"]]
    memory.INHERITED = memory.mapped()


def _address(name: str) -> str:
    """In no folder: it is gone when its process is."""
    return f"\0{name}"


def _other_user(peer: socket.socket) -> bool:
    """Whether a stranger is at the other end."""
    _, user, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user != os.getuid())


def _mask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask


def _send(peer: socket.socket, number: int) -> None:
    peer.sendall(SIZE.pack(number))


def _receive(peer: socket.socket) -> int:
    return int(SIZE.unpack(_exactly(peer, SIZE.size))[0])


def _exactly(peer: socket.socket, count: int) -> bytes:
    """The next ``count`` bytes.

    Raises:
        EOFError: fewer come.
    """
    found = b""
    while len(found) < count:
        more = peer.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found


if __name__ == "__main__":
    imported = [
        *(LIBRARIES if "models" in sys.argv else ()),
        *(TABLE_LIBRARIES if "tables" in sys.argv else ()),
    ]
    serve(int(sys.argv[1]), int(sys.argv[2]), imported)
    from vista.cli import main

    main()
