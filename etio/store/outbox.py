"""Webhooks that still have to arrive: committed before anybody is told, kept until delivered, at least once."""

from collections.abc import Sequence
from threading import Lock

from etio.core.ports import OutboxItem
from etio.store.database import Database
from etio.store.daywriter import transaction

__all__ = ["Outbox", "OutboxItem"]


class Outbox:
    """Every method commits before it returns; safe from any thread. Raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = Lock()
        self._count: int | None = None
        """How many wait; None while that has to be counted anew."""

    def put(self, item: OutboxItem) -> None:
        """Keeps an item; one that has the id of a waiting item takes its place."""
        with self._lock, self._database.reading() as (cursor, _), transaction(cursor):
            self._count = None
            cursor.execute("DELETE FROM etio.outbox WHERE id = ?", [item.id])
            cursor.execute("INSERT INTO etio.outbox VALUES (?, ?, ?, ?, ?, ?, ?)",
                           [item.id, item.url, item.body, item.created_ns, item.tries, item.next_ns, item.last_error])

    def due(self, now_ns: int, limit: int = 100) -> Sequence[OutboxItem]:
        """Items to be tried now, oldest first."""
        with self._database.reading() as (cursor, _):
            rows = cursor.execute("SELECT id, url, body, created_ns, tries, next_ns, last_error FROM etio.outbox"
                                  " WHERE next_ns <= ? ORDER BY created_ns, id LIMIT ?", [now_ns, limit]).fetchall()
        return [OutboxItem(*row) for row in rows]

    def delivered(self, item_id: str) -> None:
        """The item has arrived and is forgotten."""
        with self._lock, self._database.reading() as (cursor, _):
            self._count = None
            cursor.execute("DELETE FROM etio.outbox WHERE id = ?", [item_id])

    def failed(self, item_id: str, next_try_ns: int, error: str = "") -> None:
        """The item has not arrived and is due again at `next_try_ns`."""
        with self._lock, self._database.reading() as (cursor, _):
            cursor.execute("UPDATE etio.outbox SET tries = tries + 1, next_ns = ?, last_error = ? WHERE id = ?",
                           [next_try_ns, error, item_id])

    def pending(self) -> int:
        """How many items wait; counted anew only when one came or went."""
        with self._lock:
            if self._count is None:
                with self._database.reading() as (cursor, _):
                    row = cursor.execute("SELECT count(*) FROM etio.outbox").fetchone()
                self._count = int(row[0]) if row else 0
            return self._count
