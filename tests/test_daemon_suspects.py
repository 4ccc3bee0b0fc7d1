"""The end of a process that a report names is noticed, once, also where its number is used again."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from etio.core.report import Culprit, Finding, Report
from etio.daemon.suspects import EVERY, WATCHED, Suspects
from tests.test_core_engine import report


def names(incident_id: str, pid: int, comm: str = "worker") -> Report:
    finding = Finding("cpu_saturation", "", "CONFIRMED", "", (), culprit=Culprit("process", comm, pid))
    return replace(report(incident_id), findings=(finding,))


def ended(watch: Suspects, ticks: int = EVERY) -> list[tuple[str, str, object]]:
    return [(e.kind, e.entity, e.get("comm")) for n in range(ticks) for e in watch.ended(n)]


def test_the_end_of_a_real_process_is_told_once():
    watch = Suspects()
    child = subprocess.Popen(["sleep", "600"])
    try:
        watch.keep(names("a", child.pid))
        watch.keep(names("b", child.pid))
        watch.keep(names("c", os.getpid()))
        watch.keep(names("d", 0))
        assert ended(watch, 3 * EVERY) == []
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet collected
        assert ended(watch, 3 * EVERY) == [("culprit_ended", f"pid={child.pid}", "sleep")]
    finally:
        child.kill()
        child.wait()


def test_a_number_that_is_used_again_is_another_process(tmp_path: Path):
    def stat(start: int) -> None:
        (tmp_path / "proc/7").mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/7/stat").write_text(f"7 (a) b) S {' '.join('0' * 18)} {start} 0 0\n")

    watch = Suspects(tmp_path)
    stat(100)
    watch.keep(names("a", 7))
    stat(100)
    assert ended(watch) == []
    stat(200)
    assert ended(watch, 2 * EVERY) == [("culprit_ended", "pid=7", "a) b")]


def test_a_newer_report_of_an_incident_replaces_the_older_and_few_are_watched():
    watch = Suspects()
    child = subprocess.Popen(["sleep", "600"])
    try:
        watch.keep(names("a", child.pid))
        watch.keep(names("a", os.getpid()))
        for number in range(WATCHED + 5):
            watch.keep(names(f"i{number}", os.getpid()))
    finally:
        child.kill()
        child.wait()
    assert ended(watch) == []
    assert len(watch._watched) == WATCHED


def test_the_writer_to_a_full_file_system_ends_under_its_own_name():
    """A culprit that is no process may come with the process that did it."""
    watch = Suspects()
    child = subprocess.Popen(["sleep", "600"])
    try:
        finding = Finding("disk_full", "", "CONFIRMED", "", (), culprit=Culprit("filesystem", "/srv/data", child.pid))
        watch.keep(replace(report("a"), findings=(finding,)))
    finally:
        child.kill()
        child.wait()
    assert ended(watch) == [("culprit_ended", f"pid={child.pid}", "sleep")]
