"""Rewrites a closed day sorted by (series, time) and makes its roll-ups: `python -m etio.store.compact DIR DAY`.

A process of its own, so that the memory of the sort goes back to the system. It reads the day file without a write
lock, beside the daemon's readers, and leaves two `.new` files that the daemon puts in place.
"""

import argparse
import os
import sys
from pathlib import Path

from etio.core.errors import StoreError
from etio.store import days, schema
from etio.store.database import connect, quoted
from etio.store.daywriter import roll_up
from etio.store.duck import duckdb
from etio.store.faults import explained

ROWS_AT_ONCE = 2_500_000
NEW = ".new"


def compact(directory: Path, day: str, memory_mb: int) -> int:
    """Writes dDAY.duckdb.new and rDAY.duckdb.new; returns the number of samples. Raises StoreError."""
    raw, rollup = days.raw_name(day), days.rollup_name(day)
    for name in (raw, rollup):
        _new(directory, name).unlink(missing_ok=True)
    connection = connect(directory, memory_mb)
    try:
        connection.execute(f"ATTACH '{quoted(days.path_of(directory, raw))}' AS source (READ_ONLY)")
        for name in (raw, rollup):
            connection.execute(f"ATTACH '{quoted(_new(directory, name))}' AS {name} (STORAGE_VERSION 'v1.5.0')")
            connection.execute(schema.of(name))
        count = _copy_sorted(connection, raw)
        roll_up_in_parts(connection, day)
        for name in (raw, rollup):
            connection.execute(f"DETACH {name}")
    except duckdb.Error as error:
        raise explained(error, days.path_of(directory, raw)) from error
    finally:
        connection.close()
    return count


def _copy_sorted(connection: duckdb.DuckDBPyConnection, raw: str) -> int:
    """Returns the number of samples."""
    for table in ("meta", "series", "frames", "events"):
        connection.execute(f"INSERT INTO {raw}.{table} SELECT * FROM source.{table}")
    counts = connection.execute("SELECT series, count(*) FROM source.samples GROUP BY 1 ORDER BY 1").fetchall()
    for low, high in spans(counts, ROWS_AT_ONCE):
        connection.execute(f"INSERT INTO {raw}.samples SELECT * FROM source.samples"
                           f" WHERE series BETWEEN {low} AND {high} ORDER BY series, tick")
    wanted = sum(int(n) for _, n in counts)
    row = connection.execute(f"SELECT count(*) FROM {raw}.samples").fetchone()
    if row is None or row[0] != wanted:
        raise StoreError(f"{raw}: {wanted} samples went in, {row} came out; the day stays as it is")
    connection.execute(f"INSERT INTO {raw}.meta VALUES ('sorted', '1')")
    return wanted


def roll_up_in_parts(connection: duckdb.DuckDBPyConnection, day: str) -> None:
    """Fills the roll-ups of the whole day."""
    row = connection.execute(f"SELECT coalesce(max(tick) + 1, 0) FROM {days.raw_name(day)}.frames").fetchone()
    roll_up(connection, day, int(row[0]) if row else 0)


def spans(counts: list[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Ranges of series ids with at most `limit` samples each, or a single series.

    >>> spans([(0, 3), (1, 3), (5, 9), (7, 1)], 6)
    [(0, 1), (5, 5), (7, 7)]
    """
    result: list[tuple[int, int]] = []
    filled = 0
    for number, count in counts:
        if result and filled + count <= limit:
            result[-1] = (result[-1][0], number)
            filled += count
        else:
            result.append((number, number))
            filled = count
    return result


def _new(directory: Path, name: str) -> Path:
    path = days.path_of(directory, name)
    return path.with_name(path.name + NEW)


def main() -> int:
    """Entry point of the child process."""
    parser = argparse.ArgumentParser(prog="python -m etio.store.compact", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("day", help="YYYYMMDD")
    parser.add_argument("--memory-mb", type=int, default=64)
    args = parser.parse_args()
    os.nice(40)  # from whatever the daemon runs at down to the lowest there is
    try:
        compact(args.directory, args.day, args.memory_mb)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
