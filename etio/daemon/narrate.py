"""A model's narrative for a report that is already told: one at a time, in a process of its own, whatever it takes."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from etio.core.codec import loads
from etio.core.errors import Broken
from etio.core.event import Event, ReportReady
from etio.core.report import Report
from etio.daemon.handover import Narration
from etio.daemon.model_watch import unreachable
from etio.daemon.worker import Worker
from rca.llm.config import LlmConfig

log = logging.getLogger(__name__)

WAITING = 4
"""Reports that may wait for the model; beyond that one stays without a narrative, and says so."""
SLACK_S = 15.0
"""Start of the process and the question which model there is, beside the model's own deadline."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Where results go. post: a report with a narrative. keep: one that only says better why it has none."""

    post: Callable[[Event], None]
    keep: Callable[[Report], None]


class Narrator(threading.Thread):
    """Takes told reports in turn; without an endpoint it does nothing."""

    def __init__(self, ways: Ways, config: LlmConfig, settings: dict[str, Any]) -> None:
        super().__init__(name="narrate", daemon=True)
        self._ways = ways
        self._config = config
        self._settings = settings
        self._reports: queue.Queue[Report | None] = queue.Queue()
        self._worker: Worker | None = None
        self._stopping = threading.Event()

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the process that asks now, if any."""
        worker = self._worker
        return (worker.pid,) if worker is not None else ()

    def ask(self, report: Report) -> None:
        """Queues a report. From any thread; never waits."""
        if self._config.enabled == "off":
            return
        if self._reports.qsize() >= WAITING:
            self._without(report, "the model was still busy with earlier reports")
        else:
            self._reports.put(report)

    def stop(self) -> None:
        """Ends the thread and the process."""
        self._stopping.set()
        self._reports.put(None)
        worker = self._worker
        if worker is not None:
            worker.kill()
        self.join(timeout=2.0)

    def run(self) -> None:
        """The thread."""
        while (report := self._reports.get()) is not None and not self._stopping.is_set():
            if unreachable(self._config):
                continue  # the report says so already
            reason = self._narrate(report)
            if reason and not self._stopping.is_set():
                log.warning("no narrative for %s: %s", report.incident_id, reason)
                self._without(report, reason)

    def _narrate(self, report: Report) -> str:
        """Posts or keeps what comes; else tells why nothing came."""
        try:
            self._worker = worker = Worker()
        except OSError as error:
            return f"no process to ask the model: {error}"
        try:
            worker.ask(Narration(report, self._settings))
            for line in worker.lines(self._config.deadline_s + SLACK_S):
                self._take(loads(Report, line))
                return ""
        except Broken as error:
            return str(error)
        finally:
            self._worker = None
            worker.end()
        return f"the model's answer did not come within {self._config.deadline_s:g} s"

    def _take(self, report: Report) -> None:
        if report.model.mode == "llm":
            now_ns = time.time_ns()
            self._ways.post(ReportReady(now_ns, replace(report, created_ns=now_ns)))
        else:
            self._ways.keep(report)

    def _without(self, report: Report, reason: str) -> None:
        self._ways.keep(replace(report, model=replace(report.model, fallback_reason=reason)))
