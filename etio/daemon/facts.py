"""Keeps the last minutes of who-is-there tables, so that a culprit that has gone is still known."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from etio.core.errors import EtioError
from etio.core.facts import ActorTable, CgroupTable, Facts, HostInfo, ProcessTable, SocketTable
from etio.core.frame import NS

log = logging.getLogger(__name__)
T = TypeVar("T", ProcessTable, CgroupTable, ActorTable, SocketTable)
AnyTable = ProcessTable | CgroupTable | ActorTable | SocketTable

COST_SHARE = 0.001
"""Share of one core that looking around may cost while nothing is wrong."""
IDLE_S, FOCUS_S = 5.0, 1.0
KEEP_S = 180.0


@dataclass(slots=True)
class _Source:
    read: Callable[[int], AnyTable | None]
    tables: deque[tuple[int, AnyTable]]
    closely: bool = False
    due_ns: int = 0
    trouble: str = ""


def _read(source: _Source, t_ns: int) -> AnyTable | None:
    """One table, None where it cannot be had just now; that is said once."""
    try:
        return source.read(t_ns)
    except (EtioError, OSError) as error:
        if source.trouble != str(error):
            source.trouble = str(error)
            log.warning("who is there cannot be told: %s", error)
        return None


class FactKeeper:
    """Samples processes, cgroups and heavy hitters: seldom while all is well, each second while something is wrong."""

    def __init__(self, host: HostInfo) -> None:
        self.host = host
        self.focus = False
        self._sources: dict[str, _Source] = {}
        self._lock = threading.Lock()

    def add(self, name: str, read: Callable[[int], AnyTable | None], closely: bool = False) -> None:
        """Registers a source: "processes", "cgroups", "actors" or "sockets". closely: only while something is wrong."""
        self._sources[name] = _Source(read, deque(), closely=closely)

    def tick(self, t_ns: int) -> None:
        """Reads what is due. Called from the sampler's thread."""
        for source in self._sources.values():
            if not self.focus and (source.closely or t_ns < source.due_ns):
                continue
            before = time.thread_time()
            table = _read(source, t_ns)
            cost = time.thread_time() - before
            pause = FOCUS_S if self.focus else max(IDLE_S, cost / COST_SHARE)
            source.due_ns = t_ns + int((pause - 0.1) * NS)
            if table is not None:
                with self._lock:
                    source.tables.append((t_ns, table))
                    while source.tables and t_ns - source.tables[0][0] > KEEP_S * NS:
                        source.tables.popleft()

    def facts(self, start_ns: int, **more: object) -> Facts:
        """The tables from the last one before `start_ns` on; of long lists the newest eight and four of the rest."""
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
        kept = [table for _, table in tables[first:] if isinstance(table, cls)]
        if name == "actors" or len(kept) <= 12:
            return tuple(kept)
        early = len(kept) - 9
        return tuple(kept[round(i * early / 3)] for i in range(4)) + tuple(kept[-8:])
