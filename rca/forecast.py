"""What the trend detector foresaw, and whether the window of the case bears it out."""

from etio.core.alert import Alert
from etio.core.evidence import Evidence
from rca.conditions import missing, series_evidence
from rca.culprits import fact
from rca.evidence import rising_share
from rca.scene import Scene
from rca.spec import Outcome, Shown
from rca.units import clean

SOURCE = "robust line through means of the last minutes to hours (detector trends)"
STEADY = 0.7
"""Share of pieces of the window that go the same way."""


def foreseen(label: str, *alerts: str) -> Shown:
    """Whether one of these alerts speaks of the entity; its claim holds the time left and the interval."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Met where such an alert speaks of the entity; never unknown."""
        found = [a for a in scene.case.incident.alerts if a.name in alerts and _concerns(a, label, entity)]
        if not found:
            return Outcome(False, fact("nothing is foreseen to run out", scene, float("nan"), "", SOURCE), "trend",
                           "forecast")
        one = max(found, key=lambda a: a.pending_ns)
        evidence = Evidence("", "fact", clean(one.summary, 240), one.entity, "",
                            (one.pending_ns, scene.case.end_ns), one.value, one.unit, score=one.score,
                            onset_ns=one.pending_ns, source=SOURCE)
        return Outcome(True, evidence, "trend", "forecast")

    return Shown(look)


def _concerns(alert: Alert, label: str, entity: str) -> bool:
    return dict(alert.labels).get(label) == entity if label else True


def declining(name: str, label: str) -> Shown:
    """Whether what is left of it falls in nearly every piece of the window."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Met where the series of the entity falls steadily; never unknown."""
        for one in scene.measures(name, label, entity):
            at = scene.window.series.index(one.series)
            share, pace = rising_share(scene.window.t_ns, -scene.window.values[:, at])
            if share >= STEADY and pace > 0:
                return Outcome(True, series_evidence(one, one.last), "statvfs", name)
        return Outcome(False, missing(name, scene), "statvfs", name)

    return Shown(look)
