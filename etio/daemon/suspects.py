"""Whether the processes that reports name are still there: the end of one is an event, and another look is due then."""

from collections import OrderedDict
from pathlib import Path

from collector.cgroup_files import slurp
from etio.core.event import HostEvent
from etio.core.report import Report
from etio.core.words import visible

EVERY = 3
"""Ticks between two looks: a file for each process that is watched."""
WATCHED = 32
"""Incidents whose culprits are watched, the newest ones."""
EACH = 4
"""Most culprits that are watched of one report."""


class Suspects:
    """Culprits of the newest reports. Only the loop's thread calls it."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._watched: OrderedDict[str, dict[int, tuple[str, bytes]]] = OrderedDict()
        self._ticks = 0

    def keep(self, report: Report) -> None:
        """Watches the culprits of a report, in place of those that an earlier report of its incident named."""
        self._watched.pop(report.incident_id, None)
        named = [f.culprit.pid for f in report.findings[:EACH] if f.culprit and f.culprit.pid > 0]
        known = {pid: one for pid in named if (one := self._look(pid))[1]}
        if known:
            self._watched[report.incident_id] = known
            while len(self._watched) > WATCHED:
                self._watched.popitem(last=False)

    def ended(self, t_ns: int) -> list[HostEvent]:
        """Those that have ended since the last look, once each."""
        self._ticks += 1
        if not self._watched or self._ticks % EVERY:
            return []
        alike = {(pid, *one) for known in self._watched.values() for pid, one in known.items()}
        gone = {pid: name for pid, name, started in alike if self._look(pid)[1] != started}
        for known in self._watched.values():
            for pid in gone:
                known.pop(pid, None)
        return [HostEvent(t_ns, "culprit_ended", f"pid={pid}", (("comm", name),), "/proc/PID/stat")
                for pid, name in sorted(gone.items())]

    def _look(self, pid: int) -> tuple[str, bytes]:
        """(name, what tells it from a later process of the same number); the latter is b"" where it is gone or dead."""
        raw = slurp(f"{self._proc}/{pid}/stat", 1024) or b""
        name, fields = raw[raw.find(b"(") + 1:raw.rfind(b")")], raw[raw.rfind(b")") + 1:].split()
        alive = len(fields) > 19 and fields[0] not in (b"Z", b"X")
        return visible(name.decode("utf-8", "replace")), fields[19] if alive else b""
