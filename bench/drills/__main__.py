"""Causes real faults and prints what the daemon makes of each: detected, how fast, which cause, which culprit."""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.common import parser, write
from bench.daemon import Daemon, daemon
from bench.drills import Drill, discover
from bench.signals import entry, whole
from etio.core.errors import EtioError

NS = 1e9
UNABLE = (OSError, subprocess.SubprocessError, RuntimeError, AssertionError, ValueError, LookupError, TypeError,
          AttributeError, EtioError)
"""What a drill raises where a host does not let it cause its fault, or where it has an error of its own."""
CONFIG = "[collector.gpu_jobs]\nenabled = true\n"
"""All that is off by default is on."""


@dataclass(frozen=True, slots=True)
class Case:
    """Outcome of one run of one drill. Times in seconds; None where it did not come to that.

    error: why the fault could not be caused or undone; "" where it could. Such a run counts for nothing else.
    """

    drill: str
    run: int
    control: bool
    detected: bool
    alert_s: float | None
    report_s: float | None
    expected: str
    top: list[str]
    culprit_right: bool
    error: str = ""

    def plain(self) -> dict[str, Any]:
        """The stable JSON form."""
        return {name: getattr(self, name) for name in self.__slots__}


def main() -> int:
    """Entry."""
    one = parser(__doc__ or "")
    one.add_argument("--only", default="", help="names, separated by commas")
    one.add_argument("--repeat", type=int, default=1)
    one.add_argument("--warm", type=float, default=180.0, metavar="SECONDS",
                     help="wait at most so long for baselines, and before each drill for quiet; 0 = a quick try")
    arguments = one.parse_args()
    drills = discover()
    wanted = [n for n in arguments.only.split(",") if n] or list(drills)
    if unknown := [n for n in wanted if n not in drills]:
        print(f"no drill named {', '.join(unknown)}; known: {', '.join(drills)}", file=sys.stderr)
        return 2
    chosen = [drills[n] for n in wanted]
    for drill in chosen:
        if gone := [p for p in drill.needs if shutil.which(p) is None]:
            print(f"{drill.name} needs {', '.join(gone)}; apt install it", file=sys.stderr)
            return 2
    cases: list[Case] = []
    try:
        for case in _run_all(chosen, arguments.repeat, arguments.warm):
            cases.append(case)
            _print_case(case)
    finally:  # also of a run that is ended before it is through
        result = summary(cases)
        _print_summary(result)
        write(arguments.json, result)
    return 1 if result["errors"] else 0


def _run_all(chosen: list[Drill], repeat: int, warm_s: float) -> Iterator[Case]:
    with daemon(CONFIG) as etio:
        etio.wait_ready()
        print(f"tier {etio.status()['tier']}; waiting for baselines", flush=True)
        etio.wait_warm(warm_s)
        for run in range(1, repeat + 1):
            for drill in chosen:
                etio.wait_quiet(warm_s)
                print(f"{drill.name:18} run {run} of {repeat}", flush=True)
                yield _one(etio, drill, run)


def _one(etio: Daemon, drill: Drill, run: int) -> Case:
    """One run of one drill. A drill that cannot cause or undo its fault is told as such, and the others go on."""
    try:
        return _control(etio, drill, run) if drill.control else _fault(etio, drill, run)
    except UNABLE as error:
        if etio.process.poll() is not None:
            raise
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        told = " ".join(f"{type(error).__name__}: {error} {said or ''}".split())
        return Case(drill.name, run, drill.control, False, None, None, drill.cause, [], False, told)


def _fault(etio: Daemon, drill: Drill, run: int) -> Case:
    alert: dict[str, Any] | None = None
    report: dict[str, Any] | None = None
    known = {r["id"] for r in etio.client.get("/api/v1/reports", limit=500)["reports"]}
    with whole(drill.inject()):
        begin_ns = time.time_ns()
        while time.time_ns() - begin_ns < drill.seconds * NS and report is None:
            time.sleep(0.2)
            alert = alert or _first_alert(etio, begin_ns)
            fresh = [r for r in etio.client.get("/api/v1/reports", limit=20)["reports"] if r["id"] not in known]
            if alert is None:
                known |= {r["id"] for r in fresh}  # of what went before
            elif fresh:
                report = etio.client.get(f"/api/v1/reports/{fresh[-1]['id']}")
    alert = alert or _first_alert(etio, begin_ns)
    fired = alert["firing_ns"] if alert else None
    return Case(
        drill.name, run, False, alert is not None,
        round((fired - begin_ns) / NS, 2) if fired else None,
        round((report["created_ns"] - fired) / NS, 2) if report and fired else None,
        drill.cause, [f["cause"] for f in report["findings"][:3]] if report else [],
        drill.right_culprit(report) if report else False)


def _first_alert(etio: Daemon, begin_ns: int) -> dict[str, Any] | None:
    rows = etio.client.get("/api/v1/alerts", state="all")["alerts"]
    fired = [a for a in rows if a["firing_ns"] >= begin_ns and a["severity"] != "info"]
    return min(fired, key=lambda a: a["firing_ns"], default=None)


def _control(etio: Daemon, drill: Drill, run: int) -> Case:
    with whole(drill.inject()):
        begin_ns = time.time_ns()
        time.sleep(drill.seconds)
    alert = _first_alert(etio, begin_ns)
    reports = [r for r in etio.client.get("/api/v1/reports", limit=20)["reports"] if r["created_ns"] >= begin_ns]
    top = [f["cause"] for r in reports for f in etio.client.get(f"/api/v1/reports/{r['id']}")["findings"][:1]]
    alert_s = round((alert["firing_ns"] - begin_ns) / NS, 2) if alert else None
    return Case(drill.name, run, True, alert is not None, alert_s, None, "", top, False)


def summary(cases: list[Case]) -> dict[str, Any]:
    """Accuracy over the faults and alarms on the controls."""
    sound = [c for c in cases if not c.error]
    faults = [c for c in sound if not c.control]

    def share(hits: list[bool]) -> float | None:
        return round(sum(hits) / len(hits), 3) if hits else None

    return {
        "cases": [c.plain() for c in cases],
        "ac1": share([c.top[:1] == [c.expected] for c in faults]),
        "ac3": share([c.expected in c.top for c in faults]),
        "culprit": share([c.culprit_right for c in faults]),
        "control_alerts": sum(c.detected for c in sound if c.control),
        "errors": sum(bool(c.error) for c in cases),
        "median_alert_s": _median([c.alert_s for c in faults]),
        "median_report_s": _median([c.report_s for c in faults]),
    }


def _median(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(statistics.median(known), 2) if known else None


def _print_case(case: Case) -> None:
    if case.error:
        print(f"{case.drill:18} run {case.run}  ERROR {case.error}", flush=True)
        return
    if case.control:
        outcome = f"ALERT {' '.join(case.top)}" if case.detected else "silent"
        print(f"{case.drill:18} run {case.run}  {outcome}", flush=True)
        return
    hit = "right" if case.top[:1] == [case.expected] else "WRONG"
    who = "culprit right" if case.culprit_right else "culprit WRONG"
    print(f"{case.drill:18} run {case.run}  alert {case.alert_s} s  report +{case.report_s} s  {hit}: "
          f"{', '.join(case.top) or 'nothing'}  {who}", flush=True)


def _print_summary(result: dict[str, Any]) -> None:
    for name in ("ac1", "ac3", "culprit", "control_alerts", "errors", "median_alert_s", "median_report_s"):
        print(f"{name}: {result[name]}")


if __name__ == "__main__":
    entry(main)
