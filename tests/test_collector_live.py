"""Collectors over time and on this very host: events, things that come and go, sources that break or hang."""

import os
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from math import isnan
from pathlib import Path

import numpy as np
import pytest

import collector
from collector import filesystems, interrupts, limits, links, netlink, numa, softnet, tcp, vmstat
from collector.files import ROOM, File, Sources
from collector.table import Column, Fixed, Table
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from etio.core.rates import Rates
from etio.core.series import Series
from tests.collector_rig import values, write
from tests.daemon_rig import wait_for

OURS = {"buddy", "cpu", "disks", "filesystems", "interrupts", "limits", "links", "memory", "netlink", "numa",
        "pressure", "schedstat", "softirqs", "softnet", "tcp", "vmstat", "zones"}


def test_discovery_finds_the_collectors_by_listing_the_folder():
    found = collector.discover()
    assert set(found) >= OURS
    for name in OURS:
        spec = found[name]
        assert spec.config() is not None
        assert spec.reads
        assert all(e.unit and e.help for e in spec.emits)


def test_importing_collectors_touches_neither_proc_nor_sys():
    code = (
        "import sys, numpy\nfrom etio.core import ports\nseen = []\n"
        "sys.addaudithook(lambda e, a: seen.append(str(a[0])) if e == 'open' else None)\n"
        f"import importlib\nfor m in {sorted(OURS)!r}: importlib.import_module('collector.' + m)\n"
        "bad = [p for p in seen if p.startswith(('/proc', '/sys'))]\n"
        "assert not bad, bad\nassert 'pyroute2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(collector.__file__).parent.parent)


@pytest.mark.parametrize("name", sorted(OURS))
def test_on_this_host_each_collector_reads_or_says_why_not(name):
    spec = collector.discover()[name]
    one = spec.build(spec.config())
    try:
        one.open(Path("/"))
        first, second = one.collect(time.time_ns()), one.collect(time.time_ns())
    except NoData as error:
        reason = str(error)
        pytest.skip(reason)
    finally:
        one.close()
    assert len(first.series) == len(first.values)
    assert list(second.series)[:len(first.series)] == list(first.series)
    assert np.isfinite(second.values).any()
    names = {s.name for s in second.series}
    assert not [n for n in names if not any(fnmatchcase(n, e.name) for e in spec.emits)]


def test_a_collector_before_open_says_so():
    for name in sorted(OURS - {"netlink"}):
        spec = collector.discover()[name]
        with pytest.raises(NoData):
            spec.build(spec.config()).collect(0)


def test_a_file_larger_than_one_read_comes_whole(tmp_path):
    path = tmp_path / "big"
    path.write_bytes(b"x" * (3 * ROOM + 17))
    file = File(path)
    assert [len(file.read()) for _ in range(3)] == [3 * ROOM + 17] * 3


def test_files_fail_with_typed_errors_that_name_the_path(tmp_path):
    with pytest.raises(NoData, match="absent"):
        File(tmp_path / "absent")
    with pytest.raises(Broken, match=str(tmp_path)):
        File(tmp_path).read()
    with pytest.raises(Broken):
        File(tmp_path / "a\0b")


def test_a_broken_file_is_told_once_and_its_return_is_noticed(tmp_path):
    write(tmp_path, "a", "1")
    write(tmp_path, "b", "x")
    sources = Sources("tcp", tmp_path, ("a", "b", "missing"))

    def read():
        found = [sources.parse(i, limits.parse_limit) for i in range(3)]
        return found, [e.get("path") for e in sources.events(7)]

    assert read() == ([1.0, None, None], [str(tmp_path / "b")])
    assert read() == ([1.0, None, None], [])
    write(tmp_path, "b", "2")
    assert read() == ([1.0, 2.0, None], [])
    write(tmp_path, "b", "x")
    assert read() == ([1.0, None, None], [str(tmp_path / "b")])
    write(tmp_path, "a", "y")
    with pytest.raises(Broken, match=r"/[ab]: not a number"):
        read()


def test_a_file_that_appears_later_is_found(tmp_path):
    write(tmp_path, "proc/loadavg", "0.1 0.1 0.1 1/50 7\n")
    write(tmp_path, "proc/sys/kernel/pid_max", "100\n")
    one = limits.Limits(limits.Config())
    one.open(tmp_path)
    assert values(one.collect(0)) == {"kernel_pids_used_ratio": 0.5, "kernel_tasks": 50}
    for name, number in (("count", 3), ("max", 12)):
        write(tmp_path, f"proc/sys/net/netfilter/nf_conntrack_{name}", f"{number}\n")
    for t in range(60):
        reading = one.collect(t)
    assert values(reading) == {
        "kernel_pids_used_ratio": 0.5, "kernel_tasks": 50, "conntrack_used_ratio": 0.25, "conntrack_connections": 3,
    }


def test_fixed_series_are_announced_when_first_seen_and_keep_their_place():
    fixed = Fixed([Series(n, "1") for n in "abc"])
    first = fixed.reading([1.0, float("nan"), float("inf")])
    second = fixed.reading([float("nan"), 2.0, 3.0])
    assert [s.name for s in first.series] == ["a"]
    assert [s.name for s in second.series] == ["a", "b", "c"]
    assert isnan(second.values[0])
    assert list(second.values[1:]) == [2.0, 3.0]


def test_what_vanishes_from_a_table_keeps_its_place_and_reads_nan():
    table, column = Table(), Column("disk_busy_ratio", "ratio", "counter", "", ("device",))

    def read(*names):
        table.start()
        for name in names:
            table.put(name, lambda name=name: [column.series(name)], [1.0])
        return table.reading()

    first = read("sda")
    second = read("sdb")
    assert len(first.series) == 1  # a reading under way is not changed by the next
    assert [s.label("device") for s in second.series] == ["sda", "sdb"]
    assert isnan(second.values[0])
    assert second.values[1] == 1.0


def test_cpu_that_comes_online_makes_no_drops(tmp_path):
    write(tmp_path, "proc/net/softnet_stat", "0 5 0\n")
    one, rates = softnet.Softnet(softnet.Config()), Rates()
    one.open(tmp_path)
    rates.step(NS, one.collect(NS))
    write(tmp_path, "proc/net/softnet_stat", "0 5 0\n0 9999 0\n")
    assert isnan(rates.step(2 * NS, one.collect(2 * NS))[0])
    write(tmp_path, "proc/net/softnet_stat", "0 5 0\n0 999b 0\n")
    assert isnan(rates.step(3 * NS, one.collect(3 * NS))[0])
    write(tmp_path, "proc/net/softnet_stat", "0 5 0\n0 999e 0\n")
    assert rates.step(4 * NS, one.collect(4 * NS))[0] == 3


def test_a_broken_snmp6_does_not_make_datagrams_jump(tmp_path):
    write(tmp_path, "proc/net/snmp", "Tcp: OutSegs\nTcp: 1\nUdp: InDatagrams RcvbufErrors\nUdp: 10 1\n")
    write(tmp_path, "proc/net/snmp6", "Udp6InDatagrams 1000\nUdp6RcvbufErrors 5\n")
    one = tcp.Tcp(tcp.Config())
    one.open(tmp_path)
    assert values(one.collect(0))["udp_datagrams_received_per_second"] == 1010
    write(tmp_path, "proc/net/snmp6", "")
    assert isnan(values(one.collect(1))["udp_datagrams_received_per_second"])


def test_counters_that_move_when_others_come_keep_their_places(tmp_path):
    write(tmp_path, "proc/vmstat", "pgfault 100\nnr_dirty 7\n")
    one, rates = vmstat.Vmstat(vmstat.Config()), Rates()
    one.open(tmp_path)
    first = one.collect(NS)
    rates.step(NS, first)
    write(tmp_path, "proc/vmstat", "zswpin 5\nnr_dirty 8\npgfault 130\n")
    second = one.collect(2 * NS)
    assert [s.name for s in first.series] == ["vm_page_faults_per_second", "vm_dirty_pages"]
    assert list(second.series)[:2] == list(first.series)
    assert list(rates.step(2 * NS, second)[:2]) == [30, 8]
    write(tmp_path, "proc/vmstat", "nr_dirty 9\n")
    assert {k: v for k, v in values(one.collect(3 * NS)).items() if not isnan(v)} == {"vm_dirty_pages": 9}


def irq_file(root, lines, cpus=2):
    head = " ".join(f"CPU{i}" for i in range(cpus))
    rows = (f"{irq}: {' '.join(map(str, counts))}  PCI-MSI {irq}-edge  {device}" for irq, device, counts in lines)
    write(root, "proc/interrupts", f"     {head}\n" + "".join(f"{r}\n" for r in rows))


def test_of_many_interrupt_lines_the_busiest_are_followed_and_the_rest_counted(tmp_path):
    irq_file(tmp_path, [(i, f"eth0-{i}", (i, i)) for i in range(10, 20)])
    one = interrupts.Interrupts(interrupts.Config(max_lines=3))
    one.open(tmp_path)
    reading = one.collect(NS)
    assert {s.label("irq") for s in reading.series} == {None, "17", "18", "19"}
    assert values(reading)["interrupt_lines_left_out"] == 7


def test_the_share_of_the_busiest_cpu_is_of_the_busiest_device_in_the_tick(tmp_path):
    one = interrupts.Interrupts(interrupts.Config())
    one.open(tmp_path_with(tmp_path, [(40, "nvme0q1", (10**6, 10**6)), (41, "eth0", (0, 0))]))
    assert isnan(values(one.collect(NS))["interrupt_busiest_cpu_ratio"])
    irq_file(tmp_path, [(40, "nvme0q1", (10**6 + 9, 10**6)), (41, "eth0", (300, 900))])
    assert values(one.collect(2 * NS))["interrupt_busiest_cpu_ratio"] == 0.75
    irq_file(tmp_path, [(40, "nvme0q1", (10**6 + 9, 10**6)), (41, "eth0", (303, 900))])
    assert isnan(values(one.collect(3 * NS))["interrupt_busiest_cpu_ratio"])  # three interrupts have no favourite


def test_an_interrupt_number_that_another_device_gets_is_another_series(tmp_path):
    one = interrupts.Interrupts(interrupts.Config())
    one.open(tmp_path_with(tmp_path, [(40, "nvme0q1", (1, 2))]))
    one.collect(NS)
    irq_file(tmp_path, [(40, "eth7", (5, 5))])
    found = values(one.collect(2 * NS))
    assert isnan(found['interrupt_events_per_second{device="nvme0q1",irq="40"}'])
    assert found['interrupt_events_per_second{device="eth7",irq="40"}'] == 10


def test_a_cpu_that_goes_makes_no_interrupts(tmp_path):
    one, rates = interrupts.Interrupts(interrupts.Config()), Rates()
    one.open(tmp_path_with(tmp_path, [(40, "eth0", (5, 900))]))
    seen = [rates.step(NS, one.collect(NS))[0]]
    for t, cpus, counts in ((2, 1, (6,)), (3, 2, (6, 901)), (4, 2, (7, 901)), (5, 2, (9, 901))):
        irq_file(tmp_path, [(40, "eth0", counts)], cpus)
        seen.append(rates.step(t * NS, one.collect(t * NS))[0])
    assert all(map(isnan, seen[:4]))
    assert seen[4] == 2


def tmp_path_with(root, lines):
    irq_file(root, lines)
    return root


def test_the_collectors_of_one_second_give_hundreds_of_series():
    series = 0
    for name in ("buddy", "cpu", "limits", "memory", "softirqs", "softnet", "tcp", "vmstat"):
        spec = collector.discover()[name]
        one = spec.build(spec.config())
        one.open(Path("/"))
        series += len([one.collect(t) for t in range(5)][-1].series)
        one.close()
    assert series > 500


def test_a_numa_node_that_breaks_leaves_the_other(tmp_path):
    for i in (0, 1):
        write(tmp_path, f"{numa.FOLDER}/node{i}/meminfo", f"Node {i} MemTotal: 100 kB\nNode {i} MemFree: 25 kB\n")
    one = numa.Numa(numa.Config())
    one.open(tmp_path)
    assert values(one.collect(0))['numa_memory_used_ratio{node="1"}'] == 0.75
    write(tmp_path, f"{numa.FOLDER}/node1/meminfo", "nonsense\n")
    reading = one.collect(1)
    assert values(reading)['numa_memory_used_ratio{node="0"}'] == 0.75
    assert isnan(values(reading)['numa_memory_used_ratio{node="1"}'])
    assert len(reading.events) == 1
    assert one.collect(2).events == ()


@pytest.mark.needs_root
def test_a_real_link_going_down_is_an_event_and_its_queue_is_read():
    near, far = f"etio{os.getpid()}a", f"etio{os.getpid()}b"

    def turn(device, state, becomes):
        """The kernel changes the state of a link a little later."""
        subprocess.run(["ip", "link", "set", device, state], check=True)
        wait_for(lambda: Path(f"/sys/class/net/{near}/operstate").read_text() == f"{becomes}\n")

    subprocess.run(["ip", "link", "add", near, "type", "veth", "peer", "name", far], check=True)
    one, queues = links.Links(links.Config()), netlink.Netlink(netlink.Config())
    try:
        turn(near, "up", "lowerlayerdown")
        turn(far, "up", "up")
        subprocess.run(["tc", "qdisc", "add", "dev", near, "root", "pfifo", "limit", "10"], check=True)
        one.open(Path("/"))
        queues.open(Path("/"))
        up = values(one.collect(1))
        assert up[f'network_link_up{{device="{near}"}}'] == 1
        assert f'network_qdisc_drops_per_second{{device="{near}"}}' in values(queues.collect(1))
        turn(far, "down", "lowerlayerdown")
        events = [e for t in (2, 3, 4) for e in one.collect(t).events if near in e.entity]
        assert [(e.kind, e.t_ns) for e in events] == [("link_down", 2)]
        turn(far, "up", "up")
        told = [e.kind for t in (5, 5 + 10 * NS) for e in one.collect(t).events if near in e.entity]
        assert told == ["link_up"]
    finally:
        subprocess.run(["ip", "link", "del", near], check=False)
        queues.close()
        one.close()


@pytest.mark.needs_root
def test_a_real_fresh_mount_is_seen_by_the_next_reading_and_goes_missing_with_it(tmp_path):
    one = filesystems.Filesystems(filesystems.Config())
    one.open(Path("/"))
    one.collect(1)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "etio-test", str(tmp_path)], check=True)
    try:
        (tmp_path / "file").write_bytes(b"x" * (1 << 19))
        reading = one.collect(2)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    key = f'{{device="etio-test",mount="{tmp_path}",type="tmpfs"}}'
    assert values(reading)["filesystem_used_ratio" + key] == pytest.approx(0.5)
    assert values(reading)["filesystem_size_bytes" + key] == 1 << 20
    assert isnan(values(one.collect(3))["filesystem_used_ratio" + key])
    one.close()
