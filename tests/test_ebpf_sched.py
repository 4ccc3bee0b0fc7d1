"""Scheduler programs: moves, lost CPUs, who had the core, whose group waited; against the kernel's own accounts."""

# ruff: noqa: F811 (fixtures of ebpf_rig)

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ebpf.client import Loaded
from collector.ebpf.collector import EbpfCollector
from tests.ebpf_rig import (  # noqa: F401 (fixtures)
    RAN,
    WAITED,
    actors,
    client,
    ebpf,
    not_among_many,
    of,
    one_of_five,
    run,
    run_loader,
    start,
    values,
)

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root]
SLACK = 4
several_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing can move")

HOPS = """
    import os, time
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {cores[0]})
    time.sleep(0.01)
    def moves():
        return next(int(ln.split()[-1]) for ln in open("/proc/self/sched") if ln.startswith("se.nr_migrations"))
    first = moves() if os.path.exists("/proc/self/sched") else 0
    for i in range(1, 2004):
        os.sched_setaffinity(0, {cores[i % 2]})
    print(moves() - first if first else 2003)
"""


@several_cores
def test_2003_moves_between_two_cores(ebpf):
    """All are counted; whose they are is told by one in 32, evenly spread over all moves."""
    before = values(ebpf)
    ebpf.actors(0)
    pid, told = run(HOPS)
    assert int(told) == 2003
    assert abs(of(actors(ebpf, "migrate"), pid).count - 2003) <= 4 * 118
    after = values(ebpf)
    assert after["sched_migrations_per_second"] - before["sched_migrations_per_second"] >= RAN * 2003


# A tracer of our own, on the same tracepoints, for this process only: the kernel's second account.
HOGS = """
    import os, sys, time
    for name in filter(None, sys.argv[1:2]):
        open(name + "/cgroup.procs", "w").write(str(os.getpid()))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    child = os.fork()
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        pass
    if not child:
        os._exit(0)
    def field(name):
        return next(int(ln.split()[1]) for ln in open("/proc/self/status") if ln.startswith(name))
    print(field("nonvoluntary_ctxt"), int(open("/proc/self/schedstat").read().split()[1]) / 1e9, child)
    os.wait()
"""


def who_lost(ebpf: EbpfCollector) -> None:
    """Two that compute on one core: each waits while the other has it. Against /proc/PID/status and schedstat."""
    before = values(ebpf)
    ebpf.actors(0)
    pid, told = run(HOGS)
    lost, waited, child = (float(word) for word in told.split())
    found, after = ebpf.actors(0).actors, values(ebpf)
    not_among_many(waited, after[WAITED] - before[WAITED])
    held = [a for a in found if a.kind == "cpu_hold"]
    assert waited > 0.05
    # Short waits are sampled, by how crowded the core is; and a CPU lost soon after another is told with the next.
    assert waited / 3 < sum(a.amount for a in found if a.kind == "run_delay" and a.pid == pid) < 3 * waited
    assert min(of(held, int(child)).amount, of(held, pid).amount) > 0.001
    assert sum(a.amount for a in held) > 0.3 * waited
    preempted = of([a for a in found if a.kind == "preempted"], pid).count
    key = "sched_involuntary_switches_per_second"
    all_lost = after[key] - before[key]
    assert all_lost >= RAN * lost
    assert preempted >= lost / 3 - 20
    assert preempted <= 3 * lost + 20 or all_lost > 5 * lost  # those that lost it just before are told with the next
    assert 0 < after["sched_on_cpu_p50_seconds"] <= after["sched_on_cpu_p99_seconds"] < 5


def test_who_lost_the_core_who_had_it_and_who_waited(ebpf):
    one_of_five(lambda: who_lost(ebpf))


SHORT_WAITS = """
    import os
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    a, b = os.pipe()
    c, d = os.pipe()
    if os.fork() == 0:
        while word := os.read(a, 1):
            os.write(d, word)
            if word == b"y":
                os._exit(0)
    for i in range(5003):
        os.write(b, b"y" if i == 5002 else b"x")
        os.read(c, 1)
    os.wait()
"""


