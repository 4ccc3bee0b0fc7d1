"""Runs one collector so that it can hurt no other: timed, isolated, backed off, shed and tried again.

Cheap collectors share the sampler's thread (etio.daemon.sampler); each slow one has its own thread and a one-slot,
latest-wins hand-over. What counts against a collector is the CPU time of its thread and the time it was blocked; time
it merely waited for a processor is the host's fault, not its own.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from etio.core.due import is_due
from etio.core.errors import NoData
from etio.core.frame import NS, Reading
from etio.core.ports import Collector, CollectorSpec, Deferring, Resting
from etio.core.status import CollectorHealth, CollectorState

log = logging.getLogger(__name__)
R = TypeVar("R")

DEADLINE_S = 0.5
"""A cheap collector that takes longer is moved to a thread of its own, and read the less often the longer it takes."""
SLOW_DEADLINE_S = 5.0
"""The same for one that is known to be slow and has its own thread from the beginning."""
SILENT_S = 10.0
"""After so long inside one call (or three periods) a collector counts as failed; its thread goes on waiting."""
REOPEN_S = 60.0
"""A source that is not there is looked for again so often (a driver may be loaded later)."""
MAX_BACKOFF = 64
MEMORY = 0.1
"""Weight of one reading in the running average of what a collector costs."""
SHED_REMEDY = "raise daemon.cpu_budget_percent"


class _Schedstat:
    """The calling thread's, kept open until the thread ends: 3 us instead of 25 us."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> bytes:
        return os.pread(self._fd, 80, 0)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


_own = threading.local()


def run_delay_s() -> float:
    """Seconds that the calling thread has waited for a processor so far; 0 where the kernel does not tell."""
    try:
        if not hasattr(_own, "schedstat"):
            _own.schedstat = _Schedstat()
        return int(_own.schedstat.read().split()[1]) / NS
    except (OSError, IndexError, ValueError):
        return 0.0


@dataclass(slots=True)
class _Slot:
    t_ns: int
    reading: Reading


class Late:
    """A reading that is still to be made of what was read."""

    __slots__ = ("made",)

    def __init__(self, made: Callable[[], Reading | None]) -> None:
        """made: the reading, or None where it could not be made (the runner then says why); to be called once."""
        self.made = made


Taken = tuple[int, Reading | Late]
"""When it was read, and what."""


