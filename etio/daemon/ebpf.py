"""The daemon's side of eBPF: asks the warden to load, then only reads memory. All works without it."""

import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from collector.ebpf.client import WardenClient
from collector.ebpf.collector import EbpfCollector
from etio.core.errors import Broken, NoData
from etio.core.facts import ActorTable
from etio.core.ports import CollectorSpec
from etio.core.status import CollectorHealth, ProgramCost
from etio.daemon.probes import ProbeFamily, Probes
from etio.daemon.runner import Runner

log = logging.getLogger(__name__)
T = TypeVar("T")

LOADING = "loading"
SWITCHED_OFF = 'switched off; set ebpf = "auto" under [daemon]'
NOT_ROOT = "not started as root; start it with sudo, or install the service with scripts/install"


@dataclass(frozen=True, slots=True)
class EbpfConfig:
    """Nothing to set yet."""


def foreign(table: ActorTable) -> ActorTable:
    """The same with negative process ids: no process of ours may be taken for one that has its number on the host."""
    return replace(table, actors=tuple(replace(a, pid=-abs(a.pid), ppid=-abs(a.ppid)) for a in table.actors))


class EbpfSupervisor:
    """Tier T1 while the programs are loaded; T2 with the reason otherwise."""

    def __init__(self, warden: socket.socket | None, enabled: bool, absent: str = "",
                 demanded: Sequence[str] = (), foreign_pids: bool = False) -> None:
        """absent: why there is no warden, and what would help. demanded: program families that are off otherwise.
        foreign_pids: the kernel's process ids are not those of our /proc (own PID namespace).
        """
        self._demanded = tuple(demanded)
        self._foreign_pids = foreign_pids
        self._client = WardenClient(warden) if warden is not None and enabled else None
        self._collector: EbpfCollector | None = None
        self._probes: Probes | None = None
        self._loading = self._client is not None
        self.reason = LOADING if self._client else (absent if enabled else SWITCHED_OFF)
        self._kmsg = -1
        self.pids: tuple[int, ...] = ()

    @property
    def tier(self) -> str:
        """ "T1" or "T2"."""
        return "T1" if self._collector is not None else "T2"

    @property
    def reachable(self) -> bool:
        """Whether there is a warden to ask."""
        return self._client is not None

    @property
    def families(self) -> tuple[str, ...]:
        """Program families that are attached."""
        return tuple(f.name for f in self._collector.families() if f.on) if self._collector else ()

    @property
    def missing(self) -> tuple[str, ...]:
        """What cannot be seen, with the reason."""
        if self._collector is None:
            return (f"ebpf: {self.reason}",)
        off = [f"ebpf {f.name}: {f.reason}" for f in self._collector.families() if not f.on]
        return (*off, *(f"ebpf {f.name}: {part}" for f in self._collector.families() for part in f.missing))

    def start(self, root: Path, period_s: float) -> Runner | None:
        """Loads the programs (seconds); returns the runner that reads them, or None."""
        if self._client is None:
            return None
        try:
            return self._start(self._client, root, period_s)
        finally:
            self._loading = False

    def _start(self, client: WardenClient, root: Path, period_s: float) -> Runner | None:
        try:
            self._kmsg = client.kmsg()  # now: while it loads, the warden answers nothing else
        except (NoData, Broken) as error:
            log.warning("no kernel log: %s", error)
        try:
            collector = EbpfCollector(client.load(self._demanded))
            collector.open(root)
        except (NoData, Broken) as error:
            self.reason = str(error)
            log.warning("no eBPF: %s", error)
            return None
        self.reason = ""
        self._collector, self._probes = collector, Probes(client, collector, self._set_loading)
        spec = CollectorSpec(name="ebpf", config=EbpfConfig, build=lambda _: collector, reads="eBPF maps", emits=())
        return Runner(spec, collector, root, period_s, opened=True)

    def _set_loading(self, loading: bool) -> None:
        self._loading = loading

    @property
    def parts(self) -> tuple[ProbeFamily, ...]:
        """Families of programs, as parts that can be shed."""
        return self._probes.parts if self._probes is not None else ()

    @property
    def health(self) -> tuple[CollectorHealth, ...]:
        """How each family is doing."""
        return self._probes.health() if self._probes is not None else ()

    def kernel_seconds(self) -> float:
        """CPU seconds the programs have cost so far, of all cores. From the sampler's thread."""
        try:
            return self._probes.measure() if self._probes is not None else 0.0
        except (NoData, Broken):
            return 0.0

    def _asked(self, ask: Callable[[WardenClient], T], nothing: T) -> T:
        """What the warden answers; `nothing` without one, while it is busy loading, and where it cannot tell."""
        if self._client is None or self._loading:
            return nothing
        try:
            return ask(self._client)
        except (NoData, Broken):
            return nothing

    def io_of(self, pids: Sequence[int]) -> Mapping[int, tuple[float, float]]:
        """Bytes read and written by processes, through the warden; empty without one."""
        return self._asked(lambda warden: warden.io(pids), {})

    def kmsg(self) -> int:
        """Descriptor of /dev/kmsg, -1 while the warden is busy. Raises NoData (no warden) or Broken (no answer)."""
        if self._client is None:
            raise NoData(f"no warden ({self.reason})")
        fd, self._kmsg = self._kmsg, -1
        return fd if fd >= 0 or self._loading else self._client.kmsg()

    def jobs(self) -> tuple[dict[str, Any], int]:
        """What the warden knows of GPU jobs, see WardenClient.jobs. Raises NoData or Broken."""
        if self._client is None:
            raise NoData(f"no warden ({self.reason})")
        if self._loading:
            return {"processes": [], "busy": True, "reason": ""}, -1
        return self._client.jobs()

    def sample_jobs(self) -> None:
        """Has kernel launches of GPU jobs counted for a few seconds. Raises NoData or Broken."""
        if self._client is not None:
            self._client.sample_jobs()

    def end_jobs(self) -> None:
        """Has GPU jobs left alone. Raises NoData or Broken."""
        if self._client is not None:
            self._client.end_jobs()

    def nvme(self) -> list[tuple[str, str, str]] | None:
        """Health logs of NVMe controllers, see WardenClient.nvme; None while the warden is busy. Raises NoData or
        Broken."""
        if self._client is None:
            raise NoData(f"no warden ({self.reason})")
        return None if self._loading else self._client.nvme()

    def inotify(self) -> tuple[list[tuple[int, int, int, int]], bool, float] | None:
        """Who watches files, see WardenClient.inotify; None while the warden is busy. Raises NoData or Broken."""
        if self._client is None:
            raise NoData(f"no warden ({self.reason})")
        return None if self._loading else self._client.inotify()

    def stack(self, tid: int) -> tuple[str, ...]:
        """Kernel functions a task is in, innermost first; empty where nobody can tell."""
        return self._asked(lambda warden: warden.stack(tid), ())

    def socket_owners(self, inodes: Sequence[int]) -> Mapping[int, int]:
        """Pids of the processes that hold sockets, by inode; empty where nobody can tell."""
        return self._asked(lambda warden: warden.socket_owners(inodes), {})

    def writers(self, device: int) -> Sequence[tuple[int, int, int, str]] | None:
        """Files open for writing on a file system, see WardenClient.writers; None where nobody can tell."""
        return self._asked(lambda warden: warden.writers(device), None) if device > 0 else None

    def netns(self, pid: int) -> int:
        """Number of the network namespace of a process; 0 where nobody can tell."""
        return self._asked(lambda warden: warden.netns(pid), 0)

    def tracked(self, pid: int) -> Mapping[str, object]:
        """A sample of the connections tracked where a process runs; empty where nobody can tell."""
        return self._asked(lambda warden: warden.tracked(pid), {})

    def exe_of(self, pid: int) -> str:
        """Path of the file a process runs, through the warden; "" where nobody can tell."""
        return self._asked(lambda warden: warden.exe(pid), "")

    def actors(self, t_ns: int) -> ActorTable | None:
        """Heavy hitters since the last call; None without eBPF. Ids of processes that are not ours are negative."""
        if self._collector is None:
            return None
        table = self._collector.actors(t_ns)
        return foreign(table) if self._foreign_pids else table

    def program_costs(self) -> tuple[ProgramCost, ...]:
        """What each program costs, where the kernel counts it."""
        if self._client is None or self._collector is None or self._loading:
            return ()
        try:
            return tuple(self._client.program_costs())
        except (NoData, Broken):
            return ()

    def close(self) -> None:
        """Closes the descriptors: the programs detach, the warden ends."""
        if self._client is not None:
            self._client.close()
