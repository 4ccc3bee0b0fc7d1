"""What the eBPF programs cost, family by family; and families as parts of etio that are shed and loaded again.

A program runs on the time of the task that meets it, on whatever core that is. So what counts against the budget is the
part of each core that is lost: on a host with more cores the same part of a core for each of them.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from collector.ebpf.client import WardenClient
from collector.ebpf.collector import EbpfCollector, FamilyState
from collector.ebpf.families import FAMILIES, ON_DEMAND
from collector.ebpf.price import Price
from etio.core.errors import Broken, NoData
from etio.core.status import CollectorHealth
from etio.daemon.runner import SHED_REMEDY

log = logging.getLogger(__name__)

CORES = os.cpu_count() or 1
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
OPTIONAL = frozenset(family.name for family in FAMILIES if family.optional)


class ProbeFamily:
    """One family, as etio.daemon.shedding.Part. load: part of each core that it costs, recently."""

    def __init__(self, family: str, probes: "Probes") -> None:
        self.family, self.name = family, f"ebpf {family}"
        self.load = 0.0
        self.why = ""
        """It was shed the last time."""
        self._probes = probes

    @property
    def able(self) -> bool:
        """Whether it can be shed now."""
        return self.family in OPTIONAL and self.family in self._probes.on

    def shed(self, reason: str) -> None:
        """Detaches its programs."""
        self.why, self.load = reason, 0.0
        self._probes.drop(self.family, reason)

    def resume(self) -> bool:
        """Has it loaded again, which takes seconds; False while that cannot be done."""
        return self._probes.load_again(self.family)


class Probes:
    """All families that were loaded. busy: told True while the warden compiles and answers nobody."""

    def __init__(self, client: WardenClient, collector: EbpfCollector, busy: Callable[[bool], None],
                 stats: Path = STATS) -> None:
        self._client, self._collector, self._busy, self._stats = client, collector, busy, stats
        self._price = Price()
        self._seen_s = time.monotonic()
        self._loading = threading.Lock()
        self.parts = tuple(ProbeFamily(state.name, self) for state in collector.families())

    @property
    def on(self) -> tuple[str, ...]:
        """Families whose programs are attached."""
        return tuple(state.name for state in self._collector.families() if state.on)

    def measure(self) -> float:
        """CPU seconds that all programs have cost so far, of all cores; from the sampler's thread."""
        before, now_s = dict(self._price.seconds), time.monotonic()
        self._price.step(self._collector.runs(), self._client.program_costs() if self._counted() else ())
        span, self._seen_s = now_s - self._seen_s, now_s
        for part in self.parts:
            grown = self._price.seconds.get(part.family, 0.0) - before.get(part.family, 0.0)
            part.load = grown / span / CORES if span > 0 else 0.0
        return sum(self._price.seconds.values())

    def _counted(self) -> bool:
        """Whether the kernel keeps an account, and the warden can be asked for it."""
        try:
            return self._stats.read_bytes().strip() == b"1" and not self._loading.locked()
        except OSError:
            return False

    def drop(self, family: str, reason: str) -> None:
        """Takes a family off."""
        self._collector.drop(family, reason)
        try:
            self._client.unload_family(family)
        except (NoData, Broken) as error:
            log.warning("the warden keeps eBPF family %s: %s", family, error)

    def load_again(self, family: str) -> bool:
        """Has a family loaded by a thread; False while another one is."""
        if not self._loading.acquire(blocking=False):
            return False
        self._busy(True)
        threading.Thread(target=self._load, args=(family,), name="ebpf-load", daemon=True).start()
        return True

    def _load(self, family: str) -> None:
        try:
            self._collector.adopt(self._client.load_family(family))
        except (NoData, Broken) as error:
            log.warning("eBPF family %s cannot be loaded again: %s", family, error)
        finally:
            self._busy(False)
            self._loading.release()

    def health(self) -> tuple[CollectorHealth, ...]:
        """One row for each family."""
        states = {state.name: state for state in self._collector.families()}
        counts = self._collector.counts()
        rows = [self._row(part, states[part.family], counts.get(part.family, 0)) for part in self.parts]
        unasked = [family for family in ON_DEMAND if family not in states]
        return (*rows, *(CollectorHealth(f"ebpf {family}", "off", "loaded only where it is asked for",
                                         f'set ebpf_on_demand = ["{family}"] under [daemon]') for family in unasked))

    def _row(self, part: ProbeFamily, state: FamilyState, series: int) -> CollectorHealth:
        spent = self._price.seconds.get(part.family, 0.0)
        if not state.on and part.why:
            return CollectorHealth(part.name, "shed", part.why, SHED_REMEDY, seconds_total=spent)
        return CollectorHealth(part.name, "on" if state.on else "nodata", state.reason, series=series,
                               seconds_total=spent)
