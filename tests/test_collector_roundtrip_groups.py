"""Parsers read back what a kernel writes of control groups, processes and sockets, and who wrote what the host is."""

import math
import os
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collector import (
    cgroup_files,
    hostinfo,
    io_limits,
    nodes,
    numa_maps,
    ports,
    processes,
    task_limits,
    udp_sockets,
)
from collector.gpu.placement import group_of
from tests.kernel_text import ANY_NAME, DEVICE, U32, U64, WORD, quick, words

# -- control groups ---------------------------------------------------------------------------------------------------


@given(st.dictionaries(WORD, U64))
def test_flat_keys(numbers):
    text = "".join(f"{name} {number}\n" for name, number in numbers.items())
    assert cgroup_files.parse_flat(text.encode()) == {name.encode(): number for name, number in numbers.items()}


@given(st.none() | st.integers(0, 2**52), st.integers(1000, 1_000_000))
def test_quotas_in_cores(quota, period):
    cores = math.inf if quota is None else quota / period
    told = "max" if quota is None else str(quota)
    v1 = b"-1\n" if quota is None else f"{quota}\n".encode()
    assert cgroup_files.quota_v2(f"{told} {period}\n".encode()) == cores
    assert cgroup_files.quota_v1(v1, f"{period}\n".encode()) == cores
    assert cgroup_files.parse_number(f"{told}\n".encode()) == (math.inf if quota is None else quota)
    assert math.isnan(cgroup_files.quota_v2(f"{told} 0\n".encode())), "no period, no quota"


@given(st.integers(0, 2**51 - 1).map(lambda pages: 4096 * pages))
def test_a_limit_of_memory_of_four_exbibytes_is_none(limit):
    expected = math.inf if limit >= 2**62 else float(limit)
    assert cgroup_files.memory_limit_v1(f"{limit}\n".encode()) == expected
    assert cgroup_files.memory_limit_v1(b"4611686018427387904\n") == math.inf
    assert cgroup_files.memory_limit_v1(b"4611686018427386880\n") == 2**62 - 1024


@quick
@given(st.dictionaries(DEVICE, st.lists(U32, min_size=6, max_size=6)))
def test_bytes_of_a_group_over_all_devices(devices):
    read, written = (float(sum(row[i] for row in devices.values())) for i in (0, 1))
    v2 = "".join(f"{d} rbytes={r} wbytes={w} rios={a} wios={b} dbytes={c} dios={e}\n"
                 for d, (r, w, a, b, c, e) in devices.items()).encode()
    assert cgroup_files.parse_io_stat(v2) == (read, written)
    v1 = "".join(f"{d} Read {r}\n{d} Write {w}\n{d} Sync {a}\n{d} Async {b}\n{d} Discard {c}\n{d} Total {e}\n"
                 for d, (r, w, a, b, c, e) in devices.items()) + "Total 7\n"
    assert cgroup_files.parse_blkio(v1.encode()) == (read, written)
    pairs = io_limits.parse_pairs(v2)
    counts = io_limits.parse_v1_count(v1.encode(), "io_service_bytes")
    for device, row in devices.items():
        assert [pairs[device, name] for name in ("rbytes", "wbytes", "rios", "wios")] == row[:4]
        assert [counts[device, name] for name in ("rbytes", "wbytes")] == row[:2]
    assert len(counts) == 2 * len(devices)
    assert set(io_limits.parse_v1_count(v1.encode(), "io_serviced")) == {(d, n) for d in devices
                                                                         for n in ("rios", "wios")}


@quick
@given(st.dictionaries(DEVICE, st.dictionaries(st.sampled_from(sorted(io_limits.WAYS)), st.none() | U64)))
def test_limits_of_io(devices):
    text = "".join(" ".join([device, *(f"{n}={'max' if v is None else v}" for n, v in row.items())]) + "\n"
                   for device, row in devices.items())
    expected = {(d, n): v for d, row in devices.items() for n, v in row.items() if v is not None}
    assert io_limits.parse_pairs(text.encode()) == expected
    for way in io_limits.WAYS:
        mine = {one: v for one, v in expected.items() if one[1] == way}
        v1 = "".join(f"{device} {v}\n" for (device, _), v in mine.items())
        assert io_limits.parse_v1_limit(v1.encode(), way) == mine


@given(ANY_NAME.map(lambda name: name.replace(b"\n", b"")), st.sampled_from([b"", b"4:memory:/aa\n5:cpu:/\n"]))
def test_no_name_of_a_group_passes_for_another(name, v1):
    """A group may be called anything but what has a newline or a slash in it."""
    path = b"/a/" + name.replace(b"/", b"")
    text = v1 + b"0::" + path + b"\n"
    assert group_of(text) == path.decode("utf-8", "replace")
    assert cgroup_files.parse_proc_cgroup(text) == (
        "/aa" if v1 else cgroup_files.shown(path.decode("utf-8", "surrogateescape")))


# -- processes and sockets --------------------------------------------------------------------------------------------


@quick
@given(st.integers(1, 2**22), ANY_NAME.map(lambda name: name[:15]), st.sampled_from("RSDZTtXI"),
       st.lists(st.integers(0, 2**40), min_size=49, max_size=49))
def test_stat_of_a_process_whatever_its_name(pid, name, state, rest):
    """rest[i] is field i + 4 of proc(5)."""
    found = processes.parse_stat(b"%d (%s) %s %s\n" % (pid, name, state.encode(), words(rest).encode()))
    field = {i + 4: value for i, value in enumerate(rest)}
    assert (found.pid, found.state, found.ppid, found.threads) == (pid, state, field[4], field[20])
    assert found.kernel_thread == bool(field[9] & 0x00200000)
    assert found.major_faults == field[12]
    assert found.cpu_seconds == (field[14] + field[15]) / os.sysconf("SC_CLK_TCK")
    assert found.start_s == field[22] / os.sysconf("SC_CLK_TCK")
    assert found.rss_bytes == field[24] * os.sysconf("SC_PAGE_SIZE")
    assert found.comm.isprintable()


