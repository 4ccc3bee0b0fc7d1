"""Runs collectors so that none can hurt another: timed, isolated, backed off.

Cheap collectors share the sampler's thread; each slow one has its own thread and a one-slot, latest-wins hand-over.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from etio.core.errors import NoData
from etio.core.frame import NS, Reading
from etio.core.ports import Collector, CollectorSpec
from etio.core.status import CollectorHealth

log = logging.getLogger(__name__)

DEADLINE_S = 0.5
"""A cheap collector that takes longer is moved to a thread of its own."""
REOPEN_S = 60.0
"""A source that is not there is looked for again so often (a driver may be loaded later)."""
MAX_BACKOFF = 64


@dataclass(slots=True)
class _Slot:
    t_ns: int
    reading: Reading


class Runner:
    """One collector: opened, read when due, backed off when it fails."""

    def __init__(self, spec: CollectorSpec, collector: Collector, root: Path, period_s: float,
                 opened: bool = False) -> None:
        self.spec = spec
        self.collector = collector
        self.period_s = period_s
        self.health = CollectorHealth(spec.name, "off")
        self.slow = spec.slow
        self._root = root
        self._open = opened
        self._due_ns = 0
        self._backoff = 1
        self._slot: _Slot | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.reported_lost = False
        """Whether somebody was told that its series are missing; reset when it delivers again."""

    @property
    def max_age_ns(self) -> int:
        """Age at which its last values go missing."""
        return int((2.5 * self.period_s + 1.0) * NS)

    def take(self, t_ns: int) -> tuple[int, Reading] | None:
        """The reading for this tick: collected now, or for a slow collector the newest its thread has left."""
        if self.health.state == "shed":
            return None
        if not self.slow:
            return self._once(t_ns) if t_ns >= self._due_ns else None
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"collect-{self.spec.name}", daemon=True)
            self._thread.start()
        slot, self._slot = self._slot, None
        return (slot.t_ns, slot.reading) if slot else None

    def stop(self) -> None:
        """Ends the thread, if any, and closes the collector unless a call hangs in it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            if self._thread.is_alive():
                return
        self.collector.close()

    def shed(self, reason: str) -> None:
        """Switches the collector off for good."""
        self.health = replace(self.health, state="shed", reason=reason, remedy="raise daemon.cpu_budget_percent")
        self._stop.set()
        if not self.slow:
            self.collector.close()

    def _serve(self) -> None:
        while not self._stop.wait(max(0.0, (self._due_ns - time.time_ns()) / NS)):
            taken = self._once(time.time_ns())
            if taken is not None:
                self._slot = _Slot(*taken)
        if self.health.state == "shed":
            self.collector.close()

    def _once(self, t_ns: int) -> tuple[int, Reading] | None:
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            if not self._open:
                self.collector.open(self._root)
                self._open = True
            reading = self.collector.collect(t_ns)
        except NoData as error:
            self._absent(t_ns, str(error))
            return None
        except Exception as error:  # noqa: BLE001  # the one place that must survive any collector
            self._failed(t_ns, f"{type(error).__name__}: {error}")
            return None
        self._succeeded(t_ns, reading, time.perf_counter() - wall, time.thread_time() - cpu)
        return t_ns, reading

    def _succeeded(self, t_ns: int, reading: Reading, wall: float, cpu: float) -> None:
        self._backoff = 1
        self.reported_lost = False
        self._due_ns = t_ns + int((self.period_s - 0.1) * NS)
        self.health = replace(
            self.health, state="on", reason="", remedy="", series=len(reading.series), seconds=cpu,
            seconds_total=self.health.seconds_total + cpu, readings=self.health.readings + 1, last_ns=t_ns)
        if wall > DEADLINE_S and cpu > DEADLINE_S / 2 and not self.slow:
            log.warning("collector %s took %.2f s; it gets a thread of its own", self.spec.name, wall)
            self.slow = True

    def _absent(self, t_ns: int, reason: str) -> None:
        self._due_ns = t_ns + int(REOPEN_S * NS)
        self._open = False
        if self.health.state != "nodata":
            log.info("collector %s: nothing here: %s", self.spec.name, reason)
        self.health = replace(self.health, state="nodata", reason=reason)

    def _failed(self, t_ns: int, reason: str) -> None:
        if self.health.reason != reason:
            log.warning("collector %s failed: %s; next try in %d s", self.spec.name, reason, self._backoff)
        self._due_ns = t_ns + int(self._backoff * max(self.period_s, 1.0) * NS)
        self._backoff = min(self._backoff * 2, MAX_BACKOFF)
        self._open = False
        self.collector.close()
        self.health = replace(self.health, state="failed", reason=reason, failures=self.health.failures + 1)


class Sampler(threading.Thread):
    """Ticks on the wall clock's grid; each tick hands every runner's reading to `deliver`, then calls `cut`."""

    def __init__(self, runners: list[Runner], tick_s: float, deliver: Callable[[Runner, int, Reading], None],
                 cut: Callable[[int], None], died: Callable[[], None] = lambda: None) -> None:
        super().__init__(name="sampler", daemon=True)
        self.runners = runners
        self._tick_ns = int(tick_s * NS)
        self._deliver = deliver
        self._cut = cut
        self._died = died
        self._stop_event = threading.Event()

    def run(self) -> None:
        """The thread; tells when it ends without having been asked to."""
        try:
            self._tick_on()
        finally:
            if not self._stop_event.is_set():
                self._died()

    def _tick_on(self) -> None:
        next_ns = (time.time_ns() // self._tick_ns + 1) * self._tick_ns
        while not self._stop_event.wait(max(0.0, (next_ns - time.time_ns()) / NS)):
            t_ns = time.time_ns()
            for runner in self.runners:
                taken = runner.take(t_ns)
                if taken is not None:
                    self._deliver(runner, *taken)
            self._cut(t_ns)
            # After a stall (or a step of the clock) go on from now: missed ticks are gone, not made up.
            next_ns = max(next_ns + self._tick_ns, (time.time_ns() // self._tick_ns + 1) * self._tick_ns)
            if next_ns - time.time_ns() > 2 * self._tick_ns:
                next_ns = (time.time_ns() // self._tick_ns + 1) * self._tick_ns

    def stop(self) -> None:
        """Ends the thread and closes every collector."""
        self._stop_event.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(timeout=2.0)
        for runner in self.runners:
            runner.stop()
