"""What the agent is asked to explain, and with which settings."""

from dataclasses import dataclass, field

from etio.core.alert import Incident
from etio.core.frame import NS

WHO_S, LASTED_S = 20, 25
"""Who does it is counted over so many last seconds of an incident that has lasted for longer than this."""


@dataclass(frozen=True, slots=True)
class RcaConfig:
    """Settings of the root-cause agent.

    baseline_s: how much calm history before the onset is read. lead_s: the last part of it, kept out of the baseline
        because a slow fault may already be at work in it; onsets are looked for from there on.
    recent_s: "now" is the median of this many last seconds.
    max_evidence: rows of the evidence table.
    changes_s: how long before the onset a new process or an event counts as "what changed before".
    llm_deadline_s: how long a language model may take.
    """

    baseline_s: float = 600.0
    lead_s: float = 60.0
    recent_s: float = 10.0
    max_evidence: int = 12
    max_ruled_out: int = 8
    changes_s: float = 180.0
    llm_deadline_s: float = 60.0

    def __post_init__(self) -> None:
        """Raises ValueError where a value makes no sense."""
        if min(self.baseline_s, self.recent_s, self.changes_s, self.llm_deadline_s) <= 0 or self.lead_s < 0:
            raise ValueError("durations must be above 0 seconds")
        if self.max_evidence < 3 or self.max_ruled_out < 0:
            raise ValueError("max_evidence must be at least 3, max_ruled_out at least 0")


@dataclass(frozen=True, slots=True)
class Case:
    """One incident to explain at the moment `now_ns` (wall clock) on `host`.

    until_ns: when its conditions were last met, where it is over although no alert has resolved yet; 0 = they last.
    """

    incident: Incident
    now_ns: int
    host: str
    settings: RcaConfig = field(default_factory=RcaConfig)
    until_ns: int = 0

    @property
    def onset_ns(self) -> int:
        """When the first condition began; the opening of the incident where it holds no alert."""
        if not self.incident.alerts:
            return self.incident.opened_ns
        return min(self.incident.onset_ns, self.now_ns)

    @property
    def end_ns(self) -> int:
        """Last moment that belongs to the incident: its end, or now."""
        return min(self.until_ns or self.now_ns, self.incident.resolved_ns or self.now_ns, self.now_ns)

    @property
    def who_ns(self) -> int:
        """From when on it is counted who does it: the onset, or lately where it has lasted: who began may be gone."""
        if self.incident.resolved_ns or self.end_ns - self.onset_ns <= LASTED_S * NS:
            return self.onset_ns
        return self.end_ns - WHO_S * NS

    @property
    def start_ns(self) -> int:
        """First moment of history that is read."""
        return self.onset_ns - int(self.settings.baseline_s * NS)
