"""Known workloads, counted by the programs in this kernel: each number exact, or checked against the kernel's own."""

# ruff: noqa: F811 (fixtures of ebpf_rig)

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from collector.ebpf.collector import EbpfCollector
from tests.ebpf_rig import (  # noqa: F401 (fixtures)
    WAITED,
    actors,
    check_sched,
    client,
    ebpf,
    not_among_many,
    one_of_five,
    sh,
    trace,
    two_hosts,
    values,
)

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root]


def run(code: str, *arguments: str) -> int:
    """Runs Python code in a process of its own; returns its pid once it is done."""
    child = subprocess.Popen([sys.executable, "-I", "-c", textwrap.dedent(code), *arguments])
    child.wait(timeout=60)
    return child.pid


def test_every_family_is_on_and_the_loader_is_gone(ebpf, client):
    assert ebpf.tier() == ("T1", "")
    assert [s.name for s in ebpf.families()] == ["sched", "block", "net", "reclaim", "memory", "oom",
                                                 "process", "connect", "irq"]
    children = Path(f"/proc/{client.ping()}/task/{client.ping()}/children").read_text()
    assert children == ""


def test_97_forks_of_one_parent(ebpf):
    before = values(ebpf)["process_forks_per_second"]
    ebpf.actors(0)
    pid = run("import os\nfor _ in range(97):\n    os.fork() or os._exit(0)\n    os.wait()")
    (actor,) = [a for a in actors(ebpf, "fork") if a.pid == pid]
    assert (actor.count, actor.ppid) == (97, os.getpid())
    assert values(ebpf)["process_forks_per_second"] - before >= 98


BOMB = """
    import os
    def generation(left):
        for _ in range(2 if left else 0):
            if os.fork() == 0:
                generation(left - 1)
                os._exit(0)
            os.wait()
    generation(8)
"""


def test_a_fork_bomb_is_one_actor(ebpf):
    """510 forks by 255 processes that never execute a program count for the one that did."""
    ebpf.actors(0)
    pid = run(BOMB)
    (actor,) = [a for a in actors(ebpf, "fork") if a.pid == pid]
    assert (actor.count, actor.ppid) == (510, os.getpid())


def test_89_execs_of_one_command(ebpf, tmp_path):
    shutil.copy("/bin/true", tmp_path / "etio-exec-89")
    before = values(ebpf)
    ebpf.actors(0)
    for _ in range(89):
        subprocess.run([tmp_path / "etio-exec-89"], check=True)
    (actor,) = [a for a in actors(ebpf, "exec") if a.name == "etio-exec-89"]
    assert (actor.count, actor.ppid) == (89, os.getpid())
    after = values(ebpf)
    for name in ("process_execs_per_second", "process_exits_per_second"):
        assert after[name] - before[name] >= 89


def repeats(ebpf, script: str) -> list[float]:
    """Of three tries: what else the host starts meanwhile may add to one of them."""
    found = []
    for _ in range(3):
        before = values(ebpf)["process_exec_repeats_per_second"]
        subprocess.run(["/bin/bash", "-c", script], check=True)
        found.append(values(ebpf)["process_exec_repeats_per_second"] - before)
    return found


def test_149_executions_repeat_the_one_before_and_those_in_turn_do_not(ebpf):
    """Also where each is started by a copy of the shell. Another starter may share its place in the table: then some
    are not seen."""
    assert max(repeats(ebpf, "for i in $(seq 150); do /bin/true; done")) >= 140
    assert max(repeats(ebpf, "for i in $(seq 150); do (/bin/true; :); done")) >= 140
    assert min(repeats(ebpf, "for i in $(seq 75); do /bin/true; /bin/false; done; true")) < 75


def test_53_failures_of_one_command_and_no_orderly_end(ebpf, tmp_path):
    shutil.copy("/bin/dash", tmp_path / "etio-fail-53")
    before = values(ebpf)
    ebpf.actors(0)
    for code, times in (("exit 3", 31), ("ulimit -c 0; kill -ABRT $$", 22), ("kill -TERM $$", 7), ("exit 0", 11)):
        for _ in range(times):
            subprocess.run([tmp_path / "etio-fail-53", "-c", code], check=False)
    (actor,) = [a for a in actors(ebpf, "failure") if a.name == "etio-fail-53"]
    assert (actor.count, actor.amount, actor.ppid, actor.unit) == (53, 22, os.getpid(), "SIGABRT")
    assert values(ebpf)["process_failures_per_second"] - before["process_failures_per_second"] >= 53


@pytest.fixture
def loop(tmp_path) -> Iterator[str]:
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(1 << 20))
    device = sh("losetup", "--find", "--show", str(image))
    try:
        yield device
    finally:
        sh("losetup", "--detach", device)


