"""Tasks that hang in the kernel: told by what they wait for, silent where nobody knows."""

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.facts import Facts
from etio.core.frame import NS
from etio.core.ports import Knobs
from etio.core.report import Report
from rca.agent import explain
from rca.case import Case
from rca.stuck import waits_for
from tests import incident_builder as build

FROZEN = ("stuck pid=77 comm=dd", "percpu_rwsem_wait; percpu_rwsem_wait < mnt_want_write < path_openat; 9 s")
MOUNT = "{device=/dev/loop0,mount=/srv/data,type=ext4}"


def spec_of(**changes: object) -> dict:
    spec = copy.deepcopy(build.load("io_stall_lookalike"))
    spec["series"] = {k: (v[0] if isinstance(v, list) else v) for k, v in spec["series"].items()}
    spec["series"] |= {"task_stuck_seconds_max": {"calm": 0, "fault": 9, "ramp": True, "noise": 0},
                       "task_uninterruptible": [0, 2], f"filesystem_used_ratio{MOUNT}": 0.2}
    spec["alerts"] = [{"name": "TasksStuck", "severity": "critical", "series": "task_stuck_seconds_max", "lag": 3}]
    spec["processes"] = [{"pid": 77, "ppid": 1, "comm": "dd", "from": -2}]
    return {**spec, "events": [], **changes}


def facts_of(spec: dict, extra: tuple[tuple[str, str], ...], cmdline: str) -> Facts:
    facts = build.facts_of(spec)
    tables = tuple(replace(t, processes=tuple(replace(p, cmdline=cmdline) for p in t.processes))
                   for t in facts.processes)
    return replace(facts, extra=extra, processes=tables)


def report_of(spec: dict, *extra: tuple[str, str], events: tuple[HostEvent, ...] = (),
              cmdline: str = "dd of=/srv/data/file if=/dev/zero", knobs: Knobs | None = None) -> Report:
    now = build.ONSET_NS + spec.get("fault_s", 12) * NS
    case = Case(build.incident_of(spec, now), now, "testhost")
    history = build.MemoryHistory(build.window_of(spec), (*build.events_of(spec), *events))
    return explain(case, history, facts_of(spec, extra, cmdline), knobs or build.NoKnobs(), None)


def test_a_frozen_file_system_is_named_with_its_mount_and_who_waits() -> None:
    report = report_of(spec_of(), FROZEN)
    assert (report.findings[0].cause, report.verdict) == ("io_stall", "CONFIRMED")
    assert report.title == "Tasks hang in the kernel: they wait for the frozen file system /srv/data"
    assert "dd (pid 77) has not run for 9 s" in report.summary
    assert "mnt_want_write" in report.summary
    assert report.culprit is not None
    assert report.culprit.kind == "filesystem"


def test_who_waits_for_a_frozen_file_system_is_its_victim_and_thawing_is_proposed() -> None:
    class Ext4:
        def read(self, kind: str, key: str, entity: str = "") -> str:
            if (kind, key, entity) != ("filesystem", "type", "/srv/data"):
                raise NoData("no such knob")
            return "ext4"

    spec = spec_of(processes=[{"pid": 77, "ppid": 1, "comm": "dd", "from": -2, "state": "D"}])
    report = report_of(spec, FROZEN, knobs=Ext4())
    assert [s.apply for s in report.suggestions][:1] == ["fsfreeze --unfreeze /srv/data"]
    assert not any("ionice" in s.apply for s in report.suggestions)
    assert "Others were seen waiting" not in report.summary


def test_without_a_path_in_the_command_line_no_mount_is_named() -> None:
    report = report_of(spec_of(), FROZEN, cmdline="dd of=./file if=/srv/database")
    assert report.title == "Tasks hang in the kernel: they wait for a frozen file system"


def test_a_dead_nfs_server() -> None:
    event = HostEvent(build.ONSET_NS + NS, "nfs_not_responding", "server=192.0.2.7", (), "/dev/kmsg")
    fact = ("stuck pid=77 comm=dd", "rpc_wait_bit_killable; rpc_wait_bit_killable < nfs_wait; 9 s")
    report = report_of(spec_of(), fact, events=(event,))
    assert report.title == "Tasks hang in the kernel: they wait for the server of an NFS file system"
    assert any("nfs not responding" in e.claim for e in report.evidence)


@pytest.mark.parametrize("stack", [
    "unknown; kernel stack not readable; 9 s", "some_driver_wait; some_driver_wait < some_driver_ioctl; 9 s", "",
    "; ;"])
def test_what_is_not_known_is_not_guessed(stack: str) -> None:
    report = report_of(spec_of(), ("stuck pid=77 comm=dd", stack))
    assert report.verdict == "INCONCLUSIVE"
    assert any("stalled I/O" in step for step in report.next_steps)


def test_waiting_for_memory_or_behind_busy_disks_is_no_stall() -> None:
    report = report_of(spec_of(), ("stuck pid=77 comm=dd", "shrink_node; shrink_node < try_to_free_pages; 9 s"))
    assert report.verdict == "INCONCLUSIVE"
    spec = spec_of()
    spec["series"]["disk_writes_per_second{device=vda}"] = 900
    fact = ("stuck pid=77 comm=sync", "wb_wait_for_completion; wb_wait_for_completion < ksys_sync; 9 s")
    report = report_of(spec, fact)
    assert "io_stall" not in [f.cause for f in report.findings if f.verdict != "INCONCLUSIVE"]


@pytest.mark.slow
@given(st.text(max_size=40), st.text(max_size=60))
def test_hostile_names_and_stacks_are_only_shown(comm: str, value: str) -> None:
    report = report_of(spec_of(calm_s=30), ("stuck pid=77 comm=" + comm, value), (comm, value))
    assert report.title


def test_stacks_of_known_waits() -> None:
    assert waits_for(("percpu_rwsem_wait", "vfs_write"))[0] == "frozen"
    assert waits_for(("percpu_rwsem_wait", "cgroup_can_fork"))[0] == ""
    assert waits_for(("vfs_write", "ksys_write"))[0] == ""
    assert waits_for(("folio_wait_bit_common", "filemap_read"))[0] == "device"
    assert waits_for(("request_wait_answer", "fuse_simple_request"))[0] == "fuse"
    assert waits_for(()) == ("", "")


def test_a_changed_setting_is_told_with_both_values() -> None:
    event = HostEvent(build.ONSET_NS - 20 * NS, "sysctl_changed", "knob=vm.swappiness",
                      (("before", "60"), ("after", "200")), "/proc/sys")
    report = report_of(spec_of(), FROZEN, events=(event,))
    assert [m.text for m in report.changes if "swappiness" in m.text] == [
        "sysctl changed (knob=vm.swappiness; before 60; after 200)"]


def test_what_was_found_changed_after_the_onset_may_have_changed_before_it() -> None:
    """Settings are looked at once in 15 s, and when an alert fires."""
    def told(at_s: int, within_s: float) -> list[str]:
        event = HostEvent(build.ONSET_NS + at_s * NS, "sysctl_changed", "knob=vm.swappiness",
                          (("before", "60"), ("after", "200"), ("within_s", within_s)), "/proc/sys")
        report = report_of(spec_of(), FROZEN, events=(event,))
        return [m.text for m in report.changes if "swappiness" in m.text]

    assert told(2, 9.0) == ["sysctl changed (knob=vm.swappiness; before 60; after 200; at some time in the 9 s before)"]
    assert told(11, 1.0) == []
