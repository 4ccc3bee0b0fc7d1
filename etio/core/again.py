"""A lasting incident is looked at again: who caused it may end, and another may go on under the very same alert.

An alert that fires says nothing new when its culprit changes, so nobody would be told. An incident whose conditions
last is explained anew after half a minute, and again each time it has lasted about twice as long, so that a disk that
is full for a week costs fifteen looks; and soon after the process that was named has ended, or somebody has begun to
use much more of the CPUs than at the look before. After a restart of the daemon this goes on. A look that comes to
the same is dropped, one that names another culprit is kept, and told where that is news.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etio.core.frame import NS
from etio.core.report import Finding, Report

AGAIN_S = 30.0
"""Until the first look; each later one waits twice as long as the one before."""
GONE_S = 15.0
"""From the end of a culprit to the look: by then most of what is counted is of the time after it."""
JOINED_CORES, JOINED_S = 0.5, 10.0
"""Who uses so much more CPU than when the incident was explained, for so long, has joined."""
TOLD = 6
"""So many times one incident is told with another culprit; later ones are only kept."""

Said = tuple[str, ...]


def said(finding: Finding) -> Said:
    """What a finding comes to: cause, thing and culprit; the same for a program that was started again."""
    one = finding.culprit
    return finding.cause, finding.entity, *((one.kind, one.name, one.cgroup) if one else ())


@dataclass(slots=True)
class Again:
    """Of one incident: when it is looked at again, and what its reports came to."""

    due_ns: int = 0
    """When the next look is due; 0 = none."""
    quiet: bool = False
    """Whether the report that is being made is such a look."""
    looks: int = 0
    vain: int = 0
    """Looks in a row that a culprit's end led to and that named nobody else."""
    asked_ns: int = 0
    newest: frozenset[tuple[Said, int]] = frozenset()
    """What the report that was kept last comes to, with the processes it names."""
    told: set[Said] = field(default_factory=set)
    times: int = 0
    working: dict[str, float] = field(default_factory=dict)
    """Cores that each group of processes used soon after the newest look began."""
    joined_ns: int = 0
    """Since when somebody uses much more than that; 0 = nobody does."""

    def adopt(self, t_ns: int, age_s: float, reports: Iterable[Report]) -> None:
        """Goes on where an earlier run ended. reports: what it told, oldest first; age_s: of the incident."""
        for report in reports:
            known = [f for f in report.findings if f.verdict != "INCONCLUSIVE"]
            self.newest = _found(known) if known else self.newest
            self.told |= {said(f) for f in known}
        self.looks = int(math.log2(max(age_s / AGAIN_S, 1.0)))
        self.asked_ns, self.due_ns = t_ns, t_ns + int(AGAIN_S * NS)

    def ripe(self, t_ns: int) -> bool:
        """Whether a look is due."""
        return bool(self.due_ns) and t_ns >= self.due_ns

    def begin(self, t_ns: int, quiet: bool) -> None:
        """An explanation begins."""
        self.due_ns, self.quiet, self.asked_ns = 0, quiet, t_ns
        self.working, self.joined_ns = {}, 0
        self.looks += quiet

    def culprit_ended(self, t_ns: int, pid: int) -> None:
        """The process `pid` has ended; a look is due soon where it is one that was named."""
        if pid and pid in {named for _, named in self.newest}:
            self._soon(t_ns)

    def seen(self, t_ns: int, working: Mapping[str, float]) -> None:
        """Takes in how many cores each group of processes uses; a look is due soon where one has joined."""
        if self.due_ns <= t_ns + GONE_S * NS:
            return
        self.working = self.working or dict(working)
        if not any(now - self.working.get(who, 0.0) >= JOINED_CORES for who, now in working.items()):
            self.joined_ns = 0
        elif not self.joined_ns:
            self.joined_ns = t_ns
        elif t_ns - self.joined_ns >= JOINED_S * NS:
            self._soon(t_ns)
            self.joined_ns = 0

    def _soon(self, t_ns: int) -> None:
        soon = max(t_ns + int(GONE_S * NS), self.asked_ns + int(AGAIN_S * 2**self.vain * NS))
        self.due_ns = min(self.due_ns or soon, soon)
        self.vain += 1

    def failed(self) -> None:
        """An explanation failed; the next look is due as if it had come to nothing new."""
        self._wait()

    def reported(self, report: Report) -> tuple[bool, bool]:
        """Takes a report in; returns whether it is to be kept, and whether it is to be told."""
        self._wait()
        known = [f for f in report.findings if f.verdict != "INCONCLUSIVE"]
        if self.quiet and self.told:  # what is no more than likely names somebody else each time
            known = [f for f in known if f.verdict == "CONFIRMED"]
        if not known:
            return not self.quiet, not self.quiet
        found = _found(known)
        fresh = any(said(f) not in self.told for f in known)
        kept, told = not self.quiet or not found <= self.newest, not self.quiet or (fresh and self.times < TOLD)
        if kept:
            self.newest = found
        if told:
            self.vain = 0 if fresh else self.vain
            self.times += self.quiet
            self.told |= {said(f) for f in known}
        return kept, told

    def _wait(self) -> None:
        later = self.asked_ns + int(AGAIN_S * 2**self.looks * NS)
        self.due_ns = min(self.due_ns or later, later)


def _found(known: Iterable[Finding]) -> frozenset[tuple[Said, int]]:
    """What findings come to, with the processes they name."""
    return frozenset((said(f), f.culprit.pid if f.culprit else 0) for f in known)
