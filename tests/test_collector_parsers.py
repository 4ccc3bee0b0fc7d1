"""Parsers of /proc and /sys files: examples, and arbitrary or damaged input that may raise only NoData and Broken."""

from contextlib import suppress
from math import isnan
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import (
    cpu,
    disks,
    limits,
    links,
    memory,
    mounts,
    netlink,
    numa,
    pressure,
    schedstat,
    softnet,
    tcp,
    vmstat,
)
from collector.table import number, numbers, value_after, whole_lines
from etio.core.errors import Broken, NoData

GOLDEN = Path(__file__).parent / "golden"
PARSERS = {
    cpu.parse_stat: "proc/stat", cpu.parse_loadavg: "proc/loadavg", schedstat.parse_schedstat: "proc/schedstat",
    memory.parse_meminfo: "proc/meminfo", vmstat.parse_vmstat: "proc/vmstat",
    pressure.parse_pressure: "proc/pressure/io", disks.parse_diskstats: "proc/diskstats",
    links.parse_net_dev: "proc/net/dev", tcp.parse_snmp: "proc/net/snmp", tcp.parse_netstat: "proc/net/netstat",
    tcp.parse_sockstat: "proc/net/sockstat", tcp.parse_snmp6: "proc/net/snmp6",
    softnet.parse_softnet: "proc/net/softnet_stat", mounts.parse_mountinfo: "proc/self/mountinfo",
    limits.parse_file_nr: "proc/sys/fs/file-nr", limits.parse_tasks: "proc/loadavg",
    limits.parse_limit: "proc/sys/kernel/pid_max", numa.parse_node_meminfo: "sys/devices/system/node/node0/meminfo",
    numa.parse_numastat: "sys/devices/system/node/node0/numastat",
    netlink.parse_speed: "sys/class/net/eno1/speed",
}
SAMPLES = {p: (GOLDEN / "debian12-6.1-2node" / path).read_bytes()[:6000] for p, path in PARSERS.items()}
NASTY = (b"\n", b" ", b"-1", b"nan", b"1e999", b"f" * 400, b"9" * 400)
EACH_PARSER = pytest.mark.parametrize("parser", PARSERS, ids=lambda p: p.__name__)


def survives(parser, data):
    with suppress(NoData, Broken):
        parser(data)


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


def test_meminfo_without_available_is_unknown_not_zero():
    values = dict(zip((c.name for c in memory.COLUMNS), memory.parse_meminfo(b"MemTotal: 10 kB\nMemFree: 4 kB\n"),
                      strict=True))
    assert values["memory_free_bytes"] == 4096
    assert isnan(values["memory_available_bytes"])
    assert isnan(values["memory_available_ratio"])
    assert isnan(values["memory_swap_used_ratio"])


def test_vmstat_adds_what_kernels_split():
    index = [c.name for c in vmstat.COLUMNS].index
    new = vmstat.parse_vmstat(b"allocstall_dma32 1\nallocstall_normal 20\nallocstall_movable 300\npgscan_direct 5\n")
    old = vmstat.parse_vmstat(b"allocstall 9\npgscan_direct_normal 3\npgscan_direct_dma 4\npgscan_direct_throttle 99\n")
    assert new[index("vm_alloc_stalls_per_second")] == 321
    assert old[index("vm_alloc_stalls_per_second")] == 9
    assert old[index("vm_direct_scan_pages_per_second")] == 7
    assert isnan(old[index("vm_oom_kills_per_second")])


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
    good = b"TcpExt: A ListenDrops\nTcpExt: 1 2\n"
    assert tcp.parse_pairs(good, b"TcpExt:", (b"ListenDrops", b"Later"))[0] == 2
    assert isnan(tcp.parse_pairs(good, b"TcpExt:", (b"ListenDrops", b"Later"))[1])
    for bad in (b"TcpExt: A ListenDrops\nTcpExt: 1\n", b"TcpExt: A\nIpExt: 1\n", b"TcpExt: A ListenDrops\nTcpExt: 1 2"):
        with pytest.raises(Broken):
            tcp.parse_pairs(bad, b"TcpExt:", (b"ListenDrops",))


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
