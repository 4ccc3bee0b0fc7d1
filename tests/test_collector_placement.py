"""Where memory lies and where threads run (NUMA), and bandwidth of L3 domains: trees written from documentation."""

import math
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import numa_placement, resctrl
from collector.nodes import parse_cpulist
from collector.numa_maps import parse_numa_maps, parse_numa_stat, running_on
from etio.core.builder import Catalogue, FrameBuilder
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from tests.property_rig import outcome

GIB = 2**30
PAGE = os.sysconf("SC_PAGE_SIZE")
MAPS = b"""55d0c8a00000 default file=/usr/bin/db mapped=600 active=0 N0=400 N1=200 kernelpagesize_kB=4
7f2a00000000 default anon=524288 dirty=524288 N0=500000 N1=24288 kernelpagesize_kB=4
7f3a00000000 bind:1 file=/dev/hugepages/N0=7\\040x huge anon=512 dirty=512 N1=512 kernelpagesize_kB=2048
7ffd00000000 default stack anon=5 dirty=5 N0=5 kernelpagesize_kB=4
7ffd00001000 default
"""
"""After proc_pid_numa_maps(5); a file name that looks like a field does not count for one."""
STAT = b"""anon N0=1073741824 N1=268435456
file N0=4096 N1=0
kernel_stack N0=49152 N1=0
shmem N0=4096 N1=0
"""


def test_pages_are_counted_by_node_and_size():
    found = parse_numa_maps(MAPS)
    assert found[0] == (400 + 500_000 + 5) * 4096
    assert found[1] == (200 + 24_288) * 4096 + 512 * 2 * 2**20


def test_numa_stat_counts_shared_memory_once():
    assert parse_numa_stat(STAT) == {0: GIB + 4096.0, 1: GIB / 4}


@pytest.mark.parametrize("parse", [parse_numa_maps, parse_numa_stat, resctrl.parse_count])
@given(data=st.binary(max_size=200) | st.lists(
    st.sampled_from([b"N0=1 ", b"kernelpagesize_kB=4", b"\n", b"anon ", b"7f default ", b"9" * 30]), max_size=12
).map(b"".join))
def test_parsers_raise_nothing_but_the_typed_errors(parse, data):
    found = outcome(lambda: parse(data), NoData, Broken)
    if isinstance(found, dict):
        assert data
        assert all(node >= 0 and amount >= 0 for node, amount in found.items())
    elif found is not None:
        assert found >= 0 or data.strip() in (b"Unavailable", b"Error", b"Unassigned")


@pytest.mark.parametrize(("raw", "cpus"), [(b"0-2,5\n", [0, 1, 2, 5]), (b"", []), (b"3-1", []), (b"x", [])])
def test_lists_of_cpus(raw, cpus):
    assert parse_cpulist(raw) == cpus


@pytest.fixture
def host(tmp_path):
    """Two nodes of two CPUs each; host.process(...) adds a process."""
    for node, cpus in ((0, "0-1"), (1, "2-3")):
        folder = tmp_path / f"sys/devices/system/node/node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus + "\n")

    def process(pid, comm, cpus, gibibytes, maps=None, group="/"):
        base = tmp_path / f"proc/{pid}"
        for i, cpu in enumerate(cpus):
            (base / f"task/{pid + i}").mkdir(parents=True)
            fields = ["S", *["0"] * 10, "500", "100", *["0"] * 23, str(cpu), "0"]
            (base / f"task/{pid + i}/stat").write_text(f"{pid + i} ({comm}) {' '.join(fields)}\n")
        (base / "statm").write_text(f"1 {int(gibibytes * GIB) // PAGE} 0 0 0 0 0\n")
        (base / "comm").write_text(comm + "\n")
        (base / "cgroup").write_text(f"0::{group}\n")
        if maps is not None:
            lines = "".join(f"7f{n}0 default anon={b} N{n}={int(b * GIB) // 4096} kernelpagesize_kB=4\n"
                            for n, b in maps.items())
            (base / "numa_maps").write_text(lines)

    (tmp_path / "proc").mkdir()
    return type("Host", (), {"root": tmp_path, "process": staticmethod(process)})


def placement(host, **config):
    collector = numa_placement.NumaPlacement(numa_placement.Config(**config))
    collector.open(host.root)
    collector.wanted = lambda: True
    return collector


def values(reading):
    return {s.name: v for s, v in zip(reading.series, reading.values, strict=True)}


def test_a_process_away_from_its_memory_is_told(host):
    host.process(100, "database", [2, 3, 2, 3, 2], 8.0, {0: 7.0, 1: 1.0})
    host.process(200, "at home", [0], 2.0, {0: 2.0})
    host.process(300, "tiny", [0], 0.01, {1: 0.01})
    collector = placement(host)
    found = values(collector.collect(NS))
    assert found["numa_remote_memory_ratio"] == pytest.approx(0.7)
    assert found["numa_placed_processes"] == 2
    *_, (first, words), (second, _) = collector.facts()
    assert first == "numa pid=100 comm=database"
    assert words == "runs: 1=1.00; memory: 0=7516192768 1=1073741824; cgroup: /; source: numa_maps"
    assert second == "numa pid=200 comm=at home"


