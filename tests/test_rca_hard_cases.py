"""Missing data, fresh starts, equal suspects, several faults at once, hostile names: the agent stays honest."""

import copy
import re
from dataclasses import replace

import numpy as np
import pytest

from etio.core.facts import Cgroup, CgroupTable
from etio.core.frame import NS
from etio.core.ports import Window
from etio.core.report import Report
from rca.agent import explain
from rca.case import Case, RcaConfig
from rca.render import html, markdown_report
from tests import incident_builder as build

HOSTILE = '<img src=x onerror=alert(1)>`*[x](http://evil)|\x1b[31m\u202e'


def report_of(spec: dict, settings: RcaConfig | None = None) -> Report:
    now = build.ONSET_NS + spec.get("fault_s", 12) * NS
    case = Case(build.incident_of(spec, now), now, "testhost", settings or RcaConfig())
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    return explain(case, history, build.facts_of(spec), build.NoKnobs(), None)


def without(spec: dict, *prefixes: str, **changes: object) -> dict:
    spec = copy.deepcopy(spec)
    spec["series"] = {k: v for k, v in spec["series"].items() if not k.startswith(prefixes)}
    return {**spec, **changes}


EBPF = ("sched_", "block_", "net_", "reclaim_", "process_")


def causes_of(report: Report) -> list[str]:
    return [f.cause for f in report.findings if f.verdict != "INCONCLUSIVE"]


@pytest.mark.parametrize("name", [
    "cpu_saturation", "runqueue_contention", "cgroup_cpu_throttling", "memory_pressure", "oom_kill", "disk_saturation",
    "disk_full", "fork_storm"])
def test_without_psi_and_ebpf_the_cause_is_still_found(name: str) -> None:
    spec = without(build.load(name), "pressure_", *EBPF, tier="T2", actors=[], missing=["ebpf: not root", "psi: off"])
    report = report_of(spec)
    expect = spec["expect"]
    assert causes_of(report)[:1] == [name], report.summary
    assert report.verdict in ("CONFIRMED", "LIKELY")
    assert "ebpf: not root" in report.data_quality.missing
    if name != "fork_storm":  # children too short-lived to be seen in a table: nobody may be blamed for them
        assert report.culprit is not None
        assert report.culprit.name == expect["culprit"]


def test_fork_storm_without_ebpf_names_nobody_it_did_not_see() -> None:
    report = report_of(without(build.load("fork_storm"), *EBPF, tier="T2", actors=[]))
    assert report.verdict == "LIKELY"
    assert report.culprit is None
    assert "could not be seen" in report.summary


def test_fork_storm_without_ebpf_is_blamed_on_the_parent_of_what_appeared() -> None:
    spec = without(build.load("fork_storm"), *EBPF, tier="T2", actors=[])
    spec["processes"] += [{"pid": 60000 + i, "ppid": 5000, "comm": "true", "from": 3, "to": 3} for i in range(4)]
    report = report_of(spec)
    assert report.culprit is not None
    assert (report.culprit.name, report.culprit.pid) == ("sh", 5000)


def test_short_children_count_for_the_parent_that_is_alive() -> None:
    spec = build.load("fork_storm")
    spec["actors"] = [{"kind": "fork", "name": "sh", "pid": 70000 + i, "ppid": 5000, "count": 40} for i in range(50)]
    report = report_of(spec)
    assert report.culprit is not None
    assert report.culprit.pid == 5000
    assert "2,000 times" in report.culprit.claim


@pytest.mark.parametrize("name", ["disk_full", "oom_kill", "link_down", "cpu_saturation", "runqueue_contention"])
def test_twenty_seconds_after_the_start_physics_still_decides(name: str) -> None:
    spec = build.load(name) | {"calm_s": 8, "tables": [-5, 3, 12]}
    report = report_of(spec)
    assert causes_of(report)[:1] == [name], report.summary
    assert any("no baseline" in m for m in report.data_quality.missing)
    assert report.data_quality.warming
    assert all(np.isnan(e.baseline) for e in report.evidence if e.kind == "series")
    assert "unknown" in markdown_report(report)


