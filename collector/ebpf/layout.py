"""Where the running kernel keeps what the programs follow: control groups of a task, NUMA nodes of CPUs.

Standard library only, and no import of the daemon's: the loader runs it by the distribution's Python.
"""

import re
from pathlib import Path

from collector.ebpf.btf import Btf, BtfError
from collector.ebpf.families import QUEUE_REASONS

NODES = "/sys/devices/system/node"
_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers")
_CONTROLLERS = (("CPU", "cpu"), ("MEMORY", "memory"))


def hierarchy(unified: Path = _UNIFIED) -> str:
    """ "v2" where the unified hierarchy controls the host, "v1" where each controller has a hierarchy of its own."""
    return "v2" if unified.exists() else "v1"


def cgroup_flags(known: Btf, kind: str) -> list[str]:
    """Compiler flags for the way from a task to its group's id: CSET_CPU, CSET_MEMORY and what lies behind them.

    The way is task -> css_set -> (v1: the controller's css ->) cgroup -> kernfs node -> id, which is the inode of the
    group's directory. Empty on kernels before 5.5, whose ids are laid out otherwise, and without control groups.
    """
    try:
        flags = [f"-DTASK_CGROUPS={known.offset('task_struct', 'cgroups')}",
                 f"-DCGROUP_NODE={known.offset('cgroup', 'kn')}", f"-DNODE_ID={known.offset('kernfs_node', 'id')}"]
        if kind == "v2":
            at = known.offset("css_set", "dfl_cgrp")
            return [*flags, *(f"-DCSET_{name}={at}" for name, _ in _CONTROLLERS)]
        first = known.offset("css_set", "subsys")
        number = known.enum("cgroup_subsys_id")
        flags.append(f"-DCSS_CGROUP={known.offset('cgroup_subsys_state', 'cgroup')}")
        return [*flags, *(f"-DCSET_{name}={first + 8 * number[f'{controller}_cgrp_id']}"
                          for name, controller in _CONTROLLERS if f"{controller}_cgrp_id" in number)]
    except BtfError:
        return []


def migrate_flags(known: Btf) -> list[str]:
    """Offset of a task's CPU, which moved into thread_info over time; empty where it is in neither place."""
    for outer, inner in (("task_struct", "cpu"), ("thread_info", "cpu")):
        try:
            base = known.offset("task_struct", "thread_info") if outer == "thread_info" else 0
            return [f"-DTASK_CPU={base + known.offset(outer, inner)}"]
        except BtfError:
            continue
    return []


def queue_flags(known: Btf) -> list[str]:
    """Which reasons of a drop are those of a queue, and the way from a packet to the name of its device and to the
    namespace that is in. Empty where the kernel tells no such reason (before Linux 5.18)."""
    try:
        numbers = known.enum("skb_drop_reason")
        wanted = [numbers[name] for reason in QUEUE_REASONS if (name := f"SKB_DROP_REASON_{reason}") in numbers]
        if not wanted:
            return []
        return [f"-DQUEUE_REASON(r)=({'||'.join(f'(r)=={n}' for n in wanted)})",
                f"-DSKB_DEV={known.offset('sk_buff', 'dev')}", f"-DDEV_NAME={known.offset('net_device', 'name')}",
                f"-DDEV_NET={known.offset('net_device', 'nd_net')}",
                f"-DNET_INODE={known.offset('net', 'ns') + known.offset('ns_common', 'inum')}"]
    except BtfError:
        return []


def reset_flags(known: Btf) -> list[str]:
    """The way from a packet to its TCP header, and the reason of a reset where nobody listens. Empty on kernels that
    tell no reason of a reset (before Linux 6.10)."""
    try:
        return [f"-DNOBODY_LISTENS={known.enum('sk_rst_reason')['SK_RST_REASON_NO_SOCKET']}",
                f"-DSKB_HEAD={known.offset('sk_buff', 'head')}",
                f"-DSKB_TRANSPORT={known.offset('sk_buff', 'transport_header')}"]
    except (BtfError, KeyError):
        return []


def queued_flags(known: Btf, accounts: str = "/proc/self/schedstat") -> list[str]:
    """Where the kernel keeps since when a task waits for a core, how long it has waited in its life, and the clock that
    both are told by (that of the run queue). Empty on kernels that keep neither (CONFIG_SCHED_INFO off, or switched
    off: then no task has ever been counted as run) or do not group tasks."""
    try:
        if Path(accounts).read_text().split()[2:] in ([], ["0"]):
            return []
        info = known.offset("task_struct", "sched_info")
        return ["-DQUEUED", f"-DTASK_QUEUED={info + known.offset('sched_info', 'last_queued')}",
                f"-DTASK_RUN_DELAY={info + known.offset('sched_info', 'run_delay')}",
                f"-DTASK_CFS_RQ={known.offset('task_struct', 'se') + known.offset('sched_entity', 'cfs_rq')}",
                f"-DCFS_RQ_RQ={known.offset('cfs_rq', 'rq')}", f"-DRQ_CLOCK={known.offset('rq', 'clock')}"]
    except (OSError, BtfError):
        return []


def cpu_nodes(root: str = NODES) -> dict[int, int]:
    """NUMA node of each CPU; empty on a kernel without NUMA."""
    found = {}
    for folder in Path(root).glob("node[0-9]*"):
        try:
            listed = (folder / "cpulist").read_text()
        except OSError:
            continue
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", listed):
            for cpu in range(int(first), int(last or first) + 1):
                found[cpu] = int(folder.name[4:])
    return found
