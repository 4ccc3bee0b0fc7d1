"""All that looks at the host: collectors and their sampler, eBPF, the tables of who is there."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from collector.cgroups import CgroupReader
from collector.conntrack import Conntrack
from collector.gpu_jobs import GpuJobs
from collector.hostinfo import host_info
from collector.inference import Config as InferenceConfig
from collector.inference import Inference
from collector.inotify import Inotify
from collector.kmsg import Kmsg
from collector.netspaces import Netspaces
from collector.numa_placement import Config as PlacementConfig
from collector.numa_placement import NumaPlacement
from collector.nvme import Config as NvmeConfig
from collector.nvme import Nvme
from collector.nvml import Config as NvmlConfig
from collector.nvml import Nvml, gpu_names
from collector.own_cost import Account, OwnCost
from collector.process_health import Config as HealthConfig
from collector.process_health import ProcessHealth
from collector.processes import ProcessReader
from collector.sockets import SocketReader
from collector.table_watcher import seen_by
from collector.tasks import Config as TasksConfig
from collector.tasks import TaskStates
from etio.core.builder import Catalogue, FrameBuilder
from etio.core.errors import Broken, NoData
from etio.core.event import CollectorFailed, Event
from etio.core.facts import Facts, HostInfo
from etio.core.frame import NS, Reading
from etio.core.ports import Collector
from etio.core.score import Scores
from etio.daemon.budget import Budget
from etio.daemon.bursts import Bursts
from etio.daemon.config import Config
from etio.daemon.ebpf import EbpfSupervisor
from etio.daemon.facts import FactKeeper
from etio.daemon.oom import Counted, Victims
from etio.daemon.runner import Late, Runner
from etio.daemon.sampler import Sampler
from etio.daemon.shedding import Part, Shedding
from etio.daemon.sight import limits, own_pids
from etio.daemon.warden import Warden
from etio.daemon.watchers import Watchers

log = logging.getLogger(__name__)

SCORES_NS = 15 * NS
"""So long a score is shown when none follows it."""
FACTS_S = 90
"""So long before the onset processes and groups are shown to the RCA worker."""


class Sources:
    """Owns the collectors; hands frames and host events to `post`, and calls `housekeeping` every ten seconds."""

    def __init__(self, config: Config, warden: Warden, post: Callable[[Event], None],
                 died: Callable[[], None], housekeeping: Callable[[], None]) -> None:
        daemon = config.daemon
        self.config = config
        self.root = Path(daemon.root)
        self.host = host_info(self.root)
        self.hidden = limits(self.root)
        self.builder = FrameBuilder(Catalogue(daemon.max_series))
        self.ebpf = EbpfSupervisor(warden.channel, enabled=daemon.ebpf != "off", absent=warden.absent,
                                   demanded=daemon.ebpf_on_demand, foreign_pids=own_pids())
        self.budget = Budget(daemon.cpu_budget_percent, daemon.cpu_budget_s, (warden.pid,) if warden.pid else (),
                             lambda: self.gpus.pids, self.ebpf.kernel_seconds)
        self.gpus = Nvml(NvmlConfig())
        self.drives = Nvme(NvmeConfig())
        self.placement = NumaPlacement(PlacementConfig())
        self.tasks = TaskStates(TasksConfig())
        self.victims = Victims()
        self.kills = Counted(self._names_victims)
        self.inference = Inference(InferenceConfig())
        self.health = ProcessHealth(HealthConfig())
        self.watchers = Watchers(self.ebpf.exe_of, self.ebpf.socket_owners)
        self.runners = self._make_runners()
        self._introduce()
        self.facts = self._fact_keeper()
        self._post = post
        self.watched: Callable[[], bool] = lambda: False
        """Whether somebody wants each frame as it comes."""
        self._bursts = Bursts(self.builder, post, daemon.quiet_ticks, lambda: self.facts.focus or self.watched())
        self._shedding = Shedding(self.budget, self.runners, daemon.shed_retry_s, housekeeping,
                                  lambda: self.ebpf.parts)
        self._scores: Reading | None = None
        self._sampler = Sampler(self.runners, daemon.tick_s, self._deliver, self._cut, died)

    # -- building ---------------------------------------------------------------------------------------------------

    def _make_runners(self) -> list[Runner]:
        daemon = self.config.daemon
        runners = []
        for name, (spec, settings) in self.config.collectors.items():
            if name in daemon.disabled:
                continue
            period = daemon.periods.get(name, max(spec.period_s, daemon.tick_s))
            runners.append(Runner(spec, self._wired(spec.build(settings)), self.root, period))
        return runners

    def _wired(self, collector: Collector) -> Collector:
        """Gives a collector what only the daemon has, and keeps those that others ask for."""
        self._connect(collector)
        self._keep(collector)
        self.watchers.adopt(collector)
        return collector

    def _connect(self, collector: Collector) -> None:
        """A way to the warden, or to what the daemon knows."""
        if isinstance(collector, Kmsg):
            collector.source = self.ebpf.kmsg if self.ebpf.reachable else None
            collector.oom_here = lambda: "oom" not in self.ebpf.families
        elif isinstance(collector, TaskStates):
            collector.stack = self.ebpf.stack
        elif isinstance(collector, GpuJobs):
            collector.source = self.ebpf.jobs if self.ebpf.reachable else None
            collector.release, collector.sample = self.ebpf.end_jobs, self.ebpf.sample_jobs
        elif isinstance(collector, Conntrack):
            collector.ask = self.ebpf.tracked
        elif isinstance(collector, Netspaces):
            collector.number_of = self.ebpf.netns
        elif isinstance(collector, Nvme):
            collector.source = self.ebpf.nvme if self.ebpf.reachable else None
        elif isinstance(collector, Inotify):
            collector.source = self.ebpf.inotify if self.ebpf.reachable else None
        elif isinstance(collector, NumaPlacement):
            collector.wanted = lambda: self.facts.focus
        elif isinstance(collector, OwnCost):
            collector.source = self._account

    def _keep(self, collector: Collector) -> None:
        if isinstance(collector, Kmsg):
            self.victims = Victims(collector.victim)
        elif isinstance(collector, TaskStates):
            self.tasks = collector
        elif isinstance(collector, Inference):
            self.inference = collector
        elif isinstance(collector, ProcessHealth):
            self.health = collector
        elif isinstance(collector, Nvml):
            self.gpus = collector
        elif isinstance(collector, Nvme):
            self.drives = collector
        elif isinstance(collector, NumaPlacement):
            self.placement = collector

    def _names_victims(self) -> bool:
        """Whether eBPF or the kernel log tells who was killed."""
        return "oom" in self.ebpf.families or any(r.name == "kmsg" and r.state == "on" for r in self.runners)

    def _account(self) -> Account:
        cost = self.budget.cost
        return Account(cost.cpu_percent / 100, cost.pss_mb * 1e6,
                       {r.spec.name: r.load for r in self.runners if r.state == "on"})

    def _introduce(self) -> None:
        """The kernel log and NVML tell of the same errors: one name for a GPU, and each error once."""
        for runner in self.runners:
            if isinstance(runner.collector, Kmsg):
                runner.collector.gpu_entity = self.gpus.entity_of
                self.gpus.told_by_kernel = runner.collector.told_xid

    def _fact_keeper(self) -> FactKeeper:
        keeper = FactKeeper(self.host)
        read = ProcessReader(self.root, io_of=self.ebpf.io_of).read
        keeper.add("processes", seen_by(read, self.tasks.take, self.health.take, self.watchers.take))
        keeper.add("cgroups", CgroupReader(self.root).read)
        keeper.add("actors", self.watchers.actors(self.ebpf.actors))
        if self.root == Path("/"):
            keeper.add("sockets", SocketReader(self.ebpf.socket_owners).read, closely=True)
        return keeper

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the sampler."""
        self._sampler.start()

    def start_ebpf(self) -> None:
        """Loads the eBPF programs, which takes seconds; the sampler reads them from then on."""
        runner = self.ebpf.start(self.root, self.config.daemon.tick_s)
        if runner is not None:
            self.runners.append(runner)

    def watch(self) -> None:
        """Call from another thread while no frame comes: a collector that hangs must not stop the others."""
        self._sampler.watch()

    def name_gpus(self) -> HostInfo:
        """Asks the driver for the names of the GPUs, which may take seconds; the host with them."""
        self.host = self.facts.host = dataclasses.replace(self.host, gpus=_gpus())
        return self.host

    def stop(self) -> None:
        """Ends the sampler and closes every collector; eBPF stays until close()."""
        self._sampler.stop()
        self._bursts.close()

    def close(self) -> None:
        """Lets the eBPF programs go."""
        self.ebpf.close()

    # -- the sampler's thread ---------------------------------------------------------------------------------------

    def _deliver(self, runner: Runner, t_ns: int, reading: Reading | Late) -> None:
        if isinstance(reading, Late):
            self._bursts.hold(partial(self._make, runner, t_ns, reading))
        else:
            self._bursts.add(runner.spec.name, t_ns, reading, runner.max_age_ns)
            self._look_into(runner, t_ns, reading)

    def _make(self, runner: Runner, t_ns: int, late: Late) -> None:
        reading = late.made()
        if reading is not None:
            self.builder.add(runner.spec.name, t_ns, reading, runner.max_age_ns)
            self._look_into(runner, t_ns, reading)

    def _look_into(self, runner: Runner, t_ns: int, reading: Reading) -> None:
        for event in reading.events:
            self.watchers.event(event)
            self._tell(self.victims.take(event))
        if runner.name == "vmstat":
            self._tell(self.kills.take(t_ns, reading))

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._bursts.tell(event)

    def _cut(self, t_ns: int) -> None:
        now_s = time.monotonic()
        for runner in self.runners:
            if runner.began_s:
                runner.look(now_s)
            if not runner.reported_lost and runner.state in ("failed", "nodata", "shed"):
                self._lost(runner, t_ns)
        if self._scores is not None:
            self._bursts.add("scores", t_ns, self._scores, SCORES_NS)
        self._tell(self.victims.overdue())
        self.facts.tick(t_ns)
        self._shedding.tick(t_ns)
        # Last, for it wakes the loop: two threads at work at once hand the interpreter to and fro at each system call.
        self._bursts.cut(t_ns)

    def _lost(self, runner: Runner, t_ns: int) -> None:
        runner.reported_lost = True
        self._bursts.drop(runner.spec.name)
        self._tell([CollectorFailed(t_ns, runner.spec.name, runner.reason, runner.state == "failed")])

    # -- for others ---------------------------------------------------------------------------------------------------

    def look(self, collector: str) -> None:
        """Has a collector that is read now and then read in the next tick."""
        for runner in self.runners:
            if runner.name == collector:
                runner.due_ns = 0

    def shed(self, collector: str, reason: str) -> None:
        """Switches a collector off."""
        parts: tuple[Part, ...] = (*self.runners, *self.ebpf.parts)
        for part in parts:
            if part.name == collector:
                self._shedding.shed(part, time.time_ns(), reason)

    def keep_scores(self, scores: Scores) -> None:
        """Scores become series of the next frame, so that there is a curve of them; from any thread."""
        self._scores = Reading(scores.series, scores.values)

    def facts_since(self, onset_ns: int, own_pids: tuple[int, ...]) -> Facts:
        """What the RCA worker needs to know beside the samples; own_pids: etio's own processes."""
        cost = self.budget.cost
        return self.facts.facts(
            onset_ns - FACTS_S * NS, tier=self.ebpf.tier, missing=self.missing(), own_pids=(*own_pids, *self.gpus.pids),
            dropped_series=self.refused, cpu_percent=cost.total, pss_mb=cost.pss_mb,
            extra=(*self.tasks.facts(), *self.inference.facts(), *self.gpus.facts(), *self.drives.facts(),
                   *self.placement.facts()))

    @property
    def refused(self) -> int:
        """Series left out by daemon.max_series."""
        return sum(self.builder.catalogue.refused.values())

    def missing(self) -> tuple[str, ...]:
        """What cannot be seen, with the reason."""
        bad = [f"{r.spec.name}: {r.trouble}" for r in self.runners if r.trouble]
        return (*bad, *(f"{h.name}: {h.reason}" for h in self.hidden), *self.ebpf.missing)


def _gpus() -> tuple[str, ...]:
    try:
        return gpu_names()
    except NoData:
        return ()
    except Broken as error:
        log.warning("GPUs cannot be named: %s", error)
        return ("a GPU whose driver does not answer",)
