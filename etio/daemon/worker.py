"""A child process `python -m etio.daemon.rca_worker`: one request down its pipe, lines of JSON back up."""

import contextlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator

from etio.core.errors import Broken
from etio.daemon.handover import Narration, Request, send

NOT_FOR_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Worker:
    """Started at once; imports while it waits for its request. Raises OSError where no process can be started."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k not in NOT_FOR_CHILDREN}
        environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "etio.daemon.rca_worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment, close_fds=True)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ask(self, request: Request | Narration) -> None:
        """Sends its one request. Raises Broken when it does not listen."""
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, request)
            self._process.stdin.close()
        except (OSError, ValueError) as error:
            raise Broken(f"RCA worker does not listen: {error}") from error

    def lines(self, deadline_s: float) -> Iterator[bytes]:
        """What it answers, until its end or the deadline."""
        assert self._process.stdout is not None
        fd, until, rest = self._process.stdout.fileno(), time.monotonic() + deadline_s, b""
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while (left := until - time.monotonic()) > 0 and selector.select(left):
                chunk = os.read(fd, 1 << 20)
                if not chunk:
                    return
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole

    def kill(self) -> None:
        """Kills the process and nothing more, from any thread: who reads its lines sees their end."""
        self._process.kill()

    def end(self) -> int:
        """Ends it, at once; returns its exit status. Only from the thread that reads its lines."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(OSError):  # a request that it did not read to its end
                    pipe.close()
        return status
