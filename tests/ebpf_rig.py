"""Loads the eBPF programs for tests, reads them, and runs workloads in processes of their own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.ebpf import loader
from collector.ebpf.client import SYSTEM_PYTHON, WardenClient, spawn_warden
from collector.ebpf.collector import EbpfCollector
from collector.ebpf.protocol import MAX_FDS, MAX_REPLY
from etio.core.facts import Actor


@pytest.fixture(scope="module")
def client() -> Iterator[WardenClient]:
    channel, pid = spawn_warden()
    with WardenClient(channel) as made:
        yield made
    os.waitpid(pid, 0)


@pytest.fixture(scope="module")
def ebpf(client: WardenClient) -> Iterator[EbpfCollector]:
    made = EbpfCollector(client.load())
    made.open(Path("/"))
    yield made
    made.close()


@pytest.fixture
def trace() -> Iterator[Path]:
    """A private trace buffer, the kernel's own account of its tracepoints."""
    place = Path(f"/sys/kernel/tracing/instances/etio-test-{os.getpid()}")
    place.mkdir()
    (place / "buffer_size_kb").write_text("16384")
    yield place
    place.rmdir()


def values(ebpf: EbpfCollector) -> dict[str, float]:
    reading = ebpf.collect(time.time_ns())
    return dict(zip([s.key for s in reading.series], reading.values, strict=True))


def actors(ebpf: EbpfCollector, kind: str) -> list[Actor]:
    return [a for a in ebpf.actors(time.time_ns()).actors if a.kind == kind]


def of(found: list[Actor], pid: int) -> Actor:
    """The actor of a process; one with nothing where there is none."""
    return next((a for a in found if a.pid == pid), Actor("fork", "", pid))


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Python code in a process of its own, which leads a session and may print."""
    return subprocess.Popen([sys.executable, "-I", "-c", textwrap.dedent(code), *arguments], text=True,
                            stdout=subprocess.PIPE, start_new_session=True)


def run(code: str, *arguments: str) -> tuple[int, str]:
    """(pid, what it printed) of Python code in a process of its own, once it is done."""
    child = start(code, *arguments)
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return child.pid, printed


@contextlib.contextmanager
def two_hosts(network: str) -> Iterator[tuple[str, str]]:
    """Two network namespaces joined by a veth pair: .1 and .2 of a network such as "10.199.0"."""
    ends = [f"etio-{side}-{os.getpid()}" for side in ("near", "far")]
    with contextlib.ExitStack() as undo:
        for name in ends:
            sh("ip", "netns", "add", name)
            undo.callback(sh, "ip", "netns", "delete", name)
        sh("ip", "-n", ends[0], "link", "add", "etio0", "type", "veth", "peer", "name", "etio0", "netns", ends[1])
        for number, name in enumerate(ends, 1):
            sh("ip", "-n", name, "address", "add", f"{network}.{number}/24", "dev", "etio0")
            sh("ip", "-n", name, "link", "set", "lo", "up")
            sh("ip", "-n", name, "link", "set", "etio0", "up")
        yield ends[0], ends[1]


RAN = 0.95
"""At least so much is counted: the kernel does not run a program that it finds at work already on that core."""
WAITED = "sched_run_delay_seconds_per_second"


def not_among_many(waited: float, all_waited: float) -> None:
    """Skips where the rest of the host waited so much longer that one process need not be among those remembered."""
    if waited < 0.05 * all_waited:
        pytest.skip(f"too crowded: others waited {all_waited:.1f} s for a core, this test {waited:.1f} s")


def one_of_five(attempt: Callable[[], None]) -> None:
    """Runs it until it passes: a process whose place in the table belongs to somebody busier is not remembered."""
    for _ in range(4):
        with contextlib.suppress(AssertionError):
            return attempt()
    return attempt()


def run_loader(*options: str, script: str = loader.__file__,
               python: Sequence[str] = (SYSTEM_PYTHON,)) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(manifest, descriptors) of one run of the loader."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        subprocess.run([*python, "-I", script, "--fd", str(theirs.fileno()), *options],
                       pass_fds=[theirs.fileno()], check=True, timeout=180)
        data, descriptors, _, _ = socket.recv_fds(ours, MAX_REPLY, MAX_FDS)
    return json.loads(data), tuple(descriptors)


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


PING_PONG = """
    import os
    a, b = os.pipe()
    c, d = os.pipe()
    if os.fork() == 0:
        for _ in range(5003):
            os.read(a, 1)
            os.write(d, b"x")
        os._exit(0)
    for _ in range(5003):
        os.write(b, b"x")
        os.read(c, 1)
    os.wait()
"""


def _kernel_switches() -> int:
    return next(int(ln.split()[1]) for ln in Path("/proc/stat").read_text().splitlines() if ln.startswith("ctxt"))


def check_sched(ebpf: EbpfCollector) -> None:
    """Switches lie between the kernel's own counts taken just outside and just inside of ours.

    The kernel counts a switch just before the tracepoint, hence a little slack for those under way. On a virtual
    machine with Linux 6.18 it did not run the program for up to 0.4 % of the switches (`run_cnt` of bpf_prog_info
    lacks the same ones, so none got lost in the program), in bursts of milliseconds.
    """
    outer = _kernel_switches()
    first = values(ebpf)
    inner = _kernel_switches()
    run(PING_PONG)
    inner = _kernel_switches() - inner
    last = values(ebpf)
    outer = _kernel_switches() - outer
    grown = {key: last[key] - first[key] for key in last if key.startswith("sched_") and key.endswith("_second")}
    assert 5003 < 0.98 * inner - 8 <= grown["sched_switches_per_second"] <= outer + 8
    assert 5003 / 2 < grown["sched_wakeups_per_second"] < 3 * outer
    assert 0 < grown["sched_run_delay_seconds_per_second"] < 60
    assert 1e-7 < last["sched_run_delay_p50_seconds"] <= last["sched_run_delay_p99_seconds"] < 10