def test_a_culprit_that_is_gone_is_still_named_from_earlier_tables() -> None:
    spec = build.load("cpu_saturation")
    spec["processes"] = [p | {"to": 5} if p["pid"] >= 4000 else p for p in spec["processes"]]
    report = report_of(spec)
    assert report.culprit is not None
    assert report.culprit.name == "stress-ng"


def test_two_equal_hogs_give_no_single_culprit() -> None:
    spec = build.load("cpu_saturation")
    spec["processes"] = [p for p in spec["processes"] if p["pid"] < 4000] + [
        {"pid": 4001, "ppid": 810, "comm": "gzip", "cgroup": "/a", "cpu": 0.99},
        {"pid": 4002, "ppid": 811, "comm": "xz", "cgroup": "/b", "cpu": 0.98}]
    report = report_of(spec)
    assert causes_of(report) == ["cpu_saturation"]
    assert report.verdict == "LIKELY"
    assert "gzip" in report.summary
    assert "xz" in report.summary
    assert "gzip" not in report.title


def test_two_equal_explanations_are_inconclusive() -> None:
    spec = build.load("disk_saturation")
    other = build.load("link_down_lookalike")
    spec["series"] |= {k: v for k, v in other["series"].items() if k.startswith(("tcp_", "net_"))}
    spec["actors"] += other["actors"]
    spec["alerts"] = [{"name": "SubsystemAnomaly", "labels": {"subsystem": "disk"}},
                      {"name": "SubsystemAnomaly", "labels": {"subsystem": "network"}}]
    assert set(causes_of(report_of(spec))) == {"disk_saturation", "packet_loss"}  # an alert each: two faults
    spec["alerts"] = []
    report = report_of(spec)
    assert report.verdict == "INCONCLUSIVE"
    assert "2 explanations remain" in report.title
    assert report.culprit is None
    assert len(report.next_steps) >= 2
    assert report.suggestions == ()


def test_two_faults_at_once_are_two_findings() -> None:
    spec = build.load("cpu_saturation")
    full = build.load("disk_full")
    spec["series"] |= {k: v for k, v in full["series"].items() if "/mnt/drill" in k}
    spec["alerts"] += full["alerts"][:1]
    report = report_of(spec)
    assert causes_of(report) == ["disk_full", "cpu_saturation"]
    assert "Besides" in report.summary


def test_everything_missing_is_inconclusive_and_says_what_is_missing() -> None:
    spec = build.load("cpu_saturation")
    spec["series"] = {key: [None, None] for key in spec["series"]}
    report = report_of(spec | {"processes": [], "actors": []})
    assert report.verdict == "INCONCLUSIVE"
    assert report.findings == ()
    assert any("CPU saturation could not be judged" in m for m in report.data_quality.missing)
    assert any("CPU saturation" in s for s in report.next_steps)
    assert report_of({"alerts": spec["alerts"]}).verdict == "INCONCLUSIVE"


def test_own_processes_are_never_blamed() -> None:
    spec = build.load("cpu_saturation")
    spec["processes"] = [p | {"cpu": 1.9} if p["pid"] == 950 else p for p in spec["processes"] if p["pid"] < 4000]
    report = report_of(spec)
    assert report.culprit is None or report.culprit.pid != 950
    assert "etio itself used 1.8 cores" in " ".join(report.data_quality.missing)


def test_hostile_names_stay_text() -> None:
    spec = build.load("cpu_saturation")
    spec["processes"] = [p | {"comm": HOSTILE, "count": 1, "cpu": 1.9} if p["pid"] == 4001 else p
                         for p in spec["processes"]]
    report = report_of(spec)
    text, page = markdown_report(report), html(report)
    assert "img" in report.title
    assert "\x1b" not in report.title + text + page
    assert "\u202e" not in report.title + text + page
    assert "<img" not in text + page
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "://" not in text
    assert "&lt;img" in page


def test_a_leak_explains_the_kill_that_ends_it() -> None:
    spec = build.load("memory_leak")
    spec["events"] = [{"at": 18, "kind": "oom_kill", "entity": "pid=2000", "fields": {"comm": "mysqld"}}]
    spec["alerts"] = [{"name": "OomKill", "severity": "critical", "labels": {}, "lag": 18}]
    report = report_of(spec)
    assert causes_of(report)[0] == "memory_leak"
    assert any("OOM kill" in f for f in report.follows)


