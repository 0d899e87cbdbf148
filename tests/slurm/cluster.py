"""A small Slurm cluster on this machine, with fake GPUs, for the tests and for trying a profile.

    python -m tests.slurm.cluster start     two nodes in namespaces of their own, or one on loopback
    python -m tests.slurm.cluster stop

Debian's packages are enough: no munge, no slurmdbd, no cgroups. It needs root, and writes
``/etc/slurm/slurm.conf`` (job steps look nowhere else), but never over a file that it did not write.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = Path("/etc/slurm/slurm.conf")
GRES = Path("/etc/slurm/gres.conf")
MARK = "# Written by tests/slurm/cluster.py"
STATE = Path("/run/vista-slurm")
GPUS = 2  # of each node; device files that lead nowhere
BRIDGE = "vista0"
NETWORK = "10.213.57"

COMMON = """{mark}; stop the cluster to remove it.
ClusterName=vista
SlurmctldHost={host}({address})
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
ReturnToService=2
MinJobAge=3600
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
# A node that is gone is found soon, and its jobs are queued again.
SlurmdTimeout=10
BatchStartTimeout=30
KillWait=5
InactiveLimit=0
JobRequeue=1
# A job that is queued again may start when what let it start before has lost its validity.
AuthInfo=cred_expire=10
OverTimeLimit=0
SlurmdParameters=config_overrides
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/%n
SlurmctldPidFile={state}/ctld.pid
SlurmdPidFile={state}/%n.pid
SlurmctldLogFile={state}/ctld.log
SlurmdLogFile={state}/%n.log
"""


class ClusterError(Exception):
    """The cluster cannot be had here; the message says why and what to do."""


@dataclass(frozen=True)
class Node:
    """One node: its name, where it is reached, and the namespace of its network (none: this machine's)."""

    name: str
    address: str
    namespace: str | None


@dataclass
class Cluster:
    """A controller and its nodes. ``with Cluster() as cluster`` starts and stops them."""

    nodes: list[Node] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start controller and nodes, and wait until all are idle."""
        check_machine()
        stop_all()
        self.nodes = _networked() or [Node(socket.gethostname(), "127.0.0.1", None)]
        STATE.mkdir(parents=True)
        for name in ("ctld", *(node.name for node in self.nodes)):
            (STATE / name).mkdir()
        try:
            _write_config(self.nodes)
            self._spawn("ctld", ["slurmctld", "-D"])
            for node in self.nodes:
                self.start_node(node)
            self.wait_for({node.name: "idle" for node in self.nodes})
        except BaseException:
            self.stop()
            raise

    def start_node(self, node: Node) -> None:
        """Switch a node on."""
        if node.namespace is None:
            self._spawn(node.name, ["slurmd", "-D"])
            return
        # Everything that a node runs lives in its process namespace and ends with it.
        boot = f"hostname {node.name} && exec slurmd -D"
        inside = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", boot]
        # Not `ip netns exec`: it mounts /sys anew, where slurmd looks for control groups.
        self._spawn(node.name, ["nsenter", f"--net=/run/netns/{node.namespace}", *inside])

    def _spawn(self, name: str, command: list[str]) -> None:
        with (STATE / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        (STATE / f"{name}.process").write_text(str(self.processes[name].pid))

    def cut_power(self, node: Node) -> None:
        """A node is gone from one moment to the next, with all that runs on it."""
        if node.namespace is None:
            raise ClusterError("a node without namespaces of its own cannot be cut off")
        process = self.processes.pop(node.name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def states(self) -> dict[str, str]:
        """State of each node, as ``sinfo`` calls it."""
        lines = run("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines()
        return dict(line.split() for line in lines)

    def wait_for(self, wanted: dict[str, str], seconds: float = 60.0) -> None:
        """Wait until nodes are in these states.

        Raises:
            ClusterError: they are not in time; with what the daemons said last.
        """
        limit = time.monotonic() + seconds
        found: dict[str, str] = {}
        while time.monotonic() < limit:
            try:
                found = self.states()
            except subprocess.CalledProcessError:
                found = {}
            if wanted.items() <= found.items():
                return
            time.sleep(0.3)
        said = "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in sorted(STATE.glob("*.log")))
        raise ClusterError(f"nodes are {found}, not {wanted}, after {seconds:.0f} s\n{said}")

    def stop(self) -> None:
        """Stop all daemons and jobs, and remove what ``start`` wrote."""
        self.processes.clear()
        stop_all()


def run(*command: str) -> str:
    """A command's output; ``CalledProcessError`` if it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def check_machine() -> None:
    """Refuse to start where it cannot work, or where a cluster already is."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "srun", "squeue") if not shutil.which(name)]
    if missing:
        raise ClusterError(
            f"{', '.join(missing)}: not installed; `apt-get install slurmctld slurmd slurm-client`"
        )
    if os.geteuid() != 0:
        raise ClusterError("starting Slurm's daemons needs root; run the tests in a container, as root")
    for path in (CONFIG, GRES):
        if path.exists() and not path.read_text().startswith(MARK):
            raise ClusterError(f"{path} is another cluster's; this machine's Slurm is left alone")


def _networked() -> list[Node]:
    """Two nodes, each in a network of its own behind a bridge; none where that is not allowed."""
    nodes = [Node(f"vista{n}", f"{NETWORK}.{10 + n}", f"vista{n}") for n in (1, 2)]
    try:
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for node in nodes:
            outside, inside = f"{node.name}-out", f"{node.name}-in"
            run("ip", "netns", "add", node.name)
            run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
            run("ip", "link", "set", inside, "netns", node.name)
            run("ip", "link", "set", outside, "master", BRIDGE, "up")
            within = ("ip", "netns", "exec", node.name, "ip")
            run(*within, "address", "add", f"{node.address}/24", "dev", inside)
            run(*within, "link", "set", inside, "up")
            run(*within, "link", "set", "lo", "up")
        run("unshare", "--uts", "--pid", "--fork", "--mount-proc", "true")
    except (OSError, subprocess.SubprocessError) as error:
        print(f"one node, for want of namespaces: {error}", file=sys.stderr)
        _remove_networks()
        return []
    return nodes


def _remove_networks() -> None:
    for name in ("vista1", "vista2"):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", f"{name}-out"], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)


def _write_config(nodes: list[Node]) -> None:
    """slurm.conf and gres.conf: all cores and three quarters of the memory, shared out to the nodes."""
    cores = max(1, (os.cpu_count() or 1) // len(nodes))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    memory = int(pages * 0.75 / len(nodes) / 2**20)
    address = f"{NETWORK}.1" if nodes[0].namespace else "127.0.0.1"
    lines = [COMMON.format(mark=MARK, host=socket.gethostname(), address=address, state=STATE)]
    for node in nodes:
        lines.append(
            f"NodeName={node.name} NodeAddr={node.address} CPUs={cores} RealMemory={memory} "
            f"Gres=gpu:{GPUS} State=UNKNOWN\n"
        )
    lines.append(
        f"PartitionName=test Nodes={','.join(n.name for n in nodes)} Default=YES MaxTime=UNLIMITED\n"
    )
    for number in range(GPUS):
        device = STATE / f"gpu{number}"
        os.mknod(device, 0o20666, os.makedev(1, 3))  # as /dev/null
    CONFIG.parent.mkdir(parents=True, exist_ok=True)
    CONFIG.write_text("".join(lines))
    GRES.write_text(f"{MARK}\nName=gpu File={STATE}/gpu[0-{GPUS - 1}]\n")


def stop_all() -> None:
    """Stop the daemons of any cluster that this module started, and remove its files and networks."""
    for note in STATE.glob("*.process"):
        try:
            os.killpg(int(note.read_text()), signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            continue
    if STATE.exists():
        shutil.rmtree(STATE)
    for path in (CONFIG, GRES):
        if path.exists() and path.read_text().startswith(MARK):
            path.unlink()
    _remove_networks()


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["start"]:
            Cluster().start()
        elif sys.argv[1:] == ["stop"]:
            stop_all()
        else:
            sys.exit(__doc__)
    except ClusterError as problem:
        sys.exit(f"error: {problem}")
