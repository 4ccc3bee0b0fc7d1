"""Connections and interrupts, counted by the programs in this kernel: exact, or between two of the kernel's own counts.

Series speak of the whole host, so a connection of somebody else may be among them: work of a few milliseconds is
repeated until it was alone, and never may less be counted than was done. Actors speak of one peer: exact at once.
"""

# ruff: noqa: F811 (fixtures of ebpf_rig)

import os
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.ebpf.collector import EbpfCollector
from collector.ebpf.connect import Reader as ConnectReader
from collector.ebpf.families import BUCKETS
from collector.ebpf.irq import VECTORS
from etio.core.facts import Actor
from tests.daemon_rig import wait_for
from tests.ebpf_rig import client, ebpf, sh, trace, two_hosts, values  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root]
FAILED = "net_connect_failures_per_second"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces joined by a veth pair, 10.198.0.1 and .2; SYNs to port 5557 of the far one vanish."""
    with two_hosts("10.198.0") as both:
        sh("ip", "netns", "exec", both[1], "nft", "add table t; add chain t in { type filter hook input priority 0; }; "
           "add rule t in tcp dport 5557 drop")
        yield both


def inside(namespace: str, code: str) -> None:
    """Runs Python code in a network namespace."""
    sh("ip", "netns", "exec", namespace, sys.executable, "-I", "-c", textwrap.dedent(code))


def failures(ebpf: EbpfCollector) -> dict[str, Actor]:
    return {a.peer: a for a in ebpf.actors(time.time_ns()).actors if a.kind == "connect_failure"}


def alone(ebpf: EbpfCollector, work: Callable[[], None], expected: dict[str, int]) -> bool:
    """Whether one of forty runs of `work` grew each counter by just what was expected; fewer is a failure at once."""
    for _ in range(40):
        before = values(ebpf)
        work()
        after = values(ebpf)
        grown = {key: after[key] - before[key] for key in expected}
        assert all(grown[key] >= count for key, count in expected.items()), grown
        if grown == expected:
            return True
    return False


def reason(name: str) -> str:
    return f'{FAILED}{{reason="{name}"}}'


def test_61_connections_are_counted_and_timed(ebpf):
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        def connect() -> None:
            for _ in range(61):
                socket.create_connection(server.getsockname()).close()
                server.accept()[0].close()

        others = {reason(name): 0 for name in ("refused", "timed_out", "unreachable", "abandoned", "other")}
        assert alone(ebpf, connect, {"net_connects_per_second": 61, **others})
        values(ebpf)
        connect()
    last = values(ebpf)
    assert 1e-6 < last["net_connect_latency_p50_seconds"] <= last["net_connect_latency_p99_seconds"] < 60
    assert last["net_connect_failure_ratio"] < 0.5


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def knock(port: int, times: int) -> None:
    for _ in range(times):
        with socket.socket() as one:
            assert one.connect_ex(("127.0.0.1", port))


def test_29_refusals_are_counted(ebpf):
    port = closed_port()
    assert alone(ebpf, lambda: knock(port, 29), {reason("refused"): 29, "net_connects_per_second": 29})


def test_13_refused_connections_name_program_and_peer(ebpf, hosts):
    code = ("import socket\nfor _ in range(13):\n    s = socket.socket()\n"
            "    assert s.connect_ex(('10.198.0.2', 5563))\n    s.close()")
    ebpf.actors(0)
    inside(hosts[0], code)
    actor = failures(ebpf)["10.198.0.2:5563"]
    assert (actor.count, actor.unit) == (13, "seconds")
    assert actor.name == os.path.basename(sys.executable)[:15]
    assert actor.pid > 1


def test_7_connections_beyond_14_local_ports_are_told_apart_from_all_other_failures(ebpf, hosts):
    """The kernel looks at an even number of ports: of an odd one it leaves one out now and then."""
    code = """
        import socket
        open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('40000 40013')
        try:
            held = [socket.socket() for _ in range(21)]
            for one in held:
                one.setblocking(False)
            told = [one.connect_ex(('10.198.0.2', 5557)) for one in held]
            assert sorted(told) == [99] * 7 + [115] * 14, told
        finally:
            open('/proc/sys/net/ipv4/ip_local_port_range', 'w').write('32768 60999')
    """
    ebpf.actors(0)
    before = values(ebpf)[reason("no_local_port")]
    inside(hosts[0], code)
    assert values(ebpf)[reason("no_local_port")] - before >= 7
    found = [a for a in ebpf.actors(time.time_ns()).actors if a.peer == "10.198.0.2:5557"]
    assert {a.reason: a.count for a in found}["no_local_port"] == 7


def close_waits(ebpf: EbpfCollector) -> tuple[int, int]:
    """(sockets that came into CLOSE_WAIT, that left it) since the start: both only grow."""
    (reader,) = [one for one in ebpf._readers if isinstance(one, ConnectReader)]
    begun, ended = (int(reader._words[BUCKETS + at]) for at in (10, 11))
    return begun, ended


def test_11_peers_that_left_leave_11_sockets_in_close_wait(ebpf):
    """Others close connections meanwhile, so no more than that can be asked for on a host that is not ours alone."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        begun, ended = close_waits(ebpf)
        for _ in range(11):
            socket.create_connection(server.getsockname()).close()
        held = [server.accept()[0] for _ in range(11)]
        wait_for(lambda: close_waits(ebpf)[0] - begun >= 11, 20)
        for one in held:
            one.close()
        wait_for(lambda: close_waits(ebpf)[1] - ended >= 11, 20)
    now = close_waits(ebpf)
    assert now[0] - now[1] < 100_000
    assert values(ebpf)["net_close_wait_sockets"] >= 0


