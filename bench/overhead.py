"""What etio costs beside Netdata and node_exporter: CPU, memory and series of each, side by side in one run.

The lean profile comes afterwards and alone: beside the other one its memory would be partly shared. What is measured is
the steady state: etio builds the trees of its detectors once, 80 to 115 s after its start, and that is waited for. Each
part is shown and saved as soon as it is done.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import bpf_stats, countdown, parser, write
from bench.daemon import children, daemon, free_port
from bench.signals import entry
from bench.twin import show as show_twin
from bench.twin import twin

TICKS = 100
SETTLE_S = 150.0
"""Until the one-time work of a start is over; the last of it, the detectors' trees, is built 80 to 115 s after it."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One agent under measurement. kernel_seconds: CPU its kernel side has used so far, by the kernel's own count."""

    name: str
    pid: int
    series: Callable[[], int]
    kernel_seconds: Callable[[], float]
    incidents: Callable[[], int] = lambda: 0
    """How many it has told of so far: each is explained, which costs a second of CPU that a quiet host does not pay."""


def main() -> int:
    """Entry."""
    one = parser(__doc__ or "")
    one.add_argument("--seconds", type=float, default=120.0, help="length of the measurement")
    one.add_argument("--settle", type=float, default=SETTLE_S, metavar="SECONDS",
                     help="to let everybody warm up, %(default)g unless said: between 80 and 115 s after its start "
                          "etio builds the trees of its detectors, once, which is no steady state")
    one.add_argument("--alone", action="store_true", help="only etio")
    one.add_argument("--profile", choices=("full", "lean", "both"), default="both", help="of etio")
    one.add_argument("--pairs", type=int, default=5, help="of the twin run that measures the kernel side; 0 = none")
    arguments = one.parse_args()
    _run(arguments, {})
    return 0


def _run(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Each part is shown and saved as soon as it is done: a run that is ended early leaves what it has."""
    peers = () if arguments.alone else (netdata, node_exporter)
    groups = {"full": ((etio, *peers),), "lean": ((etio_lean,),), "both": ((etio, *peers), (etio_lean,))}
    for starts in groups[arguments.profile]:
        with bpf_stats():
            rows = _side_by_side(starts, arguments.settle, arguments.seconds)
        result |= rows
        _ratios(result)
        _show(rows)
        write(arguments.json, result)
    _show_ratios(result)
    if arguments.pairs and (pairs := twin(arguments.pairs)) is not None:
        result["kernel_twin"] = pairs
        show_twin(pairs)
        write(arguments.json, result)


def _side_by_side(starts: Sequence[Callable[[], contextlib.AbstractContextManager[Subject | None]]], settle: float,
                  seconds: float) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        subjects = [s for start in starts if (s := stack.enter_context(start())) is not None]
        countdown(f"{', '.join(s.name for s in subjects)} settle", settle)
        return measure(subjects, seconds)


def measure(subjects: list[Subject], seconds: float) -> dict[str, Any]:
    """CPU in percent of one core over `seconds`, memory (PSS, 10^6 bytes) and series of each subject."""
    before = {s.name: (tree_cpu(s.pid), s.kernel_seconds(), switches(s.pid), s.incidents()) for s in subjects}
    start = time.monotonic()
    countdown("measuring", seconds, seconds)
    span = time.monotonic() - start
    result: dict[str, Any] = {"seconds": round(span, 1)}
    for one in subjects:
        cpu, kernel, woken, told = before[one.name]
        result[one.name] = {
            "cpu_percent": round(100 * (tree_cpu(one.pid) - cpu) / span, 3),
            "kernel_cpu_percent": round(100 * (one.kernel_seconds() - kernel) / span, 3),
            "pss_mb": round(tree_pss(one.pid), 1),
            "series": one.series(),
            "wakeups_per_second": round((switches(one.pid) - woken) / span, 1),
        }
        if new := one.incidents() - told:
            result[one.name]["incidents"] = new
            print(f"{one.name} explained {new} incidents meanwhile: measure again on a quiet host")
    return result


def _ratios(result: dict[str, Any]) -> None:
    """CPU per 1,000 series of etio over that of each peer, kernel side included."""
    def per_series(name: str) -> float:
        row = result[name]
        return float((row["cpu_percent"] + row["kernel_cpu_percent"]) / max(row["series"], 1) * 1000)

    peers = [n for n in ("netdata", "node_exporter") if n in result and "etio" in result]
    result["cpu_ratio_per_1000_series"] = {p: round(per_series("etio") / per_series(p), 3) for p in peers}


