"""Reader of oom.bcc.c: one HostEvent oom_kill for each victim of the OOM killer.

Fields as far as this kernel's tracepoint has them: comm, total_vm_bytes, anon_rss_bytes, file_rss_bytes,
shmem_rss_bytes, uid; cgroup while /proc still shows the victim.
"""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from collector.ebpf.families import VICTIM_BYTES, VICTIMS
from collector.ebpf.heavy import text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import Family
from collector.kernel_clock import monotonic_ns
from etio.core.event import Field, HostEvent
from etio.core.facts import Actor

_VICTIM = np.dtype([("number", "<u8"), ("ns", "<u8"), ("pid", "<u4"), ("uid", "<u4"), ("has_uid", "<u4"),
                    ("unused", "<u4"), ("comm", "S16"), ("total_vm", "<u8"), ("anon_rss", "<u8"),
                    ("file_rss", "<u8"), ("shmem_rss", "<u8"), ("rest", "V16")])
_ABSENT = 2**64 - 1
_KIB_FIELDS = ("total_vm", "anon_rss", "file_rss", "shmem_rss")


class Reader(Family):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._ring = mapped.view(_VICTIM, 0, VICTIMS)
        self._count = mapped.view("<u8", VICTIMS * VICTIM_BYTES, 1)
        self._seen = int(self._count[0])
        self._root = Path(entry["root"])
        self._recent: deque[Actor] = deque(maxlen=VICTIMS)

    def events(self, t_ns: int) -> list[HostEvent]:
        """Kills since the last call, at most the ring's 64."""
        count = int(self._count[0])
        if count == self._seen:
            return []
        first, self._seen = max(self._seen, count - VICTIMS) + 1, count
        boot_ns = t_ns - monotonic_ns()
        rows = [self._ring[number % VICTIMS].copy() for number in range(first, count + 1)]
        return [self._event(row, boot_ns) for row in rows if row["number"]]

    def _event(self, row: Any, boot_ns: int) -> HostEvent:
        pid, comm = int(row["pid"]), text(row["comm"])
        fields: list[tuple[str, Field]] = [("comm", comm)] if comm else []
        fields += [(f"{name}_bytes", int(row[name]) * 1024) for name in _KIB_FIELDS if int(row[name]) != _ABSENT]
        if row["has_uid"]:
            fields.append(("uid", int(row["uid"])))
        if cgroup := _memory_cgroup(self._root / f"proc/{pid}", comm):
            fields.append(("cgroup", cgroup))
        self._recent.append(Actor("oom", comm, pid, count=1.0))
        return HostEvent(boot_ns + int(row["ns"]), "oom_kill", f"pid={pid}", tuple(fields), "eBPF oom:mark_victim")

    def actors(self) -> list[Actor]:
        """Victims since the last call."""
        found = list(self._recent)
        self._recent.clear()
        return found


def _memory_cgroup(folder: Path, comm: str) -> str:
    """Memory control group of a process; "" once it is gone, or where its number is now that of another program, as in
    a PID namespace of our own."""
    try:
        if (folder / "comm").read_text(errors="replace").rstrip("\n") != comm:
            return ""
        lines = (folder / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    rows = [line.split(":", 2) for line in lines]
    own = [row[2] for row in rows if len(row) == 3 and "memory" in row[1].split(",")]
    unified = [row[2] for row in rows if len(row) == 3 and row[0] == "0"]
    return (own or unified or [""])[0]