@given(U64, U64, U64)
def test_small_files_of_a_process(first, second, third):
    assert processes.parse_schedstat(f"{first} {second} {third}\n".encode()) == pytest.approx(second / 1e9)
    io = f"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: {first}\nwrite_bytes: {second}\n" \
         f"cancelled_write_bytes: {third}\n"
    assert processes.parse_io(io.encode()) == (first, second)


@given(st.none() | U32, st.none() | U32)
def test_limits_of_a_process(files, tasks):
    def line(name, soft):
        return f"{name:<25} {'unlimited' if soft is None else soft:<20} {'unlimited':<20} {'units':<10}\n"

    text = f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"
    text += line("Max cpu time", 7) + line("Max processes", tasks) + line("Max open files", files)
    expected = tuple(math.inf if soft is None else soft for soft in (files, tasks))
    assert task_limits.parse_limits(text.encode()) == expected


def socket_line(port, remote, state, inode, waiting=0, drops=0):
    return (f"  0: 0100000A:{port:04X} {remote}:0050 {state} 00000000:{waiting:08X} 00:00000000 00000000"
            f"     0        0 {inode} 2 0000000000000000 {drops}\n")


PORT, INODE = st.integers(0, 65535), st.integers(1, 2**31)


@quick
@given(st.lists(st.tuples(PORT, U32, INODE, U32), max_size=4))
def test_udp_sockets(found):
    text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref\n"
    text += "".join(socket_line(port, "00000000", "07", inode, waiting, drops)
                    for port, waiting, inode, drops in found)
    assert udp_sockets.parse_udp(text.encode()) == [
        udp_sockets.UdpSocket(port, inode, drops, waiting) for port, waiting, inode, drops in found]


@quick
@given(st.lists(st.tuples(PORT, st.sampled_from(["0800000A", "0900000A"]), st.sampled_from(["01", "06", "0A", "02"]),
                          st.integers(0, 2**31)), max_size=12), PORT, PORT)
def test_peers_of_local_ports(found, first, last):
    text = "  sl  local_address rem_address   st\n" + "".join(
        socket_line(port, peer, state, inode) for port, peer, state, inode in found)
    told = ports.parse_peers(text.encode(), first, last)
    mine = [one for one in found if first <= one[0] <= last and one[2] != "0A"]
    assert {peer.decode() for peer in told} == {f"{one[1]}:0050" for one in mine}
    for peer, use in told.items():
        of_peer = [one for one in mine if peer.decode().startswith(one[1])]
        assert use.ports == len(of_peer)
        assert use.waiting == sum(one[2] == "06" for one in of_peer)
        assert use.inodes == [one[3] for one in of_peer if one[3]][:8]
    assert ports.parse_range(f"{first}\t{last}\n".encode()) == (first, last)


@given(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address), PORT)
def test_addresses_as_the_kernel_writes_them(four, six, port):
    def hexed(address):
        packed = address.packed
        return b"".join(packed[i:i + 4][::-1].hex().upper().encode() for i in range(0, len(packed), 4))

    assume(six.ipv4_mapped is None)
    assert ports.peer_text(b"%s:%04X" % (hexed(four), port)) == f"{four}:{port}"
    assert ports.peer_text(b"%s:%04X" % (hexed(six), port)) == f"[{six}]:{port}"
    mapped = IPv6Address(b"\0" * 10 + b"\xff\xff" + four.packed)
    assert ports.peer_text(b"%s:%04X" % (hexed(mapped), port)) == f"{four}:{port}"


@quick
@given(st.lists(st.tuples(st.dictionaries(st.integers(0, 9), st.integers(0, 2**30)), st.sampled_from([4, 2048])),
                min_size=1, max_size=5))
def test_pages_of_a_process_on_each_node(lines):
    text, expected = "", {}
    for i, (pages, size) in enumerate(lines):
        text += f"{0x7f0000 + i:x} default anon=3 dirty=3 " + "".join(f"N{n}={c} " for n, c in pages.items())
        text += f"kernelpagesize_kB={size}\n"
        for node, count in pages.items():
            expected[node] = expected.get(node, 0) + count * size * 1024
    assert numa_maps.parse_numa_maps(text.encode()) == expected
    total = sum(expected.values())
    assert numa_maps.shares(numa_maps.parse_numa_maps(text.encode())) == (
        {node: size / total for node, size in expected.items()} if total else {})


# -- the host ---------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 2000), min_size=1, max_size=40))
def test_a_list_of_processors(cpus):
    runs = []
    for one in sorted(cpus):
        if runs and one == runs[-1][1] + 1:
            runs[-1][1] = one
        else:
            runs.append([one, one])
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs).encode() + b"\n"
    assert nodes.parse_cpulist(text) == sorted(cpus)
    assert hostinfo.parse_cpu_list(text) == len(cpus)


@given(st.integers(0, 2**40), st.integers(0, 2**35), st.text(st.characters(categories=["L", "N"]), min_size=1,
                                                             max_size=90))
def test_what_the_host_is(kib, boot_s, name):
    assert hostinfo.parse_memory(f"MemTotal:{kib:>15} kB\nMemFree: 1 kB\n".encode()) == kib * 1024.0
    assert hostinfo.parse_boot_ns(f"ctxt 5\nbtime {boot_s}\nprocesses 7\n".encode()) == boot_s * 10**9
    assert hostinfo.parse_os_release(f'ID=x\nPRETTY_NAME="{name}"\nNAME="y"\n'.encode()) == name