def _reads_of(device: str) -> NDArray[np.int64]:
    """[reads, bytes] by the kernel's own account."""
    fields = Path(f"/sys/class/block/{os.path.basename(device)}/stat").read_text().split()
    return np.array([int(fields[0]), 512 * int(fields[2])])


def test_101_direct_reads_of_a_loop_device(ebpf, loop):
    key = f'{{device="{os.path.basename(loop)}",direction="read"}}'
    one = "import mmap, os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)\nto = mmap.mmap(-1, 4096)\n"
    run(one + "os.preadv(fd, [to], 0)", loop)
    ebpf.actors(0)
    outer, before, inner = _reads_of(loop), values(ebpf), _reads_of(loop)
    pid = run(one + "for i in range(101):\n    os.preadv(fd, [to], 4096 * i)", loop)
    inner = _reads_of(loop) - inner
    after = values(ebpf)
    outer = _reads_of(loop) - outer
    requests, size, errors = (after[f"block_{name}_per_second{key}"] - before[f"block_{name}_per_second{key}"]
                              for name in ("requests", "bytes", "errors"))
    assert tuple(inner) >= (101, 101 * 4096)  # more, where somebody looks what is on the new device
    assert (inner <= (requests, size)).all()
    assert ((requests, size) <= outer).all()
    assert errors == 0
    assert 1e-6 < after[f"block_latency_p50_seconds{key}"] <= after[f"block_latency_p99_seconds{key}"] < 60
    (actor,) = [a for a in actors(ebpf, "block_io") if a.pid == pid and a.device == os.path.basename(loop)]
    assert (actor.count, actor.amount, actor.unit) == (101, 101 * 4096, "bytes")


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    with two_hosts("10.199.0") as both:
        yield both


def _retransmits(namespace: str) -> int:
    lines = [ln.split() for ln in sh("ip", "netns", "exec", namespace, "cat", "/proc/net/snmp").splitlines()]
    names, numbers = (ln for ln in lines if ln[0] == "Tcp:")
    return int(numbers[names.index("RetransSegs")])


def _nft_drops(namespace: str) -> int:
    found = json.loads(sh("ip", "netns", "exec", namespace, "nft", "-j", "list", "ruleset"))
    return sum(e["counter"]["packets"] for one in found["nftables"] if "rule" in one
               for e in one["rule"]["expr"] if "counter" in e)


def test_retransmits_to_a_peer_that_drops(ebpf, hosts):
    near, far = hosts
    rules = ("add table t; add chain t in { type filter hook input priority 0; }; "
             "add rule t in tcp dport 5557 counter drop")
    sh("ip", "netns", "exec", far, "nft", rules)
    before = values(ebpf)
    ebpf.actors(0)
    code = ("import contextlib, socket\ns = socket.socket()\ns.settimeout(3.5)\n"
            "with contextlib.suppress(OSError):\n    s.connect(('10.199.0.2', 5557))")
    sh("ip", "netns", "exec", near, sys.executable, "-I", "-c", code)
    after = values(ebpf)
    (actor,) = [a for a in actors(ebpf, "retransmit") if a.name == "10.199.0.2:5557"]
    assert actor.count == _retransmits(near) >= 2
    assert after["net_retransmits_per_second"] - before["net_retransmits_per_second"] >= actor.count
    dropped = 'net_drops_per_second{reason="NETFILTER_DROP"}'
    assert after[dropped] - before[dropped] >= _nft_drops(far) == actor.count + 1


