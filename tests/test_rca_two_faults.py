"""Two troubles at the same time that have nothing to do with each other are both told, each with its own culprit."""

import copy
import json
from typing import Any

import pytest

from etio.core.frame import NS
from etio.core.report import Report
from rca.agent import explain
from rca.apart import unrelated
from rca.case import Case
from tests import incident_builder as build


def merged(*names: str) -> dict[str, Any]:
    """One description of several: of each series the side that the fault moves, all alerts, processes and actors."""
    return merged_with(copy.deepcopy(build.load(names[0])), *names[1:])


def merged_with(whole: dict[str, Any], *names: str) -> dict[str, Any]:
    """The same, begun with this description."""
    for name in names:
        other = copy.deepcopy(build.load(name))
        for key, value in other["series"].items():
            if key not in whole["series"] or isinstance(value, list | dict):
                whole["series"][key] = value
        known = {p["pid"] for p in whole["processes"]}
        whole["processes"] += [p for p in other["processes"] if p["pid"] not in known]
        for part in ("alerts", "events", "actors", "cgroups", "extra"):
            whole[part] = whole.get(part, []) + [x for x in other.get(part, []) if x not in whole.get(part, [])]
        for part, pick in (("calm_s", max), ("fault_s", max)):
            whole[part] = pick(whole.get(part, 12), other.get(part, 12))
        whole["tables"] = [*whole.get("tables", [-30, -1, 3]), *other.get("tables", [-30, -1, 3])]
    whole["fault_s"] = whole.get("fault_s", 12)
    whole["tables"] = sorted({*whole.get("tables", [-30, -1, 3]), whole["fault_s"]})
    whole["calm_s"] = 600
    return whole


def report_of(*names: str, **changes: Any) -> Report:
    spec = {**merged(*names), **changes}
    now_ns = build.ONSET_NS + spec["fault_s"] * NS
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    return explain(Case(build.incident_of(spec, now_ns), now_ns, "testhost"), history, build.facts_of(spec),
                   build.NoKnobs())


def told(report: Report) -> dict[str, str]:
    return {f.cause: f.culprit.name if f.culprit else "" for f in report.findings if f.verdict != "INCONCLUSIVE"}


@pytest.mark.parametrize("names", [
    ("memory_leak", "disk_saturation"), ("oom_kill", "disk_saturation"), ("packet_loss", "udp_overflow"),
    ("packet_loss", "connect_failures"), ("cgroup_io_throttling", "disk_saturation"), ("oom_kill", "cpu_saturation"),
    ("oom_kill", "server_down")])
def test_both_are_told_with_their_own_culprits(names: tuple[str, str]) -> None:
    found = told(report_of(*names))
    for name in names:
        expect = build.load(name)["expect"]
        assert expect["cause"] in found, found
        assert found[expect["cause"]] == expect.get("culprit", found[expect["cause"]])


def test_one_trouble_that_leads_to_another_stays_one() -> None:
    """A group at its limit reads its pages again and again: the disk is busy with that, whoever reads."""
    found = report_of("memory_pressure")
    assert list(told(found)) == ["memory_pressure"]
    thrashing = report_of("swap_thrashing", "disk_saturation")
    assert "disk_saturation" not in told(thrashing)
    assert any("disk saturation" in f for f in thrashing.follows)


@pytest.mark.parametrize(("device", "kind", "apart"), [("tmpfs", "tmpfs", True), ("/dev/sdb1", "ext4", True),
                                                       ("/dev/vda2", "ext4", False), ("/dev/loop0", "ext4", False),
                                                       ("/dev/mapper/data", "xfs", False)])
def test_a_full_file_system_explains_a_busy_disk_only_where_it_may_lie_on_it(
        device: str, kind: str, apart: bool) -> None:
    whole = merged("disk_full", "disk_saturation")
    old, new = "{device=/dev/loop0,mount=/mnt/drill,type=ext4}", f"{{device={device},mount=/mnt/drill,type={kind}}}"
    whole["series"] = {k.replace(old, new): v for k, v in whole["series"].items()}
    for alert in whole["alerts"]:
        alert["series"] = alert["series"].replace(old, new)
        if "mount" in alert["labels"]:
            alert["labels"] = {"device": device, "mount": "/mnt/drill", "type": kind}
    whole["alerts"] = [a for a in whole["alerts"] if a["labels"].get("device") != "loop0"]
    whole["series"] = {k: v for k, v in whole["series"].items() if "{device=loop0" not in k}
    now_ns = build.ONSET_NS + whole["fault_s"] * NS
    history = build.MemoryHistory(build.window_of(whole), build.events_of(whole))
    report = explain(Case(build.incident_of(whole, now_ns), now_ns, "h"), history, build.facts_of(whole),
                     build.NoKnobs())
    assert ("disk_saturation" in told(report)) is apart
    assert "disk_full" in told(report)


