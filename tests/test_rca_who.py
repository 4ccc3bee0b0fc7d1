"""Families of processes: who answers for whom, and from which tables the figures come."""

import math

from etio.core.facts import Actor, ActorTable, Facts, HostInfo, Process, ProcessTable
from etio.core.frame import NS
from rca.case import Case
from rca.culprits import by_usage, describe
from rca.scene import Scene
from rca.who import Census
from tests import incident_builder as build

T = 1_000 * NS
BOOT = 0


def process(pid: int, comm: str, ppid: int = 1, cpu: float = 0.0, **more: object) -> Process:
    values = {"cgroup": "/a", "start_s": 10.0, "rss_bytes": 1e6, **more}
    return Process(pid, ppid, comm, cpu_seconds=cpu, **values)  # type: ignore[arg-type]


def census(*tables: tuple[int, list[Process]], own: tuple[int, ...] = (), actors: tuple[Actor, ...] = ()) -> Census:
    made = tuple(ProcessTable(T + t * NS, tuple(rows)) for t, rows in tables)
    acted = (ActorTable(T, T + 10 * NS, actors),) if actors else ()
    return Census(Facts(HostInfo("h", boot_ns=BOOT + 1), processes=made, own_pids=own, actors=acted), T, T + 10 * NS)


def scene_of(one: Census) -> Scene:
    """A scene with these processes and nothing else."""
    now = build.ONSET_NS + 12 * NS
    spec = build.load("cpu_saturation")
    scene = Scene(Case(build.incident_of(spec, now), now, "testhost"), build.window_of(spec), (), one.facts)
    scene.census = one
    return scene


def test_rates_start_at_the_newest_table_before_the_onset() -> None:
    found = census((-90, [process(5, "x", cpu=0)]), (-1, [process(5, "x", cpu=10)]), (9, [process(5, "x", cpu=20)]))
    assert found.seconds == 10
    assert found.ranked("cpu_cores")[0].total("cpu_cores") == 1.0


def test_an_old_table_gives_way_to_two_newer_ones() -> None:
    rows = [(t, [process(5, "x", cpu=max(t, 0))]) for t in (-170, 1, 9)]
    assert census(*rows).seconds == 8


def test_workers_of_one_parent_are_one_actor() -> None:
    def rows(cpu: float) -> list[Process]:
        return [process(9, "bash", start_s=1), process(10, "stress-ng", 9), *(
            process(11 + i, "stress-ng-cpu", 10, cpu) for i in range(8))]

    top = census((-1, rows(0)), (9, rows(2.0))).ranked("cpu_cores")[0]
    assert (top.name, top.pid, top.parent, len(top.members)) == ("stress-ng", 10, "bash", 9)
    assert math.isclose(top.total("cpu_cores"), 1.6)
    assert "9 processes, started by bash (pid 9)" in describe(top)


def test_equal_names_of_an_interpreter_are_no_family_but_siblings_are() -> None:
    def rows(cpu: float) -> list[Process]:
        return [process(20, "python3", 1, 0.0, start_s=1), process(21, "python3", 20, cpu, start_s=90),
                process(22, "python3", 20, cpu, start_s=91)]

    groups = census((-1, rows(0)), (9, rows(5.0))).ranked("cpu_cores")
    assert len(groups) == 1
    assert {m.process.pid for m in groups[0].members} == {21, 22}


def test_groups_of_different_cgroups_stay_apart() -> None:
    def rows(cpu: float) -> list[Process]:
        return [process(30, "worker", 1, cpu, cgroup="/a"), process(31, "worker", 1, cpu / 2, cgroup="/b")]

    assert len(census((-1, rows(0)), (9, rows(4.0))).ranked("cpu_cores")) == 2


def test_a_new_process_counts_from_its_start_and_a_reused_pid_is_another() -> None:
    found = census((-1, [process(40, "old", cpu=100, start_s=5)]), (9, [process(40, "new", cpu=3, start_s=999)]))
    top = found.ranked("cpu_cores")[0]
    assert top.name == "new"
    assert top.total("cpu_cores") <= 0.3 or math.isnan(top.total("cpu_cores"))


def test_own_processes_are_left_out_and_told() -> None:
    rows = [[process(50, "etio", cpu=c), process(51, "x", cpu=c / 10)] for c in (0.0, 10.0)]
    found = census((-1, rows[0]), (9, rows[1]), own=(50,))
    assert [g.name for g in found.ranked("cpu_cores")] == ["x"]
    assert found.own("cpu_cores") == 1.0