class Runner:
    """One collector: opened, read when due, backed off when it fails or is late. load: cores it costs, recently."""

    def __init__(self, spec: CollectorSpec, collector: Collector, root: Path, period_s: float,
                 opened: bool = False) -> None:
        self.spec = spec
        self.collector = collector
        self.period_s = period_s
        self.slow = spec.slow
        self.load = 0.0
        self.state: CollectorState = "off"
        self.reason = self._remedy = ""
        self.began_s = 0.0
        """Monotonic time at which the call under way began; 0 = none is."""
        self.due_ns = self.pause_ns = 0
        """When it is to be read again, and how long it was to rest until then; for is_due()."""
        self.reported_lost = False
        """Whether somebody was told that its series are missing; reset when it delivers again."""
        self._seconds, self._seconds_total = float("nan"), 0.0
        self._series = self._readings = self._failures = self._last_ns = 0
        self._root = root
        self._resting = collector if isinstance(collector, Resting) else None
        self._deferring = collector if isinstance(collector, Deferring) else None
        self._open = opened
        self._backoff = self._late = 1
        self._slot: _Slot | None = None
        self._slot_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def name(self) -> str:
        """Of the collector."""
        return self.spec.name

    @property
    def able(self) -> bool:
        """Whether it can be shed now."""
        return self.spec.optional and self.state == "on"

    @property
    def health(self) -> CollectorHealth:
        """How it is doing."""
        return CollectorHealth(self.spec.name, self.state, self.reason, self._remedy, self._series, self._seconds,
                               self._seconds_total, self._readings, self._failures, self._last_ns)

    @property
    def max_age_ns(self) -> int:
        """Age at which its last values go missing."""
        return int((2.5 * self.period_s * self._late + 1.0) * NS)

    @property
    def trouble(self) -> str:
        """Why its series are missing or come seldom; "" while all is well."""
        late = f"slower than its deadline, read every {self.period_s * self._late:g} s only" if self._late > 1 else ""
        return self.reason if self.state in ("failed", "shed") else late

    def take(self, t_ns: int, waited_s: float = 0.0) -> Taken | None:
        """The reading for this tick: read now, or for a slow collector the newest its thread has left.

        waited_s: run_delay_s() of this thread at the begin of the tick.
        """
        if self.state == "shed":
            return None
        if not self.slow:
            return self._once(t_ns, waited_s) if is_due(t_ns, self.due_ns, self.pause_ns) else None
        if self._thread is None:
            self._thread = threading.Thread(target=self.serve, name=f"collect-{self.spec.name}", daemon=True)
            self._thread.start()
        with self._slot_lock:
            slot, self._slot = self._slot, None
        return (slot.t_ns, slot.reading) if slot else None

    def stop(self) -> None:
        """Ends the thread, if any, and closes the collector unless a call hangs in it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            if self._thread.is_alive():
                return
        if not self.began_s:
            self.collector.close()

    def shed(self, reason: str) -> None:
        """Switches the collector off until resume()."""
        self.state, self.reason, self._remedy = "shed", reason, SHED_REMEDY
        self._stop.set()
        if not self.slow:
            self._close()

    def resume(self) -> bool:
        """Lets a collector that was shed run again; False while a call still hangs in it."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread, self._stop, self.due_ns, self.load = None, threading.Event(), 0, 0.0
        self.state, self.reason, self._remedy = "off", "", ""
        return True

    def isolate(self, thread: threading.Thread, reason: str) -> None:
        """Gives it the thread in which its call hangs, and everybody else another one."""
        log.warning("collector %s %s; it gets a thread of its own", self.spec.name, reason)
        self._thread, self.slow, self._late = thread, True, 2

    def look(self, now_s: float) -> None:
        """Marks one that does not return from its call as failed; it is on again when it does."""
        began = self.began_s
        if began and self.state != "failed" and now_s - began > max(SILENT_S, 3 * self.period_s):
            self.state, self.reason = "failed", f"has not answered for {now_s - began:.0f} s"
            self._failures += 1
            log.warning("collector %s %s", self.spec.name, self.reason)

    def serve(self) -> None:
        """Its own thread: reads when due, leaves the newest reading for take()."""
        stop = self._stop
        while not stop.wait(min(max(0, self.due_ns - time.time_ns()), self.pause_ns) / NS):
            self.leave(self._once(time.time_ns(), run_delay_s()))
        if self.state == "shed":
            self._close()

    def leave(self, taken: Taken | None) -> None:
        """Puts a reading where take() finds it, with the events of one that was not taken: those must not be lost."""
        if taken is not None:
            t_ns, reading = taken[0], taken[1].made() if isinstance(taken[1], Late) else taken[1]
            if reading is None:
                return
            with self._slot_lock:
                if self._slot is not None and self._slot.reading.events:
                    reading = replace(reading, events=(*self._slot.reading.events, *reading.events))
                self._slot = _Slot(t_ns, reading)

    def _once(self, t_ns: int, waited_s: float) -> Taken | None:
        wall, cpu = time.monotonic(), time.thread_time()
        self.began_s = wall
        try:
            reading = self._survived(t_ns, partial(self._read, t_ns, cpu))
        finally:
            self.began_s = 0.0
        if reading is None:
            return None
        if not isinstance(reading, Late):
            self._count(t_ns, reading, time.thread_time() - cpu)
        self._judge(t_ns, time.monotonic() - wall, waited_s)
        return t_ns, reading

    def _survived(self, t_ns: int, work: Callable[[], R]) -> R | None:
        """What `work` yields; None where it fails, or the collector was shed meanwhile."""
        try:
            done = work()
        except NoData as error:
            self._absent(t_ns, str(error))
            return None
        except Exception as error:  # noqa: BLE001  # the one place that must survive any collector
            self._failed(t_ns, f"{type(error).__name__}: {error}")
            return None
        return None if self.state == "shed" else done

    def _read(self, t_ns: int, began: float) -> Reading | Late:
        if not self._open:
            self.collector.open(self._root)
            self._open = True
        if self._deferring is None:
            return self.collector.collect(t_ns)
        work = self._deferring.grab(t_ns)
        if isinstance(work, Reading):
            return work
        return Late(partial(self._made, t_ns, work, time.thread_time() - began))

    def _made(self, t_ns: int, work: Callable[[], Reading], spent: float) -> Reading | None:
        """spent: CPU seconds of the thread that went into reading."""
        began = time.thread_time()
        reading = self._survived(t_ns, work)
        if reading is not None:
            self._count(t_ns, reading, spent + time.thread_time() - began)
        return reading

    def _count(self, t_ns: int, reading: Reading, cpu: float) -> None:
        self._backoff = 1
        self.reported_lost = False
        if self._readings:  # the first one also imports and opens
            self.load += MEMORY * (cpu / self.period_s - self.load)
        self.state, self.reason, self._remedy = "on", "", ""
        self._series, self._seconds, self._last_ns = len(reading.series), cpu, t_ns
        self._seconds_total += cpu
        self._readings += 1

    def _judge(self, t_ns: int, wall: float, waited_s: float) -> None:
        """Backs off one that took too long for reasons of its own, waiting for a processor not counted."""
        late = False
        if wall > DEADLINE_S and self._readings > 1:
            own = wall - (run_delay_s() - waited_s)
            late = own > (SLOW_DEADLINE_S if self.spec.slow else DEADLINE_S)
            if late and not self.slow:
                log.warning("collector %s took %.2f s; it gets a thread of its own", self.spec.name, own)
                self.slow = True
        if late:
            self._late = min(2 * self._late, MAX_BACKOFF)
        elif self._late > 1:
            self._late //= 2
        rest_s = self._resting.rest_s if self._resting else 0.0
        self._rest(t_ns, max(self.period_s * self._late, rest_s) - 0.1)

    def _rest(self, t_ns: int, seconds: float) -> None:
        self.pause_ns = int(seconds * NS)
        self.due_ns = t_ns + self.pause_ns

    def _absent(self, t_ns: int, reason: str) -> None:
        self._rest(t_ns, REOPEN_S)
        self._open = False
        if self.state != "nodata":
            log.info("collector %s: nothing here: %s", self.spec.name, reason)
        self.state, self.reason = "nodata", reason

    def _failed(self, t_ns: int, reason: str) -> None:
        if self.reason != reason:
            log.warning("collector %s failed: %s; next try in %d s", self.spec.name, reason, self._backoff)
        self._rest(t_ns, self._backoff * max(self.period_s, 1.0))
        self._backoff = min(self._backoff * 2, MAX_BACKOFF)
        self._close()
        self.state, self.reason = "failed", reason
        self._failures += 1

    def _close(self) -> None:
        self._open = False
        self.collector.close()
