"""Uprobes on stand-ins for NCCL and CUDA in this kernel: exact counts, processes older and younger than the probes."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bench.drills._gpu_job import build, training
from bench.gpu_jobs import wait_for_probes
from collector.ebpf.client import WardenClient, spawn_warden
from collector.ebpf.job_probes import JOBS, SHARED_BYTES
from collector.ebpf.maps import MappedArray
from collector.gpu_jobs import _JOB, Config, GpuJobs
from etio.core.rates import Rates

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root,
              pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("gpu"))


@pytest.fixture(scope="module")
def client() -> Iterator[WardenClient]:
    channel, pid = spawn_warden()
    with WardenClient(channel) as made:
        yield made
    os.waitpid(pid, 0)


class Run:
    """A process of one rank that waits for the word to begin, and again before it ends."""

    def __init__(self, program: Path, steps: int, sync_us: int = 0) -> None:
        self.child = subprocess.Popen([str(program), str(steps), "0", "0", str(sync_us)], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE)
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == b"here\n"

    def go(self) -> None:
        """Runs all steps."""
        self.word()
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == b"done\n"

    def word(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(b"\n")
        self.child.stdin.flush()

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()


@contextmanager
def run(program: Path, steps: int, sync_us: int = 0) -> Iterator[Run]:
    made = Run(program, steps, sync_us)
    try:
        yield made
    finally:
        made.end()


def probes(client: WardenClient) -> int:
    answer, fd = client.jobs()
    os.close(fd)
    return int(answer["probes"])


def until(what, seconds: float = 60.0):
    """The first true answer."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return answer


def counted(client: WardenClient, pid: int) -> np.void:
    """What the kernel counted of one process."""
    _, fd = client.jobs()
    try:
        jobs = MappedArray(fd, SHARED_BYTES).view(_JOB, 0, JOBS)
    finally:
        os.close(fd)
    (found,) = [job.copy() for job in jobs if int(job["tgid"]) == pid]
    return found


def test_1009_steps_of_a_process_older_than_the_probes(program, client):
    with run(program, 1009) as one:
        wait_for_probes(client, one.child.pid)
        one.go()
        found = counted(client, one.child.pid)
    assert (found["arrivals"], found["blocked_calls"], found["graphs"]) == (2018, 2018, 0)
    last = found["ring"][2018 % 1024]
    assert (last["number"], last["op"], last["count"]) == (2018, 2, 64)


def test_499_steps_of_a_process_younger_than_the_probes(program, client):
    with run(program, 1) as first:
        wait_for_probes(client, first.child.pid)
        before = probes(client)
        with run(program, 499) as one:
            one.go()
            assert counted(client, one.child.pid)["arrivals"] == 998
            assert probes(client) == before  # one file, one set of probes, whoever maps it
            wait_for_probes(client, one.child.pid)


def test_waiting_is_counted_once_and_right(program, client):
    """101 waits of 2 ms in cudaStreamSynchronize, which calls cuStreamSynchronize: counted once each."""
    with run(program, 101, 2000) as one:
        wait_for_probes(client, one.child.pid)
        began = time.perf_counter()
        one.go()
        wall = time.perf_counter() - began
        found = counted(client, one.child.pid)
    assert (found["blocked_calls"], found["graphs"]) == (303, 101)
    assert 0.202 <= found["blocked_ns"] / 1e9 <= wall


def test_kernel_launches_are_counted_for_a_while_only(program, client):
    def sampling() -> bool:
        answer, fd = client.jobs()
        os.close(fd)
        return bool(answer["sampling"])

    with run(program, 607) as one:
        wait_for_probes(client, one.child.pid)
        client.sample_jobs()
        until(sampling)
        one.go()
        assert counted(client, one.child.pid)["kernels"] == 607
        until(lambda: not sampling())

    def without_kernels() -> bool:
        with run(program, 11) as other:
            wait_for_probes(client, other.child.pid)
            other.go()
            found = counted(client, other.child.pid)
        assert found["arrivals"] == 22
        return not found["kernels"]
    until(without_kernels)  # the kernel takes the probe off in a tenth of a second


def test_a_library_by_another_name(tmp_path, client):
    with run(build(tmp_path, nccl="libtorch_cuda.so", cudart="libcudart-9335616d.so.11.0"), 307) as one:
        wait_for_probes(client, one.child.pid)
        one.go()
        assert counted(client, one.child.pid)["arrivals"] == 614


def test_nccl_linked_into_the_program(program, tmp_path, client):
    """Not exported, only in the table of all symbols."""
    static = tmp_path / "static"
    subprocess.run(["gcc", "-O1", "-w", "-o", static, "train.c", "nccl.c", "-l:libcudart.so.12", "-L.",
                    f"-Wl,-rpath,{program.parent}", "-lpthread"], cwd=program.parent, check=True)
    with run(static, 211) as one:
        wait_for_probes(client, one.child.pid)
        one.go()
        assert counted(client, one.child.pid)["arrivals"] == 422


def test_probes_go_with_the_last_process_and_the_loader_is_gone(program, client):
    with run(program, 1) as one:
        wait_for_probes(client, one.child.pid)
        assert probes(client) > 20
        warden = client.ping()
        assert Path(f"/proc/{warden}/task/{warden}/children").read_text() == ""
        assert client.smaps(warden)["Pss"] < 16_000_000
    until(lambda: probes(client) == 0)


def test_deleted_library_of_a_running_process(tmp_path, client):
    """A container image that was updated under a running job."""
    program = build(tmp_path)
    with run(program, 53) as one:
        for library in tmp_path.glob("lib*"):
            library.unlink()
        wait_for_probes(client, one.child.pid)
        one.go()
        assert counted(client, one.child.pid)["arrivals"] == 106


def test_the_collector_tells_a_slow_rank_from_the_others(program, client):
    made = GpuJobs(Config(enabled=True, look_s=1.0))
    made.source, made.release = client.jobs, client.end_jobs
    made.open(Path("/"))
    rates = Rates()

    def values():
        reading = made.collect(time.time_ns())
        return {(s.name, s.label("job"), s.label("rank")): v for s, v in
                zip(reading.series, rates.step(time.time_ns(), reading), strict=True)}

    def own(rank):
        return seen.get(("gpu_job_own_seconds", "prime", str(rank)), np.nan)

    with training(program.parent, ranks=3, name="prime") as job:
        job.slow(1)
        collected = []

        def enough():
            nonlocal seen
            time.sleep(0.5)
            seen = values()
            if all(own(rank) > 0 for rank in range(3)):
                collected.append([own(rank) for rank in range(3)])
            return len(collected) >= 6
        seen = {}
        until(enough)
        middle = np.median(np.array(collected), axis=0)
        assert middle[1] > 1.15 * max(middle[0], middle[2])
        assert seen["gpu_job_process_id", "prime", "1"] == job.ranks[1].pid
        assert seen["gpu_job_gpu_index", "prime", "2"] == 2
        assert seen["gpu_job_collectives_per_second", "prime", "0"] > 0
        assert seen["gpu_job_role", "prime", "1"] == seen["gpu_job_role", "prime", "0"]
    made.close()
    until(lambda: probes_left(client) == 0)


def probes_left(client: WardenClient) -> int:
    """The program's map is gone with jobs_end, and asking loads nothing while no process is there."""
    answer, fd = client.jobs()
    if fd >= 0:
        os.close(fd)
    return int(answer["probes"])
