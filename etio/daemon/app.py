"""Puts the daemon together and runs it."""

import dataclasses
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from math import isnan
from pathlib import Path

from api.app import create_app
from api.server import ApiServer
from api.webhook import Sender
from collector.cgroup_members import members
from collector.loops import backing_files
from collector.mount_writers import mount_writers
from etio import __version__
from etio.core.errors import EtioError, StoreError
from etio.core.event import Focus, FrameReady, HostEvent, Notify, Shed, StartRca, Write
from etio.core.frame import NS
from etio.core.repeats import Repeats
from etio.core.report import Report
from etio.core.status import CollectorHealth, Status
from etio.daemon.config import Config
from etio.daemon.explain import Explainer
from etio.daemon.handover import Request
from etio.daemon.live import LiveView
from etio.daemon.loop import Hands, Loop
from etio.daemon.model_watch import ModelWatch
from etio.daemon.narrate import Narrator, Ways
from etio.daemon.notices import Notices
from etio.daemon.revive import revive
from etio.daemon.sdnotify import Notifier
from etio.daemon.season_record import FOLDER
from etio.daemon.seasons import Seasons
from etio.daemon.sources import Sources
from etio.daemon.suspects import Suspects
from etio.daemon.warden import Warden
from etio.daemon.watchers import HabitState
from etio.store.store import open_store
from rca.render import markdown_report
from rca.render_html import html

log = logging.getLogger(__name__)

SECOND_HAND = frozenset({"kmsg", "tasks", "process_health", "behaviour", "crash_loops", "process_groups", "own_cost"})
"""Collectors that answer even where nothing of the host can be read."""
CHANGES = "changes"
"""Reads once in 15 s what somebody may have changed; when an alert fires at once, so that the report knows."""
STEPS_EVERY = 10
"""Frames between two copies of what inference servers did, for the API."""


