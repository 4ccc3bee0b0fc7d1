"""Loads the eBPF programs for tests, reads them, and runs workloads in processes of their own."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ebpf.client import WardenClient, spawn_warden
from collector.ebpf.collector import EbpfCollector
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


WAITED = "sched_run_delay_seconds_per_second"


def not_among_many(waited: float, all_waited: float) -> None:
    """Skips where the rest of the host waited so much longer that one process need not be among those remembered."""
    if waited < 0.03 * all_waited:
        pytest.skip(f"too crowded: others waited {all_waited:.1f} s for a core, this test {waited:.1f} s")


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
