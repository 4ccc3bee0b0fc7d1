"""Ranks of GPU jobs, seen from outside: iteration time, own compute, waiting, lateness at collectives.

Reads:  uprobes on NCCL and CUDA in every process that maps them, through the warden; nothing of the job is changed
Emits:  see COLUMNS
Needs:  a warden (root) and bcc for its loader; enabled = true (off by default: each probed call costs microseconds)
Source: NCCL user guide (collective communication functions), CUDA runtime and driver API (synchronisation)

What it sees is the host side: a call that only enqueues returns at once, so the compute time of the GPU itself shows
as waiting in the next call that synchronises. See docs/gpu-jobs.md.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.ebpf.job_probes import JOBS, RING, SHARED_BYTES
from collector.ebpf.maps import MappedArray
from collector.gpu_job_names import Name, name_of
from collector.gpu_job_stalls import Stalls
from collector.gpu_job_steps import ARRIVAL, Rank, Step, steps_of
from collector.kernel_clock import monotonic_ns
from collector.table import Column, emits
from etio.core.due import is_due
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

LABELS = ("job", "rank")
ITERATION = Column("gpu_job_iteration_seconds", "seconds", "gauge", "time of one iteration", LABELS)
OWN = Column("gpu_job_own_seconds", "seconds", "gauge", "own time of one iteration: without calls that wait", LABELS)
BLOCKED = Column("gpu_job_sync_blocked_ratio", "ratio", "gauge", "share of the iteration in calls that wait", LABELS)
LATE = Column("gpu_job_arrival_lateness_seconds", "seconds", "gauge",
              "arrival at a collective after the median of the job's other ranks on this host", LABELS)
COLLECTIVES = Column("gpu_job_collectives_per_second", "1/s", "counter", "collectives begun", LABELS)
KERNELS = Column("gpu_job_kernel_launches_per_second", "1/s", "counter",
                 "CUDA kernels launched, in samples of two seconds (sample_launches_s)", LABELS)
GRAPHS = Column("gpu_job_graph_launches_per_second", "1/s", "counter", "CUDA graphs launched", LABELS)
PROCESS = Column("gpu_job_process_id", "1", "gauge", "process id of the rank", LABELS)
ROLE = Column("gpu_job_role", "1", "gauge", "number of the set of collectives that the rank calls", LABELS)
GPU = Column("gpu_job_gpu_index", "1", "gauge", "GPU of the rank, where its environment says", LABELS)
SILENT = Column("gpu_job_silent_seconds", "seconds", "gauge", "time since the rank began a collective", LABELS)
GONE = Column("gpu_job_rank_gone", "1", "gauge", "former process id of a rank that has ended before the others", LABELS)
STALLED = Column("gpu_job_stalled_seconds", "seconds", "gauge",
                 "time since any rank of a job began a collective; 0 up to 20 iterations", ("job",))
PROCESSES = Column("gpu_job_processes", "1", "gauge", "processes whose GPU libraries are probed")
LOST = Column("gpu_job_arrivals_lost_per_second", "1/s", "counter", "arrivals overwritten before they were read")
COLUMNS = (ITERATION, OWN, BLOCKED, LATE, COLLECTIVES, GRAPHS, KERNELS, PROCESS, ROLE, GPU, SILENT, GONE, STALLED,
           PROCESSES, LOST)
SWITCHED_OFF = "switched off; set enabled = true under [collector.gpu_jobs]"
_JOB = np.dtype([("tgid", "<u8"), ("generation", "<u8"), ("seen_ns", "<u8"), ("arrivals", "<u8"), ("blocked_ns", "<u8"),
                 ("blocked_calls", "<u8"), ("graphs", "<u8"), ("kernels", "<u8"), ("unused", "V64"),
                 ("ring", ARRIVAL, (RING,))])


@dataclass(frozen=True, slots=True)
class Config:
    """enabled: whether GPU libraries are probed at all. look_s: seconds between two looks for new processes.
    max_ranks: ranks that get series; those beyond are left out. sample_launches_s: how often kernel launches are
    counted for two seconds, each at the cost of a probe; 0 = never."""

    enabled: bool = False
    look_s: float = 5.0
    max_ranks: int = 64
    sample_launches_s: float = 0.0

    def __post_init__(self) -> None:
        if self.sample_launches_s and not 20 <= self.sample_launches_s <= 86_400:
            raise ValueError("sample_launches_s must be 0 (never), or lie between 20 and 86,400 s")
        if not 1.0 <= self.look_s <= 3600 or not 1 <= self.max_ranks <= JOBS:
            raise ValueError(f"look_s must lie between 1 and 3600 s, max_ranks between 1 and {JOBS}")


class GpuJobs:
    """Implements etio.core.ports.Collector. Given by the daemon: `source` asks the warden, (its answer, descriptor of
    the map or -1); `release` has all probes taken off, `sample` kernel launches counted for a while."""

    def __init__(self, config: Config, clock: Callable[[], int] = monotonic_ns) -> None:
        self._config = config
        self.source: Callable[[], tuple[dict[str, Any], int]] | None = None
        self.release: Callable[[], None] = lambda: None
        self.sample: Callable[[], None] = lambda: None
        self._sample_ns, self._sampling = 0, False
        self._jobs: NDArray[Any] | None = None
        self._ranks: dict[int, Rank] = {}
        self._stalls, self._clock = Stalls(), clock
        self._calls: dict[int, Any] = {}
        self._roles: dict[str, list[frozenset[tuple[int, int]]]] = {}
        self._series: list[Series] = [PROCESSES.series(), LOST.series()]
        self._places = {s: i for i, s in enumerate(self._series)}
        self._look_ns = self._lost = self._processes = 0

    def open(self, root: Path) -> None:
        """Raises NoData while it is switched off, or without a warden."""
        if not self._config.enabled:
            raise NoData(SWITCHED_OFF)
        if self.source is None:
            raise NoData("no warden: no uprobes; remedy: start as root, or install the units (etio-warden)")

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken where the warden does not answer."""
        pause_ns = int(self._config.sample_launches_s * NS)
        if pause_ns and is_due(t_ns, self._sample_ns, pause_ns) and self._ranks:
            self._sample_ns, self._look_ns = t_ns + pause_ns, t_ns
            self.sample()
        if self._sampling or is_due(t_ns, self._look_ns, int(max(0.5, self._config.look_s) * NS)):
            self._look(t_ns)
        self._read()
        values = self._values()
        out = np.full(len(self._series), np.nan)
        for series, value in values.items():
            out[self._places[series]] = value
        return Reading(self._series, out)

    def close(self) -> None:
        """Lets the map go and has the probes taken off."""
        if self._jobs is not None:
            self._jobs, self._ranks, self._calls = None, {}, {}
            with contextlib.suppress(NoData, Broken):
                self.release()

    def _look(self, t_ns: int) -> None:
        """Asks the warden who is there, and soon again while its loader works."""
        if self.source is None:
            return
        answer, fd = self.source()
        self._sampling = bool(answer.get("sampling"))
        self._look_ns = t_ns + (NS // 2 if answer["busy"] else int((self._config.look_s - 0.1) * NS))
        if fd >= 0:
            try:
                if self._jobs is None:
                    self._jobs = MappedArray(fd, SHARED_BYTES).view(_JOB, 0, JOBS)
            finally:
                os.close(fd)
        if answer["reason"] and self._jobs is None:
            raise NoData(str(answer["reason"]))
        self._processes = len(answer["processes"])
        self._know(answer["processes"])

    def _know(self, processes: list[dict[str, Any]]) -> None:
        """Keeps the ranks of processes that are there, each under a name of its own."""
        there = {int(p["pid"]): p for p in processes}
        self._ranks = {pid: rank for pid, rank in self._ranks.items()
                       if pid in there and there[pid]["start"] == rank.start}
        for pid, process in there.items():
            if pid not in self._ranks and len(self._ranks) < self._config.max_ranks:
                self._ranks[pid] = Rank(name_of(process), pid, int(process["start"]))

    def _read(self) -> None:
        """Takes the new arrivals of every rank in."""
        self._calls = {}
        if self._jobs is not None:
            for place, tgid in enumerate(self._jobs["tgid"].tolist()):
                if tgid in self._ranks:
                    self._calls[tgid] = self._jobs[place]
        for pid, job in self._calls.items():
            self._take(self._ranks[pid], job)

    def _take(self, rank: Rank, job: Any) -> None:
        head = int(job["arrivals"])
        if head < rank.seen:  # another process had this place meanwhile
            rank.seen = 0
            rank.forget()
        first = max(rank.seen, head - RING + 1) + 1
        numbers = np.arange(first, head + 1, dtype=np.uint64)
        rows = job["ring"][numbers % RING].copy()
        whole = rows["number"] == numbers
        missed = (first - 1 - rank.seen) + int((~whole).sum())
        if missed and rank.seen:
            rank.forget()
            self._lost += missed
        rank.seen = head
        if whole.any():
            rank.take(rows[whole])

    def _values(self) -> dict[Series, float]:
        """Values of every series that has one now; registers new series."""
        found = {PROCESSES.series(): float(self._processes), LOST.series(): float(self._lost)}
        by_job: dict[str, list[Rank]] = {}
        for name, rank in self._named().items():
            by_job.setdefault(name.job, []).append(rank)
            found |= _standing(name, rank, self._calls[rank.pid])
            if self._sampling:
                found[KERNELS.series(name.job, name.rank)] = float(self._calls[rank.pid]["kernels"])
        for job, ranks in by_job.items():
            steps = steps_of(ranks)
            for rank in ranks:
                found |= self._told(job, rank, steps.get(rank))
        silent, stopped = self._stalls.of(by_job, self._clock())
        found |= {SILENT.series(rank.name.job, rank.name.rank): seconds for rank, seconds in silent.items()}
        found |= {STALLED.series(job): seconds for job, seconds in stopped.items()}
        found |= {GONE.series(*name): float(pid) for name, pid in self._stalls.gone(by_job).items()}
        for series in found:
            if series not in self._places:
                self._places[series] = len(self._series)
                self._series.append(series)
        return found

    def _named(self) -> dict[Name, Rank]:
        """Ranks that called anything, by name; a second process of one name has its pid in it."""
        named: dict[Name, Rank] = {}
        taken: set[tuple[str, str]] = set()
        for pid, rank in self._ranks.items():
            if pid not in self._calls or not (rank.seen or self._calls[pid]["blocked_calls"]):
                continue
            if (rank.name.job, rank.name.rank) in taken:
                rank.name = Name(rank.name.job, f"{rank.name.rank}-pid-{pid}", rank.name.gpu)
            taken.add((rank.name.job, rank.name.rank))
            named[rank.name] = rank
        return named

    def _told(self, job: str, rank: Rank, step: Step | None) -> dict[Series, float]:
        labels = (job, rank.name.rank)
        found = {}
        if rank.role:
            roles = self._roles.setdefault(job, [])
            if rank.role not in roles:
                roles.append(rank.role)
            found[ROLE.series(*labels)] = float(roles.index(rank.role))
        if step is not None:
            found |= {ITERATION.series(*labels): step.seconds, OWN.series(*labels): step.own_seconds,
                      BLOCKED.series(*labels): step.blocked_ratio, LATE.series(*labels): step.lateness_seconds}
        return found


def _standing(name: Name, rank: Rank, calls: Any) -> dict[Series, float]:
    labels = (name.job, name.rank)
    found = {PROCESS.series(*labels): float(rank.pid), COLLECTIVES.series(*labels): float(calls["arrivals"]),
             GRAPHS.series(*labels): float(calls["graphs"])}
    return found if isnan(name.gpu) else {**found, GPU.series(*labels): name.gpu}


COLLECTOR = CollectorSpec(
    name="gpu_jobs", config=Config, build=GpuJobs, reads="uprobes on NCCL and CUDA (off by default)",
    emits=emits(COLUMNS), needs="a warden (root), enabled = true", source="NCCL user guide; CUDA runtime API",
    period_s=1.0, slow=True, optional=True,
)
