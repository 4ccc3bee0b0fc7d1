"""What collectors that look at process tables have in common: the daemon makes these anyway and hands each one over."""

import os
from collections.abc import Callable
from pathlib import Path

from etio.core.errors import NoData
from etio.core.facts import ProcessTable


class TableWatcher:
    """Keeps the newest process table until somebody has looked at it."""

    def __init__(self) -> None:
        self._proc = ""
        self._table: ProcessTable | None = None
        self._fresh = False

    def open(self, root: Path) -> None:
        """Raises NoData where there is no /proc."""
        self._proc = str(root).rstrip("/") + "/proc"
        if not os.path.isdir(self._proc):
            raise NoData(f"{self._proc}: not here")

    def take(self, table: ProcessTable) -> ProcessTable:
        """Keeps a process table that somebody made; gives it back for chaining."""
        self._table, self._fresh = table, True
        return table


def seen_by(read: Callable[[int], ProcessTable], *takers: Callable[[ProcessTable], ProcessTable],
            ) -> Callable[[int], ProcessTable]:
    """A reader of process tables that others see as well."""

    def whole(t_ns: int) -> ProcessTable:
        table = read(t_ns)
        for take in takers:
            take(table)
        return table

    return whole
