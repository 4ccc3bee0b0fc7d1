"""Trouble that comes and goes again and again is told six times an hour; after that only if it stays.

A rule with bursts of a minute every three (a peer that restarts, a nightly copy in pieces) would page twenty times an
hour and say nothing new after the sixth. Incidents, reports and alerts are made and kept as ever; only what is sent
waits. It goes out when an alert joins that is not told so often, when the report names another cause or culprit than
those of before, when it is critical, and when the incident lasts longer than `patience_s`.
Compare flap detection (Nagios), route flap damping (RFC 2439).
"""

from dataclasses import dataclass, field, replace

from etio.core.event import Notify
from etio.core.frame import NS
from etio.core.report import Report

TIMES = 6
"""So often within the window the same alert, or the same cause with the same culprit, is told at once."""
WINDOW_S, PATIENCE_S = 3600.0, 300.0
REMEMBERED = 256
"""Incidents whose members are remembered: a report may come after the end."""


@dataclass(slots=True)
class _Waiting:
    since_ns: int
    alerts: set[str] = field(default_factory=set)
    notices: list[Notify] = field(default_factory=list)


class Repeats:
    """What is sent now and what waits. Memory: a few numbers for each alert of the last hour."""

    def __init__(self, times: int = TIMES, window_s: float = WINDOW_S, patience_s: float = PATIENCE_S) -> None:
        self._times, self._window_ns, self._patience_ns = times, int(window_s * NS), int(patience_s * NS)
        self._told: dict[str, list[int]] = {}
        self._members: dict[str, set[str]] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._sent: set[str] = set()
        self._dropped: set[str] = set()

    def put(self, notice: Notify, t_ns: int) -> list[Notify]:
        """What is to be sent now, oldest first; empty while the notice waits or its incident came and went."""
        incident = notice.incident
        fresh = self._joined(notice)
        news = any(len(self._lately(f, t_ns)) < self._times for f in fresh)
        waiting = self._waiting.get(incident.id)
        if waiting is None and incident.id in self._dropped:
            return []
        if waiting is None and (incident.id in self._sent or not fresh or news):
            self._sent.add(incident.id)
            told = min((len(self._lately(f, t_ns)) for f in fresh), default=0)
            self._count(fresh, t_ns)
            return [replace(notice, repeats=self._words(told + 1)) if told else notice]
        waiting = self._waiting.setdefault(incident.id, _Waiting(t_ns))
        waiting.notices.append(notice)
        waiting.alerts |= fresh
        if news or incident.severity == "critical":
            return self._release(incident.id, t_ns)
        if incident.resolved_ns:
            del self._waiting[incident.id]
            self._dropped.add(incident.id)
        return []

    def due(self, t_ns: int) -> list[Notify]:
        """What has waited long enough: its trouble stays this time."""
        late = [n for n, one in self._waiting.items() if t_ns - one.since_ns >= self._patience_ns]
        return [notice for name in late for notice in self._release(name, t_ns)]

    def rest(self) -> list[Notify]:
        """All that waits, for the end of the daemon."""
        return [notice for name in list(self._waiting) for notice in self._waiting.pop(name).notices]

    def _words(self, times: int) -> str:
        """What goes with a repeat: who is told six times of something that comes and goes must know why it ends."""
        least = f"it is told again only if it lasts {self._patience_ns / NS / 60:g} minutes, or with news"
        told = f"told {times} times within {self._window_ns / NS / 60:g} minutes"
        return f"{told}; from now on {least}" if times >= self._times else f"{told}; after {self._times} {least}"

    def _release(self, incident_id: str, t_ns: int) -> list[Notify]:
        waiting = self._waiting.pop(incident_id)
        self._sent.add(incident_id)
        self._count(waiting.alerts, t_ns)
        return waiting.notices

    def _joined(self, notice: Notify) -> set[str]:
        """What the incident did not have before: alerts, and cause and culprit of its report."""
        known = self._members.setdefault(notice.incident.id, set())
        fresh = {a.fingerprint for a in notice.incident.alerts if a.severity != "info"} | _found(notice.report)
        fresh -= known
        known |= fresh
        while len(self._members) > REMEMBERED:
            oldest = next(iter(self._members))
            del self._members[oldest]
            self._dropped.discard(oldest)
            self._sent.discard(oldest)
        return fresh

    def _lately(self, fingerprint: str, t_ns: int) -> list[int]:
        return [t for t in self._told.get(fingerprint, ()) if t > t_ns - self._window_ns]

    def _count(self, alerts: set[str], t_ns: int) -> None:
        """Counts alerts as told now; forgets what was told before the window."""
        for fingerprint in alerts:
            self._told.setdefault(fingerprint, []).append(t_ns)
        self._told = {f: kept for f in self._told if (kept := self._lately(f, t_ns))}


def _found(report: Report | None) -> set[str]:
    """What a report comes to, as one word; nothing where there is none."""
    if report is None or not report.findings:
        return set()
    culprit = report.findings[0].culprit
    return {f"{report.findings[0].cause}/{culprit.name if culprit else ''}"}
