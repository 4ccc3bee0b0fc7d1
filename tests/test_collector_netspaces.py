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
from etio.core.errors import NoData
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS

DEV = "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 9 9 9 9 9 9 9 9 0\n  eth0: 1 2 3 {} 0 0 0 0 5 6 7 8 0 0 0 0\n"
SNMP = "Tcp: RetransSegs OutRsts\nTcp: {} 7\nUdp: InDatagrams RcvbufErrors\nUdp: 100 {}\n"


def put(root: Path, where: str, drops: int = 0, retransmits: int = 0, full: int = 0) -> None:
    folder = root / "proc" / where / "net"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sockstat").touch()
    (folder / "dev").write_text(DEV.format(drops))
    (folder / "snmp").write_text(SNMP.format(retransmits, full))


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
            assert ("retransmits", "") in space.counts
            assert not any(device == "lo" for _, device in space.counts)
            child.communicate(timeout=30)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