def test_a_kill_in_one_group_explains_no_shortage_of_another() -> None:
    whole = merged("oom_kill", "memory_pressure")
    other = {k.replace("/etio-drill", "/warehouse"): v for k, v in build.load("memory_pressure")["series"].items()
             if "cgroup=/etio-drill" in k}
    whole["series"] |= other
    whole["alerts"].append({
        "name": "CgroupMemoryPressure", "severity": "warning", "lag": 1, "labels": {"cgroup": "/warehouse"},
        "series": "cgroup_memory_used_ratio{cgroup=/warehouse}"})
    whole["alerts"] = [a for a in whole["alerts"] if a["name"] in ("OomKill", "CgroupMemoryPressure")
                       and a.get("labels", {}).get("cgroup") != "/etio-drill"]
    whole["series"] = {k: v for k, v in whole["series"].items()
                       if not ("cgroup_memory" in k and "cgroup=/etio-drill" in k)}
    now_ns = build.ONSET_NS + whole["fault_s"] * NS
    history = build.MemoryHistory(build.window_of(whole), build.events_of(whole))
    report = explain(Case(build.incident_of(whole, now_ns), now_ns, "h"), history, build.facts_of(whole),
                     build.NoKnobs())
    assert {"oom_kill", "memory_pressure"} <= set(told(report)), report.follows


