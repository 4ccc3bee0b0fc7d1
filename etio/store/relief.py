"""DuckDB lets go of what it caches: it fills what its limit allows, and never gives back what nobody asks for any more.

Each block of the open day that was written or read stays in memory until the limit is reached: after an hour on a quiet
host, after minutes where a page is open. To close the day's files and open them again costs 5 ms beside the checkpoint
that it brings forward; what is asked for later comes back from the page cache.
"""

from etio.store import days
from etio.store.database import Database
from etio.store.daywriter import DayWriter
from etio.store.duck import give_back, held_bytes

GROWN = 8 * 1024 * 1024
"""Bytes beyond what was left after the last time: more than the rows that wait for their checkpoint."""
PAUSE_NS = 60 * days.NS


class Relief:
    """Used by the writer thread only, between batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._left = 0
        self._done_ns = 0
        self.count = 0
        """How often it was worth it, and nobody was reading."""

    def step(self, day: DayWriter, now_ns: int) -> None:
        """Closes and opens again where it is worth it; while somebody reads, after a later batch.

        Raises StoreError or duckdb.Error.
        """
        if not day.day or abs(now_ns - self._done_ns) < PAUSE_NS or held_bytes() < self._left + GROWN:
            return
        self._database.detach_idle(keep=0)
        if day.reopen():
            give_back()
            self._left, self._done_ns = held_bytes(), now_ns
            self.count += 1
