"""Which NUMA node a CPU or a network adapter belongs to.

Reads:  /sys/devices/system/node/node*/cpulist, /sys/class/{net,infiniband}/*/device/numa_node
Source: Documentation/ABI/stable/sysfs-devices-node
"""

import os
import re
from functools import lru_cache

from collector.cgroup_files import slurp

MOST_CPUS, MOST_ADAPTERS = 1 << 14, 64
_NODE = re.compile(r"node(\d{1,4})")


def parse_cpulist(raw: bytes) -> list[int]:
    """The numbers of a list such as ``0-3,8``; empty for what is no such list.

    >>> parse_cpulist(b"0-3,8")
    [0, 1, 2, 3, 8]
    """
    text = raw.decode("ascii", "replace").strip()
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", text, re.ASCII):
        return []
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), min(int(last or first) + 1, MOST_CPUS))
    return found


@lru_cache(maxsize=4)
def node_of_cpu(root: str) -> tuple[int, ...]:
    """Node of each CPU by its number, -1 where it has none; root without a slash at its end. Read once."""
    folder, nodes = f"{root}/sys/devices/system/node", {}
    try:
        names = os.listdir(folder)
    except OSError:
        return ()
    for name in names:
        if found := _NODE.fullmatch(name):
            for cpu in parse_cpulist(slurp(f"{folder}/{name}/cpulist", 1 << 16) or b""):
                nodes[cpu] = int(found[1])
    return tuple(nodes.get(cpu, -1) for cpu in range(max(nodes, default=-1) + 1))


def node_facts(root: str) -> tuple[tuple[str, str], ...]:
    """For Facts.extra: ("numa node N", its CPUs and network adapters), of hosts with several nodes."""
    nodes = range(max(node_of_cpu(root), default=-1) + 1)
    if len(nodes) < 2:
        return ()
    adapters = _adapters(root)
    return tuple((f"numa node {node}", _words(root, node, adapters.get(node, []))) for node in nodes)


def _words(root: str, node: int, adapters: list[str]) -> str:
    cpus = (slurp(f"{root}/sys/devices/system/node/node{node}/cpulist", 4096) or b"").decode("ascii", "replace").strip()
    return f"cpus: {cpus}" + (f"; adapters: {' '.join(adapters)}" if adapters else "")


def _adapters(root: str) -> dict[int, list[str]]:
    """Network adapters by node; those without a device of their own belong to none."""
    found: dict[int, list[str]] = {}
    for kind in ("infiniband", "net"):
        try:
            names = sorted(os.listdir(f"{root}/sys/class/{kind}"))[:MOST_ADAPTERS]
        except OSError:
            continue
        for name in names:
            text = (slurp(f"{root}/sys/class/{kind}/{name}/device/numa_node", 16) or b"").strip()
            if text.isdigit():
                found.setdefault(int(text), []).append(name)
    return found


def cpu_node(nodes: tuple[int, ...], cpu: int) -> int:
    """Node of one CPU, -1 where unknown."""
    return nodes[cpu] if 0 <= cpu < len(nodes) else -1