def test_a_resolved_incident_is_judged_by_its_own_time() -> None:
    spec = build.load("cpu_saturation")
    now = build.ONSET_NS + 60 * NS
    window = build.window_of(spec | {"fault_s": 60})
    values = window.values.copy()
    values[window.t_ns > build.ONSET_NS + 20 * NS] = values[0]
    incident = build.incident_of(spec, now)
    incident = type(incident)(incident.id, incident.opened_ns, incident.alerts, build.ONSET_NS + 30 * NS)
    history = build.MemoryHistory(Window(window.series, window.t_ns, values))
    report = explain(Case(incident, now, "h"), history, build.facts_of(spec), build.NoKnobs())
    assert causes_of(report) == ["cpu_saturation"]


def test_one_disk_among_a_thousand_series_is_found() -> None:
    spec = build.load("disk_saturation")
    spec["series"] |= {f"disk_busy_ratio{{device=sd{i}}}": [0.1, 0.2] for i in range(300)}
    spec["series"] |= {f"cgroup_cpu_throttled_ratio{{cgroup=/g{i}}}": [0.0, 0.0] for i in range(400)}
    spec["series"] |= {f"cgroup_memory_used_ratio{{cgroup=/g{i}}}": [0.3, 0.4] for i in range(300)}
    spec["processes"] += [{"pid": 10_000 + i, "comm": f"app{i}", "cpu": 0.001} for i in range(500)]
    now = build.ONSET_NS + 12 * NS
    parts = build.incident_of(spec, now), build.MemoryHistory(build.window_of(spec)), build.facts_of(spec)
    report = explain(Case(parts[0], now, "h"), parts[1], parts[2], build.NoKnobs())
    assert causes_of(report) == ["disk_saturation"]


def test_the_evidence_table_is_bounded() -> None:
    report = report_of(build.load("memory_pressure"), RcaConfig(max_evidence=5, max_ruled_out=2))
    assert len(report.evidence) == 5
    assert len(report.ruled_out) == 2
    assert causes_of(report) == ["memory_pressure"]


def test_a_leak_shows_in_short_tables_against_the_long_history() -> None:
    spec = build.load("memory_leak") | {"tables": [-8, 2, 10, 20]}
    report = report_of(spec)
    assert causes_of(report) == ["memory_leak"]
    assert report.culprit is not None
    assert report.culprit.name == "leaky"


def test_a_process_that_starts_big_is_no_leak() -> None:
    spec = build.load("memory_leak_lookalike") | {"tables": [-8, 2, 10, 20]}
    assert causes_of(report_of(spec)) == []


def test_a_kill_by_a_group_limit_is_not_blamed_on_a_bigger_innocent() -> None:
    spec = build.load("oom_kill")
    spec["series"] = {k: v for k, v in spec["series"].items() if "/etio-drill" not in k}
    spec["processes"] = [p for p in spec["processes"] if p["pid"] != 4500]
    report = report_of(spec)
    assert causes_of(report)[0] == "oom_kill"
    assert report.culprit is not None
    assert report.culprit.pid == 4500


def test_a_victim_that_was_gone_before_anybody_looked_is_still_laid_to_its_unit() -> None:
    spec = build.load("oom_kill")
    spec["series"] = {k: v for k, v in spec["series"].items() if "/etio-drill" not in k}
    spec["processes"] = [p for p in spec["processes"] if p["pid"] < 4499]
    spec["events"][0]["fields"]["cgroup"] = "/system.slice/greedy.service"
    culprit = report_of(spec).culprit
    assert culprit is not None
    assert (culprit.unit, culprit.cgroup) == ("greedy.service", "/system.slice/greedy.service")
    assert "greedy.service" in culprit.claim


