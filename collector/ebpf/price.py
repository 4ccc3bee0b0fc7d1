"""What the programs cost the host, family by family: the kernel's own account where it keeps one, else an estimate.

The kernel counts run times while kernel.bpf_stats_enabled is 1 (about 60 ns of a run are its own counting). Else each
family tells how often its programs ran, and what a run costs is known about (Probe.ns).
"""

from collections.abc import Mapping, Sequence

from collector.ebpf.families import FAMILIES
from etio.core.status import ProgramCost

FAMILY_OF = {probe.name: family.name for family in FAMILIES for probe in family.probes}
NS_OF = {probe.name: probe.ns for family in FAMILIES for probe in family.probes}

Runs = Mapping[str, Mapping[str, float]]
"""Family -> program -> how often it ran so far."""


class Price:
    """Adds up CPU seconds, of all cores, by family. A program that was loaded again counts from 0."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """So far, by family."""
        self._ran: dict[str, float] = {}
        self._counted: dict[str, float] = {}

    def step(self, runs: Runs, costs: Sequence[ProgramCost] = ()) -> None:
        """runs: of the families that are on; costs: the kernel's account, empty while it keeps none."""
        known = {c.name: c.run_seconds for c in costs if c.run_seconds >= 0}
        ran = {program: count for of_family in runs.values() for program, count in of_family.items()}
        for family in runs:
            self.seconds.setdefault(family, 0.0)
        for program in ran.keys() | known.keys():
            family = FAMILY_OF.get(program, "")
            if family in runs:
                self.seconds[family] += self._grown(program, ran, known)
        self._ran, self._counted = ran, known

    def _grown(self, program: str, ran: Mapping[str, float], known: Mapping[str, float]) -> float:
        """Seconds since the last step. The account serves only where it stood at both ends."""
        if program in known and program in self._counted:
            return max(0.0, known[program] - self._counted[program])
        if program in ran and program in self._ran:
            return max(0.0, ran[program] - self._ran[program]) * NS_OF[program] / 1e9
        return 0.0