def test_13_resets_by_a_closed_port(ebpf, hosts):
    before = values(ebpf)
    ebpf.actors(0)
    code = ("import socket\nfor _ in range(13):\n    s = socket.socket()\n"
            "    assert s.connect_ex(('10.199.0.2', 5563))\n    s.close()")
    sh("ip", "netns", "exec", hosts[0], sys.executable, "-I", "-c", code)
    after = values(ebpf)
    assert {a.name: a.count for a in actors(ebpf, "reset")}["10.199.0.2:5563"] == 13
    for name in ("net_resets_sent_per_second", "net_resets_received_per_second"):
        assert after[name] - before[name] >= 13


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A memory control group of 32 MiB, v1 or v2."""
    v1 = Path("/sys/fs/cgroup/memory")
    group = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"etio-test-{os.getpid()}"
    group.mkdir()
    limit = group / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")
    if not limit.exists():
        group.rmdir()
        pytest.skip("the memory controller is not delegated here")
    limit.write_text(str(32 << 20))
    yield group
    for _ in range(50):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.1)


JOIN = "import sys, os\nopen(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"


def test_the_victim_of_an_oom_kill(ebpf, memory_group):
    ebpf.collect(time.time_ns())
    began = time.time_ns()
    pid = run(JOIN + "x = bytearray(os.urandom(1 << 20) * 200)", str(memory_group))
    now = time.time_ns()
    (event,) = [e for e in ebpf.collect(now).events if e.entity == f"pid={pid}"]
    assert event.kind == "oom_kill"
    assert began <= event.t_ns <= now
    assert event.get("comm") == os.path.basename(sys.executable)[:15]
    assert 16 << 20 < event.get("anon_rss_bytes") < 48 << 20  # the limit, and what it had before it joined
    assert event.get("total_vm_bytes") > 32 << 20
    assert event.get("uid") == 0
    assert [a.name for a in actors(ebpf, "oom") if a.pid == pid] == [event.get("comm")]
    assert ebpf.collect(now).events == ()


def test_memcg_reclaim_is_counted_like_ftrace_counts_it(ebpf, memory_group, trace, tmp_path):
    with (tmp_path / "big").open("wb") as big:
        big.write(b"x" * (96 << 20))
        os.fsync(big.fileno())
        os.posix_fadvise(big.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    event = trace / "events/vmscan/mm_vmscan_memcg_reclaim_end/enable"
    before = values(ebpf)
    ebpf.actors(0)
    event.write_text("1")
    pid = run(JOIN + "f = open(sys.argv[2], 'rb')\nwhile f.read(1 << 20):\n    pass", str(memory_group),
              str(tmp_path / "big"))
    event.write_text("0")
    after = values(ebpf)
    lines = [ln for ln in (trace / "trace").read_text().splitlines() if f"-{pid} " in ln and "reclaim_end" in ln]
    (actor,) = [a for a in actors(ebpf, "reclaim") if a.pid == pid]
    assert actor.count == len(lines) > 10
    assert after["reclaim_memcg_stalls_per_second"] - before["reclaim_memcg_stalls_per_second"] >= actor.count
    seconds = after["reclaim_memcg_seconds_per_second"] - before["reclaim_memcg_seconds_per_second"]
    assert 0 < actor.amount <= seconds + 1e-6 < 60


def test_switches_and_waits_are_those_of_the_kernel(ebpf):
    check_sched(ebpf)


def test_a_quiet_tick_has_no_quantile_but_counts_on(ebpf):
    ebpf.collect(0)
    reading = ebpf.collect(1)
    assert reading.values.shape == (len(reading.series),)
    assert np.isfinite([v for s, v in zip(reading.series, reading.values, strict=True) if s.kind == "counter"]).all()


CROWD = """
    import os, time
    os.sched_setaffinity(0, {0})
    os.fork()
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        pass
    if os.getpid() == os.getpgid(0):
        print(open("/proc/self/schedstat").read().split()[1])
    os._exit(0) if os.getpid() != os.getpgid(0) else os.wait()
"""


def who_waits(ebpf: EbpfCollector) -> None:
    """Against /proc/PID/schedstat, the kernel's own account of the same wait."""
    ebpf.actors(0)
    before = values(ebpf)[WAITED]
    child = subprocess.Popen([sys.executable, "-I", "-c", textwrap.dedent(CROWD)], stdout=subprocess.PIPE, text=True,
                             start_new_session=True)
    waited = int(child.communicate(timeout=30)[0]) / 1e9
    found = [a for a in actors(ebpf, "run_delay") if a.pid == child.pid]
    all_waited = values(ebpf)[WAITED] - before
    assert waited > 0.1
    assert all_waited >= 0.9 * waited  # nothing here is sampled
    not_among_many(waited, all_waited)
    assert waited / 3 < sum(a.amount for a in found) < 3 * waited  # short waits are sampled, by how crowded the core is
    assert {a.unit for a in found} == {"seconds"}


def test_who_waits_for_a_crowded_core_is_named(ebpf):
    one_of_five(lambda: who_waits(ebpf))


def test_datagrams_that_a_queue_drops_have_a_sender_and_a_device(ebpf, hosts):
    near, _ = hosts
    device = json.loads(sh("ip", "-n", near, "-j", "route", "get", "10.199.0.2"))[0]["dev"]
    sh("tc", "-n", near, "qdisc", "add", "dev", device, "root", "tbf", "rate", "80kbit", "burst", "4kb", "limit", "4kb")
    code = ("import os, socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "for _ in range(200):\n    s.sendto(bytes(900), ('10.199.0.2', 5564))\nprint(os.getpid())")
    before = values(ebpf)
    ebpf.actors(0)
    pid = int(sh("ip", "netns", "exec", near, sys.executable, "-I", "-c", code))
    after = values(ebpf)
    (actor,) = [a for a in actors(ebpf, "queue_drop") if a.pid == pid]
    told = json.loads(sh("tc", "-n", near, "-s", "-j", "qdisc", "show", "dev", device))[0]["drops"]
    assert 100 <= actor.count <= told
    assert actor.device.startswith(f"{device} of net:[")
    reasons = [k for k in after if k.startswith("net_drops_per_second") and "QDISC" in k]
    assert sum(after[k] - before.get(k, 0.0) for k in reasons) >= actor.count
