"""How much slower real work gets beside etio: pairs with and without it, and what each eBPF program costs an event.

What is compared is the CPU time of the same work (a hook of the kernel runs on the time of the task that meets it), for
on a host that does other things as well, wall time says more of those; its ratio is told beside it.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import bpf_stats, parser, write
from bench.daemon import daemon
from bench.overhead import tree_cpu
from bench.signals import entry
from etio.core.errors import EtioError

USER = "nobody"
TOTAL = re.compile(r"Total time:\s+([\d.]+)")
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
SETTLE_S = 4.0
"""After the daemon is ready: the work of its start must not count against it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of real work, always the same amount. run: seconds it took. server: pid of who works for it, too."""

    name: str
    run: Callable[[], float]
    server: int = 0

    def measure(self) -> tuple[float, float]:
        """(CPU seconds, wall seconds) of one run."""
        before = self._cpu()
        wall = self.run()
        return self._cpu() - before, wall

    def _cpu(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime + (tree_cpu(self.server) if self.server else 0.0)


def main() -> int:
    """Entry."""
    one = parser(__doc__ or "")
    one.add_argument("--pairs", type=int, default=9, help="times that everything runs with and without etio")
    one.add_argument("--only", action="append", metavar="NAME", help="only this work; may be given several times")
    arguments = one.parse_args()
    with contextlib.ExitStack() as stack:
        works = [w for w in _works(stack) if not arguments.only or w.name in arguments.only]
        for work in works:
            work.run()  # warm caches
        programs = program_costs(works)
        result = {"workloads": compare(works, arguments.pairs), "program_ns": programs}
    _show(result)
    write(arguments.json, result)
    return 0


def compare(works: list[Work], pairs: int) -> dict[str, dict[str, float]]:
    """Ratio of the CPU time with etio to that without, of each work; the order changes from pair to pair."""
    ratios: dict[str, list[float]] = {w.name: [] for w in works}
    walls: dict[str, list[float]] = {w.name: [] for w in works}
    for i in range(pairs):
        order = (True, False) if i % 2 else (False, True)
        took = {beside: _round(works, beside) for beside in order}
        for name in ratios:
            for at, found in enumerate((ratios, walls)):
                found[name].append(took[True][name][at] / took[False][name][at])
        print(f"pair {i + 1} of {pairs}: " + "  ".join(f"{n} {r[-1]:.3f}" for n, r in ratios.items()), flush=True)
    return {name: summary(found) | {"wall_ratio": round(statistics.median(walls[name]), 4)}
            for name, found in ratios.items()}


def summary(ratios: list[float]) -> dict[str, float]:
    """Median and half the distance between the quartiles of some ratios.

    >>> summary([1.0, 1.02, 1.01, 1.5, 0.99])
    {'median_ratio': 1.01, 'pairs': 5, 'spread': 0.01}
    """
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else (ratios * 3)
    return {"median_ratio": round(statistics.median(ratios), 4), "pairs": len(ratios),
            "spread": round((high - low) / 2, 4)}


def _round(works: list[Work], beside: bool) -> dict[str, tuple[float, float]]:
    """Least CPU and least wall seconds of three runs of each work."""
    with daemon() if beside else contextlib.nullcontext() as etio:
        if etio is not None:
            etio.wait_ready()
            time.sleep(SETTLE_S)
        runs = {w.name: [w.measure() for _ in range(3)] for w in works}
        return {name: (min(cpu for cpu, _ in found), min(wall for _, wall in found)) for name, found in runs.items()}


def program_costs(works: list[Work]) -> dict[str, float]:
    """Nanoseconds of each program per event while the work runs, as the kernel counts them."""
    with bpf_stats(), daemon() as etio:
        etio.wait_ready()
        for work in works:
            work.run()
        found = etio.status()["programs"]
    return {p["name"]: round(1e9 * p["run_seconds"] / p["run_count"], 1) for p in found
            if p["run_count"] and p["run_seconds"]}


# -- the work ---------------------------------------------------------------------------------------------------------


def _works(stack: contextlib.ExitStack) -> list[Work]:
    """What can run here; what cannot is said."""
    folder = Path(tempfile.mkdtemp(prefix="etio-slowdown-", dir="/var/tmp"))
    folder.chmod(0o755)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    works = []
    makers: tuple[tuple[str, str, Callable[[], Work | Callable[[], float]]], ...] = (
        ("sched_pipe", "perf", lambda: _perf("pipe", "-l", "200000", cpu=max(os.sched_getaffinity(0)))),
        ("sched_messaging", "perf", lambda: _perf("messaging", "-g", "5", "-l", "200")),
        ("fio_random_read", "fio", lambda: _fio(folder)),
        ("redis", "redis-benchmark", lambda: stack.enter_context(_redis())),
        ("pgbench", "pgbench", lambda: stack.enter_context(_pgbench(folder))),
        ("compile", "gcc", lambda: _compile(folder)),
    )
    for name, needs, make in makers:
        if shutil.which(needs) is None:
            print(f"{name}: left out, {needs} is not installed")
            continue
        try:
            made = make()
            works.append(made if isinstance(made, Work) else Work(name, made))
        except EtioError as error:
            print(f"{name}: left out, {error}")
    return works


def run(*command: str, user: str | None = None) -> str:
    """What a command prints. Raises EtioError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", user=user)
    if done.returncode:
        raise EtioError(f"{command[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout


def _perf(*arguments: str, cpu: int | None = None) -> Callable[[], float]:
    """cpu: on this one alone. Two tasks that may choose are on one CPU or on two as it happens, which costs five times
    as much, and no pair is like the other."""
    there = () if cpu is None else ("taskset", "-c", str(cpu))

    def work() -> float:
        found = TOTAL.search(run(*there, "perf", "bench", "sched", *arguments))
        if found is None:
            raise EtioError("perf bench tells no time")
        return float(found[1])
    return work


def _fio(folder: Path) -> Callable[[], float]:
    """Random reads of 4 KiB past the page cache."""
    command = ("fio", "--name=r", f"--filename={folder}/fio", "--size=64m", "--rw=randread", "--bs=4k", "--direct=1",
               "--ioengine=psync", "--number_ios=20000", "--randseed=1", "--output-format=json")

    def work() -> float:
        return float(json.loads(run(*command))["jobs"][0]["read"]["runtime"]) / 1e3
    return work


@contextlib.contextmanager
def _redis() -> Iterator[Work]:
    """A server of our own, on a socket, without files."""
    with tempfile.TemporaryDirectory(prefix="etio-redis-") as name:
        socket = f"{name}/redis"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""],
                                  stdout=subprocess.DEVNULL)
        try:
            _wait(lambda: Path(socket).exists())

            def work() -> float:
                begin = time.monotonic()
                run("redis-benchmark", "-s", socket, "-q", "-t", "get,set", "-n", "40000")
                return time.monotonic() - begin
            yield Work("redis", work, server.pid)
        finally:
            server.terminate()
            server.wait()


