"""Supervises the RCA worker: its own process, one explanation at a time, with a deadline.

The process is started as soon as anything is pending, so that it has imported everything by the time it is needed, and
ended when all is quiet, so that it costs nothing then. A model's narrative is another matter (etio.daemon.narrate): the
next explanation never waits for it.
"""

import contextlib
import logging
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable

from etio.core.codec import loads
from etio.core.errors import Broken
from etio.core.event import Event, ReportFailed, ReportReady
from etio.core.report import Report
from etio.daemon.handover import Request
from etio.daemon.worker import Worker

log = logging.getLogger(__name__)


class Explainer(threading.Thread):
    """Takes requests in turn and posts ReportReady or ReportFailed for each.

    ahead: False = no worker waits for its request (lean profile: 25 MB less while
    something is pending, half a second more until a report).
    """

    def __init__(self, post: Callable[[Event], None], deadline_s: float, ahead: bool = True) -> None:
        super().__init__(name="explain", daemon=True)
        self._post = post
        self._deadline_s = deadline_s
        self._ahead = ahead
        self._requests: queue.Queue[Request | None] = queue.Queue(maxsize=16)
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._busy = False
        self._cannot = ""
        self.pids: deque[int] = deque(maxlen=8)
        """Of the latest workers: never to be taken for a culprit."""

    def warm(self, on: bool) -> None:
        """Starts an idle worker ahead of need, or ends one that is not needed."""
        with self._lock:
            if on and self._ahead and self._worker is None:
                self._begin()
            elif not on and not self._busy and self._requests.empty():
                self._end()

    def ask(self, request: Request) -> None:
        """Queues one explanation; when too many wait, it fails at once and says so."""
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            self._post(ReportFailed(request.now_ns, request.incident.id, "too many explanations wait"))

    def stop(self) -> None:
        """Ends the thread and the worker; what waits is not explained any more."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._requests.get_nowait()
        self._requests.put(None)
        with self._lock:
            self._end()
        self.join(timeout=2.0)

    def run(self) -> None:
        """The thread."""
        while (request := self._requests.get()) is not None:
            with self._lock:
                self._busy = True
                if self._worker is None or not self._worker.alive:
                    self._end()
                    self._begin()
                worker = self._worker
            report, reason = self._explain(worker, request) if worker else (None, f"no RCA worker: {self._cannot}")
            with self._lock:
                self._busy = False
                self._end()
                if not self._requests.empty():
                    self._begin()
            if report is None:
                log.warning("explanation of %s failed: %s", request.incident.id, reason)
                self._post(ReportFailed(time.time_ns(), request.incident.id, reason))

    def _explain(self, worker: Worker, request: Request) -> tuple[Report | None, str]:
        """The report, which has then been posted; or None and what went wrong."""
        try:
            worker.ask(request)
            for line in worker.lines(self._deadline_s):
                report = loads(Report, line)
                self._post(ReportReady(time.time_ns(), report))
                return report, ""
        except Broken as error:
            return None, f"RCA worker sent no report: {error}"
        status = worker.end()
        if status == -signal.SIGKILL:
            return None, f"no report within {self._deadline_s:g} s"
        return None, f"the RCA worker ended with status {status} and without a report"

    def _begin(self) -> None:
        """Starts a worker; the lock is held. A host without free process ids has none for us either."""
        try:
            self._worker = Worker()
        except OSError as error:
            self._cannot = str(error)
            return
        self.pids.append(self._worker.pid)

    def _end(self) -> None:
        """Ends the worker; the lock is held."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()