class App:
    """The daemon: everything wired, started and stopped in order."""

    def __init__(self, config: Config, warden: Warden) -> None:
        self.config = config
        self._held_s = (config.daemon.quiet_ticks - 1) * config.daemon.tick_s
        self.started_ns = time.time_ns()
        self.store = open_store(config.store)
        self.live = LiveView(int(config.daemon.memory_minutes * 60 / config.daemon.tick_s), self.status)
        self.engine, self.learned, self._numbers, told = revive(config, self.store, self.started_ns)
        self.live.season_of = self.engine.season
        self.notifier = Notifier()
        self.loop = Loop(self.engine, Hands(self._on_frame, self._on_write, self._on_notify, self._on_explain,
                                            self._on_focus, self._on_shed), self.notifier, self._held_s)
        self.sources = Sources(config, warden, self.loop.post, self._sampler_died, self._count_waiting)
        self.habits = HabitState(self.store, self.sources.watchers.behaviour)
        self.habits.restore()
        self.loop.idle = self.sources.watch
        self.sources.watched = self.live.watched
        self.host = self.sources.host
        self.narrator = Narrator(Ways(self.loop.post, self._keep_report), config.llm, config.plain_rca)
        lean = config.daemon.profile == "lean"
        self.explainer = Explainer(self.loop.post, config.daemon.report_deadline_s, ahead=not lean)
        self.sender = Sender(config.webhook, self.store.outbox, self.engine.firing_alerts, self.host.name)
        self.model = ModelWatch(config.llm)
        self.notices = Notices(self.sender, self.host.name)
        self.repeats = Repeats()
        self.suspects = Suspects()
        for report in told:
            self.suspects.keep(report)
        self.seasons = Seasons(self.store.archive, self.loop.post, config.daemon.seasons_every_h,
                               zone=config.daemon.time_zone, folder=Path(config.store.directory) / FOLDER)
        self._events: deque[HostEvent] = deque(maxlen=1000)
        self._fault = ""
        self._waiting = 0
        """Webhooks in the outbox, counted now and then: status() must not ask the database."""
        app = create_app(self.store.archive, self.live, config.api, render, lean=lean)
        self.server = ApiServer(app, config.api)

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
        self.sources.start()
        self.seasons.start()
        threading.Thread(target=self._late, name="late-start", daemon=True).start()
        self.notifier.send("READY=1", f"STATUS=listening on {self.server.address}")

    def _late(self) -> None:
        """What may take seconds and must not hold up the first frames: eBPF compilation, the GPU driver, the model."""
        self.sources.start_ebpf()
        self.host = self.sources.name_gpus()
        self.model.look()
        self.model.start()
        for line in self.greeting():
            print(line, flush=True)

    def greeting(self) -> tuple[str, ...]:
        """What was found, in five lines."""
        ebpf, memory = self.sources.ebpf, self.host.memory_bytes
        why = ebpf.reason or f"{len(ebpf.families)} program families"
        return (
            f"etio {__version__} on {self.host.name or 'a host without a name'}: tier {ebpf.tier} ({why})",
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
        self.seasons.stop()
        self.sources.stop()
        self.loop.rest()
        self.model.stop()
        self.explainer.stop()
        self.narrator.stop()
        self._send(self.repeats.rest())
        self.server.stop()
        self.notices.close()
        self.sender.stop()
        if self.loop.frames:
            self.learned.close(time.time_ns())
            self.habits.close()
        self.store.close()
        self.sources.close()

    def stop(self) -> None:
        """Asks run() to end; safe from a signal handler's thread."""
        threading.Thread(target=self.loop.stop, daemon=True).start()

    # -- the sampler's thread ---------------------------------------------------------------------------------------

    def _count_waiting(self) -> None:
        try:
            self._waiting = self.store.outbox.pending() + len(self.notices)
        except StoreError as error:
            log.warning("the outbox cannot be counted: %s", error)

    def _sampler_died(self) -> None:
        """Nothing would be seen any more: better to end, and to be started again, than to look alive."""
        self._fault = "the sampler ended by a fault (see the log); the daemon cannot go on"
        self.stop()

    # -- loop's side --------------------------------------------------------------------------------------------------

    def _on_frame(self, event: FrameReady) -> None:
        if self.loop.frames % STEPS_EVERY == 0:
            self.live.keep_steps({key: rows for one in self.engine.knowing() for key, rows in one.steps().items()})
        self.live.push(event.frame, self.engine.band)
        if (scores := self.engine.unlike()) is not None:
            self.sources.keep_scores(scores)
        self.store.writer.put_frame(event.frame)
        self._send(self.repeats.due(event.frame.t_ns))
        for ended in self.suspects.ended(event.frame.t_ns):
            self.loop.post(ended)
        self.notices.push()
        self.learned.after_frame(event.frame.t_ns)
        self.habits.tick()

    def _on_write(self, action: Write) -> None:
        if isinstance(action.item, HostEvent):
            self._events.append(action.item)
        item = action.item
        if isinstance(item, Report):
            self.suspects.keep(item)
        self.store.writer.put(self._numbers.numbered(item) if isinstance(item, Report) else item)
        self.server.changed()

    def _keep_report(self, report: Report) -> None:
        """A told report that says more about its model: nobody is paged again."""
        self._on_write(Write(report))

    def _on_notify(self, action: Notify) -> None:
        if any(alert.state == "firing" for alert in action.alerts) and not action.report:
            self.sources.look(CHANGES)
        report = self._numbers.numbered(action.report) if action.report else None
        self._send(self.repeats.put(dataclasses.replace(action, report=report), time.time_ns()))
        if action.report:
            self.narrator.ask(action.report)

    def _send(self, notices: Iterable[Notify]) -> None:
        for notice in notices:
            self.notices.put(notice, self.server.address)

    def _on_explain(self, action: StartRca) -> None:
        onset = action.incident.onset_ns
        lead = int(self.config.rca.baseline_s * NS)
        facts = self.sources.facts_since(onset, self._own_pids())
        learned = tuple(pair for one in self.engine.knowing() for pair in one.facts())
        seen = (*backing_files(Path("/")), *members(Path("/"), _things(action, "cgroup")),
                *mount_writers(Path("/"), _things(action, "mount"), self.sources.ebpf.writers))
        facts = dataclasses.replace(facts, extra=(*facts.extra, *learned, *seen))
        events = tuple(self.sources.victims.completed(e) for e in self._events if e.t_ns >= onset - lead)
        window = self.live.recent(onset - lead)
        self.explainer.ask(Request(action.incident, time.time_ns(), facts, window, events, self.config.plain_rca))

    def _on_focus(self, action: Focus) -> None:
        self.sources.facts.focus = action.on
        self.explainer.warm(action.on)

    def _on_shed(self, action: Shed) -> None:
        self.sources.shed(action.collector, action.reason)

    def _own_pids(self) -> tuple[int, ...]:
        return (os.getpid(), *self.explainer.pids, *self.narrator.pids, *self.seasons.pids, *self.sources.ebpf.pids)

    # -- status -------------------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """The daemon now."""
        now = time.time_ns()
        sources, cost = self.sources, self.sources.budget.cost
        health = tuple(r.health for r in sources.runners)
        reasons = self._blind(now, health)
        health += sources.hidden + sources.ebpf.health
        return Status(
            version=__version__, host=self.host.name, started_ns=self.started_ns, now_ns=now, tier=sources.ebpf.tier,
            tier_reason=sources.ebpf.reason, ready=not reasons, reasons=reasons,
            warming=self.engine.warm_ratio < 0.5, warm_ratio=self.engine.warm_ratio,
            series=len(sources.builder.catalogue.series), series_refused=sources.refused, frames=self.loop.frames,
            dropped_frames=self.loop.dropped_frames, dropped_rows=self.store.writer.stats.dropped_rows,
            last_frame_ns=self.loop.last_frame_ns, alerts_firing=self.engine.firing(), collectors=health,
            model=self.model.text, cpu_percent=cost.cpu_percent, pss_mb=cost.pss_mb,
            kernel_cpu_percent=cost.kernel_percent,
            webhooks_waiting=self._waiting, programs=sources.ebpf.program_costs(),
            listening=self.server.address)

    def _blind(self, now: int, health: tuple[CollectorHealth, ...]) -> tuple[str, ...]:
        reasons = []
        if now - self.loop.last_frame_ns > (3 * self.config.daemon.tick_s + self._held_s + 1) * NS:
            reasons.append("no frame within the last three ticks")
        if not any(h.state == "on" and h.name not in SECOND_HAND for h in health):
            reasons.append("no collector delivers")
        return tuple(reasons)


def _things(action: StartRca, label: str) -> list[str]:
    """Values of a label of the alerts of an incident."""
    return [value for alert in action.incident.alerts for name, value in alert.labels if name == label]


def render(report: Report, form: str) -> str:
    """A report as "markdown" or as a fragment of "html"."""
    return html(report) if form == "html" else markdown_report(report)


def build(config: Config, warden: Warden) -> App:
    """The daemon, ready to start. Raises EtioError with one clear line."""
    try:
        return App(config, warden)
    except OSError as error:
        raise EtioError(f"cannot start: {error}") from error
