"""Parsers of /proc and /sys files: examples, and arbitrary or damaged input that may raise only NoData and Broken."""

import dataclasses
import re
from math import isinf, isnan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import (
    buddy,
    cpu,
    disks,
    interrupts,
    keyed,
    limits,
    links,
    memory,
    mounts,
    netlink,
    numa,
    pressure,
    schedstat,
    softirqs,
    softnet,
    tcp,
    tcp_names,
    vmstat,
    zones,
)
from collector.table import number, numbers, value_after, whole_lines
from etio.core.errors import Broken, NoData
from tests.property_rig import outcome

GOLDEN = Path(__file__).parent / "golden"
PARSERS = {
    cpu.parse_stat: "proc/stat", cpu.parse_loadavg: "proc/loadavg", schedstat.parse_schedstat: "proc/schedstat",
    memory.parse_meminfo: "proc/meminfo", vmstat.parse_vmstat: "proc/vmstat",
    pressure.parse_pressure: "proc/pressure/io", disks.parse_diskstats: "proc/diskstats",
    links.parse_net_dev: "proc/net/dev", tcp.parse_two_lines: "proc/net/netstat",
    tcp.parse_sockstat: "proc/net/sockstat", keyed.parse_pairs: "proc/net/snmp6",
    softirqs.parse_softirqs: "proc/softirqs", interrupts.parse_interrupts: "proc/interrupts",
    buddy.parse_buddyinfo: "proc/buddyinfo", zones.parse_zoneinfo: "proc/zoneinfo",
    limits.parse_inode_nr: "proc/sys/fs/inode-nr", limits.parse_dentry_state: "proc/sys/fs/dentry-state",
    softnet.parse_softnet: "proc/net/softnet_stat", mounts.parse_mountinfo: "proc/self/mountinfo",
    limits.parse_file_nr: "proc/sys/fs/file-nr", limits.parse_tasks: "proc/loadavg",
    limits.parse_limit: "proc/sys/kernel/pid_max", numa.parse_node_meminfo: "sys/devices/system/node/node0/meminfo",
    numa.parse_numastat: "sys/devices/system/node/node0/numastat",
    netlink.parse_speed: "sys/class/net/eno1/speed",
}
SAMPLES = {p: (GOLDEN / "debian12-6.1-2node" / path).read_bytes()[:6000] for p, path in PARSERS.items()}
NASTY = (b"\n", b" ", b"-1", b"nan", b"1e999", b"f" * 400, b"9" * 400)
EACH_PARSER = pytest.mark.parametrize("parser", PARSERS, ids=lambda p: p.__name__)


