"""Control groups: a recorded v1 host, a v2 host written from documentation, and real groups with real faults."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import cgroup_files as files
from collector.cgroup_controllers import Controllers
from collector.cgroup_scan import Group
from collector.cgroups import COLLECTOR, CgroupReader, Config, choose
from collector.knobs import KnobReader
from etio.core.errors import Broken, NoData
from etio.core.facts import unit_of
from etio.core.frame import NS
from tests.cgroup_rig import T0, of, opened, raw

GOLDEN = Path(__file__).parent / "golden"
V1 = GOLDEN / "cgroup-v1-hybrid-6.18"
V2 = GOLDEN / "cgroup-v2-from-documentation"
INF = math.inf


# --- golden hosts -----------------------------------------------------------------------------------------------------

def test_v1_group_as_recorded():
    web = {g.path: g for g in CgroupReader(V1).read(T0).cgroups}["/shop.slice/web.service"]
    told = files.parse_flat((V1 / "sys/fs/cgroup/cpu/shop.slice/web.service/cpu.stat").read_bytes())
    assert web.unit == "web.service"
    assert web.quota_cores == 0.5
    assert (web.periods, web.throttled_periods) == (told[b"nr_periods"], told[b"nr_throttled"])
    assert 0.5 < web.throttled_seconds < 3
    assert 0.5 < web.cpu_seconds < 3
    assert web.memory_limit_bytes == 32 << 20
    assert web.memory_bytes == 33_333_248 - 15_822_848
    assert web.memory_failures == 85
    assert web.oom_kills == 0
    assert (web.pids, web.pids_limit) == (1, 64)
    assert (web.read_bytes, web.write_bytes) == (0, 0)


def test_v1_without_limits_is_infinite_not_huge():
    top = {g.path: g for g in CgroupReader(V1).read(T0).cgroups}["/shop.slice"]
    assert (top.quota_cores, top.memory_limit_bytes, top.pids_limit) == (INF, INF, INF)


def test_v1_series_of_a_limited_group():
    values = raw(opened(V1))
    web = "/shop.slice/web.service"
    assert of(values, "cgroup_cpu_quota_cores", web) == 0.5
    assert of(values, "cgroup_memory_used_ratio", web) == pytest.approx(0.5218, abs=1e-4)
    assert of(values, "cgroup_memory_failures_per_second", web) == 85
    assert of(values, "cgroup_pids_used_ratio", web) == pytest.approx(1 / 64)
    assert values["cgroup_groups"] == 2
    assert values["cgroup_groups_left_out"] == 0
    assert not any("pressure" in key for key in values)


def test_v2_group_as_documented():
    found = {g.path: g for g in CgroupReader(V2).read(T0).cgroups}
    assert set(found) == {"/system.slice", "/system.slice/nginx.service", "/system.slice/docker-4f2a.scope"}
    box = found["/system.slice/docker-4f2a.scope"]
    assert box.quota_cores == 1.5
    assert (box.periods, box.throttled_periods, box.throttled_seconds) == (600, 450, 31.5)
    assert box.cpu_seconds == 5.0
    assert box.memory_limit_bytes == 200 << 20, "memory.high is lower than memory.max, and makes the group wait"
    assert box.memory_bytes == 180 << 20
    assert (box.memory_failures, box.oom_kills) == (10, 1)
    assert (box.pids, box.pids_limit) == (3, INF)
    nginx = found["/system.slice/nginx.service"]
    assert (nginx.read_bytes, nginx.write_bytes) == (1010, 2020)
    assert nginx.unit == "nginx.service"


def test_v2_series_and_rates():
    values = raw(opened(V2))
    box, nginx = "/system.slice/docker-4f2a.scope", "/system.slice/nginx.service"
    assert of(values, "cgroup_memory_used_ratio", box) == pytest.approx(0.9)
    assert of(values, "cgroup_memory_pressure_some_ratio", box) == 2.5
    assert of(values, "cgroup_pids_used_ratio", nginx) == pytest.approx(33 / 4915)
    assert f'cgroup_cpu_quota_cores{{cgroup="{nginx}"}}' not in values


def test_series_of_spec_cover_what_is_emitted():
    names = {e.name: e.unit for e in COLLECTOR.emits}
    for root in (V1, V2):
        for one in opened(root).collect(T0).series:
            assert names[one.name] == one.unit


# --- a host that changes ----------------------------------------------------------------------------------------------

def put(root, group, **values):
    base = root / "sys/fs/cgroup" / group.strip("/")
    base.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (base / name.replace("_", ".", 1)).write_text(f"{value}\n")


@pytest.fixture
def host(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("26 24 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    put(tmp_path, "", cgroup_controllers="cpu io memory pids")
    return tmp_path


def limited(host, name, limit=1000, used=500):
    put(host, name, cpu_max="max 100000", cpu_stat="usage_usec 0", memory_max=limit, memory_high="max",
        memory_current=used, memory_stat="inactive_file 0", memory_events="max 0\nhigh 0\noom_kill 0",
        pids_max="max", pids_current=1)


def test_new_group_is_seen_within_three_seconds(host):
    limited(host, "a")
    collector = opened(host)
    raw(collector)
    limited(host, "b")
    seen = [i for i in range(1, 8) if any("/b" in key for key in raw(collector, T0 + i * NS))]
    assert seen[0] <= 3


def test_dear_scans_come_less_often(host):
    """Where a look for new groups costs more than its share of CPU, the next one waits, half a minute at most."""
    limited(host, "a")
    collector = opened(host, scan_cpu_ratio=1e-7)
    raw(collector)
    limited(host, "b")
    assert not any("/b" in key for i in range(1, 30) for key in raw(collector, T0 + i * NS))
    assert any("/b" in key for key in raw(collector, T0 + 31 * NS))


def test_vanished_group_reads_nan_and_returns_to_its_place(host):
    limited(host, "a")
    collector = opened(host)
    before = raw(collector)
    os.rename(host / "sys/fs/cgroup/a", host / "gone")
    during = raw(collector, T0 + 4 * NS)
    os.rename(host / "gone", host / "sys/fs/cgroup/a")
    after = raw(collector, T0 + 8 * NS)
    key = 'cgroup_memory_used_bytes{cgroup="/a"}'
    assert (before[key], after[key]) == (500, 500)
    assert math.isnan(during[key])
    assert list(before) == list(after)


def test_new_limit_on_an_old_group_is_seen(host):
    limited(host, "a", limit="max")
    collector = opened(host)
    for i in range(30):
        raw(collector, T0 + i * NS)
    put(host, "a", memory_max=1000)
    found = [i for i in range(30, 50) if 'cgroup_memory_used_ratio{cgroup="/a"}' in raw(collector, T0 + i * NS)]
    assert found[0] <= 30 + 13


def test_cap_is_kept_and_what_it_leaves_out_is_counted(host):
    for i in range(30):
        limited(host, f"g{i:02}")
    values = raw(opened(host, max_groups=10))
    assert values["cgroup_groups_left_out"] == 20
    assert len({key.partition("cgroup=")[2] for key in values if "cgroup=" in key}) == 10


def test_lifetime_cap_holds_against_churn(host):
    collector = opened(host, max_groups=5, lifetime_groups=12)
    for i in range(10):
        for j in range(3):
            limited(host, f"job-{i}-{j}")
        values = raw(collector, T0 + i * 4 * NS)
        for j in range(3):
            os.rename(host / f"sys/fs/cgroup/job-{i}-{j}", host / f"gone-{i}-{j}")
    assert len({key.partition("cgroup=")[2] for key in values if "cgroup=" in key}) == 12
    assert values["cgroup_groups_left_out"] == 3


def test_biggest_user_without_limits_is_watched(host):
    for name in ("quiet", "loud"):
        limited(host, name, limit="max", used=0)
    collector = opened(host, big_users=1)
    raw(collector)
    put(host, "loud", cpu_stat="usage_usec 3000000")
    values = raw(collector, T0 + 4 * NS)
    assert of(values, "cgroup_cpu_usage_cores", "/loud") == 3.0
    assert not any("/quiet" in key for key in values)


def test_cache_that_can_be_dropped_is_not_used_memory(host):
    limited(host, "a", limit=10_000_000, used=9_000_000)
    put(host, "a", memory_stat="anon 1000000\ninactive_file 8000000")
    collector = opened(host)
    assert of(raw(collector), "cgroup_memory_used_ratio", "/a") == pytest.approx(0.1)
    put(host, "a", memory_current=9_500_000, memory_stat="anon 9500000\ninactive_file 0")
    assert of(raw(collector, T0 + NS), "cgroup_memory_used_ratio", "/a") == pytest.approx(0.95)


def test_pages_that_come_back_are_counted_while_a_group_keeps_meeting_its_limit(host):
    """Its usage stands still then; so long as it does not meet its limit the dear file is left alone."""
    limited(host, "a", limit=10_000_000, used=9_990_000)
    put(host, "a", memory_stat="inactive_file 0\nworkingset_refault_anon 5\nworkingset_refault_file 100")
    collector = opened(host)
    name = "cgroup_memory_refaults_per_second"
    assert of(raw(collector), name, "/a") == 105.0
    put(host, "a", memory_stat="inactive_file 0\nworkingset_refault_anon 5\nworkingset_refault_file 900")
    assert of(raw(collector, T0 + NS), name, "/a") == 105.0
    put(host, "a", memory_events="max 12\nhigh 0\noom_kill 0")
    assert of(raw(collector, T0 + 2 * NS), name, "/a") == 905.0


@pytest.mark.parametrize(("text", "prefix", "pages"), [
    (b"total_workingset_refault_anon 1\ntotal_workingset_refault_file 2\n", b"total_", 3.0),
    (b"workingset_refault 7\n", b"", 7.0), (b"workingset_refault_file 7\n", b"total_", math.nan),
    (b"anon 1\n", b"", math.nan), (None, b"", math.nan)])
def test_refaults_of_memory_stat(text, prefix, pages):
    assert files.parse_refaults(text, prefix) == pytest.approx(pages, nan_ok=True)


def test_missing_memory_stat_is_missing_not_zero(host):
    limited(host, "a")
    (host / "sys/fs/cgroup/a/memory.stat").unlink()
    assert 'cgroup_memory_used_bytes{cgroup="/a"}' not in raw(opened(host))


def test_group_named_with_bytes_that_are_no_text(host):
    limited(host, "evil\udcff\x1b[31m")
    values = raw(opened(host))
    assert of(values, "cgroup_memory_used_bytes", "/evil??[31m") == 500
    assert CgroupReader(host).read(T0).cgroups[0].path == "/evil??[31m"
    assert files.parse_proc_cgroup(b"0::/evil\xff\x1b[31m\n") == "/evil??[31m"


def test_no_cgroups_is_no_data(tmp_path):
    with pytest.raises(Broken, match="mountinfo"):
        opened(tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("22 27 0:21 / /proc rw - proc proc rw\n")
    with pytest.raises(NoData):
        opened(tmp_path)
    with pytest.raises(NoData):
        CgroupReader(tmp_path).read(T0)


def test_choose_prefers_hard_limits_and_keeps_whom_it_has():
    none = Controllers(None, None, None, None, "")
    groups = {p: Group(p, none, quota_cores=INF, memory_limit=INF, pids_limit=100.0) for p in ("/a", "/b", "/c")}
    groups["/z"] = Group("/z", none, quota_cores=0.5)
    assert choose(groups, Config(max_groups=2, big_users=0), ["/c"]) == (["/z", "/c"], 2)


# --- parsers ----------------------------------------------------------------------------------------------------------

def test_combined_v1_mounts_and_escapes():
    v1, v2 = files.parse_mountinfo(
        b"30 20 0:25 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        b"31 20 0:26 / /mnt/my\\040groups rw - cgroup cgroup rw,memory\n")
    assert (v1["cpu"], v1["cpuacct"]) == ("/sys/fs/cgroup/cpu,cpuacct",) * 2
    assert v1["memory"] == "/mnt/my groups"
    assert v2 == ""


@pytest.mark.parametrize(("text", "path"), [
    (b"0::/system.slice/nginx.service\n", "/system.slice/nginx.service"),
    (b"9:name=systemd:/\n4:memory:/jobs/a\n1:cpu:/\n0::/\n", "/jobs/a"),
    (b"4:memory:/api/7\n2:cpu,cpuacct:/quota\n", "/quota"),
    (b"4:memory:/a.slice/x.service\n2:cpu:/a.slice\n0::/\n", "/a.slice/x.service"),
    (b"0::/\n", "/"),
    (b"", ""),
])
def test_group_of_a_process(text, path):
    assert files.parse_proc_cgroup(text) == path


@pytest.mark.parametrize(("path", "unit"), [
    ("/system.slice/nginx.service", "nginx.service"),
    ("/system.slice/docker-4f2a.scope/init", "docker-4f2a.scope"),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "x.service"),
    ("/user.slice", ""), ("/", ""), ("", ""),
])
def test_unit_of_a_path(path, unit):
    assert unit_of(path) == unit


@given(st.one_of(st.none(), st.binary(max_size=400)))
def test_no_bytes_are_told_as_less_than_nothing(data):
    numbers = [files.parse_number(data), files.parse_pressure_total(data), files.quota_v2(data),
               files.memory_limit_v1(data), files.quota_v1(data, data), files.parse_stat_value(data, b"inactive_file"),
               *files.parse_flat(data).values(), *files.parse_blkio(data), *files.parse_io_stat(data)]
    assert all(math.isnan(v) or v >= 0 for v in numbers)
    if data is None:
        assert all(math.isnan(v) for v in numbers)
        assert len(numbers) == 10
    v1, v2 = files.parse_mountinfo(data or b"")
    assert (v1, v2) == ({}, "") or b" - cgroup" in (data or b"")
    path = files.parse_proc_cgroup(data or b"")
    assert not path or (data or b"").count(b":") >= 2
    assert path.isprintable()


@given(st.dictionaries(st.sampled_from([b"anon", b"file", b"inactive_file", b"total_inactive_file"]),
                       st.integers(0, 2**63), min_size=1))
def test_one_value_of_memory_stat(values):
    text = b"".join(b"%s %d\n" % pair for pair in values.items())
    for key in (b"anon", b"inactive_file", b"total_inactive_file"):
        found = files.parse_stat_value(text, key)
        assert found == float(values[key]) if key in values else math.isnan(found)


@pytest.fixture
def first(tmp_path):
    """A host with the hierarchies of cgroup v1 for tasks and memory."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("".join(
        f"{n} 24 0:{n} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
        for n, name in ((26, "pids"), (27, "memory"))))
    return tmp_path


