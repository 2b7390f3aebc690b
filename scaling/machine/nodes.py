"""Nodes of a batch job: how many there are, the address of this one, and commands that run on another.

Slurm alone starts processes on other nodes (`srun`). A job's batch script, and whatever it starts, runs on its first
node; the others hold nothing until a step begins there.
"""

import fcntl
import os
import shutil
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

INTERFACE = "GLOO_SOCKET_IFNAME"  # environment variable with the network that gloo takes
LOOPBACK, LOOPBACKS = "127.0.0.1", ("lo", "lo0")
ELSEWHERE = ("192.0.2.1", 9)  # an address for documents (RFC 5737): a route leads there, and nothing is sent
SIOCGIFADDR = 0x8915  # Linux: the address of a network interface
REMEDY = "hydra/launcher=slurm hydra.launcher.nodes={nodes} starts workers of as many, and runtime.nodes_per_run=1 one"


def nodes_here() -> int:
    """Nodes that a process here can start others on: those of Slurm's job, or this machine alone."""
    count = os.environ.get("SLURM_JOB_NUM_NODES", "")
    return int(count) if count.isdigit() and shutil.which("srun") else 1


def check_nodes(nodes: int, here: int, where: str = "here") -> None:
    """ValueError for a run over more nodes than there are."""
    if nodes > here:
        found = "1 node is" if here == 1 else f"{here} nodes are"
        raise ValueError(f"runtime.nodes_per_run={nodes}, but {found} {where}; {REMEDY.format(nodes=nodes)}")


def address() -> str:
    """This node's address as other nodes reach it: that of its name, else that of its default route."""
    with suppress(OSError):
        named = socket.gethostbyname(socket.gethostname())
        if not named.startswith("127."):
            return named
    return _source(ELSEWHERE)


def interface_towards(host: str) -> str | None:
    """The name of the network interface whose address reaches the host; None where the system does not report it."""
    source = _source((host, 9))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                asked = struct.pack("256s", name.encode()[:15])
                if socket.inet_ntoa(fcntl.ioctl(asking, SIOCGIFADDR, asked)[20:24]) == source:
                    return name
    return None


def use_interface(host: str) -> None:
    """Let gloo exchange by the network that leads to the host, unless the user has chosen one."""
    if INTERFACE in os.environ:
        return
    loopback = next((name for _, name in socket.if_nameindex() if name in LOOPBACKS), None)
    name = loopback if host == LOOPBACK else interface_towards(host)
    if name is not None:
        os.environ[INTERFACE] = name


def on_node(node: int, command: Sequence[str]) -> list[str]:
    """The command as one task of Slurm on a node of this job, counted from its first; it may use all of the node.

    Several such tasks share a node, which is why each step overlaps the others.
    """
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    own = [f"--cpus-per-task={cpus}"] if cpus else []
    return [
        "srun",
        "--nodes=1",
        "--ntasks=1",
        f"--relative={node}",
        *own,
        "--overlap",
        "--cpu-bind=none",
        "--export=ALL",
        *command,
    ]


def _source(target: tuple[str, int]) -> str:
    """The address of this machine from which a target is reached; the loopback's without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, suppress(OSError):
        asking.connect(target)
        return str(asking.getsockname()[0])
    return LOOPBACK