@contextlib.contextmanager
def _pgbench(folder: Path) -> Iterator[Work]:
    """A database of our own, on a socket; read-only transactions of two clients."""
    if not POSTGRES:
        raise EtioError("no PostgreSQL server is installed")
    bin_, data = POSTGRES[-1], folder / "pg"
    data.mkdir(mode=0o700)
    user = USER if os.geteuid() == 0 else None  # the server refuses to run as root
    if user:
        shutil.chown(data, USER)
    run(str(bin_ / "initdb"), "-D", str(data), "-A", "trust", "-N", "-U", "bench", user=user)
    server = subprocess.Popen([str(bin_ / "postgres"), "-D", str(data), "-k", str(data), "-h", "", "-F"], cwd="/",
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user)
    base = ("pgbench", "-h", str(data), "-U", "bench", "-n")
    try:
        _wait(lambda: next(data.glob(".s.PGSQL.*"), None) is not None)
        run("pgbench", "-h", str(data), "-U", "bench", "-i", "-q", "-s", "2", "postgres")

        def work() -> float:
            begin = time.monotonic()
            run(*base, "-S", "-c", "2", "-j", "2", "-t", "20000", "postgres")
            return time.monotonic() - begin
        yield Work("pgbench", work, server.pid)
    finally:
        server.terminate()
        server.wait()


def _compile(folder: Path) -> Callable[[], float]:
    """A C file of some thousand lines, optimised."""
    lines = [f"int f{n}(int a, int b) {{ int s = 0; for (int i = 0; i < a; i++) s += i * b % {n + 3} ^ b >> {n % 7};"
             f" return s; }}" for n in range(700)]
    (folder / "work.c").write_text("\n".join(lines))

    def work() -> float:
        begin = time.monotonic()
        run("gcc", "-O2", "-c", "-o", str(folder / "work.o"), str(folder / "work.c"))
        return time.monotonic() - begin
    return work


def _wait(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not what():
        if time.monotonic() > until:
            raise EtioError("a server does not start")
        time.sleep(0.05)


def _show(result: dict[str, Any]) -> None:
    print(f"{'work':18} {'CPU beside etio':>17} {'spread':>8} {'pairs':>6} {'wall':>9}")
    for name, row in result["workloads"].items():
        print(f"{name:18} {100 * row['median_ratio'] - 100:+15.2f} % {100 * row['spread']:6.2f} % {row['pairs']:6d} "
              f"{100 * row['wall_ratio'] - 100:+7.1f} %")
    for name, cost in sorted(result["program_ns"].items(), key=lambda kv: -kv[1]):
        print(f"{name:40} {cost:8.1f} ns per event")


if __name__ == "__main__":
    entry(main)
