"""The one place that decides: frames and events in, actions out. Deterministic, without clock or I/O, replayable."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from etio.core.alert import Alert, Incident
from etio.core.event import (
    Action,
    CollectorFailed,
    Event,
    Focus,
    FrameReady,
    HostEvent,
    ReportFailed,
    ReportReady,
    SeasonsReady,
    Tick,
    Write,
    pid_of,
)
from etio.core.frame import NS, Frame
from etio.core.incidents import Incidents
from etio.core.policy import ALERTS, EVENT_ALERTS, EVENT_CLEARS, EVENT_HELD, SHIFTS, SYMPTOMS, EngineConfig, severity_of
from etio.core.ports import ChangePoints, Detector, Expecting, Knowing, Localiser
from etio.core.report import Report
from etio.core.score import Band, Scores, overlaid
from etio.core.season import Season
from etio.core.series import Labels, Series
from etio.core.symptoms import BACKGROUND
from etio.core.tracks import Hit, Key, Tracks
from etio.core.words import amount

GROUP_ALERTS = {"peers": "PeerDeviation", "half_space": "SubsystemAnomaly", "joint": "HostAnomaly"}
"""Detectors that score groups, and the alert their scores raise; a group detector not named here only informs."""

HOST = ("subsystem", "host")
"""The label of the group that is the whole host; HostAnomaly speaks of no other."""

UP_SERIES = ("network_link_up", "rdma_link_up")
"""Series of states whose changes are told as events: 1 while all is well."""

WORKING = "process_group_cpu_cores"
"""The series by which somebody who joins a trouble is noticed."""

UNFOCUS_S, CLOSELY_S = 20.0, 300.0
"""Processes are watched closely until the last condition has ended for so long, or the newest has lasted for so long: a
disk that is full for a week is explained after minutes, and watching costs as much as everything else together."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A detector and what its scores speak of: "series", "group" or "rule"."""

    detector: Detector
    scope: str


