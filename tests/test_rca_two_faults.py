"""Two troubles at the same time that have nothing to do with each other are both told, each with its own culprit."""

import copy
from typing import Any

import pytest

from etio.core.frame import NS
from etio.core.report import Report
from rca.agent import explain
from rca.case import Case
from tests import incident_builder as build


def merged(*names: str) -> dict[str, Any]:
    """One description of several: of each series the side that the fault moves, all alerts, processes and actors."""
    whole = copy.deepcopy(build.load(names[0]))
    for name in names[1:]:
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
