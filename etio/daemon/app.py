"""Puts the daemon together and runs it."""

import dataclasses
import logging
import os
import socket
import threading
import time
from collections import deque
from math import isnan
from pathlib import Path

from api.app import create_app
from api.server import ApiServer
from api.webhook import Sender
from collector.cgroups import CgroupReader
from collector.hostinfo import host_info
from collector.kmsg import Kmsg
from collector.nvml import gpu_names
from collector.processes import ProcessReader
from collector.tasks import Config as TasksConfig
from collector.tasks import TaskStates, watched
from etio import __version__
from etio.core.engine import Engine, Judge
from etio.core.errors import Broken, EtioError, NoData, StoreError
from etio.core.event import CollectorFailed, Focus, FrameReady, HostEvent, Notify, Shed, StartRca, Write
from etio.core.frame import NS, Catalogue, FrameBuilder, Reading
from etio.core.ports import Collector
from etio.core.report import Report
from etio.core.status import CollectorHealth, Status
from etio.daemon.budget import Budget
from etio.daemon.config import Config
from etio.daemon.detector_state import DetectorState
from etio.daemon.ebpf import EbpfSupervisor
from etio.daemon.explain import Explainer
from etio.daemon.facts import FactKeeper
from etio.daemon.handover import Request
from etio.daemon.live import LiveView
from etio.daemon.loop import Hands, Loop
from etio.daemon.model_watch import ModelWatch
from etio.daemon.narrate import Narrator, Ways
from etio.daemon.notices import Notices
from etio.daemon.runner import Runner, Sampler
from etio.daemon.sdnotify import Notifier
from etio.store.store import open_store
from rca.render import markdown_report
from rca.render_html import html

log = logging.getLogger(__name__)

MEASURE_S = 10.0
SECOND_HAND = frozenset({"kmsg", "tasks"})
"""Collectors that answer even where nothing of the host can be read."""
FACTS_S = 90
"""So long before the onset processes and groups are shown to the RCA worker."""