def test_where_a_process_runs_is_weighed_by_the_time_its_threads_used(tmp_path):
    for tid, cpu, user, system in ((7, 0, 299, 600), (8, 3, 60, 39), (9, 9, 5, 5)):
        folder = tmp_path / f"proc/7/task/{tid}"
        folder.mkdir(parents=True)
        fields = ["S", *map(str, range(1, 11)), str(user), str(system), *map(str, range(13, 36)), str(cpu), "0"]
        (folder / "stat").write_text(f"{tid} (a) b) {' '.join(fields)}\n")
    runs = running_on(str(tmp_path), 7, (0, 0, 1, 1))
    assert runs == {0: 900 / 1000, 1: 100 / 1000}  # one tick more each, so that an idle thread counts; CPU 9 is nowhere


def test_a_process_of_all_nodes_has_no_remote_memory(host):
    host.process(100, "spread", [0, 2], 8.0, {0: 4.0, 1: 4.0})
    assert "numa_remote_memory_ratio" not in values(placement(host).collect(NS))


def test_the_group_stands_in_where_the_process_is_closed_to_us(host):
    host.process(100, "database", [2], 8.0, None, "/db.service")
    folder = host.root / "sys/fs/cgroup/db.service"
    folder.mkdir(parents=True)
    (folder / "memory.numa_stat").write_bytes(STAT)
    collector = placement(host)
    assert values(collector.collect(NS))["numa_remote_memory_ratio"] == pytest.approx(0.8, abs=0.01)
    assert "source: memory.numa_stat of its group" in collector.facts()[-1][1]


def test_nothing_is_read_while_all_is_well(host):
    host.process(100, "database", [2], 8.0, {0: 8.0})
    (host.root / "sys/class/net/eth0/device").mkdir(parents=True)
    (host.root / "sys/class/net/eth0/device/numa_node").write_text("1\n")
    collector = placement(host)
    collector.wanted = lambda: False
    assert len(collector.collect(NS).series) == 0
    assert collector.facts() == (("numa node 0", "cpus: 0-1"), ("numa node 1", "cpus: 2-3; adapters: eth0"))
    collector.wanted = lambda: True
    assert values(collector.collect(2 * NS))["numa_remote_memory_ratio"] == 1.0
    (host.root / "proc/100/numa_maps").write_text("7f default N1=262144 kernelpagesize_kB=4\n")
    assert values(collector.collect(5 * NS))["numa_remote_memory_ratio"] == 1.0  # held for ten seconds
    assert values(collector.collect(13 * NS))["numa_remote_memory_ratio"] == 0.0


def test_what_is_looked_at_is_limited(host):
    for i in range(5):
        host.process(100 + 10 * i, f"p{i}", [0], 1.0 + i, {1: 1.0})
    host.process(900, "huge", [0], 500.0, {1: 500.0})
    collector = placement(host, processes=2)
    collector.collect(NS)
    assert {key for key, _ in collector.facts() if "pid" in key} == {"numa pid=140 comm=p4", "numa pid=130 comm=p3"}


def test_one_node_is_no_data(tmp_path):
    (tmp_path / "sys/devices/system/node/node0").mkdir(parents=True)
    (tmp_path / "sys/devices/system/node/node0/cpulist").write_text("0-3\n")
    with pytest.raises(NoData):
        placement(type("Host", (), {"root": tmp_path}))


@pytest.mark.needs_root
def test_a_real_numa_maps_is_understood():
    with open("/proc/self/numa_maps", "rb") as file:
        found = parse_numa_maps(file.read())
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * PAGE
    assert 0.5 * resident < sum(found.values()) < 3 * resident


@pytest.mark.needs_root
def test_a_look_at_a_real_process_is_short():
    began = time.thread_time()
    with open("/proc/self/numa_maps", "rb") as file:
        parse_numa_maps(file.read())
    assert time.thread_time() - began < 0.5


# -- resctrl -----------------------------------------------------------------------------------------------------


def domains(root, **counts):
    for domain in ("00", "01"):
        folder = root / f"sys/fs/resctrl/mon_data/mon_L3_{domain}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in counts.items():
            (folder / name).write_text(f"{value}\n")


def test_bandwidth_of_each_domain_is_a_rate(tmp_path):
    collector = resctrl.COLLECTOR.build(resctrl.Config())
    builder = FrameBuilder(Catalogue())
    for i in range(2):
        domains(tmp_path, mbm_total_bytes=10**9 * (1 + i), mbm_local_bytes=10**9, llc_occupancy=5_000_000)
        if not i:
            collector.open(tmp_path)
        builder.add("resctrl", (1 + i) * NS, collector.collect((1 + i) * NS), 5 * NS)
    frame = builder.build(2 * NS)
    found = {s.key: v for s, v in zip(frame.series, frame.values, strict=True)}
    assert found['numa_bandwidth_bytes_per_second{domain="01",which="total"}'] == pytest.approx(1e9)
    assert found['numa_bandwidth_bytes_per_second{domain="00",which="local"}'] == 0.0
    assert found['numa_cache_used_bytes{domain="00"}'] == 5_000_000


def test_a_count_that_is_unavailable_is_missing(tmp_path):
    domains(tmp_path, mbm_total_bytes="Unavailable", llc_occupancy=1)
    collector = resctrl.COLLECTOR.build(resctrl.Config())
    collector.open(tmp_path)
    found = {s.key: v for s, v in zip(collector.collect(NS).series, collector.collect(NS).values, strict=True)}
    assert math.isnan(found['numa_bandwidth_bytes_per_second{domain="00",which="total"}'])


def test_a_host_without_resctrl_is_no_data(tmp_path):
    with pytest.raises(NoData):
        resctrl.COLLECTOR.build(resctrl.Config()).open(tmp_path)
