"""What etio costs inside the kernel by a matched twin run: the same work with and without it, in alternating pairs.

The kernel's own account (bpf stats) leaves out the way to a program and back and what it pushes out of the caches, and
counts its own counting. Here the system time of the whole machine is taken from /proc/stat, that of etio's processes
taken off, and compared; beside it that of the work alone, for a host on which others work as well. The work is the
worst there is for etio: two tasks that do nothing but wake each other.
"""

import contextlib
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import bpf_stats, parser, write
from bench.daemon import Daemon, children, daemon
from bench.signals import entry
from etio.core.errors import EtioError

LOOPS = 200_000
WORK = ("perf", "bench", "sched", "pipe", "-l", str(LOOPS))
TICKS = 100
SETTLE_S = 4.0
"""After the daemon is ready: the work of its start must not count against it."""
RUNS = 3
"""Of the work, on each side of a pair; the one that was disturbed least counts."""


@dataclass(frozen=True, slots=True)
class Side:
    """One run. CPU seconds in the kernel: of the machine but for etio, and of the work alone; switches: of tasks."""

    system_s: float
    work_s: float
    switches: int


def main() -> int:
    """Entry."""
    one = parser(__doc__ or "")
    one.add_argument("--pairs", type=int, default=7, help="times that the work runs with and without etio")
    arguments = one.parse_args()
    result = twin(arguments.pairs)
    if result is None:
        print("perf is not installed: nothing to measure (apt install linux-perf)")
        return 1
    show(result)
    write(arguments.json, result)
    return 0


def twin(pairs: int) -> dict[str, Any] | None:
    """Seconds by both accounts, see summary(); None without perf."""
    if shutil.which(WORK[0]) is None:
        return None
    found = []
    for i in range(pairs):
        order = (True, False) if i % 2 else (False, True)
        took = {beside: _side(beside) for beside in order}
        found.append((took[False], took[True]))
        print(f"pair {i + 1} of {pairs}: system time {took[False].system_s:.2f} s without etio, "
              f"{took[True].system_s:.2f} s with it; of the work {took[False].work_s:.2f} s and "
              f"{took[True].work_s:.2f} s", flush=True)
    return {"workload": " ".join(WORK), **summary(found), **_accounted()}


def summary(found: Sequence[tuple[Side, Side]]) -> dict[str, Any]:
    """Medians over pairs of (without, with), of the machine and of the work: seconds without etio, and how many more.

    >>> summary([(Side(1.0, 0.9, 1000), Side(1.1, 0.95, 1000))] * 3)["machine"]["ns_per_switch"]
    100000.0
    """
    switches = statistics.median(beside.switches for _, beside in found)
    return {"pairs": len(found), "switches": switches,
            "machine": _more([(a.system_s, b.system_s) for a, b in found], switches),
            "work": _more([(a.work_s, b.work_s) for a, b in found], switches)}


def _more(pairs: Sequence[tuple[float, float]], switches: float) -> dict[str, float]:
    more = [beside - alone for alone, beside in pairs]
    low, _, high = statistics.quantiles(more, n=4, method="inclusive") if len(more) > 1 else more * 3
    middle = statistics.median(more)
    return {"without_seconds": round(statistics.median(alone for alone, _ in pairs), 4), "seconds": round(middle, 4),
            "spread_seconds": round((high - low) / 2, 4), "ns_per_switch": round(1e9 * middle / switches, 1)}


def _side(beside: bool) -> Side:
    with bpf_stats(False), daemon() if beside else contextlib.nullcontext() as etio:
        if etio is not None:
            _settle(etio)
        pid = etio.process.pid if etio is not None else 0
        runs = [_run(pid) for _ in range(RUNS)]
        return Side(min(r.system_s for r in runs), min(r.work_s for r in runs), min(r.switches for r in runs))


def _settle(etio: Daemon) -> None:
    etio.wait_ready()
    time.sleep(SETTLE_S)


def _run(pid: int) -> Side:
    before, own, switched, worked = machine_system(), tree_system(pid), _switches(), _worked()
    done = subprocess.run(WORK, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise EtioError(f"perf: {done.stderr.strip()[-300:]}")
    return Side(machine_system() - before - (tree_system(pid) - own), _worked() - worked, _switches() - switched)


def _worked() -> float:
    """CPU seconds in the kernel of our children that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_stime


def _accounted() -> dict[str, float]:
    """The kernel's account of the same work: seconds of all programs, and how often they ran."""
    with bpf_stats(), daemon() as etio:
        _settle(etio)
        first = _ran(etio)
        _run(etio.process.pid)
        last = _ran(etio)
    return {"bpf_stats_seconds": round(last[0] - first[0], 4), "program_runs": last[1] - first[1]}


def _ran(etio: Daemon) -> tuple[float, float]:
    programs = [p for p in etio.status()["programs"] if p["run_count"]]
    return sum(p["run_seconds"] for p in programs), sum(p["run_count"] for p in programs)


def machine_system(text: str = "") -> float:
    """CPU seconds of the whole machine in the kernel: system, hard and soft interrupts."""
    fields = (text or Path("/proc/stat").read_text()).split("\n", 1)[0].split()
    return sum(int(fields[i]) for i in (3, 6, 7)) / TICKS


def _switches() -> int:
    """Context switches of the whole machine so far."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("ctxt "))


def tree_system(pid: int) -> float:
    """CPU seconds in the kernel of a process and its descendants; 0 for pid 0."""
    total = 0
    for one in (pid, *children(pid)) if pid else ():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[12]) + int(fields[14])
    return total / TICKS


def show(result: dict[str, Any]) -> None:
    """Both accounts, for people."""
    print(f"{result['workload']}, {result['switches']:.0f} switches: programs took "
          f"{1e3 * result['bpf_stats_seconds']:.1f} ms by the kernel's account ({result['program_runs']:.0f} runs)")
    for name in ("machine", "work"):
        row = result[name]
        print(f"  twin run, system time of the {name}: {1e3 * row['seconds']:.0f} ms +- "
              f"{1e3 * row['spread_seconds']:.0f} ms more than {1e3 * row['without_seconds']:.0f} ms, "
              f"{row['ns_per_switch']:.0f} ns for each switch")


if __name__ == "__main__":
    entry(main)
