"""Processes added up by unit or program: against sums made by hand, over processes that come and go."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.process_groups import KERNEL, Config, ProcessGroups, group_of
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS


def proc(pid, comm, cpu, **more):
    return Process(pid, **{"ppid": 1, "start_s": 1.0, "rss_bytes": 1e7, "major_faults": 0.0, **more}, comm=comm,
                   cpu_seconds=cpu)


def read(one, t_s, *processes):
    one.take(ProcessTable(t_s * NS, processes))
    reading = one.collect(t_s * NS)
    return dict(zip([s.key for s in reading.series], reading.values.tolist(), strict=True))


def test_processes_of_a_unit_are_one_group_and_cpu_is_a_mean_over_the_time_between():
    one = ProcessGroups(Config())
    first = read(one, 100, proc(5, "nginx", 10.0, unit="nginx.service"), proc(6, "worker-1", 3.0),
                 proc(2, "kthreadd", 0.0), proc(9, "kworker/0:1", 50.0, ppid=2, rss_bytes=math.nan))
    assert math.isnan(first['process_group_cpu_cores{group="nginx.service"}']), "no time between yet"
    assert first['process_group_memory_bytes{group="nginx.service"}'] == 1e7
    second = read(one, 110, proc(5, "nginx", 12.0, unit="nginx.service", major_faults=30.0),
                  proc(7, "php", 1.0, unit="nginx.service", threads=4), proc(6, "worker-1", 3.0),
                  proc(8, "worker-2", 5.0), proc(9, "kworker/0:1", 51.0, ppid=2, rss_bytes=math.nan))
    nginx = {name: second[f'process_group_{name}{{group="nginx.service"}}'] for name in (
        "cpu_cores", "memory_bytes", "processes", "threads", "major_faults_per_second")}
    assert nginx == {"cpu_cores": pytest.approx(0.3), "memory_bytes": 2e7, "processes": 2, "threads": 5,
                     "major_faults_per_second": 3.0}
    assert second['process_group_cpu_cores{group="worker-#"}'] == 0.5
    assert second[f'process_group_cpu_cores{{group="{KERNEL}"}}'] == pytest.approx(0.1)


def test_a_pid_used_again_is_another_process():
    one = ProcessGroups(Config())
    read(one, 100, proc(5, "a", 90.0))
    again = read(one, 110, proc(5, "a", 2.0, start_s=105.0))
    assert again['process_group_cpu_cores{group="a"}'] == pytest.approx(0.2)


def test_a_value_stands_until_the_next_table_and_a_group_that_left_is_missing():
    one = ProcessGroups(Config())
    read(one, 100, proc(5, "a", 1.0), proc(6, "b", 1.0))
    then = read(one, 110, proc(5, "a", 2.0), proc(6, "b", 1.0))
    assert one.collect(111 * NS).values.tolist() == list(then.values())
    gone = read(one, 120, proc(5, "a", 2.0))
    assert math.isnan(gone['process_group_processes{group="b"}']), "missing, not 0"
    assert gone['process_group_cpu_cores{group="a"}'] == 0.0


def test_idle_small_groups_get_no_series_and_the_cap_is_told():
    one = ProcessGroups(Config(max_groups=2))
    small = proc(4, "tiny", 5.0, rss_bytes=1000.0)
    read(one, 100, small)
    found = read(one, 110, small, proc(5, "a", 1.0), proc(6, "b", 3.0), proc(7, "c", 2.0))
    assert {k for k in found if "cpu_cores" in k} == {
        'process_group_cpu_cores{group="b"}', 'process_group_cpu_cores{group="c"}'}
    assert found["process_groups_left_out"] == 1.0


def test_a_name_cannot_break_a_line():
    assert group_of(Process(5, 1, "a\n\x1b[2Jb")) == "a??[#Jb"


@given(st.lists(st.lists(st.tuples(st.integers(3, 9), st.sampled_from("abc"), st.floats(0, 100)), max_size=8,
                         unique_by=lambda row: row[0]), min_size=2, max_size=6))
def test_the_sum_over_groups_is_the_sum_over_processes(tables):
    one = ProcessGroups(Config(least_bytes=0.0))
    before = {}
    for i, rows in enumerate(tables):
        found = read(one, 100 + 10 * i, *(proc(pid, comm, cpu, start_s=float(ord(comm))) for pid, comm, cpu in rows))
        now = {(pid, comm): cpu for pid, comm, cpu in rows}
        cores = sum(max(0.0, cpu - before.get(key, 0.0)) for key, cpu in now.items()) / 10
        told = [v for k, v in found.items() if "cpu_cores" in k and not math.isnan(v)]
        assert sum(told) == pytest.approx(cores if i else 0.0)
        assert sum(v for k, v in found.items() if "group_processes{" in k and not math.isnan(v)) == len(rows)
        before = now
