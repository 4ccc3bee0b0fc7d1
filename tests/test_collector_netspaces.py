"""Network namespaces: who lives where, what is lost there for two readings in a row, parsers on any bytes; live."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.netspaces import COLLECTOR, Netspaces, parse_counters, parse_devices
from collector.space_sockets import PileWatch, Place, parse_sockets
from etio.core.engine import Engine
from etio.core.errors import NoData
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS
from etio.core.policy import EngineConfig

DEV = "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 0\n  eth0: 1 2 3 {} 0 0 0 0 5 6 7 8 0 0 0 0\n"
SNMP = "Tcp: RetransSegs OutRsts\nTcp: {} 7\nUdp: InDatagrams RcvbufErrors\nUdp: 100 {}\n"


def put(root: Path, where: str, drops: int = 0, full: int = 0) -> None:
    folder = root / "proc" / where / "net"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sockstat").touch()
    (folder / "dev").write_text(DEV.format(drops))
    (folder / "snmp").write_text(SNMP.format(9, full))


def host(tmp_path: Path) -> Netspaces:
    """Our own namespace with pid 1, and one with the processes 20 and 21 whose files are the same ones."""
    put(tmp_path, ".")
    put(tmp_path, "20")
    for name, target in (("1", "net"), ("21", "20/net")):
        (tmp_path / "proc" / name).mkdir()
        (tmp_path / "proc" / name / "net").symlink_to(tmp_path / "proc" / target)
    one = Netspaces(COLLECTOR.config(share=1.0))
    one.open(tmp_path)
    return one


def table(t: int, *pids: int) -> ProcessTable:
    return ProcessTable(t * NS, tuple(Process(pid, 1, f"p{pid}", "/box", "", start_s=float(pid)) for pid in pids))


def look(one: Netspaces, t: int, *pids: int) -> tuple[float, list[tuple[object, ...]]]:
    one.take(table(t, *pids))
    found = one.collect(t * NS)
    return float(found.values[0]), [(e.kind, e.entity, e.get("what"), e.get("device"), e.get("pid")) for e in
                                    found.events]


def test_losses_that_last_are_told_with_who_lives_there_and_their_end(tmp_path):
    one = host(tmp_path)
    one.number_of = lambda pid: 4026532000 + pid
    assert look(one, 5, 1, 20, 21) == (1.0, [])
    put(tmp_path, "20", drops=500, full=7)
    assert look(one, 10, 1, 20, 21) == (1.0, [])
    put(tmp_path, "20", drops=1000, full=14)
    assert look(one, 15, 1, 20, 21)[1] == [("namespace_losses", "namespace=box", "receive_drops", "eth0", 20)]
    put(tmp_path, "20", drops=1500, full=1014)
    assert look(one, 20, 1, 20, 21)[1] == []
    put(tmp_path, "20", drops=2000, full=2014)
    assert look(one, 25, 1, 20, 21)[1] == [("namespace_losses", "namespace=box", "udp_buffer_errors", None, 20)]
    assert [look(one, t, 1, 20, 21)[1] for t in (30, 35)] == [[], []]
    assert look(one, 40, 1, 20, 21)[1] == [("namespace_calm", "namespace=box", None, None, None)]


def test_the_alert_of_a_namespace_ends_with_its_losses(tmp_path):
    one, engine = host(tmp_path), Engine(EngineConfig(), ())
    for t in range(5, 60, 5):
        put(tmp_path, "20", drops=min(t, 20) * 200)
        one.take(table(t, 1, 20))
        for event in one.collect(t * NS).events:
            engine.step(event)
        assert (engine.firing() > 0) == (15 <= t < 35), t


def test_our_own_losses_and_a_burst_are_not_told(tmp_path):
    one = host(tmp_path)
    for t in range(5, 50, 5):
        put(tmp_path, ".", drops=1000 * t)
        put(tmp_path, "20", drops=300 if t >= 20 else 0)
        assert look(one, t, 1, 20)[1] == []


def test_a_namespace_that_ends_while_it_loses_is_calm_and_forgotten(tmp_path):
    one = host(tmp_path)
    for t, drops in ((5, 0), (10, 500), (15, 1000)):
        put(tmp_path, "20", drops=drops)
        found = look(one, t, 1, 20)
    assert found[1][0][0] == "namespace_losses"
    (tmp_path / "proc/20/net/sockstat").unlink()
    assert look(one, 20, 1)[1] == [("namespace_calm", "namespace=box", None, None, None)]
    assert look(one, 25, 1) == (0.0, [])


def test_no_network_is_no_data_and_no_table_is_missing(tmp_path):
    with pytest.raises(NoData):
        Netspaces(COLLECTOR.config()).open(tmp_path)
    assert not host(tmp_path).collect(NS).series


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda data: SNMP.encode() + data))
def test_parsers_never_raise(data):
    assert isinstance(parse_counters(data), dict)
    assert isinstance(parse_devices(data), dict)


@pytest.mark.needs_root
def test_a_namespace_of_this_host_is_found_by_a_process_that_lives_there():
    name = f"etio-ns-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    code = "import sys\nprint('here', flush=True)\nsys.stdin.read()"
    try:
        with subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-I", "-c", code], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "here\n"
            one = Netspaces(COLLECTOR.config())
            one.open(Path("/"))
            both = (Process(os.getpid(), 1, "we", start_s=1.0), Process(child.pid, 1, "they", start_s=2.0))
            one.take(ProcessTable(0, both))
            assert one.collect(time.time_ns()).values[0] == 1
            (space,) = one._spaces.values()
            assert space.head.pid == child.pid
            assert ("listen_overflows", "") in space.counts
            assert not any(device == "lo" for _, device in space.counts)
            child.communicate(timeout=30)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


TCP = "  0: {}:1F90 0900000A:{:04X} 08 00000000:00000000 00:00000000 00000000     0        0 {} 1 0000 20 4 30 10 -1\n"


def pile(folder: Path, count: int, host: str = "0100000A", first: int = 1) -> str:
    folder.mkdir(exist_ok=True)
    lines = (TCP.format(host, 40000 + i, first + i) for i in range(count))
    (folder / "tcp").write_text("  sl  local_address\n" + "".join(lines))
    return str(folder)


def piles(watch: PileWatch, t: int, *places: Place) -> list[tuple[object, ...]]:
    watch._next_ns = 0
    return [(e.kind, e.entity, e.get("pid"), e.get("sockets")) for e in watch.look(places, t * NS)]


def test_a_pile_in_close_wait_inside_a_container_is_told_with_its_owner(tmp_path):
    watch = PileWatch(50)
    watch.owners = lambda inodes: dict.fromkeys(inodes, 4711)
    busy, idle = Place(7, pile(tmp_path / "a", 60), 61.0), Place(8, pile(tmp_path / "b", 60), 3.0)
    assert piles(watch, 0, busy, idle) == []
    assert piles(watch, 20, busy, idle) == [("close_wait_pile", "endpoint=10.0.0.1:8080", 4711, 60)]
    assert piles(watch, 40, idle) == [("close_wait_cleared", "endpoint=10.0.0.1:8080", None, None)]
    assert piles(watch, 60, idle) == []


def test_namespaces_take_turns_and_are_only_looked_at_when_there_is_time(tmp_path):
    watch = PileWatch(50)
    one, two = Place(7, pile(tmp_path / "a", 60), 60.0), Place(8, pile(tmp_path / "b", 60, "0200000A", 500), 60.0)
    assert [[e[1] for e in piles(watch, t, one, two)] for t in (1, 18, 35, 52)] == [
        [], ["endpoint=10.0.0.1:8080"], [], ["endpoint=10.0.0.2:8080"]]
    watch._next_ns = 100 * NS
    assert watch.look([], 50 * NS)[0].kind == "close_wait_cleared"
    assert watch.look([one], 60 * NS) == []


@given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda data: b"head\n" + data + b" 08 a b c d e 7 x"))
def test_a_list_of_sockets_never_raises(raw):
    assert all(one.local_text and one.remote_text for one in parse_sockets(raw))


def test_addresses_of_both_families_are_those_of_the_wire():
    six = "0000000000000000FFFF00000100007F"
    rows = [TCP.format("0100007F", 1, 5), TCP.format(six, 2, 6).replace("0900000A:", "00000000" * 4 + ":")]
    found = list(parse_sockets(("head\n" + "".join(rows)).encode()))
    assert [(one.local_text, one.inode) for one in found] == [("127.0.0.1:8080", 5), ("127.0.0.1:8080", 6)]
    assert found[1].remote_text == "[::]:2"
