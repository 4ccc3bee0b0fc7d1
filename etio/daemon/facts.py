"""Keeps the last minutes of who-is-there tables, so that a culprit that has gone is still known."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from etio.core.due import is_due
from etio.core.errors import EtioError
from etio.core.facts import ActorTable, CgroupTable, Facts, HostInfo, ProcessTable, SocketTable
from etio.core.frame import NS

log = logging.getLogger(__name__)
T = TypeVar("T", ProcessTable, CgroupTable, ActorTable, SocketTable)
AnyTable = ProcessTable | CgroupTable | ActorTable | SocketTable

COST_SHARE, IDLE_MOST_S = 0.0003, 45.0
"""Share of one core that looking around may cost while nothing is wrong, and the longest pause: there must be a look
from before the trouble, or nobody can say what has changed."""
FIRST_SHARE, FOCUS_SHARE, FIRST_S, FOCUS_MOST_S = 0.02, 0.002, 20.0, 10.0
"""The same in the first seconds in which something is wrong, and after them; and the longest pause then: a host with
thousands of processes or groups costs a tenth of a second to look at, each second more than the whole budget."""
IDLE_S, FOCUS_S = 10.0, 1.0
KEEP_S = 180.0
LATELY_S = 20.0
NEWEST, APART_S = 9, 4.5
"""The newest tables are kept whole; older ones so far apart, as the report takes only a few of them. Of who did what
(ActorTable) none is left out: older ones are added up until they span so much."""


@dataclass(slots=True)
class _Source:
    read: Callable[[int], AnyTable | None]
    tables: deque[tuple[int, AnyTable]]
    closely: bool = False
    read_ns: int = 0
    cost_s: float = 0.0
    trouble: str = ""


    def due(self, t_ns: int, share: float) -> bool:
        """Whether it is time to look again; what it cost to look last time is weighed. share: of a core it may cost."""
        if share <= COST_SHARE:
            pause_s = min(max(IDLE_S, self.cost_s / COST_SHARE), IDLE_MOST_S)
        else:
            pause_s = min(max(FOCUS_S, self.cost_s / share), FOCUS_MOST_S)
        pause_ns = int((pause_s - 0.1) * NS)
        return not (share <= COST_SHARE and self.closely) and is_due(t_ns, self.read_ns + pause_ns, pause_ns)

    def keep(self, t_ns: int, table: AnyTable) -> None:
        """Takes a table in and lets old ones go. What was counted between two readings is never left out."""
        tables = self.tables
        while tables and tables[-1][0] > t_ns:  # the clock was set back
            tables.pop()
        tables.append((t_ns, table))
        while t_ns - tables[0][0] > KEEP_S * NS:
            tables.popleft()
        if len(tables) <= NEWEST + 1:
            return
        early, late = tables[-NEWEST - 2][1], tables[-NEWEST - 1][1]
        if isinstance(early, ActorTable) and isinstance(late, ActorTable):
            if late.end_ns - early.start_ns < APART_S * NS:
                tables[-NEWEST - 1] = (tables[-NEWEST - 1][0], early.plus(late))
                del tables[-NEWEST - 2]
        elif tables[-NEWEST][0] - tables[-NEWEST - 2][0] < APART_S * NS:
            del tables[-NEWEST - 1]


def _read(name: str, source: _Source, t_ns: int) -> AnyTable | None:
    """One table, None where it cannot be had just now; that is said once."""
    try:
        return source.read(t_ns)
    except (EtioError, OSError) as error:
        if source.trouble != str(error):
            source.trouble = str(error)
            log.warning("the table of %s cannot be had: %s", name, error)
        return None


class FactKeeper:
    """Samples processes, cgroups and heavy hitters: seldom while all is well, each second while something is wrong."""

    def __init__(self, host: HostInfo) -> None:
        self.host = host
        self.focus = False
        self._since_ns = 0
        self._sources: dict[str, _Source] = {}
        self._lock = threading.Lock()

    def add(self, name: str, read: Callable[[int], AnyTable | None], closely: bool = False) -> None:
        """Registers a source: "processes", "cgroups", "actors" or "sockets". closely: only while something is wrong."""
        self._sources[name] = _Source(read, deque(), closely=closely)

    def tick(self, t_ns: int) -> None:
        """Reads what is due. Called from the sampler's thread."""
        if not self.focus:
            self._since_ns = 0
        elif not self._since_ns:
            self._since_ns = t_ns
        share = COST_SHARE
        if self.focus:
            share = FIRST_SHARE if t_ns - self._since_ns < FIRST_S * NS else FOCUS_SHARE
        for name, source in self._sources.items():
            if not source.due(t_ns, share):
                continue
            before = time.thread_time()
            table = _read(name, source, t_ns)
            source.read_ns, source.cost_s = t_ns, time.thread_time() - before
            if table is not None:
                with self._lock:
                    source.keep(t_ns, table)

    def facts(self, start_ns: int, **more: object) -> Facts:
        """The tables from the last one before `start_ns` on; of long lists the newest eight and five of the rest."""
        return Facts(
            host=self.host,
            processes=self._kept("processes", start_ns, ProcessTable),
            cgroups=self._kept("cgroups", start_ns, CgroupTable),
            actors=self._kept("actors", start_ns, ActorTable),
            sockets=self._kept("sockets", start_ns, SocketTable),
            **more,  # type: ignore[arg-type]
        )

    def _kept(self, name: str, start_ns: int, cls: type[T]) -> tuple[T, ...]:
        source = self._sources.get(name)
        if source is None:
            return ()
        with self._lock:
            tables = list(source.tables)
        first = max((i for i, (t, _) in enumerate(tables) if t < start_ns), default=0)
        pairs = [(t, table) for t, table in tables[first:] if isinstance(table, cls)]
        kept = [table for _, table in pairs]
        if name == "actors" or len(kept) <= 12:
            return tuple(kept)
        early = len(kept) - 9
        chosen = {round(i * early / 3) for i in range(4)} | {_lately([t for t, _ in pairs[:early + 1]], pairs[-1][0])}
        return tuple(kept[i] for i in sorted(chosen)) + tuple(kept[-8:])


def _lately(times: Sequence[int], newest_ns: int) -> int:
    """Which of these is the newest that is LATELY_S old: of what lasts, only who does it now counts."""
    old = [i for i, t_ns in enumerate(times) if newest_ns - t_ns >= LATELY_S * NS]
    return old[-1] if old else 0