def test_a_kill_nobody_saw_is_laid_to_the_group_that_counted_it() -> None:
    spec = build.load("oom_kill") | {"events": [], "tier": "T2"}
    spec["series"] = {k: v for k, v in spec["series"].items() if "/etio-drill" not in k}
    spec["processes"] = [p for p in spec["processes"] if p["pid"] < 4499]
    report = report_of(spec)
    assert report.culprit is None, "a bigger mysqld elsewhere is no reason"
    facts = build.facts_of(spec)
    counted = [CgroupTable(build.ONSET_NS + at * NS, (Cgroup("/search", oom_kills=kills), Cgroup("/", oom_kills=0.0)))
               for at, kills in ((-5, 0.0), (5, 1.0))]
    now = build.ONSET_NS + 12 * NS
    history = build.MemoryHistory(build.window_of(spec))
    report = explain(Case(build.incident_of(spec, now), now, "h"), history, replace(facts, cgroups=tuple(counted)),
                     build.NoKnobs())
    assert report.culprit is not None
    assert (report.culprit.kind, report.culprit.name) == ("cgroup", "/search")


def test_two_readings_of_one_probe_are_one_source() -> None:
    spec = build.load("packet_loss")
    assert report_of(spec).verdict == "CONFIRMED"
    alone = report_of(without(spec, "net_drops"))
    assert alone.verdict == "LIKELY"
    assert "single source" in alone.summary


def test_a_reference_without_room_in_the_table_leaves_no_gap() -> None:
    report = report_of(build.load("memory_pressure"), RcaConfig(max_evidence=4))
    told = report.summary + " ".join(f.explanation for f in report.findings)
    assert "it is the limit of the group that is too tight" in told
    assert not re.search(r" [.,:;]", told)


@pytest.mark.parametrize("group", ["/etio-drill", "/", ""])
def test_a_group_whose_memory_no_process_holds_is_named_and_no_victim_is_blamed(group: str) -> None:
    spec = build.load("oom_kill_tmpfs")
    spec["events"][0]["fields"]["cgroup"] = group  # a process that ends is in the root group already
    report = report_of(spec)
    assert report.title == "/etio-drill ran out of memory; the kernel killed a process"
    assert "files in a tmpfs" in report.summary
    assert not any("oom_score_adj" in s.apply for s in report.suggestions)


@pytest.mark.parametrize(("kind", "inodes", "blamed"), [("ext4", 0.001, True), ("tmpfs", 0.001, False),
                                                        ("ext4", 1.0, False)])
def test_the_writer_of_a_full_file_system_is_only_named_where_bytes_on_a_disk_fill_it(
        kind: str, inodes: float, blamed: bool) -> None:
    spec = build.load("disk_full")
    full = inodes < 0.9
    of = f"{{device=/dev/loop0,mount=/mnt/drill,type={kind}}}"
    change = {f"filesystem_used_ratio{of}": [0.03, 1.0 if full else 0.3],
              f"filesystem_inodes_used_ratio{of}": [0.0, inodes],
              f"filesystem_available_bytes{of}": [6e7, 0 if full else 5e7]}
    spec = without(spec, "filesystem_used_ratio{device=/dev/loop0", "filesystem_inodes_used_ratio{device=/dev/loop0",
                   "filesystem_available_bytes{device=/dev/loop0")
    spec["series"] |= change
    key = next(iter(change)) if full else list(change)[1]
    spec["alerts"] = [{"name": "FilesystemFull" if full else "FilesystemInodesFull", "series": key, "lag": 1,
                       "severity": "critical", "labels": {"device": "/dev/loop0", "mount": "/mnt/drill", "type": kind}}]
    report = report_of(spec)
    assert report.culprit is not None
    assert report.culprit.name == "/mnt/drill"
    assert ("biggest writer" in report.summary) is blamed
    assert bool(report.culprit.pid) is blamed


GIB = 2.0**30