class Engine:
    """Detectors, alerts and incidents, advanced by one event at a time."""

    def __init__(self, config: EngineConfig, judges: Sequence[Judge], last_incident_id: str = "") -> None:
        self._config = config
        self._judges = tuple(judges)
        detectors = [j.detector for j in judges]
        # Asked once: whether an object has all of a protocol costs up to a millisecond.
        self._change_points = [d for d in detectors if isinstance(d, ChangePoints)]
        self._knowing = tuple(d for d in detectors if isinstance(d, Knowing))
        self._expecting = [d for d in detectors if isinstance(d, Expecting)]
        self._tracks = Tracks(frozenset(config.mute), config.for_s)
        self._incidents = Incidents(config, last_incident_id)
        self._names: dict[str, list[int]] = {}
        self._named = 0
        self._focus_until_ns = 0
        self._focused = False
        self.scores: tuple[Scores, ...] = ()
        """Every detector's answer to the last frame."""
        self.band: Band | None = None
        """Expected range of each series of the last frame."""
        self.warm_ratio = 0.0
        """Share of the series with a value for which a detector has an opinion, 0..1."""

    def adopt(self, incidents: Iterable[Incident], t_ns: int, reports: Sequence[Report] = ()) -> None:
        """Takes over incidents that were open when an earlier run ended. reports: what it told, oldest first."""
        for incident in incidents:
            told = [report for report in reports if report.incident_id == incident.id]
            for alert in self._incidents.adopt(incident, t_ns, told):
                self._tracks.adopt(alert, t_ns)

    def adopt_evidence(self, alerts: Iterable[Alert], t_ns: int) -> None:
        """Takes over evidence of an earlier run that fired without an incident, so that it comes to an end."""
        for alert in alerts:
            self._tracks.adopt(alert, t_ns)

    def step(self, event: Event) -> list[Action]:
        """Advances by one event; returns what the shell must carry out, in order."""
        match event:
            case FrameReady(frame):
                return self._frame(frame)
            case HostEvent():
                return [Write(event), *self._host_event(event), *self._focus(event.t_ns)]
            case CollectorFailed(t_ns, collector, reason, fault):
                kind = "collector_failed" if fault else "collector_nodata"
                return [Write(HostEvent(t_ns, kind, f"collector={collector}", (("reason", reason),), "etio"))]
            case ReportReady(_, report):
                return self._incidents.reported(report)
            case ReportFailed(t_ns, incident_id, _):
                return self._incidents.failed(t_ns, incident_id)
            case SeasonsReady(_, seasons):
                for detector in self._expecting:
                    detector.expect(seasons)
                return []
            case Tick(t_ns):
                return [*self._incidents.due(t_ns, self._tracks.lasting), *self._focus(t_ns)]

    def unlike(self) -> Scores | None:
        """The calibrated score of the whole host for the last frame, one series; None without that detector."""
        joint = next((s for s in self.scores if GROUP_ALERTS.get(s.detector) == "HostAnomaly"), None)
        at = [i for i, one in enumerate(joint.series) if HOST in one.labels] if joint else []
        return Scores(joint.detector, (joint.series[at[0]],), joint.values[at[:1]]) if joint and at else None

    def knowing(self) -> tuple[Knowing, ...]:
        """The detectors that can be asked what they expect; only by the thread that steps the engine."""
        return self._knowing

    def season(self, key: str) -> Season | None:
        """What each hour usually brings for the series with this key, or None; safe from any thread."""
        return next((found for d in self._expecting if (found := d.season(key)) is not None), None)

    def firing(self) -> int:
        """How many alerts fire now."""
        return len(self._tracks.firing())

    def firing_alerts(self) -> tuple[Alert, ...]:
        """The alerts that fire now."""
        return self._tracks.firing()

    def _frame(self, frame: Frame) -> list[Action]:
        self._learn_names(frame)
        self.scores = tuple(j.detector.step(frame) for j in self._judges)
        self.band = overlaid([b for j in self._judges if (b := j.detector.band()) is not None])
        self._warmth(frame)
        hits: dict[Key, Hit] = {}
        for judge, scores in zip(self._judges, self.scores, strict=True):
            self._hits(frame, judge, scores, hits)
        self._adopted_hits(frame, hits)
        changed = self._tracks.frame(frame.t_ns, hits)
        self._incidents.seen(frame.t_ns, lambda: self._working(frame))
        return [*self._shifts(), *self._incidents.changed(frame.t_ns, changed),
                *self._incidents.due(frame.t_ns, self._tracks.lasting), *self._focus(frame.t_ns)]

    def _working(self, frame: Frame) -> dict[str, float]:
        """Cores that each group of processes uses."""
        found = ((frame.series[i].entity, float(frame.values[i])) for i in self._names.get(WORKING, ()))
        return {who: cores for who, cores in found if np.isfinite(cores)}

    def _shifts(self) -> list[Action]:
        """Lasting shifts of series that a reader knows, kept as events at the moment they began."""
        found = [pair for detector in self._change_points for pair in detector.shifts()]
        return [Write(HostEvent(shift.t_ns, "level_shift", series.entity, (("what", series.key),
                ("before", shift.before), ("after", shift.after), ("unit", series.unit)), "level_shift"))
                for series, shift in found if series.name in SHIFTS]

    def _warmth(self, frame: Frame) -> None:
        present = ~np.isnan(frame.values)
        for judge, scores in zip(self._judges, self.scores, strict=True):
            if judge.scope == "series" and present.any():
                known = ~np.isnan(scores.values[: len(present)])
                self.warm_ratio = float((known & present).sum() / present.sum())
                return

    def _learn_names(self, frame: Frame) -> None:
        for i in range(self._named, len(frame.series)):
            self._names.setdefault(frame.series[i].name, []).append(i)
        self._named = len(frame.series)

    def _hits(self, frame: Frame, judge: Judge, scores: Scores, hits: dict[Key, Hit]) -> None:
        if judge.scope == "rule":
            self._rule_hits(frame, scores, hits)
        elif not self._config.anomalies:
            return
        elif judge.scope == "series":
            self._symptom_hits(frame, scores, hits)
        elif scores.detector in GROUP_ALERTS:
            self._group_hits(scores, judge.detector, hits)

    def _adopted_hits(self, frame: Frame, hits: dict[Key, Hit]) -> None:
        """Whether what was down when an earlier run ended is still down: its collector tells of changes only."""
        for key in self._tracks.adopted:
            up, unit, carrier = self._carrier(frame, *key)
            if carrier.split("{", 1)[0] in UP_SERIES:
                hits[key] = Hit(up < 0.5, 1.0, up, unit, "", "event")

    def _rule_hits(self, frame: Frame, scores: Scores, hits: dict[Key, Hit]) -> None:
        """Every rule that is met, and those of tracked alerts even when they are not."""
        tracked = set(self._tracks.keys)
        met = scores.values >= 1.0
        if not tracked and not met.any():
            return
        for i, series in enumerate(scores.series):
            key = (series.name, series.labels)
            if met[i] or key in tracked:
                value, unit, carrier = self._carrier(frame, *key, scores.shown.get(i, frozenset()))
                state = None if np.isnan(scores.values[i]) else bool(met[i])
                note = scores.notes.get(i, "")
                _merge(hits, key, Hit(state, float(scores.values[i]), value, unit, carrier, scores.detector, note))

    def _symptom_hits(self, frame: Frame, scores: Scores, hits: dict[Key, Hit]) -> None:
        tracked = set(self._tracks.keys)
        if not tracked and not (scores.values >= 1.0).any():
            return
        for name, symptom in SYMPTOMS.items():
            for i in self._names.get(name, ()):
                score, value = float(scores.values[i]), float(frame.values[i])
                upwards = self.band is None or not value < self.band.high[i]
                met = score >= 1.0 and value >= symptom.floor and upwards
                met = met and not (symptom.patient and self._background(frame))
                series = frame.series[i]
                key = (symptom.alert, _anomaly_labels(symptom.alert, series))
                if met or key in tracked:
                    state = None if np.isnan(value) else met
                    note = _usual(value, series.unit, self.band, i) if met else ""
                    _merge(hits, key, Hit(state, score, value, series.unit, series.key, scores.detector, note))

    def _background(self, frame: Frame) -> bool:
        """Whether most of the CPU time goes to work that gives way to any other."""
        name, label, share = BACKGROUND
        return any(frame.values[i] > share for i in self._names.get(name, ()) if label in frame.series[i].labels)

    def _group_hits(self, scores: Scores, detector: Detector, hits: dict[Key, Hit]) -> None:
        tracked = set(self._tracks.keys)
        if not tracked and not (scores.values >= 1.0).any():
            return
        alert = GROUP_ALERTS[scores.detector]
        for i, series in enumerate(scores.series):
            if alert == "HostAnomaly" and HOST not in series.labels:
                continue
            key = (alert, () if alert == "HostAnomaly" else series.labels)
            score = float(scores.values[i])
            if score >= 1.0 or key in tracked:
                state = None if np.isnan(score) else score >= 1.0
                note = _carried(detector, HOST[1]) if state and alert == "HostAnomaly" else ""
                _merge(hits, key, Hit(state, score, score, series.unit, series.key, scores.detector, note))

    def _carrier(self, frame: Frame, alert: str, labels: Labels,
                 shown: frozenset[str] = frozenset()) -> tuple[float, str, str]:
        """Value, unit and key of the series that shows a rule's alert best: one that met it, then the alert's order."""
        for name in sorted(ALERTS[alert].carriers if alert in ALERTS else (), key=lambda name: name not in shown):
            for i in self._names.get(name, ()):
                series = frame.series[i]
                if series.labels in (labels, ()) and not np.isnan(frame.values[i]):
                    return float(frame.values[i]), series.unit, series.key
        return float("nan"), "", ""

    def _host_event(self, event: HostEvent) -> list[Action]:
        if event.kind == "culprit_ended":
            self._incidents.culprit_ended(event.t_ns, pid_of(event.entity))
            return []
        labels = _event_labels(event)
        changed = []
        if alert := EVENT_ALERTS.get(event.kind):
            text = ALERTS[alert].says(_called(event), labels)
            changed = self._tracks.event(event.t_ns, (alert, labels), text, event.kind in EVENT_HELD,
                                         severity_of(alert, dict(labels)))
        elif alert := EVENT_CLEARS.get(event.kind):
            changed = self._tracks.clear(event.t_ns, (alert, labels))
        return self._incidents.changed(event.t_ns, changed)

    def _focus(self, t_ns: int) -> list[Action]:
        newest_ns = self._tracks.newest_ns
        if newest_ns and t_ns - newest_ns < CLOSELY_S * NS:
            self._focus_until_ns = t_ns + int(UNFOCUS_S * NS)
        wanted = t_ns < self._focus_until_ns
        if wanted == self._focused:
            return []
        self._focused = wanted
        return [Focus(wanted)]


