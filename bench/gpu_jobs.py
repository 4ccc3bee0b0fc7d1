"""What watching GPU jobs costs: time added to each probed call, in matched loops with and without; a look around."""

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.common import parser, write
from bench.drills._gpu_job import build
from bench.signals import entry
from collector.ebpf.client import WardenClient, spawn_warden

CALLS_PER_STEP = 2
"""ncclAllReduce and ncclAllGather, each probed at its entry and its return."""


def main() -> int:
    """Entry."""
    one = parser(__doc__ or "")
    one.add_argument("--pairs", type=int, default=9)
    one.add_argument("--steps", type=int, default=100_000)
    arguments = one.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(build(Path(folder)), arguments.pairs, arguments.steps)
    for name, value in result.items():
        print(f"{name:28} {value}")
    write(arguments.json, result)
    return 0


def measure(program: Path, pairs: int, steps: int) -> dict[str, Any]:
    """ns per call without probes and what they add, medians over alternating pairs; cost of a look of the warden."""
    plain, probed, looks, inside = [], [], [], []
    for _ in range(pairs):
        plain.append(_run(program, steps, None))
        channel, pid = spawn_warden()
        with WardenClient(channel) as client:
            probed.append(_run(program, steps, client))
            looks += [_look(client) for _ in range(5)]
            inside.append(_program_ns(client, program, steps // 10))
        os.waitpid(pid, 0)
    added = [b - a for a, b in zip(plain, probed, strict=True)]
    return {"plain_ns_per_call": round(statistics.median(plain), 1),
            "added_ns_per_call": round(statistics.median(added), 1),
            "added_ns_spread": [round(min(added), 1), round(max(added), 1)],
            "program_ns": {n: round(statistics.median(one[n] for one in inside), 1) for n in sorted(inside[0])},
            "look_ms": round(statistics.median(looks), 2), "pairs": pairs, "calls": CALLS_PER_STEP * steps}


def _run(program: Path, steps: int, client: WardenClient | None) -> float:
    """ns of CPU per call of one process that does nothing but call; probed when a client is given."""
    with subprocess.Popen([str(program), str(steps), "0", "0", "0"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as child:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("no pipes")
        child.stdout.readline()
        if client is not None:
            wait_for_probes(client, child.pid)
        before = _cpu_ns(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        spent = _cpu_ns(child.pid) - before
        child.stdin.write(b"\n")
        child.stdin.flush()
    return spent / (CALLS_PER_STEP * steps)


def _cpu_ns(pid: int) -> int:
    """CPU time of a process of one thread: on a busy host wall time says more of the others."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def wait_for_probes(client: WardenClient, pid: int, seconds: float = 60.0) -> dict[str, Any]:
    """The warden's answer once all libraries of that process are probed. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer, fd = client.jobs()
        if fd >= 0:
            os.close(fd)
        if not answer["busy"] and any(process["pid"] == pid for process in answer["processes"]):
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"process {pid} is not watched after {seconds:g} s")


def _program_ns(client: WardenClient, program: Path, steps: int) -> dict[str, float]:
    """ns per run of each program as the kernel counts them, in a run of its own: counting costs time as well."""
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = switch.read_text()
    switch.write_text("1")
    try:
        _run(program, steps, client)
        return {c.name: c.run_seconds / c.run_count * 1e9 for c in client.program_costs() if c.run_count >= steps}
    finally:
        switch.write_text(before)


def _look(client: WardenClient) -> float:
    """Milliseconds of one look, asked and answered."""
    before = time.perf_counter()
    _, fd = client.jobs()
    spent = time.perf_counter() - before
    if fd >= 0:
        os.close(fd)
    return spent * 1e3


if __name__ == "__main__":
    entry(main)
