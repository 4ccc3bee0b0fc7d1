"""How much memory etio holds as time passes: a daemon of our own, with page views, SQL and a fault, minute by minute.

What overhead measures after a few minutes says nothing of what an hour leaves behind: tables that the store caches,
code that one report mapped, arenas of threads. The curve is of all processes of the daemon together (proportional set
size); another daemon of the same interpreter shares pages with it and makes it look smaller, so stop those before.
"""

import contextlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.common import parser, write
from bench.daemon import Daemon, daemon
from bench.signals import entry
from etio.core.errors import EtioError

STEP_S = 10.0
FIELDS = {"Pss:": "pss_mb", "Pss_Anon:": "anonymous_mb", "Pss_File:": "files_mb"}
SHOWN = ("cpu_busy_ratio", "memory_available_ratio", "pressure_cpu_some_ratio")
SQL = "select name, count(*), max(value) from samples group by 1 order by 2 desc"
LEAN = '[daemon]\nprofile = "lean"\n'
LIMITS_MB = {"full": 180.0, "lean": 120.0}
"""The bars of the project, for the median of the last five minutes."""
Row = dict[str, Any]


def main() -> int:
    """Entry. 1 when the memory is above the bar at the end."""
    one = parser(__doc__ or "")
    one.add_argument("--minutes", type=float, default=30.0, help="how long (default 30)")
    one.add_argument("--profile", choices=sorted(LIMITS_MB), default="full")
    arguments = one.parse_args()
    with daemon(LEAN if arguments.profile == "lean" else "") as here:
        rows = curve(here, 60 * arguments.minutes)
    late = level(rows, 300.0)
    limit = LIMITS_MB[arguments.profile]
    print(f"{arguments.profile}: {late:.1f} MB in the last five minutes, at most {limit:g} wanted; "
          f"most at any moment {max(row['pss_mb'] for row in rows):.1f}", flush=True)
    write(arguments.json, {"profile": arguments.profile, "late_pss_mb": late, "limit_mb": limit, "curve": rows})
    return int(late > limit)


def curve(here: Daemon, seconds: float) -> list[Row]:
    """A row each STEP_S; meanwhile what people and faults do to a daemon is done to it."""
    here.wait_ready()
    began = time.monotonic()
    due = {name: every for name, (every, _) in ACTS.items()}
    rows: list[Row] = []
    while (now := time.monotonic() - began) < seconds:
        row: Row = {"s": round(now), **memory(here.pids), "did": [name for name, at in due.items() if at <= now]}
        rows.append(row)
        _show(row, len(rows))
        for name in row["did"]:
            every, act = ACTS[name]
            due[name] = now + every
            with contextlib.suppress(EtioError):
                act(here)
        time.sleep(max(0.0, began + STEP_S * len(rows) - time.monotonic()))
    return rows


def _show(row: Row, count: int) -> None:
    if row["did"] or count % 6 == 1:
        print(f"{row['s'] / 60:5.1f} min  {row['pss_mb']:6.1f} MB: {row['anonymous_mb']:.1f} of its own, "
              f"{row['files_mb']:.1f} of libraries; {row['processes']} processes  {' '.join(row['did'])}", flush=True)


def memory(pids: tuple[int, ...]) -> Row:
    """Proportional set size of these processes together, 10^6 bytes: all, anonymous, of files."""
    found: Row = dict.fromkeys(FIELDS.values(), 0.0)
    found["processes"] = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            found["processes"] += 1
            for name, number, *_ in map(str.split, lines[1:]):
                if name in FIELDS:
                    found[FIELDS[name]] += int(number) * 1024 / 1e6
    return {name: round(value, 1) for name, value in found.items()}


def level(rows: list[Row], seconds: float) -> float:
    """Median over the last `seconds`: a worker that lives for a second does not count, one that stays does."""
    last = sorted(row["pss_mb"] for row in rows if row["s"] > rows[-1]["s"] - seconds)
    return float(last[len(last) // 2])


def view_page(here: Daemon) -> None:
    """What an open page asks, twenty seconds of its stream included."""
    ask = here.client.get
    ask("/api/v1/now", seconds=300)
    for incident in ask("/api/v1/incidents", limit=50)["incidents"][:3]:
        if incident["report"] is not None:
            here.client.text(f"/api/v1/reports/{incident['id']}?format=html")
    for key in SHOWN:
        with contextlib.suppress(EtioError):  # a host without it
            ask("/api/v1/series/data", key=key, start="-30m", points=400)
    here.client.text("/metrics")
    until = time.monotonic() + 20
    with (contextlib.suppress(OSError),
          urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
              f"{here.client.url}/api/v1/stream", timeout=20) as stream):
        while time.monotonic() < until and stream.readline():
            pass


def ask_sql(here: Daemon) -> None:
    """One question over all samples."""
    here.client.post("/api/v1/query", {"sql": SQL})


def cause_fault(_: Daemon) -> None:
    """Many runnable threads for 25 s, so that an incident opens and a report is made; nothing without stress-ng."""
    if shutil.which("stress-ng"):
        subprocess.run(["stress-ng", "--cpu", "8", "--timeout", "25s", "--quiet"], check=False)


ACTS: dict[str, tuple[float, Callable[[Daemon], None]]] = {
    "page": (240.0, view_page), "sql": (400.0, ask_sql), "fault": (480.0, cause_fault)}
"""Seconds until each is done first, and from one time to the next."""


if __name__ == "__main__":
    entry(main)
