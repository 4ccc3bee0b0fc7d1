"""Where a GPU sits: NUMA node, CPUs, how near the network adapters are; and who its processes are. Read on demand.

Reads:  /sys/bus/pci/devices/ADDRESS/{numa_node,local_cpulist}, /sys/class/{net,infiniband}/*/device, /proc/PID/{comm,
        cgroup,stat}, /sys/devices/system/cpu/cpu*/node*
Source: Documentation/ABI/testing/sysfs-bus-pci
"""

import os
from math import isnan
from pathlib import Path

from collector.cgroup_files import slurp
from collector.gpu.binding import pci_address
from collector.gpu.session import Told
from collector.gpu.slow import Holder
from collector.nodes import cpu_node, node_of_cpu

MOST_ADAPTERS = 16
NEAREST = 4
WORDS = ("across NUMA nodes", "NUMA node", "PCIe host bridge", "PCIe switch")


class Placement:
    """root: of the host."""

    def __init__(self, root: Path) -> None:
        self.root = str(root).rstrip("/")

    @staticmethod
    def address(pci: str) -> str:
        """A PCI address as /sys writes it."""
        return pci_address(pci)

    def of(self, pci: str) -> dict[str, str]:
        """NUMA node, CPUs and nearest adapters of a device; only what this host tells."""
        folder = f"{self.root}/sys/bus/pci/devices/{pci}"
        node = text_in(f"{folder}/numa_node")
        told = {"node": "" if node == "-1" else node, "cpus": text_in(f"{folder}/local_cpulist"),
                "adapters": self._adapters(folder)}
        return {name: words for name, words in told.items() if words} if pci else {}

    def node(self, pci: str) -> int:
        """NUMA node of a device, -1 where it has none."""
        text = text_in(f"{self.root}/sys/bus/pci/devices/{pci}/numa_node") if pci else ""
        return int(text) if text.isdecimal() else -1

    def is_far(self, holder: Holder, card: Told | None) -> bool | None:
        """Whether a process was last seen on another node than that of its GPU; None where either is unknown."""
        gpu = self.node(card.pci) if card else -1
        runs = self._runs(holder.pid)
        return None if gpu < 0 or runs < 0 else runs != gpu

    def _runs(self, pid: int) -> int:
        stat = slurp(f"{self.root}/proc/{pid}/stat", 2048) or b""
        return cpu_node(node_of_cpu(self.root), last_cpu(stat))

    def holder(self, holder: Holder, card: Told | None) -> tuple[str, str]:
        """One process on one GPU: who it is, where it runs, what it holds."""
        base = f"{self.root}/proc/{holder.pid}"
        runs = self._runs(holder.pid)
        gpu = self.node(card.pci) if card else -1
        told = {
            "comm": text_in(f"{base}/comm"), "cgroup": group_of(slurp(f"{base}/cgroup", 8192) or b""),
            "memory": "" if isnan(holder.memory_bytes) else f"{holder.memory_bytes:.0f} bytes",
            "instance": "" if holder.instance < 0 else str(holder.instance),
            "runs on node": "" if runs < 0 else str(runs), "gpu node": "" if gpu < 0 else str(gpu),
        }
        words = "; ".join(f"{name}: {value.replace(';', '?')}" for name, value in told.items() if value)
        return f"gpu process gpu={holder.gpu} pid={holder.pid}", words

    def _adapters(self, folder: str) -> str:
        """The nearest network adapters, with how near they are."""
        own, node = os.path.realpath(folder), text_in(f"{folder}/numa_node").replace("-1", "")
        found = []
        for kind in ("infiniband", "net"):
            for name in names_in(f"{self.root}/sys/class/{kind}")[:MOST_ADAPTERS]:
                path = f"{self.root}/sys/class/{kind}/{name}/device"
                if os.path.exists(path):
                    same = bool(node) and node == text_in(f"{path}/numa_node")
                    found.append((nearness(own, os.path.realpath(path), same), name))
        found.sort(key=lambda pair: (-pair[0], pair[1]))
        return " ".join(f"{name} ({WORDS[near]})" for near, name in found[:NEAREST])


def nearness(one: str, other: str, same_node: bool) -> int:
    """How near two devices are by their paths below /sys/devices: 3 share a switch, 2 a host bridge, 1 a node, 0 none.

    >>> nearness("/sys/devices/pci0000:15/0000:15:01.0/0000:17:00.0",
    ...          "/sys/devices/pci0000:15/0000:15:02.0/0000:18:00.0", True)
    2
    """
    shared = 0
    for a, b in zip(_below_bridge(one), _below_bridge(other), strict=False):
        if a != b:
            break
        shared += 1
    return min(shared + 1, 3) if shared else int(same_node)


def _below_bridge(path: str) -> list[str]:
    parts = path.split("/")
    at = next((i for i, part in enumerate(parts) if part.startswith("pci")), len(parts))
    return parts[at:-1]


def last_cpu(stat: bytes) -> int:
    """The CPU that a task ran on last, field 39 of /proc/PID/stat; -1 where it is not told."""
    rest = stat[stat.rfind(b")") + 2:].split()
    return int(rest[36]) if len(rest) > 36 and rest[36].isdigit() else -1


def group_of(raw: bytes) -> str:
    """Control group of a /proc/PID/cgroup: that of v2, else the longest path of v1."""
    paths = [line.split(b":", 2) for line in raw.split(b"\n")]
    whole = [parts for parts in paths if len(parts) == 3]
    unified = next((parts[2] for parts in whole if parts[0] == b"0" and parts[2] != b"/"), b"")
    longest = unified or max((parts[2] for parts in whole), key=len, default=b"")
    return longest.decode("utf-8", "replace")


def names_in(folder: str) -> list[str]:
    """What a folder holds, sorted; nothing where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def text_in(path: str) -> str:
    """The one line of a small file, printable; "" where it cannot be read."""
    raw = slurp(path, 512)
    return "".join(c if c.isprintable() else "?" for c in raw.decode("utf-8", "replace").strip()) if raw else ""
