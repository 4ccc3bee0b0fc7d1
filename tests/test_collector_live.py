"""Collectors over time and on this very host: events, things that come and go, sources that break or hang."""

import os
import subprocess
import sys
import threading
import time
from fnmatch import fnmatchcase
from math import isnan
from pathlib import Path

import numpy as np
import pytest

import collector
from collector import disks, filesystems, interrupts, limits, links, netlink, numa, softnet, tcp, vmstat
from collector.files import ROOM, File, Sources
from collector.table import Column, Fixed, Table
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Rates
from etio.core.series import Series
from tests.daemon_rig import wait_for

OURS = {"buddy", "cpu", "disks", "filesystems", "interrupts", "limits", "links", "memory", "netlink", "numa",
        "pressure", "schedstat", "softirqs", "softnet", "tcp", "vmstat", "zones"}
HEAD = "Inter-|   Receive                |  Transmit\n face |bytes    packets errs\n"


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def values(reading):
    return {s.key: float(v) for s, v in zip(reading.series, reading.values, strict=True)}


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


def test_disk_latency_is_time_over_requests(tmp_path):
    line = "   8       0 sda {} 0 {} {} 0 0 0 0 2 {} {}\n   8       1 sda1 1 1 1 1 1 1 1 1 1 1 1\n"
    write(tmp_path, "proc/diskstats", line.format(10, 80, 100, 1000, 2000))
    one, rates = disks.Disks(disks.Config()), Rates()
    one.open(tmp_path)
    rates.step(NS, one.collect(NS))
    write(tmp_path, "proc/diskstats", line.format(30, 480, 500, 1900, 7000))
    reading = one.collect(2 * NS)
    found = dict(zip((s.key for s in reading.series), rates.step(2 * NS, reading), strict=True))
    assert found['disk_read_latency_seconds{device="sda"}'] == pytest.approx(0.020)
    assert isnan(found['disk_write_latency_seconds{device="sda"}'])  # no write, no latency
    assert found['disk_read_bytes_per_second{device="sda"}'] == 400 * 512
    assert found['disk_busy_ratio{device="sda"}'] == pytest.approx(0.9)
    assert found['disk_queue_length{device="sda"}'] == pytest.approx(5.0)
    assert found['disk_inflight_requests{device="sda"}'] == 2
    assert not any("sda1" in key for key in found)


def test_loop_devices_appear_with_their_first_request(tmp_path):
    write(tmp_path, "proc/diskstats", "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0\n")
    one = disks.Disks(disks.Config())
    one.open(tmp_path)
    assert not one.collect(0).series
    write(tmp_path, "proc/diskstats", "   7       0 loop0 0 0 0 0 1 0 8 0 0 0 0\n")
    assert {s.label("device") for s in one.collect(1).series} == {"loop0"}


class Net:
    """A /proc/net/dev and /sys/class/net that can be changed."""

    def __init__(self, root):
        self.root, self.states = root, {}

    def set(self, name, state, physical=True, traffic=1):
        base = f"sys/class/net/{name}"
        write(self.root, f"{base}/operstate", f"{state}\n")
        write(self.root, f"{base}/flags", "0x1003\n")
        write(self.root, f"{base}/carrier_changes", "1\n")
        if physical:
            write(self.root, f"{base}/device", "")
        self.states[name] = traffic
        self.flush()

    def remove(self, name):
        del self.states[name]
        self.flush()

    def flush(self):
        lines = "".join(f"{n}: {t} 0 0 0 0 0 0 0 {t} 0 0 0 0 0 0 0\n" for n, t in self.states.items())
        write(self.root, "proc/net/dev", HEAD + lines)


@pytest.fixture
def net(tmp_path):
    return Net(tmp_path)


def kinds(one, t):
    return [(e.kind, e.entity, e.t_ns) for e in one.collect(t).events]


def test_a_link_that_goes_down_and_up_is_told_once_each(net):
    net.set("eth0", "up")
    net.set("eth1", "down")
    one = links.Links(links.Config())
    one.open(net.root)
    assert kinds(one, 1) == []
    net.set("eth0", "down")
    assert kinds(one, 2) == [("link_down", "device=eth0", 2)]
    assert kinds(one, 3) == []
    net.set("eth0", "up")
    net.set("eth1", "up")  # never was up, so it was never told to be down
    assert kinds(one, 4) == [("link_up", "device=eth0", 4)]


