"""The heartbeat: each tick reads the cheap collectors in one thread and cuts a frame, whatever a collector does."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from etio.core.due import is_due
from etio.core.frame import NS, Reading
from etio.daemon.runner import Late, Runner, run_delay_s

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""A call that hangs so long in the sampler's thread is left alone with that thread; the others go on in a new one."""
BURNING = 0.3
"""Share of a core from which a call that does not return is computing, and not just waiting for a processor."""


@dataclass(slots=True)
class _Suspect:
    """A call that was found under way. began_s tells it from the runner's next one."""

    runner: Runner
    began_s: float
    seen_s: float
    cpu_s: float


class Sampler:
    """Ticks on the wall clock's grid; each tick hands every runner's reading to `deliver`, then calls `cut`."""

    def __init__(self, runners: list[Runner], tick_s: float, deliver: Callable[[Runner, int, Reading | Late], None],
                 cut: Callable[[int], None], died: Callable[[], None] = lambda: None) -> None:
        self.runners = runners
        self._tick_ns = int(tick_s * NS)
        self._deliver = deliver
        self._cut = cut
        self._died = died
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._reading: Runner | None = None
        self._suspect: _Suspect | None = None
        self._lane = self._new_lane()

    def _new_lane(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._lane.start()

    def stop(self) -> None:
        """Ends the thread and closes every collector."""
        self._stop.set()
        if self._lane.is_alive() and threading.current_thread() is not self._lane:
            self._lane.join(timeout=2.0)
        for runner in self.runners:
            runner.stop()

    def watch(self) -> None:
        """Call about once a second from another thread while no frame comes: isolates a call that does not return.

        Only one that sleeps, or computes, at two looks in a row: on a busy host everybody waits for a processor.
        """
        with self._lock:
            runner, now = self._reading, time.monotonic()
            if runner is None or now - runner.began_s < PATIENCE_S or not runner.began_s:
                self._suspect = None
                return
            state, cpu = _thread_now(self._lane.native_id or 0)
            last, self._suspect = self._suspect, _Suspect(runner, runner.began_s, now, cpu)
            if last is None or last.runner is not runner or last.began_s != runner.began_s:
                return
            burns = cpu - last.cpu_s > BURNING * (now - last.seen_s)
            if state == "R" and not burns:
                return
            stuck, self._lane, self._reading = self._lane, self._new_lane(), None
            runner.isolate(stuck, f"has not answered for {now - runner.began_s:.1f} s")
            self._lane.start()

    def _run(self) -> None:
        """The thread; tells when it ends without having been asked to."""
        me = threading.current_thread()
        try:
            stray = self._tick_on(me)
        except BaseException:
            if not self._stop.is_set() and self._lane is me:
                self._died()
            raise
        if stray is not None:
            stray.serve()

    def _tick_on(self, me: threading.Thread) -> Runner | None:
        """Ticks until stop(); or until this thread was left to a runner that hung, which is returned."""
        next_ns = (time.time_ns() // self._tick_ns + 1) * self._tick_ns
        while not self._stop.wait(max(0.0, (next_ns - time.time_ns()) / NS)):
            t_ns = time.time_ns()
            waited_s = run_delay_s()
            for runner in self.runners:
                if not runner.slow and not is_due(t_ns, runner.due_ns, runner.pause_ns):
                    continue
                self._reading = runner
                taken = runner.take(t_ns, waited_s)
                with self._lock:
                    if self._lane is not me:
                        runner.leave(taken)
                        return runner
                    self._reading = None
                if taken is not None:
                    self._deliver(runner, *taken)
            self._cut(t_ns)
            # After a stall (or a step of the clock) go on from now: missed ticks are gone, not made up.
            next_ns = max(next_ns + self._tick_ns, (time.time_ns() // self._tick_ns + 1) * self._tick_ns)
            if next_ns - time.time_ns() > 2 * self._tick_ns:
                next_ns = (time.time_ns() // self._tick_ns + 1) * self._tick_ns
        return None


def _thread_now(tid: int) -> tuple[str, float]:
    """(state letter, CPU seconds so far) of one of our threads; ("R", 0) where it cannot be told."""
    try:
        with open(f"/proc/self/task/{tid}/stat", "rb", buffering=0) as file:
            fields = file.read(1024).rpartition(b")")[2].split()
    except OSError:
        return "R", 0.0
    return fields[0].decode(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
