"""Alerts that belong together, and when to explain them."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from etio.core.again import Again
from etio.core.alert import Alert, Incident
from etio.core.event import Action, Notify, StartRca, Write
from etio.core.frame import NS
from etio.core.policy import ALERTS, EngineConfig
from etio.core.report import Report


@dataclass(slots=True)
class _Open:
    incident: Incident
    last_begin_ns: int
    explain_at_ns: int = 0
    """When the next report is due; 0 = none wanted."""
    explained_ns: int = 0
    running: bool = False
    named: set[str] = field(default_factory=set)
    """What the last report knew of, see _topic()."""
    again: Again = field(default_factory=Again)


class Incidents:
    """Open incidents: which alert joins which, when each is explained, when it ends."""

    def __init__(self, config: EngineConfig, last_id: str = "") -> None:
        self._config = config
        self._last_id = last_id
        self._open: dict[str, _Open] = {}
        self._stray: dict[str, Alert] = {}
        """Evidence without an incident of its own, by fingerprint: firing, or over for less than `group_s`."""

    def adopt(self, incident: Incident, t_ns: int, reports: Sequence[Report]) -> tuple[Alert, ...]:
        """Takes over an open incident of an earlier run, and its reports, oldest first; returns its firing alerts."""
        entry = _Open(incident, max(a.pending_ns for a in incident.alerts))
        entry.again.adopt(t_ns, (t_ns - incident.opened_ns) / NS, reports)
        entry.named = {_topic(a) for a in incident.alerts}
        if incident.report in ("running", "none"):
            entry.explain_at_ns = 1
        self._open[incident.id] = entry
        self._last_id = max(self._last_id, incident.id)
        return tuple(a for a in incident.alerts if a.state == "firing")

    def changed(self, t_ns: int, alerts: list[Alert]) -> list[Action]:
        """Files alerts that began to fire or resolved; says what to write and whom to tell."""
        touched: dict[str, list[Alert]] = {}
        actions: list[Action] = []
        for bare in alerts:
            entry = self._home(t_ns, bare)
            if entry is None:
                actions.append(Write(self._keep(t_ns, bare)))
                continue
            alert = replace(bare, incident_id=entry.incident.id)
            self._put(entry, alert)
            if alert.state == "firing":
                self._want_report(t_ns, entry, alert)
            touched.setdefault(entry.incident.id, []).extend([*self._gather(t_ns, entry), alert])
        for incident_id, members in touched.items():
            actions += self._tell(t_ns, self._open[incident_id], members)
        return actions

    def _keep(self, t_ns: int, alert: Alert) -> Alert:
        """Keeps evidence that belongs to no open incident; one may open within `group_s` and take it in."""
        known = self._stray.get(alert.fingerprint)
        if known is not None:
            alert = replace(alert, incident_id=known.incident_id)
        self._stray[alert.fingerprint] = alert
        over = t_ns - self._config.group_s * NS
        self._stray = {f: a for f, a in self._stray.items() if not a.resolved_ns or a.resolved_ns >= over}
        return alert

    def _gather(self, t_ns: int, entry: _Open) -> list[Alert]:
        """Evidence that waited for an incident, now that there is one: what still fires, or began or ended just now."""
        since = t_ns - self._config.group_s * NS
        ready = [a for a in self._stray.values() if not a.incident_id and (not a.resolved_ns or a.resolved_ns >= since)]
        for alert in ready:
            del self._stray[alert.fingerprint]
        found = [replace(a, incident_id=entry.incident.id) for a in ready]
        entry.incident = replace(entry.incident, alerts=(*entry.incident.alerts, *found))
        return found

    def due(self, t_ns: int, lasting: Callable[[int], Set[str]]) -> list[Action]:
        """Reports that are due now; one at a time is the daemon's business.

        lasting: gives the fingerprints of the alerts whose conditions are met at a moment; asked only where needed.
        """
        actions: list[Action] = []
        for entry in self._open.values():
            if entry.running:
                continue
            if entry.explain_at_ns and t_ns >= entry.explain_at_ns:
                entry.explain_at_ns = 0
                entry.incident = replace(entry.incident, report="running")
                actions += [Write(entry.incident), self._begin(t_ns, entry, quiet=False)]
            elif entry.again.ripe(t_ns) and not entry.explain_at_ns and _lasts(entry.incident, lasting(t_ns)):
                actions.append(self._begin(t_ns, entry, quiet=True))
        return actions

    def seen(self, t_ns: int, working: Callable[[], Mapping[str, float]]) -> None:
        """Looks at who works how hard, where an incident goes on; working: asked only then."""
        lasting = [entry for entry in self._open.values() if entry.again.due_ns]
        cores = working() if lasting else {}
        for entry in lasting:
            entry.again.seen(t_ns, cores)

    def culprit_ended(self, t_ns: int, pid: int) -> None:
        """A process that a report named has ended: incidents that last are looked at again soon."""
        for entry in self._open.values():
            entry.again.culprit_ended(t_ns, pid)

    def reported(self, report: Report) -> list[Action]:
        """A report came back. One that only adds a model's narrative to what was told already pages nobody again, nor
        does another look at a lasting incident that comes to the same."""
        entry = self._open.get(report.incident_id)
        if entry is None or report.model.mode == "llm":
            return [Write(report)]
        entry.running = False
        entry.incident = replace(entry.incident, report="ready")
        kept, told = entry.again.reported(report)
        actions: list[Action] = [Write(report), Write(entry.incident)] if kept else []
        if told:
            actions.append(Notify(entry.incident, entry.incident.alerts, report))
        self._forget(entry)
        return actions

    def failed(self, t_ns: int, incident_id: str) -> list[Action]:
        """The RCA worker failed; tried again after `refresh_s` while the incident lasts."""
        entry = self._open.get(incident_id)
        if entry is None:
            return []
        entry.running = False
        entry.again.failed()
        if entry.again.quiet:  # what was told before holds on
            self._forget(entry)
            return []
        entry.incident = replace(entry.incident, report="failed")
        if not entry.incident.resolved_ns:
            entry.explain_at_ns = t_ns + int(self._config.refresh_s * NS)
        self._forget(entry)
        return [Write(entry.incident)]

    @staticmethod
    def _begin(t_ns: int, entry: _Open, quiet: bool) -> StartRca:
        entry.running, entry.explained_ns = True, t_ns
        entry.named = {_topic(a) for a in entry.incident.alerts}
        entry.again.begin(t_ns, quiet)
        return StartRca(entry.incident)

    def _home(self, t_ns: int, alert: Alert) -> _Open | None:
        """The incident of an alert; None for evidence while there is none: it opens no incident."""
        for entry in self._open.values():
            if any(a.fingerprint == alert.fingerprint and a.state == "firing" for a in entry.incident.alerts):
                return entry
        group = self._config.group_s * NS
        for entry in self._open.values():
            if not entry.incident.resolved_ns and alert.pending_ns - entry.last_begin_ns <= group:
                return entry
        if alert.severity == "info":
            return None
        incident = Incident(self._next_id(t_ns), t_ns, ())
        entry = self._open[incident.id] = _Open(incident, alert.pending_ns)
        return entry

    def _put(self, entry: _Open, alert: Alert) -> None:
        others = tuple(a for a in entry.incident.alerts if a.fingerprint != alert.fingerprint)
        entry.incident = replace(entry.incident, alerts=(*others, alert))
        if alert.severity != "info":
            entry.last_begin_ns = max(entry.last_begin_ns, alert.pending_ns)

    def _want_report(self, t_ns: int, entry: _Open, alert: Alert) -> None:
        if not ALERTS[alert.name].explain or _topic(alert) in entry.named or entry.explain_at_ns:
            return
        settle = t_ns + int(self._config.settle_s * NS)
        again = entry.explained_ns + int(self._config.refresh_s * NS) if entry.explained_ns else 0
        entry.explain_at_ns = max(settle, again)

    def _tell(self, t_ns: int, entry: _Open, members: list[Alert]) -> list[Action]:
        if all(a.state == "resolved" or a.severity == "info" for a in entry.incident.alerts):
            entry.incident = replace(entry.incident, resolved_ns=t_ns)
            left = [a for a in entry.incident.alerts if a.state != "resolved"]  # evidence does not keep it open
            self._stray |= {a.fingerprint: a for a in left}
        actions: list[Action] = [*map(Write, members), Write(entry.incident)]
        if any(a.severity != "info" for a in members):
            actions.append(Notify(entry.incident, tuple(members)))
        self._forget(entry)
        return actions

    def _forget(self, entry: _Open) -> None:
        """Lets go of an incident that is over and told in full."""
        if entry.incident.resolved_ns and not entry.running and not entry.explain_at_ns:
            self._open.pop(entry.incident.id, None)

    def _next_id(self, t_ns: int) -> str:
        day = datetime.fromtimestamp(t_ns / NS, UTC).strftime("%Y-%m-%d")
        number = int(self._last_id.rsplit("-", 1)[1]) + 1 if self._last_id.startswith(day) else 1
        self._last_id = f"{day}-{number:04d}"
        return self._last_id


def _topic(alert: Alert) -> str:
    """What a report must not say twice: the name of an alert; of one that an event raised also its thing, for a second
    process that is killed, or program that crashes, is another story than the first."""
    return f"{alert.name} {alert.fingerprint}" if alert.detector == "event" else alert.name


def _lasts(incident: Incident, lasting: Set[str]) -> bool:
    """Whether the condition of one of its alerts that are worth a report is met now."""
    return any(a.fingerprint in lasting and a.state == "firing" and ALERTS[a.name].explain for a in incident.alerts)
