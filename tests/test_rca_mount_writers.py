"""Who fills a file system is told from files that are open for writing there, not from who writes most elsewhere."""

from typing import Any

import pytest

from etio.core.report import Report
from tests import incident_builder as build
from tests.test_rca_incidents import explain_spec

MOUNT = "/mnt/drill"
LOGGER = {"pid": 4900, "ppid": 1, "comm": "applogd", "cgroup": "/apps", "write": 900_000.0}
MIB = 1 << 20


def report_of(told: str | None, inodes: bool = False, **logger: Any) -> Report:
    """A backup (dd, pid 4800) writes most on the host while a file system is full, or out of inodes."""
    spec = build.load("disk_full")
    if inodes:
        of = f"{{device=/dev/loop0,mount={MOUNT},type=ext4}}"
        spec["series"] |= {f"filesystem_used_ratio{of}": 0.6, f"filesystem_inodes_used_ratio{of}": [0.1, 1.0]}
    spec["series"][f"filesystem_size_bytes{{device=/dev/loop0,mount={MOUNT},type=ext4}}"] = 200.0 * MIB
    spec["processes"].append({**LOGGER, **logger})
    spec["extra"] = [] if told is None else [[f"writers mount={MOUNT}", told]]
    return explain_spec(spec)


def claim(report: Report) -> tuple[str, int]:
    assert report.culprit is not None
    return report.culprit.claim.removeprefix(f"It is the file system {MOUNT}"), report.culprit.pid


@pytest.mark.parametrize("rate", [900_000.0, 0.0])
def test_a_deleted_log_that_is_still_written(rate: float) -> None:
    """Also when its writer fails with ENOSPC by now, so that it writes nothing any more."""
    told, pid = claim(report_of(f"4900 {150 * MIB} 1 {MOUNT}/app.log\n4950 4096 0 {MOUNT}/x.pid", write=rate))
    assert pid == 4900
    assert told == (f"; applogd (pid 4900) in /apps has {MOUNT}/app.log open for writing there, 150 MiB, which is "
                    "deleted: its space is free when it is closed")


def test_the_one_that_writes_now_comes_before_the_one_whose_file_is_larger() -> None:
    told, pid = claim(report_of(f"300 {100 * MIB} 0 {MOUNT}/db\n4900 {20 * MIB} 0 {MOUNT}/app.log"))
    assert (pid, "app.log open for writing there, 20 MiB" in told) == (4900, True)


def test_small_files_of_idle_processes_are_no_reason() -> None:
    told, _ = claim(report_of(f"4950 4096 0 {MOUNT}/x.pid"))
    assert told.startswith("; the biggest writer on the host is dd")


@pytest.mark.parametrize("told", [None, ""])
def test_where_nobody_may_look_or_nothing_is_open_the_biggest_writer_of_the_host_is_told_as_that(told) -> None:
    assert claim(report_of(told))[0].startswith("; the biggest writer on the host is dd")


def test_a_file_system_that_is_gone_has_no_writer() -> None:
    assert claim(report_of("not mounted")) == (", which is not mounted any more", 0)


def test_who_has_a_large_file_open_is_not_who_uses_up_the_inodes() -> None:
    assert claim(report_of(f"4900 {150 * MIB} 0 {MOUNT}/db", inodes=True)) == ("", 0)