class App:
    """The daemon: everything wired, started and stopped in order."""

    def __init__(self, config: Config, warden: socket.socket | None, warden_pid: int, no_warden: str = "") -> None:
        self.config = config
        self.started_ns = time.time_ns()
        self.root = Path(config.daemon.root)
        self.host = host_info(self.root, _gpus())
        self.store = open_store(config.store)
        self.builder = FrameBuilder(Catalogue(config.daemon.max_series))
        self.live = LiveView(int(config.daemon.memory_minutes * 60 / config.daemon.tick_s), self.status)
        self._reports: dict[str, int] = {}
        self.engine = self._engine()
        self.notifier = Notifier()
        self.loop = Loop(self.engine, Hands(self._on_frame, self._on_write, self._on_notify, self._on_explain,
                                            self._on_focus, self._on_shed), self.notifier)
        self.ebpf = EbpfSupervisor(warden, enabled=config.daemon.ebpf != "off", absent=no_warden)
        self.tasks = TaskStates(TasksConfig())
        self.runners = self._make_runners()
        self.facts = self._fact_keeper()
        self.sampler = Sampler(self.runners, config.daemon.tick_s, self._deliver, self._cut, self._sampler_died)
        self.narrator = Narrator(Ways(self.loop.post, self._keep_report), config.llm, config.plain_rca)
        self.explainer = Explainer(self.loop.post, config.daemon.report_deadline_s, self.narrator.ask)
        self.budget = Budget(config.daemon.cpu_budget_percent, (warden_pid,) if warden_pid else ())
        self.sender = Sender(config.webhook, self.store.outbox, self.engine.firing_alerts, self.host.name)
        self.model = ModelWatch(config.llm)
        self.notices = Notices(self.sender, self.host.name)
        self._events: deque[HostEvent] = deque(maxlen=1000)
        self._fault = ""
        self._next_measure_ns = 0
        self._waiting = 0
        """Webhooks in the outbox, counted now and then: status() must not ask the database."""
        app = create_app(self.store.archive, self.live, config.api, render)
        self.server = ApiServer(app, config.api)

    # -- building ---------------------------------------------------------------------------------------------------

    def _engine(self) -> Engine:
        judges = [Judge(spec.build(settings), spec.scope) for spec, settings in self.config.detectors.values()]
        self.learned = DetectorState(self.store, [j.detector for j in judges])
        self.learned.restore(self.started_ns)
        known = self.store.archive.incidents(limit=1000)
        engine = Engine(self.config.engine, judges, max((i.id for i in known), default=""))
        still_open = {i.id: i for i in known if not i.resolved_ns}
        engine.adopt(still_open.values(), self.started_ns)
        oldest = min((i.opened_ns for i in still_open.values()), default=self.started_ns)
        for report in reversed(self.store.archive.reports(limit=1000, since_ns=oldest)):
            if report.incident_id in still_open:
                self._numbered(report)
        return engine

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
        """Gives a collector what only the daemon has: a way to the warden."""
        if isinstance(collector, Kmsg):
            collector.source = self.ebpf.kmsg if self.ebpf.reachable else None
            collector.oom_here = lambda: "oom" not in self.ebpf.families
        elif isinstance(collector, TaskStates):
            collector.stack = self.ebpf.stack
            self.tasks = collector
        return collector

    def _fact_keeper(self) -> FactKeeper:
        keeper = FactKeeper(self.host)
        keeper.add("processes", watched(ProcessReader(self.root, io_of=self.ebpf.io_of).read, self.tasks))
        keeper.add("cgroups", CgroupReader(self.root).read)
        keeper.add("actors", self.ebpf.actors)
        return keeper

    # -- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts every part; raises EtioError with one clear line when one cannot start."""
        try:
            self.server.start()
        except EtioError:
            self.store.close()
            raise
        self.sender.start()
        self.explainer.start()
        self.narrator.start()
        self.sampler.start()
        threading.Thread(target=self._late, name="late-start", daemon=True).start()
        self.notifier.send("READY=1", f"STATUS=listening on {self.server.address}")

    def _late(self) -> None:
        """What may take seconds and must not hold up the first frames: eBPF compilation, asking for a model."""
        runner = self.ebpf.start(self.root, self.config.daemon.tick_s)
        if runner is not None:
            self.runners.append(runner)
        self.model.look()
        self.model.start()
        for line in self.greeting():
            print(line, flush=True)

    def greeting(self) -> tuple[str, ...]:
        """What was found, in five lines."""
        tier, memory = self.ebpf.tier, self.host.memory_bytes
        why = self.ebpf.reason or f"{len(self.ebpf.families)} program families"
        return (
            f"etio {__version__} on {self.host.name or 'a host without a name'}: tier {tier} ({why})",
            f"GPUs: {', '.join(self.host.gpus) or 'none (no NVIDIA driver; that is fine)'}",
            f"NUMA nodes: {self.host.numa_nodes}, cores: {self.host.cpus}, "
            f"memory: {'unknown' if isnan(memory) else f'{memory / 2**30:.1f} GiB'}",
            f"model: {self.model.text}",
            f"page: {self.server.address}   (detectors learn for the first minute; rules work at once)",
        )

    def run(self) -> None:
        """Runs until stop(); then ends every part in order, losing nothing."""
        try:
            self.loop.run()
        finally:
            self.notifier.send("STOPPING=1")
            self.close()
        if self._fault:
            raise EtioError(self._fault)

    def close(self) -> None:
        """Ends every part that was started, in order."""
        self.sampler.stop()
        self.model.stop()
        self.explainer.stop()
        self.narrator.stop()
        self.server.stop()
        self.notices.close()
        self.sender.stop()
        if self.loop.frames:
            self.learned.close(time.time_ns())
        self.store.close()
        self.ebpf.close()

    def stop(self) -> None:
        """Asks run() to end; safe from a signal handler's thread."""
        threading.Thread(target=self.loop.stop, daemon=True).start()

    # -- sampler's side -----------------------------------------------------------------------------------------------

    def _deliver(self, runner: Runner, t_ns: int, reading: Reading) -> None:
        self.builder.add(runner.spec.name, t_ns, reading, runner.max_age_ns)
        for event in reading.events:
            self.loop.post(event)

    def _cut(self, t_ns: int) -> None:
        for runner in self.runners:
            if runner.health.state in ("failed", "nodata", "shed"):
                self._lost(runner, t_ns)
        self.loop.post(FrameReady(self.builder.build(t_ns)))
        self.facts.tick(t_ns)
        if t_ns >= self._next_measure_ns:
            self._next_measure_ns = t_ns + int(MEASURE_S * NS)
            self.budget.measure()
            self._count_waiting()
            if self.budget.over():
                self._shed_dearest()

    def _count_waiting(self) -> None:
        try:
            self._waiting = self.store.outbox.pending() + len(self.notices)
        except StoreError as error:
            log.warning("the outbox cannot be counted: %s", error)

    def _sampler_died(self) -> None:
        """Nothing would be seen any more: better to end, and to be started again, than to look alive."""
        self._fault = "the sampler ended by a fault (see the log); the daemon cannot go on"
        self.stop()

    def _lost(self, runner: Runner, t_ns: int) -> None:
        if not runner.reported_lost:
            runner.reported_lost = True
            self.builder.drop(runner.spec.name)
            fault = runner.health.state == "failed"
            self.loop.post(CollectorFailed(t_ns, runner.spec.name, runner.health.reason, fault))

    def _shed_dearest(self) -> None:
        able = [r for r in self.runners if r.spec.optional and r.health.state == "on"]
        if able:
            worst = max(able, key=lambda r: r.health.seconds_total / max(r.health.readings, 1) / r.period_s)
            self._on_shed(Shed(worst.spec.name, f"CPU budget of {self.config.daemon.cpu_budget_percent} % exceeded"))

    # -- loop's side --------------------------------------------------------------------------------------------------

    def _on_frame(self, event: FrameReady) -> None:
        self.live.push(event.frame, self.engine.band)
        self.store.writer.put_frame(event.frame)
        self.notices.push()
        self.learned.after_frame(event.frame.t_ns)

    def _on_write(self, action: Write) -> None:
        if isinstance(action.item, HostEvent):
            self._events.append(action.item)
        self.store.writer.put(self._numbered(action.item) if isinstance(action.item, Report) else action.item)
        self.server.changed()

    def _keep_report(self, report: Report) -> None:
        """A told report that says more about its model: nobody is paged again."""
        self._on_write(Write(report))

    def _on_notify(self, action: Notify) -> None:
        report = self._numbered(action.report) if action.report else None
        self.notices.put(dataclasses.replace(action, report=report), self.server.address)

    def _numbered(self, report: Report) -> Report:
        """Each report of an incident gets a number, so that a later one does not replace an earlier one."""
        key = f"{report.incident_id}/{report.created_ns}/{report.model.mode}"
        number = self._reports.setdefault(key, 1 + sum(k.startswith(report.incident_id) for k in self._reports))
        return dataclasses.replace(report, id=f"{report.incident_id}.{number}")

    def _on_explain(self, action: StartRca) -> None:
        now = time.time_ns()
        onset = action.incident.onset_ns
        lead = int(self.config.rca.baseline_s * NS)
        cost = self.budget.cost
        facts = self.facts.facts(
            onset - FACTS_S * NS, tier=self.ebpf.tier, missing=self._missing(), own_pids=self._own_pids(),
            dropped_series=sum(self.builder.catalogue.refused.values()),
            cpu_percent=cost.cpu_percent, pss_mb=cost.pss_mb, extra=self.tasks.facts())
        events = tuple(e for e in self._events if e.t_ns >= onset - lead)
        window = self.live.recent(onset - lead)
        self.explainer.ask(Request(action.incident, now, facts, window, events, self.config.plain_rca))

    def _on_focus(self, action: Focus) -> None:
        self.facts.focus = action.on
        self.explainer.warm(action.on)

    def _on_shed(self, action: Shed) -> None:
        for runner in self.runners:
            if runner.spec.name == action.collector:
                log.warning("collector %s is switched off: %s", action.collector, action.reason)
                runner.shed(action.reason)

    def _missing(self) -> tuple[str, ...]:
        bad = [f"{r.spec.name}: {r.health.reason}" for r in self.runners if r.health.state in ("failed", "shed")]
        return (*bad, *self.ebpf.missing)

    def _own_pids(self) -> tuple[int, ...]:
        return (os.getpid(), *self.explainer.pids, *self.narrator.pids, *self.ebpf.pids)

    # -- status -------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """The daemon now."""
        now = time.time_ns()
        health = tuple(r.health for r in self.runners)
        reasons = self._blind(now, health)
        return Status(
            version=__version__, host=self.host.name, started_ns=self.started_ns, now_ns=now, tier=self.ebpf.tier,
            tier_reason=self.ebpf.reason, ready=not reasons, reasons=reasons,
            warming=self.engine.warm_ratio < 0.5, warm_ratio=self.engine.warm_ratio,
            series=len(self.builder.catalogue.series),
            series_refused=sum(self.builder.catalogue.refused.values()), frames=self.loop.frames,
            dropped_frames=self.loop.dropped_frames, dropped_rows=self.store.writer.stats.dropped_rows,
            last_frame_ns=self.loop.last_frame_ns, alerts_firing=self.engine.firing(), collectors=health,
            model=self.model.text, cpu_percent=self.budget.cost.cpu_percent, pss_mb=self.budget.cost.pss_mb,
            webhooks_waiting=self._waiting, programs=self.ebpf.program_costs(),
            listening=self.server.address)

    def _blind(self, now: int, health: tuple[CollectorHealth, ...]) -> tuple[str, ...]:
        reasons = []
        if now - self.loop.last_frame_ns > 3 * self.config.daemon.tick_s * NS + NS:
            reasons.append("no frame within the last three ticks")
        if not any(h.state == "on" and h.name not in SECOND_HAND for h in health):
            reasons.append("no collector delivers")
        return tuple(reasons)


def _gpus() -> tuple[str, ...]:
    try:
        return gpu_names()
    except (NoData, Broken):
        return ()


def render(report: Report, form: str) -> str:
    """A report as "markdown" or as a fragment of "html"."""
    return html(report) if form == "html" else markdown_report(report)


def build(config: Config, warden: socket.socket | None, warden_pid: int, no_warden: str = "") -> App:
    """The daemon, ready to start. Raises EtioError with one clear line."""
    try:
        return App(config, warden, warden_pid, no_warden)
    except OSError as error:
        raise EtioError(f"cannot start: {error}") from error
