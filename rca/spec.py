"""The form of a failure type: small tables of conditions, and sentences to tell it with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from etio.core.evidence import Evidence
from etio.core.report import Culprit

if TYPE_CHECKING:
    from rca.scene import Scene

Op = Literal[">=", "<="]
Stat = Literal["now", "mean", "peak", "low", "last"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Answer of one condition. holds: None where it could not be measured (then `evidence` is of kind "missing").

    group: name of the source; findings count how many different ones support them.
    why: what it means that the condition holds, for refuters.
    """

    holds: bool | None
    evidence: Evidence
    group: str
    name: str
    why: str = ""
    deviation: float = float("nan")


@dataclass(frozen=True, slots=True)
class Check:
    """A series against a bound.

    bound: in the unit of the series. factor: where a baseline is known, the value must also be this many times the
        baseline (for "<=": at most that part of it); 0 = no matter. compared: without a baseline it is unknown whether
        the condition holds, for what is more or less than before.
    stat: "now" is the median of the last seconds, "mean" their mean (for bursts), "peak" and "low" the extremes since
        the onset, "last" the newest.
    labels: fixed labels of the series, such as (("mode", "steal"),). but: labels that it may not have.
    """

    series: str
    op: Op
    bound: float
    stat: Stat = "now"
    factor: float = 0.0
    labels: tuple[tuple[str, str], ...] = ()
    why: str = ""
    but: tuple[tuple[str, str], ...] = ()
    compared: bool = False


@dataclass(frozen=True, slots=True)
class Happened:
    """A host event of one of these kinds, on the entity in question, since shortly before the onset."""

    kinds: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A free-form look at series and facts: returns an Outcome for the scene and entity.

    reads: names of the series it looks at; no others than those that some condition names are there.
    """

    look: Callable[[Scene, str], Outcome]
    reads: tuple[str, ...] = ()


Condition = Check | Happened | Shown
AnyOf = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Conditions for one kind of entity.

    label: the series label whose values are the entities ("device", "cgroup", "mount"); "" = the host as a whole.
    needs: every group must hold, by any of its conditions; without them the cause is ruled out, or cannot be judged.
    supports: each that holds makes the finding stronger. refutes: any that holds rules the cause out.
    doubts: any that holds keeps the finding from being CONFIRMED.
    headlines, summary, explains: used in place of those of the cause where given.
    """

    needs: tuple[AnyOf, ...]
    supports: tuple[Condition, ...] = ()
    refutes: tuple[Condition, ...] = ()
    doubts: tuple[Condition, ...] = ()
    label: str = ""
    headlines: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    explains: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Blame:
    """A culprit with the evidence that carries the claim. clear: it stands out from the others."""

    culprit: Culprit
    evidence: Evidence
    group: str
    clear: bool = True


@dataclass(frozen=True, slots=True)
class CauseSpec:
    """The constant CAUSE of each module in rca/causes.

    id: as in reports. title: in a list of causes. mechanism: one sentence. source: where the rule comes from.
    alerts: names of the alerts it explains directly. explains: ids of causes that can follow from it.
    hard: one reading is the fault itself (a killed process, a full file system), no second source is needed.
    specific: 0..3, how seldom it is a mere by-product of something else; orders findings that are otherwise equal.
    blame: names the culprit, or None. culprit_needed: without one the finding stays LIKELY.
    headlines, summary: templates, see rca/telling.py. tell_apart: what would confirm it, for INCONCLUSIVE reports.
    """

    id: str
    title: str
    mechanism: str
    source: str
    alerts: tuple[str, ...]
    tables: tuple[Table, ...]
    headlines: tuple[str, ...]
    summary: tuple[str, ...]
    tell_apart: str
    explains: tuple[str, ...] = ()
    hard: bool = False
    specific: int = 1
    blame: Callable[[Scene, str], Blame | None] | None = None
    culprit_needed: bool = True


@dataclass(frozen=True, slots=True)
class Draft:
    """A cause that holds for an entity ("" = host), before it is ranked and told."""

    spec: CauseSpec
    table: Table
    entity: str
    supports: tuple[Outcome, ...]
    doubts: tuple[Outcome, ...]
    blame: Blame | None
    link: int = 0
    explained: frozenset[str] = field(default_factory=frozenset)
    score: float = 0.0

    @property
    def entity_text(self) -> str:
        """In the notation of Series.entity."""
        return f"{self.table.label}={self.entity}" if self.table.label else "host"

    @property
    def explains(self) -> tuple[str, ...]:
        """Ids of causes that can follow from it."""
        return self.spec.explains if self.table.explains is None else self.table.explains

    @property
    def onset_ns(self) -> int:
        """Earliest known onset of its evidence, 0 where none is known."""
        return min((o.evidence.onset_ns for o in self.supports if o.evidence.onset_ns), default=0)

    @property
    def groups(self) -> frozenset[str]:
        """The independent sources that carry it."""
        own = {o.group for o in self.supports}
        return frozenset(own | ({self.blame.group} if self.blame else set()))


@dataclass(frozen=True, slots=True)
class Rejected:
    """A cause that was looked at and does not hold; `outcome` is the reason. near: how many of its needs held."""

    spec: CauseSpec
    outcome: Outcome
    reason: str
    near: int = 0


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A cause that could not be judged because these readings are missing."""

    spec: CauseSpec
    missing: tuple[Outcome, ...]