@pytest.mark.parametrize(("series", "culprit"), [
    ({"memory_huge_page_bytes": [0.0, 5 * GIB]}, "pool of huge pages"),
    ({}, "memory outside processes"),
    ({"vm_zone_high_watermark_pages{node=0,zone=Normal}": [20_000.0, 5 * GIB / 4096]}, "reserve of free memory"),
    ({f"memory_slab{which}_bytes": [0.2 * GIB, 5 * GIB] for which in ("", "_unreclaimable")}, "slab caches"),
    ({"memory_anon_bytes": [GIB, 5 * GIB]}, "chromium"),
])
def test_memory_that_no_process_holds_is_not_blamed_on_the_biggest(series: dict, culprit: str) -> None:
    """8 GiB in all, of which 5 are gone: to huge pages, to pipes and drivers, to slab, or to a program."""
    spec = copy.deepcopy(build.load("memory_pressure"))
    spec["series"] = {k: v for k, v in spec["series"].items() if not k.startswith(("cgroup_", "memory_"))} | {
        "memory_available_ratio": [0.7, 0.03], "memory_available_bytes": [5.6 * GIB, 0.24 * GIB],
        "memory_anon_bytes": [GIB, 2 * GIB], "memory_shmem_bytes": 0.1 * GIB, "memory_slab_bytes": 0.2 * GIB,
        "memory_slab_unreclaimable_bytes": 0.1 * GIB, "memory_page_tables_bytes": 0.01 * GIB,
        "memory_huge_page_bytes": 0.0, "pressure_memory_some_ratio": [0.0, 0.4], **series}
    spec["alerts"] = [{"name": "MemoryLow", "series": "memory_available_ratio"}]
    held = 5 * GIB if culprit == "chromium" else 0.8 * GIB
    spec["processes"] = [{"pid": 900, "comm": "chromium", "cgroup": "/user.slice", "rss": held}]
    report = report_of(spec)
    assert causes_of(report)[:1] == ["memory_pressure"]
    assert report.culprit is not None
    assert report.culprit.name == culprit, report.summary


def test_who_holds_a_small_part_of_the_memory_is_not_called_the_culprit() -> None:
    spec = copy.deepcopy(build.load("memory_pressure"))
    spec["series"] = {k: v for k, v in spec["series"].items() if not k.startswith(("cgroup_", "memory_"))} | {
        "memory_available_ratio": [0.7, 0.03], "memory_available_bytes": [5.6 * GIB, 0.24 * GIB],
        "pressure_memory_some_ratio": [0.0, 0.4]}
    spec["alerts"] = [{"name": "MemoryLow", "series": "memory_available_ratio"}]
    spec["processes"] = [{"pid": 900, "comm": "chromium", "cgroup": "/user.slice", "rss": 0.3 * GIB}]
    report = report_of(spec)
    assert report.title == "The host is short of memory"
    assert "No single culprit stands out" in report.summary


def test_who_has_a_core_is_told_from_who_waits_for_it() -> None:
    spec = build.load("cpu_affinity_realtime")
    report = report_of(spec)
    assert report.title == "audio_engine does not let others have core 1, while other cores are idle"
    assert "quote_feed (pid 5700)" in report.summary
    spec["actors"] = []  # without eBPF only who waits is known
    report = report_of(spec)
    assert report.culprit is not None
    assert report.culprit.name == "quote_feed"
    assert "does not let others" not in report.title


def test_the_end_of_a_culprit_is_told_by_its_name() -> None:
    spec = copy.deepcopy(build.load("cpu_saturation"))
    spec["events"] = [{"at": -20, "kind": "culprit_ended", "entity": "pid=77", "fields": {"comm": "old`hog"}}]
    told = [m.text for m in report_of(spec).changes]
    assert any("(pid 77), which a report had named, ended" in text for text in told), told


@pytest.mark.parametrize("steps", [[None, 0.024], [0.012, 0.024]])
def test_an_overloaded_server_on_a_crowded_host_is_not_called_starved_for_want_of_a_comparison(steps):
    """Found by a drill: a server that has just begun to work has no usual step, and a fuller batch takes longer."""
    spec = build.load("serving_overload")
    spec["extra"] = [pair for pair in spec["extra"] if not pair[0].startswith("step time")]
    spec["series"] |= {"inference_step_seconds{server=vllm:8000,model=llama-8b}": steps,
                       "inference_inter_token_p50_seconds{server=vllm:8000,model=llama-8b}": steps,
                       "pressure_cpu_some_ratio": [0.05, 0.6], "sched_run_delay_p99_seconds": [0.0003, 0.02]}
    found = report_of(spec)
    assert found.findings[0].cause == "serving_overload"
    assert "serving_slow_host" not in [one.cause for one in found.findings]