def test_counters_that_are_unknown_or_went_back_are_unknown() -> None:
    rows = [[process(60, "x", cpu=c, write_bytes=w)] for c, w in ((10.0, math.nan), (5.0, math.nan))]
    found = census((-1, rows[0]), (9, rows[1]))
    assert found.ranked("cpu_cores") == []
    assert found.ranked("write_bytes") == []


def test_one_table_gives_averages_since_the_start() -> None:
    found = census((9, [process(70, "x", cpu=100.0, start_s=909.0)]))
    assert math.isclose(found.ranked("cpu_cores")[0].total("cpu_cores"), 1.0, rel_tol=1e-6)


def test_no_tables_at_all() -> None:
    found = census()
    assert found.ranked("cpu_cores") == []
    assert found.newcomers() == {}
    assert math.isnan(found.own("cpu_cores"))


def test_actors_are_added_up_by_device_and_kind() -> None:
    acted = tuple(Actor("block_io", "fio", 7, count=c, device=d) for c, d in ((5, "vda"), (6, "vda"), (100, "vdb")))
    found = census((9, []), actors=(*acted, Actor("fork", "sh", 8, count=3)))
    assert [a.count for a in found.actors("block_io", "vda")] == [11]
    assert [a.count for a in found.actors("block_io")] == [100, 11]


def test_what_children_used_that_no_table_shows_goes_to_the_parent_that_waited_for_them() -> None:
    def rows(waited: float, *compilers: Process) -> list[Process]:
        return [process(9, "bash", start_s=1), process(10, "make", 9, 0.5, children_cpu_seconds=waited),
                process(70, "converter", 1, 6.0 * waited / 16), *compilers]

    short = [process(20 + i, "gcc", 10, 0.0, start_s=1003 + i) for i in range(3)]
    short += [process(30 + i, "cc1", 20 + i, 0.5, start_s=1003 + i) for i in range(3)]
    found = census((-1, rows(0.0)), (3, rows(6.0, *short)), (9, rows(16.0)))
    make, other = found.ranked("cpu_cores")[:2]
    assert (make.name, make.pid, len(make.members)) == ("make", 10, 7)  # gcc is gone as well, yet cc1 is of make
    assert math.isclose(make.total("cpu_cores"), 1.6)  # 0.15 of it are of the three cc1 that were seen
    assert other.name == "converter"
    claim = by_usage("cpu_cores", "used {}", "cores")(scene_of(found), "").culprit.claim  # type: ignore[union-attr]
    assert claim.endswith("used 1.6 cores, most of it in processes that have ended (gcc, cc1)"), claim


def test_a_child_that_ran_for_long_and_ends_is_no_work_of_the_window() -> None:
    def rows(waited: float, *more: Process) -> list[Process]:
        return [process(9, "bash", start_s=1, children_cpu_seconds=waited), *more]

    long = process(40, "apt-get", 9, 100.0, children_cpu_seconds=300.0, start_s=20)
    found = census((-1, rows(0.0, long)), (3, rows(0.0, long)), (9, rows(401.0)))
    (bash,) = found.ranked("cpu_cores")
    assert math.isclose(bash.total("cpu_cores"), 0.1)


def test_of_an_incident_that_lasts_who_does_it_now_is_named_and_what_grew_is_seen_whole() -> None:
    def scene(now_s: int) -> Scene:
        """`first` computes for 30 s from the onset on, then `second`."""
        now = build.ONSET_NS + now_s * NS
        rows = [(t, [process(5, "first", cpu=min(t, 30), rss_bytes=1e6 * (t + 2)),
                     process(6, "second", cpu=max(0, t - 30))]) for t in range(-1, now_s + 1)]
        tables = tuple(ProcessTable(build.ONSET_NS + t * NS, tuple(found)) for t, found in rows)
        spec = build.load("cpu_saturation")
        case = Case(build.incident_of(spec, now), now, "testhost")
        return Scene(case, build.window_of(spec), (), Facts(HostInfo("h", boot_ns=BOOT + 1), processes=tables))

    assert scene(24).census.ranked("cpu_cores")[0].name == "first"
    late = scene(45)
    assert [g.name for g in late.census.ranked("cpu_cores")] == ["second", "first"]
    assert late.census.ranked("cpu_cores")[0].total("cpu_cores") >= 0.7
    assert late.whole.seconds > 40
    grown = [m.rss_growth / late.whole.seconds for g in late.whole.groups for m in g.members if m.process.pid == 5]
    assert grown == [1e6]