def test_processes_of_a_group_near_its_limit_of_tasks_are_looked_up(first):
    put(first, "pids/crm", pids_max=10, pids_current=3, cgroup_procs="71\n72\n")
    put(first, "pids/crm/jobs", cgroup_procs="73\n")
    reader = CgroupReader(first)

    def found(at):
        return next(g for g in reader.read(T0 + at * NS).cgroups if g.path == "/crm")

    calm = found(0)
    assert (calm.pids, calm.members) == (3, ())
    assert found(1) is calm, "what does not change is kept once"
    put(first, "pids/crm", pids_current=9)
    assert found(2).pids == 9
    assert sorted(found(3).members) == [71, 72, 73]


def test_processes_of_a_group_near_its_limit_of_memory_are_looked_up(first):
    for name, used, pids in (("thumbs", 950, "81\n82\n"), ("calm", 400, "83\n")):
        put(first, f"memory/{name}", memory_limit_in_bytes=1000, memory_usage_in_bytes=used, cgroup_procs=pids)
    found = {g.path: g.members for g in CgroupReader(first).read(T0).cgroups}
    assert (found["/thumbs"], found["/calm"]) == ((82, 81), ())


def test_in_the_unified_hierarchy_the_path_of_a_process_says_it_all(host):
    limited(host, "thumbs", limit=1000, used=950)
    put(host, "thumbs", cgroup_procs="81\n82\n")
    assert CgroupReader(host).read(T0).cgroups[0].members == ()


def test_a_v1_group_whose_oom_killer_is_off_tells_that_its_processes_wait(first):
    put(first, "memory/batch", memory_limit_in_bytes=10_000_000, memory_usage_in_bytes=10_000_000, memory_failcnt=3,
        memory_stat="total_inactive_file 0", memory_oom_control="oom_kill_disable 1\nunder_oom 1\noom_kill 0")
    assert of(raw(opened(first)), "cgroup_memory_oom_waiting", "/batch") == 1.0
    assert KnobReader(first).read("cgroup", "oom_killer", "/batch") == "off (oom_kill_disable=1)"
    with pytest.raises(NoData, match="no switch"):
        KnobReader(first).read("cgroup", "oom_killer", "/gone")