def test_one_program_started_17_times_is_one_actor(ebpf, hosts):
    ebpf.actors(0)
    code = ("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do "
            "bash -c 'exec 3<>/dev/tcp/10.198.0.2/5569' 2>/dev/null; done; true")
    sh("ip", "netns", "exec", hosts[0], "bash", "-c", code)
    assert failures(ebpf)["10.198.0.2:5569"].count == 17


GIVE_UP = """
    import socket
    socks = [socket.socket() for _ in range({})]
    for s in socks:
        s.setblocking(False)
        s.connect_ex(('10.198.0.2', 5557))
    import time
    time.sleep({})
    for s in socks:
        s.close()
"""


def test_giving_up_after_a_second_is_a_failure_and_at_once_is_none(ebpf, hosts):
    ebpf.actors(0)
    before = values(ebpf)
    inside(hosts[0], GIVE_UP.format(11, 1.1))
    inside(hosts[0], GIVE_UP.format(7, 0.0))
    after = values(ebpf)
    abandoned = reason("abandoned")
    actor = failures(ebpf)["10.198.0.2:5557"]
    assert actor.count == 11
    assert 11 * 1.1 <= actor.amount < 11 * 30
    assert after[abandoned] - before[abandoned] >= 11
    assert after["net_connect_cancels_per_second"] - before["net_connect_cancels_per_second"] >= 7


def test_the_kernels_own_time_out_and_an_unreachable_host(ebpf, hosts):
    near, far = hosts
    sh("ip", "netns", "exec", near, "sysctl", "-qw", "net.ipv4.tcp_syn_retries=1")
    sh("ip", "netns", "exec", far, "nft", "add rule t in tcp dport 5573 reject with icmp host-unreachable")
    ebpf.actors(0)
    before = values(ebpf)
    code = """
        import errno, socket, threading
        def expect(port, error):
            s = socket.socket()
            assert s.connect_ex(('10.198.0.2', port)) == error
        other = threading.Thread(target=expect, args=(5573, errno.EHOSTUNREACH))
        other.start()
        expect(5557, errno.ETIMEDOUT)
        other.join()
    """
    inside(near, code)
    after = values(ebpf)
    for name in ("timed_out", "unreachable"):
        assert after[reason(name)] - before[reason(name)] >= 1, name
    assert {"10.198.0.2:5557", "10.198.0.2:5573"} <= set(failures(ebpf))


def test_resets_have_their_reason_where_the_kernel_tells_it(ebpf):
    fields = Path("/sys/kernel/tracing/events/tcp/tcp_send_reset/format").read_text()
    if "reason" not in fields:
        pytest.skip("this kernel gives no reason")
    port = closed_port()
    knock(port, 1)
    assert alone(ebpf, lambda: knock(port, 19), {'net_resets_by_reason_per_second{reason="NO_SOCKET"}': 19})


def _kernel_runs() -> dict[str, int]:
    lines = Path("/proc/softirqs").read_text().splitlines()[1:]
    return {name.strip(): sum(map(int, rest.split())) for name, _, rest in (ln.partition(":") for ln in lines)}


def _our_runs(ebpf: EbpfCollector) -> dict[str, int]:
    reader = next(r for r in ebpf._readers if r.name == "irq")
    total = reader._cpus.sum(axis=0)
    return {name: int(total[16 + number]) for number, name in VECTORS.items()}


PACKETS = """
    import socket
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(5003):
        s.sendto(b'x', ('10.198.0.2', 5587))
"""


def test_runs_of_every_vector_lie_between_two_counts_of_the_kernel(ebpf, hosts):
    """The kernel counts a run before the program does, and skips the program where that is at work already on the core
    (bpf_prog_inc_misses_counter); hence a slack."""
    slack = 4 * (os.cpu_count() or 1)
    outer = _kernel_runs()
    first = _our_runs(ebpf)
    inner = _kernel_runs()
    inside(hosts[0], PACKETS)
    inner = {name: count - inner[name] for name, count in _kernel_runs().items()}
    last = _our_runs(ebpf)
    outer = {name: count - outer[name] for name, count in _kernel_runs().items()}
    for name in inner:
        assert 0.98 * inner[name] - slack <= last[name] - first[name] <= outer[name] + slack, name
    assert last["NET_RX"] - first["NET_RX"] > 100


def test_time_in_receive_interrupts_is_that_of_ftrace(ebpf, hosts, trace):
    enable = [trace / f"events/irq/softirq_{end}/enable" for end in ("entry", "exit")]
    key = 'irq_soft_seconds_per_second{vector="net_rx"}'
    inside(hosts[0], PACKETS)
    before = values(ebpf)
    for file in enable:
        file.write_text("1")
    inside(hosts[0], PACKETS)
    for file in enable:
        file.write_text("0")
    after = values(ebpf)
    assert 0.3 < (after[key] - before[key]) / _traced((trace / "trace").read_text(), "NET_RX") < 3
    assert 0 <= after["irq_mean_core_ratio"] <= after["irq_worst_core_ratio"] <= 1


def _traced(text: str, vector: str) -> float:
    """Seconds between entry and exit of a vector, over all cores."""
    begun: dict[str, float] = {}
    total = 0.0
    for line in text.splitlines():
        if f"[action={vector}]" not in line:
            continue
        head, _, what = line.partition(": softirq_")
        cpu = head[head.index("["):head.index("]")]
        at = float(head.rsplit(maxsplit=1)[1])
        if what.startswith("entry"):
            begun[cpu] = at
        elif cpu in begun:
            total += at - begun.pop(cpu)
    return total


def test_a_closed_listener_is_not_mistaken_for_a_connection(ebpf):
    def open_and_close() -> None:
        for _ in range(23):
            socket.create_server(("127.0.0.1", 0)).close()

    assert alone(ebpf, open_and_close, {"net_connects_per_second": 0})