def short_waits_add_up(ebpf: EbpfCollector) -> None:
    """At least half of all waits last at least as long as their median; an eighth would, were they not weighed."""
    before = values(ebpf)
    run(SHORT_WAITS)
    after = values(ebpf)
    grown = {key: after[key] - before[key] for key in (WAITED, "sched_wakeups_per_second", "sched_switches_per_second")}
    assert grown["sched_switches_per_second"] >= RAN * 10006
    median = after["sched_run_delay_p50_seconds"]
    assert 2e-7 < median < 10  # the run queue's clock alone would say 0
    assert grown[WAITED] > 0.25 * median * min(grown["sched_wakeups_per_second"], 10006)


def test_short_waits_of_a_busy_core_stand_for_those_that_are_not_timed(ebpf):
    one_of_five(lambda: short_waits_add_up(ebpf))


SLEEPS = """
    import time
    def field(name):
        return next(int(ln.split()[1]) for ln in open("/proc/self/status") if ln.startswith(name))
    first = field("voluntary_ctxt")
    for _ in range(307):
        time.sleep(0.0005)
    print(field("voluntary_ctxt") - first)
"""


def test_307_sleeps_are_307_voluntary_switches(ebpf):
    before = values(ebpf)["sched_voluntary_switches_per_second"]
    _, told = run(SLEEPS)
    assert int(told) >= RAN * 307  # one whose time is over before it lies down does not switch
    assert values(ebpf)["sched_voluntary_switches_per_second"] - before >= RAN * int(told)


@pytest.fixture
def trace() -> Iterator[Path]:
    """A private trace buffer, the kernel's own account of the same tracepoints."""
    place = Path(f"/sys/kernel/tracing/instances/etio-sched-{os.getpid()}")
    place.mkdir()
    (place / "buffer_size_kb").write_text("8192")
    yield place
    for event in place.glob("events/sched/*/enable"):
        event.write_text("0")
    place.rmdir()


def _traced(trace: Path, event: str) -> tuple[int, int]:
    """(all switches away from a task, those it did not want) or (moves, 0) in the buffer."""
    lines = [ln for ln in (trace / "trace").read_text().splitlines() if f" {event}: " in ln]
    if event == "sched_migrate_task":
        return len(lines), 0
    lines = [ln for ln in lines if " prev_pid=0 " not in ln]
    return len(lines), sum(" prev_state=R" in ln for ln in lines)


@pytest.mark.parametrize(("event", "names"), [
    ("sched_migrate_task", ("sched_migrations_per_second",)),
    ("sched_switch", ("sched_voluntary_switches_per_second", "sched_involuntary_switches_per_second")),
])
def test_the_counters_lie_between_two_readings_of_ftrace(ebpf, trace, event, names):
    """Ours are read outside, then inside of the time in which ftrace counts; SLACK: what is under way at its ends."""
    enable = trace / "events/sched" / event / "enable"
    outer = values(ebpf)
    enable.write_text("1")
    inner = values(ebpf)
    run(HOGS)
    inner = {name: values(ebpf)[name] - inner[name] for name in names}
    enable.write_text("0")
    outer = {name: values(ebpf)[name] - outer[name] for name in names}
    total, lost = _traced(trace, event)
    assert sum(inner.values()) - SLACK <= total
    assert RAN * total <= sum(outer.values()) + SLACK
    if lost:
        assert inner[names[1]] - SLACK <= lost
        assert RAN * lost <= outer[names[1]] + SLACK


@pytest.fixture
def cpu_group() -> Iterator[Path]:
    """A control group that ids of the scheduler's programs speak of: v1 cpu, or v2."""
    v1 = Path("/sys/fs/cgroup/cpu")
    group = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"etio-sched-{os.getpid()}"
    group.mkdir()
    yield group
    group.rmdir()


