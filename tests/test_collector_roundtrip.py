"""Parsers read back what a kernel writes of the host: numbers in its own format, each found at its place and unit."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from collector import (
    buddy,
    cgroup_files,
    cpu,
    disks,
    interrupts,
    knobs,
    limits,
    links,
    memory,
    mounts,
    netlink,
    numa,
    pressure,
    rdma,
    schedstat,
    softirqs,
    tcp,
    vmstat,
    zones,
)
from collector.table import whole_lines
from tests.kernel_text import ANY_NAME, DEVICE, NODE, PAGES, U32, U64, WORD, escaped, floats, quick, rows, same, words

# -- /proc of the host ------------------------------------------------------------------------------------------------


@quick
@given(rows(U64, 10), st.lists(U64, min_size=5, max_size=5), st.lists(U64, max_size=5))
def test_stat(jiffies, counters, vectors):
    total = [sum(column) for column in zip(*jiffies, strict=True)]
    ctxt, intr, forks, running, blocked = counters
    lines = [f"cpu  {words(total)}", *(f"cpu{i} {words(row)}" for i, row in enumerate(jiffies)),
             f"intr {words([intr, *vectors])}", f"ctxt {ctxt}", "btime 1700000000", f"processes {forks}",
             f"procs_running {running}", f"procs_blocked {blocked}", f"softirq {words([1, 2, 3])}"]
    found = cpu.parse_stat(("\n".join(lines) + "\n").encode())
    assert found.total == floats(total)
    assert found.rows == {str(i).encode(): floats(row) for i, row in enumerate(jiffies)}
    assert found.counters == floats(counters)


@given(st.lists(st.integers(0, 99999), min_size=3, max_size=3), U32, U32, U32)
def test_loadavg_and_tasks(loads, running, tasks, last):
    text = f"{words(f'{one / 100:.2f}' for one in loads)} {running}/{tasks} {last}\n".encode()
    assert cpu.parse_loadavg(text) == [one / 100 for one in loads]
    assert limits.parse_tasks(text) == tasks


@given(st.integers(14, 17), rows(st.integers(0, 2**50), 9), st.integers(0, 3))
def test_run_delay_of_all_processors(version, cpus, domains):
    text = f"version {version}\ntimestamp 4295\n"
    for i, row in enumerate(cpus):
        text += f"cpu{i} {words(row)}\n" + "".join(f"domain{d} ff {words(range(36))}\n" for d in range(domains))
    assert schedstat.parse_schedstat(text.encode()) == [pytest.approx(sum(row[7] for row in cpus) / 1e9)]


KIB_LINES = ("MemFree", "MemAvailable", "SwapTotal", "SwapFree", "CommitLimit", "Committed_AS", "NewThing")


@quick
@given(st.integers(1, 2**40), st.dictionaries(st.sampled_from(KIB_LINES), PAGES), st.integers(0, 2**20))
def test_meminfo(total, sizes, huge):
    text = f"MemTotal: {total:>15} kB\n" + "".join(f"{name}: {size:>10} kB\n" for name, size in sizes.items())
    names, values = memory.parse_meminfo(f"{text}HugePages_Total: {huge}\nHugepagesize: 2048 kB\n".encode())
    found = dict(zip(names, values.tolist(), strict=True))
    assert found[b"MemTotal:"] == total * 1024
    assert all(found[f"{name}:".encode()] == size * 1024 for name, size in sizes.items())
    assert found[b"HugePages_Total:"] == huge
    assert found[b"Hugetlb:"] == huge * (2 << 20)
    swap, limit = sizes.get("SwapTotal", 0), sizes.get("CommitLimit", 0)
    expected = {"=available": sizes["MemAvailable"] / total} if "MemAvailable" in sizes else {}
    if "SwapTotal" in sizes and "SwapFree" in sizes:
        expected["=swap used"] = (swap - sizes["SwapFree"]) * 1024.0
        expected |= {"=swap used/all": (swap - sizes["SwapFree"]) / swap} if swap else {}
    if limit and "Committed_AS" in sizes:
        expected["=committed"] = sizes["Committed_AS"] / limit
    assert {n.decode(): v for n, v in found.items() if n.startswith(b"=")} == pytest.approx(expected)


@quick
@given(st.dictionaries(WORD, U64, min_size=1))
def test_vmstat(counters):
    names, values = vmstat.parse_vmstat("".join(f"{n} {v}\n" for n, v in counters.items()).encode())
    assert [n.decode() for n in names] == list(counters)
    same(values, counters.values())


@given(st.dictionaries(st.sampled_from(["some", "full"]), U64, min_size=1))
def test_pressure(totals):
    text = "".join(f"{kind} avg10=1.53 avg60=0.87 avg300=0.21 total={us}\n" for kind, us in totals.items()).encode()
    expected = [totals[kind] * 1e-6 if kind in totals else math.nan for kind in ("some", "full")]
    assert list(pressure.parse_pressure(text)) == pytest.approx(expected, nan_ok=True)
    for kind, seconds in zip((b"some", b"full"), expected, strict=True):
        assert cgroup_files.parse_pressure_total(text, kind) == pytest.approx(seconds, nan_ok=True)


@quick
@given(st.dictionaries(WORD, st.sampled_from([11, 15, 17, 20]).flatmap(
    lambda width: st.lists(U64, min_size=width, max_size=width)), min_size=1), st.sets(WORD))
def test_diskstats(devices, skip):
    text = "".join(f"   8      {i} {name} {words(row)}\n" for i, (name, row) in enumerate(devices.items()))
    found = disks.parse_diskstats(text.encode() + b"   8 99 cut 1 2 3\n", {n.encode() for n in skip})
    assert found == [(n.encode(), floats(row[:17])) for n, row in devices.items() if n not in skip]


@quick
@given(st.dictionaries(WORD, st.lists(U64, min_size=16, max_size=16), min_size=1))
def test_net_dev(devices):
    head = "Inter-|   Receive    |  Transmit\n face |bytes    packets errs drop|bytes    packets errs drop\n"
    text = head + "".join(f"{name:>6}: {words(row)}\n" for name, row in devices.items())
    order = [c.name.removeprefix("network_").removesuffix("_per_second") for c in links.TRAFFIC]
    place = {f"{way}_{what}": 8 * (way == "transmit") + at for way in ("receive", "transmit")
             for at, what in enumerate(("bytes", "packets", "errors", "drops"))}
    place |= {"receive_overruns": 4, "receive_frame_errors": 5, "multicast_packets": 7, "transmit_overruns": 12,
              "collisions": 13, "transmit_carrier_errors": 14}
    assert links.parse_net_dev(text.encode()) == [
        (name.encode(), [float(row[place[one]]) for one in order]) for name, row in devices.items()]


@pytest.mark.slow
@quick
@given(st.dictionaries(WORD, st.dictionaries(WORD, U64, min_size=1), min_size=1))
def test_two_lines_of_netstat_and_the_lines_of_sockstat(protocols):
    pairs = "".join(f"{p}: {words(row)}\n{p}: {words(row.values())}\n" for p, row in protocols.items())
    headers, values = tcp.parse_two_lines(pairs.encode())
    assert [h.decode() for h in headers] == [f"{p}: {words(row)}" for p, row in protocols.items()]
    same(values, [v for row in protocols.values() for v in row.values()])
    lines = "".join(f"{p}: {' '.join(f'{n} {v}' for n, v in row.items())}\n" for p, row in protocols.items())
    names, values = tcp.parse_sockstat(lines.encode())
    assert [n.decode() for n in names] == [f"{p} {n}" for p, row in protocols.items() for n in row]
    same(values, [v for row in protocols.values() for v in row.values()])


@quick
@given(st.integers(1, 6).flatmap(lambda cpus: st.dictionaries(
    WORD, st.lists(U32, min_size=cpus, max_size=cpus), min_size=1)))
def test_softirqs_by_vector_and_by_processor(vectors):
    columns = [sum(column) for column in zip(*vectors.values(), strict=True)]
    head = "".join(f"{f'CPU{i}':>11}" for i in range(len(columns)))
    text = f"    {head}\n" + "".join(f"{f'{n}:':>12} {words(row)}\n" for n, row in vectors.items())
    names, values = softirqs.parse_softirqs(text.encode())
    expected = {n: sum(row) for n, row in vectors.items()} | {f"CPU{i}": n for i, n in enumerate(columns) if n}
    expected |= {f"{n} CPU{i}": one for n, row in vectors.items() for i, one in enumerate(row) if one}
    assert [n.decode() for n in names] == list(expected)
    same(values, expected.values())


@quick
@given(st.integers(1, 6).flatmap(lambda cpus: st.dictionaries(
    st.integers(0, 500) | st.sampled_from(["NMI", "LOC"]), st.lists(U32, min_size=cpus, max_size=cpus), min_size=1)),
    WORD, U32)
def test_interrupts(lines, handler, errors):
    cpus = len(next(iter(lines.values())))
    text = f"{'':>11}{''.join(f'CPU{i:<8}' for i in range(cpus))}\n"
    for name, row in lines.items():
        rest = f"PCI-MSIX-0000:00:02.0   1-edge      {handler}" if isinstance(name, int) else "Some interrupts"
        text += f"{name:>4}: {words(row)}  {rest}\n"
    found_cpus, found = interrupts.parse_interrupts(f"{text} ERR: {errors}\n".encode())
    assert found_cpus == cpus
    assert [name.decode() for name, _ in found] == [*map(str, lines), "ERR"]
    for (name, rest), row in zip(found, lines.values(), strict=False):
        same(interrupts.counts(rest, cpus), row)
        assert interrupts.total(name, rest, cpus) == sum(row)
        assert interrupts.device_of(name, rest, cpus) == (handler if name.isdigit() else "Some interrupts")
    assert interrupts.total(*found[-1], cpus) == errors


@quick
@given(rows(PAGES, 11), NODE)
def test_buddyinfo(zones_, node):
    text = "".join(f"Node {node}, zone {f'Z{i}':>8} {words(row)}\n" for i, row in enumerate(zones_))
    found, blocks = buddy.parse_buddyinfo(text.encode())
    assert found == [(str(node).encode(), f"Z{i}".encode(), 11) for i in range(len(zones_))]
    for row, expected in zip(blocks, zones_, strict=True):
        same(row, expected)
        pages = [count << order for order, count in enumerate(expected)]
        small = sum(pages[:9]) / sum(pages) if any(pages) else math.nan
        assert buddy.fragmentation(row) == pytest.approx(small, nan_ok=True)


@quick
@given(st.lists(st.tuples(NODE, WORD, st.lists(PAGES, min_size=5, max_size=5), PAGES), min_size=1, max_size=4,
                unique_by=lambda one: one[:2]))
def test_watermarks_of_zones_that_have_pages(found_zones):
    assume(any(managed for *_, managed in found_zones))
    text, expected = "", {}
    for node, zone, marks, managed in found_zones:
        named = dict(zip(("free", "boost", "min", "low", "high"), marks, strict=True))
        text += f"Node {node}, zone {zone:>8}\n  per-node stats\n      nr_inactive_anon 5\n      free 77\n  pages "
        text += "        ".join(f"{name:<8} {pages}\n" for name, pages in named.items())
        text += f"        spanned  9\n        present  8\n        managed  {managed}\n        cma      0\n"
        text += f"        protection: (0, 2)\n      nr_free_pages 4\n      nr_mlock     {marks[0]}\n"
        text += "  pagesets\n    cpu: 0\n              high:  378\n"
        if managed:
            named |= {"managed": managed, "nr_mlock": marks[0]}
            expected |= {f"{node} {zone} {name}": pages for name, pages in named.items()}
    names, values = zones.parse_zoneinfo(text.encode())
    wanted = {name: float(pages) for name, pages in expected.items() if name.split()[2].encode() in zones._FIELDS}
    assert dict(zip((n.decode() for n in names), values.tolist(), strict=True)) == wanted


@given(U32, U32, st.integers(1, 2**53), st.lists(U32, min_size=6, max_size=6))
def test_tables_of_the_kernel(used, unused, most, dentries):
    assert limits.parse_file_nr(f"{used}\t{unused}\t{most}\n".encode()) == (used - unused, most)
    assert limits.parse_inode_nr(f"{used}\t{unused}\n".encode()) == [used, unused]
    found = limits.parse_dentry_state((words(dentries) + "\n").encode())
    assert found == pytest.approx([*dentries[:2], dentries[4] or math.nan], nan_ok=True)
    assert limits.parse_limit(f"{most}\n".encode()) == most


@given(st.integers(1, 2**40), PAGES, st.lists(PAGES, min_size=6, max_size=6), NODE)
def test_memory_of_a_node(total, free, counts, node):
    text = f"Node {node} MemTotal:  {total} kB\nNode {node} MemFree:   {free} kB\nNode {node} MemUsed:   1 kB\n"
    assert numa.parse_node_meminfo(text.encode()) == pytest.approx([free * 1024, 1 - free / total])
    names = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")
    stat = "".join(f"{name} {count}\n" for name, count in zip(names, counts, strict=True))
    assert numa.parse_numastat(stat.encode()) == floats([*counts[:3], counts[5]])


@given(st.integers(1, 800_000))
def test_speeds_are_bytes_per_second(megabit):
    assert netlink.parse_speed(f"{megabit}\n".encode()) == megabit * 1e6 / 8
    assert rdma.parse_rate(f"{megabit} Gb/sec (4X HDR)\n".encode()) == megabit * 1e9 / 8


# -- mounts -----------------------------------------------------------------------------------------------------------


@quick
@given(st.lists(st.tuples(DEVICE, ANY_NAME, WORD, ANY_NAME, st.booleans()), min_size=1, max_size=4))
def test_mountinfo_whatever_the_names(lines):
    text = b"".join(b"36 35 %s / /%s rw,noatime shared:1 - %s /%s %s,errors=remount-ro\n" % (
        number.encode(), escaped(point), kind.encode(), escaped(source), b"ro" if readonly else b"rw")
        for number, point, kind, source, readonly in lines)
    assert mounts.parse_mountinfo(text) == [
        mounts.Mount(number.encode(), b"/", b"/" + point, kind.encode(), b"/" + source, readonly)
        for number, point, kind, source, readonly in lines]


HIERARCHIES = [*cgroup_files.V1_CONTROLLERS, *cgroup_files.V1_OTHERS, "perf_event"]


@quick
@given(st.lists(st.tuples(st.sampled_from(HIERARCHIES), ANY_NAME), max_size=5), st.none() | ANY_NAME)
def test_hierarchies_of_control_groups(v1, v2):
    text = b"".join(b"36 35 0:9 / /%s rw shared:1 - cgroup cgroup rw,%s\n" % (escaped(point), name.encode())
                    for name, point in v1)
    text += b"" if v2 is None else b"37 35 0:9 / /%s rw shared:1 - cgroup2 cgroup2 rw\n" % escaped(v2)
    found, unified = cgroup_files.parse_mountinfo(text)
    expected = {}
    for name, point in v1:
        if name != "perf_event":
            expected.setdefault(name, point)
    assert {k: v.encode("utf-8", "surrogateescape") for k, v in found.items()} == {
        k: b"/" + v for k, v in expected.items()}
    assert unified.encode("utf-8", "surrogateescape") == (b"" if v2 is None else b"/" + v2)


@quick
@given(st.dictionaries(ANY_NAME, st.tuples(WORD, WORD), max_size=4))
def test_mounts_of_knobs_whatever_the_names(found):
    text = b"".join(b"none /%s %s rw,%s 0 0\n" % (escaped(point), kind.encode(), option.encode())
                    for point, (kind, option) in found.items())
    assert {point.encode("utf-8", "surrogateescape"): told for point, told in knobs.parse_mounts(text).items()} == {
        b"/" + point: (kind, f"rw,{option}") for point, (kind, option) in found.items()}


@given(st.lists(st.binary(max_size=10).map(lambda line: line.replace(b"\n", b"")), max_size=4), st.binary(max_size=5))
def test_only_a_newline_ends_a_line(lines, cut):
    whole = b"".join(line + b"\n" for line in lines)
    assert whole_lines(whole + cut.replace(b"\n", b"")) == lines