@contextlib.contextmanager
def etio(name: str = "etio", config: str = "") -> Iterator[Subject]:
    """etio with everything on."""
    with daemon(config) as one:
        one.wait_ready()

        def kernel() -> float:
            return sum(p["run_seconds"] or 0.0 for p in one.status()["programs"])

        def incidents() -> int:
            return len(one.client.get("/api/v1/incidents", limit="1000")["incidents"])

        yield Subject(name, one.process.pid, lambda: int(one.status()["series"]), kernel, incidents)


def etio_lean() -> contextlib.AbstractContextManager[Subject]:
    """etio in its lean profile."""
    return etio("etio_lean", '[daemon]\nprofile = "lean"\n')


@contextlib.contextmanager
def netdata() -> Iterator[Subject | None]:
    """Netdata as Debian ships it, without cloud, in folders of its own."""
    program = shutil.which("netdata") or "/usr/sbin/netdata"
    if not Path(program).exists():
        print("netdata is not installed: left out (apt install netdata)")
        yield None
        return
    folder, port = Path(tempfile.mkdtemp(prefix="etio-netdata-")), free_port()
    places = "\n".join(f"    {n} = {folder}/{n}" for n in ("cache", "lib", "log", "home", "run"))
    for name in ("cache", "lib", "log", "home", "run"):
        (folder / name).mkdir()
    (folder / "netdata.conf").write_text(
        f"[global]\n    run as user = root\n[directories]\n{places}\n[web]\n    bind to = 127.0.0.1:{port}\n"
        f"[db]\n    update every = 1\n")
    process = subprocess.Popen([program, "-D", "-c", str(folder / "netdata.conf"), "-P", str(folder / "pid")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_http(f"http://127.0.0.1:{port}/api/v1/info")

        def series() -> int:
            charts = json.loads(fetch(f"http://127.0.0.1:{port}/api/v1/charts"))["charts"]
            return sum(len(c["dimensions"]) for c in charts.values())

        yield Subject("netdata", process.pid, series, lambda: 0.0)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def node_exporter() -> Iterator[Subject | None]:
    """node_exporter as Debian ships it, scraped each second."""
    program = shutil.which("prometheus-node-exporter")
    if program is None:
        print("node_exporter is not installed: left out (apt install prometheus-node-exporter)")
        yield None
        return
    port, stop = free_port(), threading.Event()
    url = f"http://127.0.0.1:{port}/metrics"
    process = subprocess.Popen([program, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)

    def scrape() -> None:
        while not stop.wait(1.0):
            with contextlib.suppress(OSError):
                fetch(url)

    try:
        _wait_http(url)
        threading.Thread(target=scrape, daemon=True).start()
        yield Subject("node_exporter", process.pid,
                      lambda: sum(not line.startswith("#") for line in fetch(url).splitlines()), lambda: 0.0)
    finally:
        stop.set()
        process.terminate()
        process.wait()


def fetch(url: str) -> str:
    """Body of a GET on loopback."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return str(answer.read().decode())


def _wait_http(url: str) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            fetch(url)
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers at {url}")


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and all its descendants, those that have ended and been waited for included."""
    total = 0
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(v) for v in fields[11:15])
    return total / TICKS


def tree_pss(pid: int) -> float:
    """Proportional set size of a process tree, 10^6 bytes."""
    total = 0
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total / 1e6


def switches(pid: int) -> int:
    """Voluntary context switches of all threads of a process tree: how often something of it woke up."""
    total = 0
    for one in (pid, *children(pid)):
        for status in Path(f"/proc/{one}/task").glob("*/status"):
            with contextlib.suppress(OSError):
                for line in status.read_text().splitlines():
                    if line.startswith("voluntary_ctxt_switches"):
                        total += int(line.split()[1])
    return total


def _show(rows: dict[str, Any]) -> None:
    print(f"{'':14} {'CPU %':>8} {'kernel %':>9} {'PSS MB':>8} {'series':>7} {'wake-ups/s':>11}")
    for name in ("etio", "etio_lean", "netdata", "node_exporter"):
        if row := rows.get(name):
            print(f"{name:14} {row['cpu_percent']:8.2f} {row['kernel_cpu_percent']:9.3f} {row['pss_mb']:8.1f} "
                  f"{row['series']:7d} {row['wakeups_per_second']:11.1f}", flush=True)


def _show_ratios(result: dict[str, Any]) -> None:
    for peer, ratio in result["cpu_ratio_per_1000_series"].items():
        print(f"etio's CPU per 1,000 series is {ratio:.2f} x that of {peer}", flush=True)


if __name__ == "__main__":
    entry(main)