def test_a_virtual_device_that_goes_down_to_vanish_is_no_event(net):
    net.set("veth1", "up", physical=False)
    net.set("veth2", "up", physical=False)
    one = links.Links(links.Config())
    one.open(net.root)
    one.collect(1)
    net.set("veth1", "lowerlayerdown", physical=False)
    net.set("veth2", "lowerlayerdown", physical=False)
    assert kinds(one, 2) == []
    net.remove("veth1")
    assert kinds(one, 3) == []
    assert kinds(one, 4) == [("link_down", "device=veth2", 2)]  # still there, so it is one
    net.remove("veth2")
    assert kinds(one, 5) == [("link_removed", "device=veth2", 5)]


def test_an_idle_virtual_device_is_not_followed_and_the_number_of_them_is_bounded(net):
    net.set("dummy0", "down", physical=False, traffic=0)
    for i in range(5):
        net.set(f"veth{i}", "up", physical=False)
    net.set("eth0", "down", traffic=0)
    one = links.Links(links.Config(max_virtual=3))
    one.open(net.root)
    found = {s.label("device") for s in one.collect(1).series}
    assert found == {"veth0", "veth1", "veth2", "eth0"}


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


def mountinfo(*lines):
    return "".join(f"1 1 {dev} / {point} rw - {kind} {dev} {opts}\n" for dev, point, kind, opts in lines)


def test_a_fresh_mount_and_a_remount_are_seen_by_the_next_reading(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path, "proc/self/mountinfo", mountinfo(("8:1", "/", "ext4", "rw")))
    one = filesystems.Filesystems(filesystems.Config())
    one.open(tmp_path)
    assert {s.label("mount") for s in one.collect(1).series} == {"/"}
    write(tmp_path, "proc/self/mountinfo", mountinfo(("8:1", "/", "ext4", "rw"), ("7:0", "/data", "ext4", "rw")))
    assert {s.label("mount") for s in one.collect(2).series} == {"/", "/data"}
    write(tmp_path, "proc/self/mountinfo", mountinfo(("8:1", "/", "ext4", "rw"), ("7:0", "/data", "ext4", "ro")))
    reading = one.collect(3)
    assert [(e.kind, e.entity) for e in reading.events] == [("filesystem_readonly", "device=7:0,mount=/data,type=ext4")]
    assert values(reading)['filesystem_readonly{device="7:0",mount="/data",type="ext4"}'] == 1
    assert filesystems.COLLECTOR.period_s < 3


def test_a_dead_file_server_costs_only_its_own_series(tmp_path):
    write(tmp_path, "proc/self/mountinfo", mountinfo(("0:50", "/mnt/nfs", "nfs4", "rw"), ("8:1", "/", "ext4", "rw")))
    alive = threading.Event()
    asked = []

    def statvfs(path):
        if path.endswith(b"nfs"):
            asked.append(path)
            alive.wait(20)
        return os.statvfs("/")

    one = filesystems.Filesystems(filesystems.Config(deadline_s=1.0), statvfs)
    one.open(tmp_path)
    first = one.collect(1)
    assert {s.label("mount") for s in first.series} == {"/"}
    assert [e.kind for e in first.events] == ["collector_failed"]
    started = time.monotonic()
    second = one.collect(2)
    assert time.monotonic() - started < 0.8  # one that kept us waiting is not waited for again
    assert second.events == ()
    assert len(asked) == 1
    alive.set()
    deadline = time.monotonic() + 10
    while len({s.label("mount") for s in one.collect(3).series}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {s.label("mount") for s in one.collect(4).series} == {"/", "/mnt/nfs"}


def test_numbers_of_a_file_system_are_those_of_df():
    one = filesystems.Filesystems(filesystems.Config())
    one.open(Path("/"))
    reading = one.collect(0)
    pairs = zip(reading.series, reading.values, strict=True)
    found = {s.label("mount"): float(v) for s, v in pairs if s.name == "filesystem_used_ratio"}
    out = subprocess.run(["df", "--output=target,pcent", "/"], check=True, capture_output=True, text=True).stdout
    mount, percent = out.splitlines()[1].split()
    assert found[mount] * 100 == pytest.approx(float(percent.rstrip("%")), abs=1.1)


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
        assert [e.kind for e in one.collect(5).events if near in e.entity] == ["link_up"]
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
