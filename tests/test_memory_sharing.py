"""What is told over and over is kept once: names in tables of who is there and who did what."""

import gc
import subprocess
from pathlib import Path

import pytest

from collector.ebpf.heavy import text
from collector.processes import ProcessReader
from etio.daemon import run, thrift


def test_processes_of_one_program_share_their_words():
    started = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    try:
        reader = ProcessReader(Path("/"))
        rows = {p.pid: p for table in (reader.read(1), reader.read(2)) for p in table.processes}
        reader.close()
        one, other = (rows[p.pid] for p in started)
        for name in ("cgroup", "unit"):
            assert getattr(one, name) is getattr(other, name)
        if one.comm == other.comm == "sleep":
            assert one.comm is other.comm
            assert one.cmdline is other.cmdline
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_names_of_actors_are_kept_once_and_bounded():
    assert text(b"worker-1") is text(b"worker-1") == "worker-1"
    for i in range(5000):
        text(b"%d" % i)
    assert text.cache_info().currsize <= 1024


class _Ring:
    def __init__(self):
        self.me = self


@pytest.mark.slow
def test_rings_that_nobody_holds_go_with_the_heap():
    gc.collect()
    gc.disable()
    try:
        rings = [_Ring() for _ in range(1000)]
        del rings
        thrift.trim_heap()
        assert gc.collect() < 100
    finally:
        gc.enable()


def test_few_rings_of_answered_requests_wait():
    assert run.GC_THRESHOLDS[0] <= 5_000