def test_the_group_that_waited_is_named(ebpf, cpu_group):
    values(ebpf)
    key = f'cgroup_run_delay_seconds_per_second{{cgroup="/{cpu_group.name}"}}'
    crowd = start(HOGS, str(cpu_group))
    seen = 0.0
    while crowd.poll() is None:
        seen = values(ebpf).get(key, seen)
        time.sleep(0.1)
    waited = float(crowd.communicate()[0].split()[1])
    assert 2 * waited / 4 < values(ebpf)[key] < 2 * waited * 4  # sampled, see above; and the other may wait less
    assert seen <= values(ebpf)[key]


@several_cores
@pytest.mark.parametrize("btf", ["/sys/kernel/btf/vmlinux", "/nonexistent"])
def test_moves_between_nodes_by_a_made_up_map_of_them(tmp_path, btf):
    """Every core a node of its own, so every move changes the node; with and without BTF."""
    for cpu in range(os.cpu_count() or 1):
        (tmp_path / f"node{cpu}").mkdir()
        (tmp_path / f"node{cpu}/cpulist").write_text(f"{cpu}\n")
    made = EbpfCollector(Loaded(*run_loader("--only", "sched", "--nodes", str(tmp_path), "--btf", btf)))
    made.open(Path("/"))
    try:
        before = values(made)
        made.actors(0)
        pid, _ = run(HOPS)
        after = values(made)
        assert after["sched_node_migrations_per_second"] - before["sched_node_migrations_per_second"] >= RAN * 2003
        mover = of(actors(made, "migrate"), pid)
        assert mover.count == mover.amount >= 2003 - 4 * 118
    finally:
        made.close()


CROWD_THAT_MOVES = """
    import os, time
    first, second = sorted(os.sched_getaffinity(0))[:2]
    end = time.monotonic() + 1
    def hog(core):
        os.sched_setaffinity(0, {core})
        while time.monotonic() < end:
            pass
        os._exit(0)
    hogs = []
    for core in (first, second, first):
        if not (child := os.fork()):
            hog(core)
        hogs.append(child)
    core = first
    while time.monotonic() < end - 0.05:
        core = first + second - core
        os.sched_setaffinity(hogs[2], {core})
        time.sleep(0.004)
    for child in hogs:
        os.wait()
"""


def alike_with_and_without_wake_ups(both: list[EbpfCollector]) -> None:
    """The kernel's own note of since when a task waits, against programs at wake-ups, on the same events."""
    for work, quantile in ((SHORT_WAITS, "sched_run_delay_p50_seconds"), (CROWD_THAT_MOVES, "")):
        before = [values(one) for one in both]
        run(work)
        after = [values(one) for one in both]
        queued, followed = ({key: now[key] - was[key] for key in now if key.endswith("per_second")}
                            for now, was in zip(after, before, strict=True))
        for key in ("sched_switches_per_second", "sched_involuntary_switches_per_second", "sched_wakeups_per_second"):
            assert queued[key] == pytest.approx(followed[key], rel=0.02, abs=2 * SLACK)
        if quantile:
            assert after[0][quantile] == pytest.approx(after[1][quantile], rel=0.5, abs=1e-6)
        else:
            assert queued[WAITED] > 0.4  # a third of three that share two cores
            assert queued[WAITED] == pytest.approx(followed[WAITED], rel=0.05)


@several_cores
def test_what_the_kernel_notes_equals_what_wake_ups_tell_also_of_tasks_moved_while_they_wait():
    manifests = [run_loader("--only", "sched", "--btf", btf) for btf in ("/sys/kernel/btf/vmlinux", "/nonexistent")]
    programs = [{one["name"] for one in manifest["families"][0]["programs"]} for manifest, _ in manifests]
    both = [EbpfCollector(Loaded(*manifest)) for manifest in manifests]
    try:
        for one in both:
            one.open(Path("/"))
        assert programs[1] - programs[0] == {"sched_wakeup", "sched_wakeup_new"}
        one_of_five(lambda: alike_with_and_without_wake_ups(both))
    finally:
        for one in both:
            one.close()
