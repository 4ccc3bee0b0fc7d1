"""All eBPF families as one collector: reads mapped memory, makes no system call per value.

Reads: array maps of the programs the warden's loader attached.
Emits: see EMITS, and the docstring of each family's reader.
Needs: a warden (root) and bcc for the loader; BTF for run-queue latency at its cheapest, tracefs for the rest.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from collector.ebpf import block, connect, irq, lock, memory, net, oom, process, reclaim, sched
from collector.ebpf.client import Loaded
from collector.ebpf.maps import MappedArray
from collector.ebpf.price import Runs
from collector.ebpf.reader import Family, Values
from collector.late import LateCollector
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.facts import Actor, ActorTable
from etio.core.frame import Floats, Reading
from etio.core.ports import Emits
from etio.core.series import Series

EMITS: tuple[Emits, ...] = (
    *sched.EMITS,
    *block.EMITS,
    Emits("net_retransmits_per_second", "1/s", (), "TCP segments sent again, all network namespaces"),
    Emits("net_resets_sent_per_second", "1/s", (), "TCP resets sent"),
    Emits("net_resets_received_per_second", "1/s", (), "TCP resets received"),
    Emits("net_drops_per_second", "1/s", ("reason",), "packets lost, by the kernel's reason"),
    Emits("net_resets_by_reason_per_second", "1/s", ("reason",), "TCP resets sent, by the kernel's reason (6.10)"),
    Emits("net_turned_away_per_second", "1/s", (), "connections asked for by others where nobody listens (6.10)"),
    Emits("net_connections_reset_per_second", "1/s", ("direction",), "TCP connections that stood and were reset"),
    Emits("net_connections_reset_ratio", "ratio", (), "of the connections that ended lately, those by a reset"),
    Emits("net_connections_timed_out_per_second", "1/s", (), "TCP connections that stood and were given up"),
    Emits("net_connects_per_second", "1/s", (), "outgoing TCP connections begun, all network namespaces"),
    Emits("net_connect_latency_p50_seconds", "seconds", (), "median time from SYN to established, this tick"),
    Emits("net_connect_latency_p99_seconds", "seconds", (), "99th percentile of the same"),
    Emits("net_connect_failures_per_second", "1/s", ("reason",), "outgoing TCP connections that never stood"),
    Emits("net_connect_failure_ratio", "ratio", (), "of the connections decided lately, those that failed"),
    Emits("net_close_wait_sockets", "1", (), "sockets that their peer has closed and their program has not"),
    Emits("net_connect_cancels_per_second", "1/s", (), "connections their own program closed within a second"),
    Emits("irq_soft_seconds_per_second", "seconds/s", ("vector",), "time in soft interrupts, all cores"),
    Emits("irq_hard_seconds_per_second", "seconds/s", (), "time in the interrupt handlers of devices, all cores"),
    Emits("irq_line_seconds_per_second", "seconds/s", ("irq", "device"), "the same by line, once it took 1 ms"),
    Emits("irq_ksoftirqd_seconds_per_second", "seconds/s", (), "soft interrupts put off to ksoftirqd"),
    Emits("irq_worst_core_ratio", "ratio", (), "share of its time the worst core spends in interrupts"),
    Emits("irq_mean_core_ratio", "ratio", (), "the same, mean of the cores"),
    *reclaim.EMITS,
    *memory.EMITS,
    *lock.EMITS,
    Emits("process_forks_per_second", "1/s", (), "tasks created, threads included"),
    Emits("process_execs_per_second", "1/s", (), "programs started"),
    Emits("process_exits_per_second", "1/s", (), "tasks ended"),
    Emits("process_failures_per_second", "1/s", (), "processes that ended by an error or a fault of their own"),
    Emits("process_exec_repeats_per_second", "1/s", (), "programs whose starter had just started the same one"),
)
READERS: dict[str, Any] = {module.__name__.rpartition(".")[2]: module.Reader
                           for module in (sched, block, net, reclaim, oom, process, connect, irq, memory, lock)}


@dataclass(frozen=True, slots=True)
class FamilyState:
    """One family: on, or off with the reason; missing: parts of it that this kernel does not have."""

    name: str
    on: bool
    reason: str = ""
    missing: tuple[str, ...] = ()


class _Once:
    """Work that is done at the first call; later ones yield the same."""

    def __init__(self, work: Callable[[], Reading]) -> None:
        self._work = work
        self._made: Reading | None = None

    @property
    def done(self) -> bool:
        """Whether it was called."""
        return self._made is not None

    def __call__(self) -> Reading:
        if self._made is None:
            self._made = self._work()
        return self._made


class EbpfCollector(LateCollector):
    """Implements etio.core.ports.Collector over what the loader handed over. Closing it ends the programs."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._root = Path("/")
        self._readers: list[Family] = []
        self._sources: dict[str, Loaded] = {}
        self._states: list[FamilyState] = []
        self._places: list[list[int]] = []
        self._series: list[Series] = []
        self._known: dict[Series, int] = {}
        self._coming: deque[Loaded] = deque()
        self._held: list[_Once] = []
        self._actors_ns = 0

    def open(self, root: Path) -> None:
        """Maps every family that is on. Raises NoData when none is."""
        self._root = root
        self._open_families(self._loaded)
        if not self._readers:
            raise NoData(f"eBPF: {self._why_off() or 'no family was loaded'}")

    def _open_families(self, loaded: Loaded) -> None:
        for entry in loaded.manifest.get("families", ()):
            self.drop(str(entry["name"]), "loaded again")
            state = self._open_family(entry, loaded)
            self._states = [*(s for s in self._states if s.name != state.name), state]

    def _open_family(self, entry: dict[str, Any], loaded: Loaded) -> FamilyState:
        name, reason = str(entry["name"]), str(entry.get("reason", ""))
        if not reason and name not in READERS:
            reason = "no reader for it"
        if not reason:
            try:
                mapped = MappedArray(loaded.descriptors[entry["map"]], int(entry["map_bytes"]))
                self._readers.append(READERS[name](mapped, {**entry, "root": self._root}, int(loaded.manifest["cpus"])))
                self._places.append([])
                self._sources[name] = loaded
            except (Broken, LookupError, TypeError) as error:
                reason = str(error)
        return FamilyState(name, not reason, reason, tuple(entry.get("missing", ())))

    def adopt(self, loaded: Loaded) -> None:
        """Takes over families that were loaded again, with the next reading; from any thread."""
        self._coming.append(loaded)

    def grab(self, t_ns: int) -> Callable[[], Reading] | Reading:
        """See etio.core.ports.Deferring: the reading itself when something happened that must not wait."""
        while self._coming:
            self._open_families(self._coming.popleft())
        grabbed = [(reader, places, reader.grab()) for reader, places in zip(self._readers, self._places, strict=True)]
        events = tuple(event for reader in self._readers for event in reader.events(t_ns))
        self._held = [work for work in self._held if not work.done]
        self._held.append(work := _Once(partial(self._made, grabbed, events)))
        if not events:
            return work
        return [one() for one in self._held][-1]

    def _made(self, grabbed: list[tuple[Family, list[int], Callable[[], Values]]],
              events: tuple[HostEvent, ...]) -> Reading:
        parts = []
        for reader, places, make in grabbed:
            values = make()
            if fresh := reader.series[len(places):]:
                places.extend(map(self._place, fresh))
            parts.append((places[:len(values)], values))
        return Reading(self._series, self._fill(parts), None, events)

    def _place(self, one: Series) -> int:
        """Where a series stands: that of a family that was loaded again where it stood before."""
        at = self._known.setdefault(one, len(self._series))
        if at == len(self._series):
            self._series.append(one)
        return at

    def _fill(self, parts: list[tuple[list[int], list[float]]]) -> Floats:
        out = np.full(len(self._series), np.nan)
        for places, values in parts:
            out[places] = values
        return out

    def actors(self, t_ns: int) -> ActorTable:
        """Heavy hitters since the previous call."""
        found: list[Actor] = []
        for reader in self._readers:
            found += reader.actors()
        start, self._actors_ns = self._actors_ns or t_ns, t_ns
        return ActorTable(start, t_ns, tuple(found))

    def runs(self) -> Runs:
        """How often the programs of each family that is on have run, as far as it counts that."""
        return {reader.name: reader.runs() for reader in self._readers}

    def counts(self) -> dict[str, int]:
        """Series of each family that is on."""
        return {reader.name: len(reader.series) for reader in tuple(self._readers)}

    def families(self) -> Sequence[FamilyState]:
        """Every family, with the reason for what is off."""
        return tuple(self._states)

    def tier(self) -> tuple[str, str]:
        """("T1", what is still missing) while any family is on, else ("T2", why)."""
        return ("T1" if self._readers else "T2"), self._why_off()

    def _why_off(self) -> str:
        """Every reason once, with the families it keeps off."""
        reasons: dict[str, list[str]] = {}
        for state in self._states:
            if not state.on:
                reasons.setdefault(state.reason.replace(f" etio_{state.name}", ""), []).append(state.name)
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())

    def drop(self, family: str, reason: str) -> None:
        """Detaches one family, such as the costliest when over budget: its series go missing, the rest goes on."""
        for i, reader in enumerate(self._readers):
            if reader.name != family:
                continue
            loaded = self._sources.pop(family)
            entry = next(e for e in loaded.manifest["families"] if e["name"] == family)
            loaded.release([entry["map"], *(p[key] for p in entry["programs"] for key in ("link", "program"))])
            del self._readers[i], self._places[i]
            self._states = [FamilyState(family, False, reason) if s.name == family else s for s in self._states]
            return

    def close(self) -> None:
        """Drops the maps and the descriptors: the programs are gone afterwards."""
        self._readers, self._places = [], []
        for loaded in (self._loaded, *self._sources.values(), *self._coming):
            loaded.close()
        self._sources = {}