def renamed(whole: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The description with one thing called otherwise, wherever it is named."""
    return json.loads(json.dumps(whole).replace(old, new))  # type: ignore[no-any-return]


def judged(whole: dict[str, Any]) -> Report:
    now_ns = build.ONSET_NS + whole["fault_s"] * NS
    history = build.MemoryHistory(build.window_of(whole), build.events_of(whole))
    return explain(Case(build.incident_of(whole, now_ns), now_ns, "h"), history, build.facts_of(whole), build.NoKnobs())


ONE_LEADS_TO_THE_OTHER = [
    ("device_errors", "io_stall", "sda", "vda"),
    ("device_errors", "filesystem_readonly", "sda", "vdb"),
    ("disk_full", "disk_filling", "/mnt/drill", "/var/spool"),
    ("gpu_thermal_throttling", "gpu_straggler", ("gpu=1,uuid=GPU-b", '"1"', "GPU-b"),
     ("gpu=2,uuid=GPU-c", '"2"', "GPU-c")),
]


@pytest.mark.parametrize(("cause", "effect"), [pair[:2] for pair in ONE_LEADS_TO_THE_OTHER])
def test_what_happens_on_another_thing_is_not_explained_away(cause: str, effect: str) -> None:
    report = judged(merged(cause, effect))
    assert {cause, effect} <= set(told(report)), report.follows
    assert told(report)[effect] == build.load(effect)["expect"]["culprit"]


@pytest.mark.parametrize(("cause", "effect", "old", "new"), ONE_LEADS_TO_THE_OTHER)
def test_what_happens_on_the_same_thing_is_an_effect(cause: str, effect: str, old: Any, new: Any) -> None:
    whole = build.load(cause)
    for one, other in zip(*((old, new) if isinstance(old, tuple) else ((old,), (new,))), strict=True):
        whole = renamed(whole, one, other)
    report = judged(merged_with(whole, effect))
    assert effect not in told(report)
    assert cause in told(report)


@pytest.mark.parametrize(("label", "first", "second", "apart"), [
    ("device", "sda", "sdb", True), ("device", "sda", "/dev/sda1", False), ("device", "nvme0", "nvme0n1p2", False),
    ("device", "sda", "dm-3", False), ("device", "sda", "/dev/mapper/data", False), ("device", "mlx5_0", "eth0", False),
    ("gpu", "1", "10", True), ("mount", "/", "/data", True), ("cgroup", "/a", "/a/b", False),
    ("cgroup", "/a", "/ab", True), ("pid", "7", "8", False), ("", "", "", False)])
def test_things_that_have_nothing_to_do_with_each_other(label: str, first: str, second: str, apart: bool) -> None:
    assert unrelated(label, first, second) is apart
    assert unrelated(label, second, first) is apart


@pytest.mark.parametrize(("severity", "first"), [("warning", "connection_stalled"), ("critical", "device_errors")])
def test_what_explains_a_critical_alert_is_the_headline(severity: str, first: str) -> None:
    spec = merged("connection_stalled", "device_errors")
    spec["alerts"] = [{**a, "severity": severity if a["name"] in ("KernelIoError", "FilesystemError") else "warning"}
                      for a in spec["alerts"]]
    found = explained(spec)
    assert set(told(found)) >= {"connection_stalled", "device_errors"}
    assert found.findings[0].cause == first


IMAGE = "/srv/images/archive.img"


def failing_loop(mount: str, used: float) -> dict[str, Any]:
    """A disk image whose requests fail, and a mount that is used so far."""
    spec = json.loads(json.dumps(build.load("device_errors")).replace("sda", "loop3"))
    spec["series"] |= {f"filesystem_{what}{{device=tmpfs,mount={mount},type=tmpfs}}": [0.3, used] if of else [9e9, 0.0]
                       for what, of in (("used_ratio", True), ("available_bytes", False))}
    spec["extra"] = [["loop device=loop3", IMAGE], ["loop device=loop4", "/else/where.img"]]
    if used > 0.95:
        labels = {"device": "tmpfs", "mount": mount, "type": "tmpfs"}
        spec["alerts"].append({"name": "FilesystemFull", "labels": labels, "severity": "critical"})
    return spec


def explained(spec: dict[str, Any]) -> Report:
    now_ns = build.ONSET_NS + spec.get("fault_s", 12) * NS
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    return explain(Case(build.incident_of(spec, now_ns), now_ns, "testhost"), history, build.facts_of(spec),
                   build.NoKnobs())


def test_a_loop_device_fails_because_the_file_system_below_it_is_full() -> None:
    found = explained(failing_loop("/srv/images", 1.0))
    assert list(told(found)) == ["disk_full"]
    assert "loop3 keeps its data there" in found.summary
    assert IMAGE in found.summary
    assert any("errors of a device" in line for line in found.follows)


@pytest.mark.parametrize("mount", ["/srv/images2", "/srv/im", "/other"])
def test_another_full_file_system_is_not_why_a_loop_device_fails(mount: str) -> None:
    found = explained(failing_loop(mount, 1.0))
    assert set(told(found)) == {"disk_full", "device_errors"}
    assert not found.follows


def test_of_a_loop_device_that_fails_the_file_is_named() -> None:
    found = explained(failing_loop("/srv/images", 0.4))
    assert list(told(found)) == ["device_errors"]
    assert f"loop3 keeps its data in the file {IMAGE} on the file system /srv/images" in found.summary
    assert "keeps its data" not in report_of("device_errors").summary


def test_the_disk_of_an_io_limit_is_the_one_that_is_looked_at() -> None:
    """A loop device that nobody uses is always idle, and says nothing of the disk that the limit is about."""
    spec = copy.deepcopy(build.load("cgroup_io_throttling"))
    key = next(k for k in spec["series"] if k.startswith("cgroup_io_limit_used_ratio"))
    spec["series"] |= {"disk_busy_ratio{device=loop0}": 0.0, "disk_busy_ratio{device=vda}": [0.02, 0.05]}
    assert "device=vda" in key
    report = explained(spec)
    assert report.findings[0].cause == "cgroup_io_throttling"
    assert [e.entity for e in report.evidence if e.series_key.startswith("disk_busy_ratio")][:1] == ["device=vda"]


def test_who_is_held_back_is_known_where_only_one_controller_has_the_group() -> None:
    spec = copy.deepcopy(build.load("cgroup_io_throttling"))
    for one in spec["processes"]:
        if one["comm"] == "reportgen":
            one["cgroup"] = "/elsewhere"
    assert "reportgen" not in explained(spec).findings[0].explanation
    spec["extra"] = [["members cgroup=/reports", "17 5500"], ["members cgroup=/other", "300"]]
    assert "held back most is reportgen (pid 5500)" in explained(spec).findings[0].explanation