def leaves(value):
    """All that a parser gave, tables and records taken apart."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if not isinstance(value, (list, tuple)):
        return [value]
    return [leaf for one in value for leaf in leaves(one)]


def survives(parser, data):
    """Broken or NoData, or else something: a name for each number, and none below zero that the file does not have."""
    found = outcome(lambda: parser(data), NoData, Broken)
    if found is None:
        return
    told = leaves(found)
    assert data
    assert told or parser is links.parse_net_dev, "whose headings may stand alone: a host without devices"
    assert b"-" in data or not any(isinstance(v, (int, float)) and v < 0 for v in told)
    if isinstance(found, tuple) and isinstance(found[0], list) and isinstance(found[1], np.ndarray):
        assert len(found[0]) == len(found[1])


@EACH_PARSER
def test_a_whole_file_gives_numbers(parser):
    whole = (GOLDEN / "debian12-6.1-2node" / PARSERS[parser]).read_bytes()
    told = leaves(parser(whole))
    assert any(isinstance(v, (int, float)) and v > 0 for v in told) or parser is mounts.parse_mountinfo
    assert not any(isinstance(v, float) and isinf(v) for v in told)


@EACH_PARSER
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300) | st.text("0123456789 \n:-.kBcpu_\x00e+", max_size=300).map(str.encode))
def test_any_bytes_raise_only_typed_errors(parser, data):
    survives(parser, data)


@EACH_PARSER
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_raises_only_typed_errors(parser, data):
    sample = bytearray(SAMPLES[parser])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(sample)))
        width = data.draw(st.integers(0, 20))
        sample[at:at + width] = data.draw(st.binary(max_size=8) | st.sampled_from(NASTY))
    survives(parser, bytes(sample[:data.draw(st.integers(0, len(sample)))]))


@EACH_PARSER
def test_an_empty_file_is_no_data_or_broken(parser):
    with pytest.raises((NoData, Broken)):
        parser(b"")


@pytest.mark.parametrize("module", [schedstat, softnet])
def test_a_sum_over_lines_that_is_cut_off_is_broken_not_smaller(module):
    parser, path = (schedstat.parse_schedstat, "proc/schedstat") if module is schedstat else (
        softnet.parse_softnet, "proc/net/softnet_stat")
    whole = (GOLDEN / "debian12-6.1-2node" / path).read_bytes()
    parser(whole)
    with pytest.raises(Broken):
        parser(whole[:-5])


def test_a_number_at_a_cut_is_no_number():
    assert value_after(b"\nMemTotal: 12", b"\nMemTotal:") != 12
    assert isnan(value_after(b"\nMemTotal: 12", b"\nMemTotal:"))
    assert value_after(b"\nMemTotal: 12 kB\n", b"\nMemTotal:") == 12
    assert whole_lines(b"a 1\nb 2\nc 3") == [b"a 1", b"b 2"]
    assert whole_lines(b"no end") == []


def test_a_token_that_is_no_number_spoils_no_other():
    values = numbers([b"1", b"x", b"3"])
    assert values[0] == 1
    assert isnan(values[1])
    assert values[2] == 3
    assert isnan(number(b""))


def test_guest_time_is_not_counted_twice():
    row = [100.0, 20.0, 30.0, 800.0, 10.0, 1.0, 2.0, 3.0, 40.0, 5.0]
    busy, total = cpu.busy_and_total(row)
    assert total == 966
    assert busy == 156
    assert sum(cpu.by_mode(row)) == total


def test_old_kernels_with_fewer_columns_leave_the_others_unknown():
    modes = dict(zip(cpu.MODES, cpu.by_mode([100.0, 20.0, 30.0, 800.0, 10.0, 1.0, 2.0]), strict=True))
    assert modes["user"] == 100
    assert isnan(modes["steal"])
    assert isnan(modes["guest"])


def named(plan, layout, raw):
    """What a plan makes of raw numbers: {series key: value}."""
    return {i.series.key: sum(raw[p] for p in i.take) * i.scale for i in plan(layout)}


def test_meminfo_without_available_is_unknown_not_zero():
    found = named(memory.plan, *memory.parse_meminfo(b"MemTotal: 10 kB\nMemFree: 4 kB\n"))
    assert found == {"memory_total_bytes": 10240, "memory_free_bytes": 4096}


def test_a_size_without_a_unit_is_not_guessed():
    data = b"MemTotal: 10 kB\nNewThing: 7\nHugePages_Total: 3\nHugepagesize: 2048 kB\nNew: 1 kB\n"
    found = named(memory.plan, *memory.parse_meminfo(data))
    assert found == {"memory_total_bytes": 10240, "memory_hugetlb_total_pages": 3, "memory_new_bytes": 1024,
                     "memory_huge_page_bytes": 3 * 2048 * 1024}


def test_vmstat_adds_what_kernels_split():
    new = named(vmstat.plan, *vmstat.parse_vmstat(
        b"allocstall_dma32 1\nallocstall_normal 20\nallocstall_movable 300\npgscan_direct 5\n"))
    old = named(vmstat.plan, *vmstat.parse_vmstat(
        b"allocstall 9\npgscan_direct_normal 3\npgscan_direct_dma 4\npgscan_direct_throttle 99\n"))
    assert new["vm_alloc_stalls_per_second"] == 321
    assert new["vm_allocstall_normal_per_second"] == 20
    assert old["vm_alloc_stalls_per_second"] == 9
    assert "vm_allocstall_per_second" not in old
    assert old["vm_direct_scan_pages_per_second"] == 7
    assert "vm_oom_kills_per_second" not in old


@pytest.mark.parametrize(("key", "name", "kind"), [
    ("nr_free_pages", "vm_free_pages", "gauge"), ("nr_writeback", "vm_writeback_pages", "gauge"),
    ("nr_written", "vm_written_per_second", "counter"), ("nr_tlb_local_flush_all", "vm_tlb_local_flush_all_per_second",
    "counter"), ("nr_file_pmdmapped", "vm_file_pmdmapped_hugepages", "gauge"),
    ("nr_anon_transparent_hugepages", "vm_anon_transparent_hugepages", "gauge"),
    ("workingset_nodes", "vm_workingset_nodes", "gauge"), ("workingset_nodereclaim",
    "vm_workingset_nodereclaim_per_second", "counter"), ("nr_kernel_stack", "vm_kernel_stack_kib", "gauge"),
    ("pgsteal_anon", "vm_pgsteal_anon_per_second", "counter"), ("brand_new", "vm_brand_new", "gauge"),
])
def test_what_grows_for_ever_and_what_is_a_level(key, name, kind):
    series = vmstat.other_series(key)
    assert (series.name, series.kind) == (name, kind)


def test_between_readings_no_gauge_of_vmstat_is_an_event_of_this_kernel():
    """Recorded: an event count that is not 0 and taken for a level would stand out among the unknown."""
    names, _ = vmstat.parse_vmstat((GOLDEN / "firecracker-6.18/proc/vmstat").read_bytes())
    unknown = {i.series.name for i in vmstat.plan(names) if i.series.unit == "1"}
    assert unknown == {"vm_workingset_nodes"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers(0, 2**64 - 1)), min_size=1))
def test_pairs_in_bulk_are_pairs_line_by_line(rows):
    data = "".join(f"{name} {value}\n" for name, value in rows).encode()
    fast, slow = keyed.parse_pairs(data), keyed.parse_pairs_slowly(data)
    assert keyed.first_places(fast[0]).keys() == keyed.first_places(slow[0]).keys()
    for name, at in keyed.first_places(fast[0]).items():
        assert fast[1][at] == slow[1][slow[0].index(name)]


def test_a_line_of_another_form_costs_only_itself():
    names, values = keyed.parse_pairs(b"a 1\nb\nc x\nd 4\ne 5 6\nf 7")
    assert dict(zip(names, values, strict=True)) == {b"a": 1, b"d": 4}


@pytest.mark.parametrize("host", ["firecracker-6.18", "debian12-6.1-2node"])
def test_names_of_network_counters_are_unique_and_cover_every_counter(host):
    folder = GOLDEN / host / "proc/net"
    files = [tcp.parse_two_lines((folder / n).read_bytes())[0] for n in ("snmp", "netstat")]
    files.append(tcp.parse_sockstat((folder / "sockstat").read_bytes())[0])
    files.append(keyed.parse_pairs((folder / "snmp6").read_bytes())[0])
    files.append(tcp.parse_sockstat((folder / "sockstat6").read_bytes())[0])
    items = list(tcp.plan(tuple(files)))
    assert len({i.series.name for i in items}) == len(items)
    told = {p for i in items for p in i.take}
    names = tcp.full_names(tuple(files))
    left = {names[p] for p in range(len(names)) if p not in told}
    assert all(re.search("Type[0-9]+$", n) or n in tcp_names._CONSTANTS for n in left), left


@pytest.mark.parametrize(("name", "disk", "expected"), [
    (b"sda1", b"sda", True), (b"nvme0n1p1", b"nvme0n1", True), (b"mmcblk0p12", b"mmcblk0", True),
    (b"dm-10", b"dm-1", False), (b"loop10", b"loop1", False), (b"nvme0n10", b"nvme0n1", False),
    (b"sdaa", b"sda", False), (b"sda", b"sda", False), (b"sda1", b"", False),
])
def test_partitions_are_told_from_disks_by_name(name, disk, expected):
    assert disks.is_partition(name, disk) is expected


@pytest.mark.parametrize(("state", "carrier", "expected"), [
    (b"up\n", b"", 1.0), (b"down\n", b"", 0.0), (b"lowerlayerdown\n", b"", 0.0), (b"dormant\n", b"1", 0.0),
    (b"unknown\n", b"1\n", 1.0), (b"unknown\n", b"0\n", 0.0),
])
def test_operstate(state, carrier, expected):
    assert links.parse_operstate(state, carrier) == expected


def test_operstate_that_says_nothing_is_unknown():
    assert isnan(links.parse_operstate(b"", b""))
    assert isnan(links.parse_operstate(b"unknown\n", b""))


def test_names_and_values_of_netstat_must_belong_together():
    good = b"TcpExt: A ListenDrops\nTcpExt: 1 2\nIpExt: B\nIpExt: 3\n"
    headers, values = tcp.parse_two_lines(good)
    assert headers == [b"TcpExt: A ListenDrops", b"IpExt: B"]
    assert list(values) == [1, 2, 3]
    for bad in (b"TcpExt: A ListenDrops\nTcpExt: 1\n", b"TcpExt: A\nIpExt: 1\n", b"TcpExt: A ListenDrops\nTcpExt: 1 2"):
        with pytest.raises(Broken):
            tcp.parse_two_lines(bad)


@pytest.mark.parametrize(("counter", "name"), [
    ("TcpExt:TCPDelivered", "tcp_ext_delivered"), ("TcpExt:TCPSpuriousRTOs", "tcp_ext_spurious_rtos"),
    ("Icmp6:InMLDv2Reports", "icmp6_in_mldv2_reports"), ("IpExt:InNoECTPkts", "ip_ext_in_no_ect_pkts"),
    ("MPTcpExt:MPJoinSynRx", "mptcp_mp_join_syn_rx"), ("UdpLite6:NoPorts", "udplite6_no_ports"),
])
def test_names_of_counters(counter, name):
    assert tcp_names.other_series(counter).name == f"{name}_per_second"


def test_constants_and_unknown_protocols_are_no_series():
    for key in ("Ip:DefaultTTL", "Tcp:RtoMax", "IcmpMsg:InType3", "Icmp6:OutType135", "nonsense", "New:Thing", "Ip:"):
        assert tcp_names.other_series(key) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 15).flatmap(lambda w: st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=w, max_size=w),
                                                     min_size=1, max_size=8)))
def test_softnet_at_once_is_softnet_line_by_line(rows):
    data = "".join(" ".join(f"{v:08x}" for v in row) + "\n" for row in rows).encode()
    loose = data.replace(b" ", b"  ")
    assert softnet._sums_at_once(data) == softnet._sums_by_line(data)
    assert softnet._sums_at_once(loose) is None
    np.testing.assert_array_equal(softnet.parse_softnet(loose), softnet.parse_softnet(data))
    assert softnet.parse_softnet(data)[:3] == [sum(r[i] for r in rows) for i in (1, 2, 0)]


def test_fragmentation_is_the_share_of_memory_in_small_blocks():
    _, (blocks,) = buddy.parse_buddyinfo(b"Node 0, zone Normal 512 0 0 0 0 0 0 0 0 1 1\n")
    assert buddy.fragmentation(blocks) == 512 / (512 + 512 + 1024)
    assert isnan(buddy.fragmentation(blocks * 0))
    assert isnan(buddy.fragmentation(blocks[:5]))


@pytest.mark.parametrize(("name", "rest", "device"), [
    (b"36", b" 1 2  PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0", "virtio1-req.0"),
    (b"16", b" 1 2  IO-APIC  16-fasteoi   uhci_hcd:usb1, i801_smbus", "uhci_hcd:usb1, i801_smbus"),
    (b"11", b" 1 2  GICv3  30 Level     arch_timer", "arch_timer"), (b"12", b" 1 2  GICv3  5 Level", ""),
    (b"LOC", b" 1 2  Local timer interrupts", "Local timer interrupts"), (b"ERR", b" 0", ""),
    (b"7", b" 1 2 IR-PCI-MSI 524328-edge      evil\x1b[2J" + b"x" * 99, "evil?[2J" + "x" * 56),
])
def test_who_interrupts(name, rest, device):
    assert interrupts.device_of(name, rest, 2) == device


def test_speed_is_in_bytes_and_unknown_is_no_speed():
    assert netlink.parse_speed(b"1000\n") == 125e6
    with pytest.raises(NoData):
        netlink.parse_speed(b"-1\n")
    with pytest.raises(Broken):
        netlink.parse_speed(b"fast\n")


def test_of_several_mounts_of_one_device_the_one_of_its_root_is_told():
    def line(dev, root, point, kind="ext4", options="rw"):
        return f"1 1 {dev} {root} {point} rw,relatime shared:1 - {kind} src {options}\n".encode()

    data = b"".join((
        line("8:1", "/var/x", "/a"), line("8:1", "/", "/long/path"), line("8:1", "/", "/b"),
        line("0:5", "/", "/p", "proc"), line("8:2", "/", "/over"),
        line("8:3", "/", "/over"), line("8:4", "/", "/snap/core", "squashfs"),
    ))
    points = {(m.device_number, m.point) for m in mounts.worth_following(mounts.parse_mountinfo(data))}
    assert points == {(b"8:1", b"/b"), (b"8:3", b"/over")}


def test_a_sandbox_that_binds_everything_readonly_is_no_readonly_file_system():
    data = b"1 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw\n2 1 8:2 / /x rw - ext4 /dev/sda2 ro,errors=remount-ro\n"
    assert [m.readonly for m in mounts.parse_mountinfo(data)] == [False, True]


@given(st.binary(max_size=40))
def test_unescape_undoes_what_the_kernel_escapes(name):
    escaped = b"".join(b"\\%03o" % c if c in b" \t\n\\" else bytes([c]) for c in name)
    assert mounts.unescape(escaped) == name
