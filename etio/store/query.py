"""SQL of a person, held back three times: a list of what it may contain, a read-only transaction, no external access.

The list is checked on DuckDB's own syntax tree, not on the text.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from threading import Lock, Timer
from typing import Any

from etio.core.ports import QueryResult
from etio.store import days
from etio.store.database import Database
from etio.store.duck import duckdb
from etio.store.views import VIEWS, create_views

_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "json_each", "json_tree", "repeat", "repeat_row"}
_FORBIDDEN_TABLES = {"SHOW_REF", "COLUMN_DATA", "DELIM_GET", "BOUND_TABLE_REF"}
_FORBIDDEN_FUNCTIONS = {
    "getenv", "write_log", "nextval", "currval", "setval", "setseed", "sleep_ms", "current_setting", "getvariable",
    "current_query", "json_execute_serialized_sql", "query", "query_table", "in_search_path",
}
_ONE_AT_A_TIME = Lock()
RAW_DAYS_AT_ONCE = 31


def run_query(database: Database, sql: str, max_rows: int, timeout_s: float) -> QueryResult:
    """Runs one SELECT over the views. Raises ValueError with a message for the person."""
    files = days.listing(database.directory)
    raw = [f.name for f in files if f.raw][-RAW_DAYS_AT_ONCE:]
    if not _ONE_AT_A_TIME.acquire(timeout=timeout_s):
        raise ValueError("another query is still running; try again in a moment")
    try:
        with database.reading(raw) as (cursor, present):
            check(cursor, sql)
            create_views(cursor, present)
            return _limited(cursor, sql, max_rows, timeout_s)
    finally:
        _ONE_AT_A_TIME.release()


def _limited(cursor: duckdb.DuckDBPyConnection, sql: str, max_rows: int, timeout_s: float) -> QueryResult:
    timer = Timer(timeout_s, cursor.interrupt)
    timer.start()
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        cursor.execute(sql)
        columns = tuple(str(c[0]) for c in cursor.description or ())
        rows = cursor.fetchmany(max_rows + 1)
    except duckdb.InterruptException as error:
        raise ValueError(f"stopped after {timeout_s:g} s; ask for less, such as a shorter range of t") from error
    except duckdb.OutOfMemoryException as error:
        raise ValueError("needs more memory than the store may use; ask for less") from error
    except (duckdb.Error, RuntimeError) as error:
        raise ValueError(str(error)) from error
    finally:
        timer.cancel()
    return QueryResult(columns, tuple(tuple(map(plain, row)) for row in rows[:max_rows]), len(rows) > max_rows)


def plain(value: Any) -> Any:
    """A value of DuckDB as JSON knows it: moments as ISO 8601 in UTC, decimals as floats, the unusual as text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value)


def check(cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises ValueError unless `sql` is exactly one SELECT over the views."""
    try:
        statements = cursor.extract_statements(sql)
    except duckdb.Error as error:
        raise ValueError(str(error)) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ValueError("exactly one SELECT is allowed")
    row = cursor.execute("SELECT json_serialize_sql($1::VARCHAR)", [sql]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree.get("error"):
        raise ValueError(str(tree.get("error_message", "exactly one SELECT is allowed")))
    nodes = list(_walk(tree))
    known = set(VIEWS) | {str(n["key"]).lower() for n in nodes if "key" in n and "value" in n} | _recursive(nodes)
    for node in nodes:
        _check_node(node, known)


def _recursive(nodes: list[dict[str, Any]]) -> set[str]:
    return {str(n["cte_name"]).lower() for n in nodes if n.get("cte_name")}


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _check_node(node: dict[str, Any], known: set[str]) -> None:
    kind = str(node.get("type", ""))
    if kind in _FORBIDDEN_TABLES or (kind.endswith("_NODE") and kind not in _NODES):
        raise ValueError("exactly one SELECT is allowed")
    if kind == "BASE_TABLE":
        _check_table(node, known)
    elif kind == "TABLE_FUNCTION":
        name = str(node.get("function", {}).get("function_name", "")).lower()
        if name not in _TABLE_FUNCTIONS:
            raise ValueError(f"the table function {name!r} is not allowed; tables are {', '.join(VIEWS)}")
    elif str(node.get("function_name", "")).lower() in _FORBIDDEN_FUNCTIONS:
        raise ValueError(f"the function {node['function_name']!r} is not allowed")


def _check_table(node: dict[str, Any], known: set[str]) -> None:
    name = str(node.get("table_name", ""))
    if node.get("schema_name") or node.get("catalog_name") or name.lower() not in known:
        raise ValueError(f"there is no table {name!r}; tables are {', '.join(VIEWS)}")
