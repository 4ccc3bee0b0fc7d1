"""Watches the process that talks to NVML: asks it with a deadline, and gives it up when it does not answer.

A call into the driver can hang for minutes, and a process in such a call cannot always be killed; then it is left
behind, and no new one is started before it is gone.
"""

import mmap
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TypeVar

from collector.gpu.session import Round
from collector.gpu.wire import Greeting, Xid, understand
from collector.gpu.worker import NOTE_BYTES
from etio.core.errors import Broken, NoData

NOT_FOR_CHILDREN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
KILL_S = 0.5
LONGEST_LINE = 1 << 22
T = TypeVar("T", Greeting, Round)


class Hung(Broken):
    """No answer in time. call: the one that it hangs in, such as "nvmlDeviceGetPowerUsage of GPU 1"."""

    def __init__(self, call: str, seconds: float) -> None:
        super().__init__(f"NVML: no answer within {seconds:g} s from {call}")
        self.call, self.seconds = call, seconds


@dataclass(slots=True)
class _Process:
    popen: "subprocess.Popen[bytes]"
    note: mmap.mmap
    rest: bytes = b""
    told: list[Greeting | Xid | Round] = field(default_factory=list)

    def lines(self, seconds: float) -> bool:
        """Reads what is there, waiting at most so long for the first byte; False at the end of the stream.

        Raises Broken for a line that never ends.
        """
        assert self.popen.stdout is not None
        fd = self.popen.stdout.fileno()
        poll = select.poll()  # not select(): a daemon with thousands of open files has high descriptors
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(seconds, 0.0) * 1000):
            return True
        chunk = os.read(fd, 1 << 16)
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        if len(self.rest) > LONGEST_LINE:
            raise Broken("NVML worker: a line without end")
        self.told += [understand(line) for line in whole]
        return bool(chunk)

    def doing(self) -> str:
        """The call it has made last."""
        return self.note[:].split(b"\0", 1)[0].decode("ascii", "replace")


class Guard:
    """One worker after the other. Not thread-safe, but for `pids`."""

    def __init__(self, slow_s: float, deadline_s: float, start_s: float) -> None:
        self._slow_s, self._deadline_s, self._start_s = slow_s, deadline_s, start_s
        self._process: _Process | None = None
        self._given_up: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the worker, and of those that could not be ended."""
        process = self._process
        return (*((process.popen.pid,) if process else ()), *(p.pid for p in self._given_up))

    def open(self) -> Greeting:
        """Starts a worker. Raises NoData without driver, library or GPU, Hung, or Broken where it fails."""
        self.close()
        self._given_up = [p for p in self._given_up if p.poll() is None]
        if self._given_up:
            raise Broken(f"NVML: process {self._given_up[0].pid} hangs in the driver and cannot be ended")
        self._process = self._spawn()
        greeting = self._await(Greeting, self._start_s)
        if greeting.absent or greeting.broken:
            self.close()
            raise NoData(greeting.absent) if greeting.absent else Broken(greeting.broken)
        return greeting

    def read(self, t_ns: int) -> Round:
        """One round. Raises Hung where the worker does not answer in time, Broken where it is gone."""
        process = self._process
        if process is None or process.popen.stdin is None:
            raise Broken("NVML: not open")
        try:
            process.popen.stdin.write(b"%d\n" % t_ns)
            process.popen.stdin.flush()
        except OSError as error:
            raise Broken(f"NVML worker: {error.strerror}; {self._ending(process)}") from error
        return self._await(Round, self._deadline_s)

    def xids(self) -> list[Xid]:
        """XIDs that were told since the last call; also those that came before a worker hung."""
        process = self._process
        if process is None:
            return []
        found = [line for line in process.told if isinstance(line, Xid)]
        process.told = [line for line in process.told if not isinstance(line, Xid)]
        return found

    def close(self) -> None:
        """Ends the worker, at once where that is possible; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.popen.kill()
        for pipe in (process.popen.stdin, process.popen.stdout):
            if pipe is not None:
                pipe.close()
        process.note.close()
        try:
            process.popen.wait(KILL_S)
        except subprocess.TimeoutExpired:
            self._given_up.append(process.popen)

    def _spawn(self) -> _Process:
        memory = os.memfd_create("nvml-note")
        try:
            os.ftruncate(memory, NOTE_BYTES)
            environment = {k: v for k, v in os.environ.items() if k not in NOT_FOR_CHILDREN}
            command = [sys.executable, "-m", "collector.gpu.worker", str(self._slow_s), str(memory)]
            popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                                     env=environment, pass_fds=(memory,))
            return _Process(popen, mmap.mmap(memory, NOTE_BYTES))
        except OSError as error:
            raise Broken(f"NVML: no worker can be started: {error}") from error
        finally:
            os.close(memory)

    def _await(self, kind: type[T], seconds: float) -> T:
        """The next line of this kind. Raises Hung or Broken (gone)."""
        process, until = self._process, time.monotonic() + seconds
        assert process is not None
        while (left := until - time.monotonic()) > 0:
            alive = process.lines(left)
            for at, line in enumerate(process.told):
                if isinstance(line, kind):
                    del process.told[at]
                    return line
            if not alive:
                raise Broken(f"NVML worker: {self._ending(process)}")
        raise Hung(process.doing() or "the worker", seconds)

    def _ending(self, process: _Process) -> str:
        try:
            status = process.popen.wait(KILL_S)
        except subprocess.TimeoutExpired:
            return "it still runs"
        how = f"signal {-status}" if status < 0 else f"status {status}"
        return f"it ended with {how} in {process.doing() or 'no call'}"