def _merge(hits: dict[Key, Hit], key: Key, hit: Hit) -> None:
    """Keeps the gravest of several conditions for the same alert: met before unmet before unknown."""
    known = hits.get(key)
    if known is None or _rank(hit) > _rank(known):
        hits[key] = hit


def _usual(value: float, unit: str, band: Band | None, i: int) -> str:
    """How far a value is from what is usual now, as the end of a sentence; "" where that is not known."""
    if band is None or not (np.isfinite(band.low[i]) and np.isfinite(band.high[i])):
        return ""
    low, high = amount(float(band.low[i]), unit), amount(float(band.high[i]), unit)
    return f": {amount(value, unit)}, usually {low} to {high}"


def _carried(detector: Detector, group: str) -> str:
    """Which series carry the score of a group, as the end of a sentence."""
    found = detector.carriers(group) if isinstance(detector, Localiser) else []
    told = ", ".join(f"{series.key} ({share:.0%})" for series, share in found)
    return f", mostly by {told}" if told else ""


def _rank(hit: Hit) -> tuple[int, float]:
    state = {None: 0, False: 1, True: 2}[hit.met]
    return state, -1.0 if np.isnan(hit.score) else hit.score


def _anomaly_labels(alert: str, series: Series) -> Labels:
    """A general anomaly names its series, so that two series of one device are two alerts."""
    if alert != "SeriesAnomaly":
        return tuple(pair for pair in series.labels if pair[0] != "direction")
    return tuple(sorted((*series.labels, ("series", series.name))))


def _called(event: HostEvent) -> str:
    """What an event speaks of, as people call it: a process by its name, anything else by its labels."""
    comm, pid = event.get("comm"), event.entity.removeprefix("pid=")
    return f"{comm} (pid {pid})" if comm and pid.isdecimal() and pid != event.entity else event.entity


AGAIN = ("segfault", "oom_kill")
"""What happens to a program again and again, each time with another process id, is one alert."""


def _event_labels(event: HostEvent) -> Labels:
    """Labels of an event's alert: its entity, and the command name where it has one; of what is in AGAIN no process but
    the name, and the control group where that is known."""
    entity = "" if event.kind in AGAIN and event.get("comm") else event.entity
    pairs = [tuple(part.split("=", 1)) for part in entity.split(",") if "=" in part]
    pairs += [(name, str(value)) for name in ("comm", "cgroup") if (value := event.get(name)) is not None
              and (name == "comm" or (event.kind == "oom_kill" and value not in ("", "/")))]
    return tuple(sorted((str(k), str(v)) for k, v in pairs))
