"""What of the host stays hidden although every file can be read: other namespaces, and processes of other users.

A container shows its own processes, links and counters under the names of the host's; nothing fails, so nobody would
be told. Source: pid_namespaces(7), network_namespaces(7), proc(5): hidepid; include/linux/proc_ns.h.
"""

import os
from pathlib import Path

from etio.core.status import CollectorHealth

PID_INIT = "pid:[4026531836]"
"""The first PID namespace of every kernel (PROC_PID_INIT_INO)."""
SELF = Path("/proc/self/ns/pid")


def own_pids(link: Path = SELF) -> bool:
    """Whether our process ids are not those of the host, as in a container without --pid=host."""
    try:
        return os.readlink(link) != PID_INIT
    except OSError:
        return False


def limits(root: Path, link: Path = SELF) -> tuple[CollectorHealth, ...]:
    """What is hidden, as parts that are absent, with reason and remedy. root: where /proc is looked for."""
    found = []
    if own_pids(link):
        found.append(CollectorHealth(
            "all_processes", "nodata", "own PID namespace: processes outside this container are not seen",
            "run etio on the host, or its container with --pid=host"))
    elif _hides_processes(root):
        found.append(CollectorHealth(
            "all_processes", "nodata", "/proc hides the processes of other users (hidepid)",
            "mount -o remount,hidepid=0 /proc, or remount it with gid= the group of etio's account"))
    if _own_network(root / "proc/sys/net/core"):
        found.append(CollectorHealth(
            "all_networks", "nodata", "own network namespace: links, sockets and counters are those of this container",
            "run etio on the host, or its container with --net=host"))
    return tuple(found)


def _hides_processes(root: Path) -> bool:
    """Whether process 1, which every host has, cannot be read."""
    try:
        (root / "proc/1/stat").read_bytes()
    except OSError:
        return (root / "proc/stat").exists()
    return False


def _own_network(core: Path) -> bool:
    """Only the first network namespace has the settings of what all of them share (net/core/sysctl_net_core.c)."""
    return (core / "somaxconn").exists() and not (core / "netdev_max_backlog").exists()
