"""Alerts, incidents, reports and events in the small durable file."""

from collections.abc import Sequence

from etio.core.alert import Alert, Incident
from etio.core.codec import dumps
from etio.core.event import HostEvent
from etio.core.report import Report
from etio.store.batch import storable
from etio.store.database import Database
from etio.store.daywriter import transaction
from etio.store.duck import duckdb

Item = Alert | Incident | HostEvent | Report


def body_of(item: Item) -> str:
    """The item as the table keeps it. Raises TypeError for values that JSON does not know."""
    return storable(dumps(item))


def keep(database: Database, items: Sequence[tuple[Item, str]]) -> None:
    """Commits the latest state of each item with its body_of(); writer thread only.

    Raises duckdb.Error; then none of them was kept.
    """
    with transaction(database.writer_cursor()) as cursor:
        for item, body in items:
            _keep_one(cursor, item, body)


def _keep_one(cursor: duckdb.DuckDBPyConnection, item: Item, body: str) -> None:
    match item:
        case Alert():
            cursor.execute("DELETE FROM etio.alerts WHERE fingerprint = ? AND pending_ns = ?",
                           [item.fingerprint, item.pending_ns])
            cursor.execute("INSERT INTO etio.alerts VALUES (?, ?, ?, ?)",
                           [item.fingerprint, item.pending_ns, item.state, body])
        case Incident():
            cursor.execute("DELETE FROM etio.incidents WHERE id = ?", [item.id])
            cursor.execute("INSERT INTO etio.incidents VALUES (?, ?, ?)", [item.id, item.opened_ns, body])
        case Report():
            cursor.execute("DELETE FROM etio.reports WHERE id = ?", [item.id])
            cursor.execute("INSERT INTO etio.reports VALUES (?, ?, ?, ?)",
                           [item.id, item.incident_id, item.created_ns, body])
        case HostEvent():
            cursor.execute("INSERT INTO etio.events VALUES (?, ?)", [item.t_ns, body])


def forget_before(database: Database, t_ns: int, day: str) -> None:
    """Retention of the small file: what ended before `t_ns`, and series last seen before `day`."""
    with transaction(database.writer_cursor()) as cursor:
        cursor.execute("DELETE FROM etio.events WHERE t_ns < ?", [t_ns])
        cursor.execute("DELETE FROM etio.reports WHERE created_ns < ?", [t_ns])
        cursor.execute("DELETE FROM etio.incidents WHERE opened_ns < ?", [t_ns])
        cursor.execute("DELETE FROM etio.alerts WHERE pending_ns < ? AND state <> 'firing'", [t_ns])
        cursor.execute("DELETE FROM etio.series WHERE last_day < ?", [day])
