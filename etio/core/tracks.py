"""The life of an alert: pending -> firing -> resolved, with persistence on both edges."""

import math
from dataclasses import dataclass, replace

from etio.core.alert import Alert, Severity, fingerprint
from etio.core.frame import NS
from etio.core.policy import ALERTS, AlertKind
from etio.core.series import Labels

BLIND_S = 30.0
"""A firing alert whose data went missing is kept so long before it resolves: not seeing is not healing."""
LASTS_S = 3.0
"""What was met within so many seconds still lasts: a single frame may come late or be calm."""

Key = tuple[str, Labels]


@dataclass(frozen=True, slots=True)
class Hit:
    """One condition in one frame. met: True, False, or None where the data is missing."""

    met: bool | None
    score: float
    value: float
    unit: str
    series_key: str
    detector: str
    note: str = ""
    """Which series carry it, for the summary of an alert that speaks of many."""


MISSING = Hit(None, math.nan, math.nan, "", "", "")


@dataclass(slots=True)
class _Track:
    alert: Alert
    kind: AlertKind
    last_met_ns: int
    held: bool = False
    """Met until an event clears it (a link that is down), frame conditions do not speak of it."""
    by_event: bool = False


class Tracks:
    """All alerts that are pending or firing."""

    def __init__(self, mute: frozenset[str], for_s: dict[str, float]) -> None:
        self._mute = mute
        self._for_s = for_s
        self._tracks: dict[Key, _Track] = {}
        self._adopted: set[Key] = set()

    @property
    def adopted(self) -> tuple[Key, ...]:
        """Alerts of lasting states that an earlier run was told of: who told it may not know that it did."""
        self._adopted &= self._tracks.keys()
        return tuple(self._adopted)

    @property
    def newest_ns(self) -> int:
        """When the newest condition that is pending or firing began; 0 = there is none."""
        return max((track.alert.pending_ns for track in self._tracks.values()), default=0)

    @property
    def keys(self) -> tuple[Key, ...]:
        """(name, labels) of everything pending or firing."""
        return tuple(self._tracks)

    def firing(self) -> tuple[Alert, ...]:
        """Everything that fires now."""
        return tuple(t.alert for t in self._tracks.values() if t.alert.state == "firing")

    def lasting(self, t_ns: int) -> set[str]:
        """Fingerprints of what fires and was met a moment ago, as frames show it: an event only says that it was."""
        return {t.alert.fingerprint for t in self._tracks.values()
                if t.alert.state == "firing" and not t.by_event and t_ns - t.last_met_ns <= LASTS_S * NS}

    def adopt(self, alert: Alert, t_ns: int) -> None:
        """Takes over a firing alert of an earlier run; it resolves by itself unless its condition is met again."""
        kind = ALERTS.get(alert.name)
        if kind is not None:
            self._tracks[(alert.name, alert.labels)] = _Track(alert, kind, t_ns, by_event=not alert.series_key)
            if kind.held and alert.detector == "event":
                self._adopted.add((alert.name, alert.labels))

    def frame(self, t_ns: int, hits: dict[Key, Hit]) -> list[Alert]:
        """Advances every track by one frame; returns the alerts that changed state (not those that began pending)."""
        changed: list[Alert] = []
        for key, hit in hits.items():
            if hit.met and key[0] not in self._mute:
                changed += self._met(key, t_ns, hit)
        for key in list(self._tracks):
            hit = hits.get(key, MISSING)
            if not hit.met:
                changed += self._unmet(key, t_ns, missing=hit.met is None)
        return changed

    def event(self, t_ns: int, key: Key, summary: str, held: bool, severity: Severity | None = None) -> list[Alert]:
        """A host event that is an alert by itself. Repeated ones are counted in the value and not told again.

        severity: in place of that of its kind.
        """
        if key[0] in self._mute:
            return []
        known = self._tracks.get(key)
        if known is not None:
            known.last_met_ns, known.held = t_ns, held
            counted = 2.0 if math.isnan(known.alert.value) else known.alert.value + 1.0
            known.alert = replace(known.alert, value=counted, unit="times")
            return []
        track = self._begin(key, t_ns, Hit(True, 1.0, math.nan, "", "", "event"))
        track.held, track.by_event = held, True
        track.alert = replace(track.alert, state="firing", firing_ns=t_ns, summary=summary,
                              severity=severity or track.alert.severity)
        return [track.alert]

    def clear(self, t_ns: int, key: Key) -> list[Alert]:
        """A host event that ends the alert `key`; only the event that began it may have known the command's name."""
        if key not in self._tracks:
            key = next((k for k in self._tracks if k[0] == key[0] and _nameless(k[1]) == key[1]), key)
        track = self._tracks.pop(key, None)
        if track is None:
            return []
        return [replace(track.alert, state="resolved", resolved_ns=t_ns)]

    def _met(self, key: Key, t_ns: int, hit: Hit) -> list[Alert]:
        track = self._tracks.get(key) or self._begin(key, t_ns, hit)
        track.last_met_ns = t_ns
        better = not hit.score < track.alert.score
        track.alert = replace(
            track.alert, score=hit.score if better else track.alert.score, value=hit.value, unit=hit.unit,
            series_key=hit.series_key or track.alert.series_key, detector=hit.detector,
            summary=_summary(key, hit.note) if hit.note else track.alert.summary)
        lasting = self._for_s.get(key[0], track.kind.for_s)
        if track.alert.state == "pending" and (t_ns - track.alert.pending_ns) / NS >= lasting - 0.5:
            track.alert = replace(track.alert, state="firing", firing_ns=t_ns)
            return [track.alert]
        return []

    def _unmet(self, key: Key, t_ns: int, missing: bool) -> list[Alert]:
        track = self._tracks[key]
        if track.held:
            return []
        quiet = (t_ns - track.last_met_ns) / NS
        if track.alert.state == "pending":
            if quiet > track.kind.grace_s:
                del self._tracks[key]
            return []
        blind = missing and not track.by_event
        if quiet < (max(track.kind.clear_s, BLIND_S) if blind else track.kind.clear_s):
            return []
        del self._tracks[key]
        return [replace(track.alert, state="resolved", resolved_ns=t_ns)]

    def _begin(self, key: Key, t_ns: int, hit: Hit) -> _Track:
        name, labels = key
        kind = ALERTS[name]
        alert = Alert(
            fingerprint=fingerprint(name, labels), name=name, severity=kind.severity, state="pending", labels=labels,
            summary=_summary(key, hit.note), series_key=hit.series_key, value=hit.value,
            unit=hit.unit, score=hit.score, detector=hit.detector, pending_ns=t_ns)
        track = self._tracks[key] = _Track(alert, kind, t_ns)
        return track


def _nameless(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] != "comm")


def _summary(key: Key, note: str) -> str:
    name, labels = key
    entity = ", ".join(v for k, v in labels if k != "series") or "host"
    return ALERTS[name].says(entity, labels) + note
