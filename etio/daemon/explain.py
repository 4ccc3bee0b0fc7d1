"""Supervises the RCA worker: its own process, one explanation at a time, with a deadline.

The process is started as soon as anything is pending, so that it has imported everything by the time it is needed, and
ended when all is quiet, so that it costs nothing then.
"""

import contextlib
import logging
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from etio.core.codec import loads
from etio.core.errors import Broken
from etio.core.event import Event, ReportFailed, ReportReady
from etio.core.report import Report
from etio.daemon.handover import Request, send

log = logging.getLogger(__name__)


class Explainer(threading.Thread):
    """Takes requests in turn and posts ReportReady or ReportFailed for each."""

    def __init__(self, post: Callable[[Event], None], deadline_s: float, model_s: float) -> None:
        super().__init__(name="explain", daemon=True)
        self._post = post
        self._deadline_s = deadline_s
        self._model_s = model_s
        self._requests: queue.Queue[Request | None] = queue.Queue(maxsize=16)
        self._worker: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._busy = False
        self._cannot = ""

    def warm(self, on: bool) -> None:
        """Starts an idle worker ahead of need, or ends one that is not needed."""
        with self._lock:
            if on and self._worker is None:
                self._begin()
            elif not on and not self._busy and self._requests.empty():
                self._end()

    @property
    def pid(self) -> int:
        """Of the worker, 0 while there is none."""
        worker = self._worker
        return worker.pid if worker is not None else 0

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
                if self._worker is None or self._worker.poll() is not None:
                    self._end()
                    self._begin()
                worker = self._worker
            reason = self._explain(worker, request) if worker else f"no RCA worker: {self._cannot}"
            with self._lock:
                self._busy = False
                self._end()
                if not self._requests.empty():
                    self._begin()
            if reason:
                log.warning("explanation of %s failed: %s", request.incident.id, reason)
                self._post(ReportFailed(time.time_ns(), request.incident.id, reason))

    def _explain(self, worker: subprocess.Popen[bytes], request: Request) -> str:
        """"" when at least the complete report came; else what went wrong."""
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            send(worker.stdin, request)
            worker.stdin.close()
        except OSError as error:
            return f"RCA worker does not listen: {error}"
        got = 0
        deadline = _Deadline(self._deadline_s)
        for line in _lines(worker.stdout.fileno(), deadline):
            try:
                self._post(ReportReady(time.time_ns(), loads(Report, line)))
            except Broken as error:
                return f"RCA worker sent no report: {error}"
            got += 1
            deadline.extend(self._model_s)
        if got:
            return ""
        worker.kill()
        return f"no report within {self._deadline_s:g} s (exit status {worker.wait()})"

    def _begin(self) -> None:
        """Starts a worker; the lock is held. A host without free process ids has none for us either."""
        try:
            self._worker = _start()
        except OSError as error:
            self._cannot = str(error)

    def _end(self) -> None:
        """Ends the worker; the lock is held."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()


def _start() -> subprocess.Popen[bytes]:
    environment: dict[str, Any] = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        [sys.executable, "-m", "etio.daemon.rca_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=environment, close_fds=True)


class _Deadline:
    """A moment that may be moved."""

    def __init__(self, seconds: float) -> None:
        self.extend(seconds)

    def extend(self, seconds: float) -> None:
        """So long from now on."""
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, negative when it has passed."""
        return self._at - time.monotonic()


def _lines(fd: int, deadline: _Deadline) -> Iterator[bytes]:
    """Lines from a pipe until its end or until the deadline, which may move while reading."""
    selector = selectors.DefaultSelector()
    selector.register(fd, selectors.EVENT_READ)
    rest = b""
    while (left := deadline.left) > 0:
        if not selector.select(left):
            return
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
