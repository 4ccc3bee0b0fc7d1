"""The shell around the engine: takes an event, steps, carries the actions out, pets the watchdog; one thread."""

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

from etio.core.engine import Engine
from etio.core.event import Action, Event, Focus, FrameReady, HostEvent, Notify, Shed, StartRca, Tick, Write
from etio.core.frame import NS
from etio.daemon.sdnotify import Notifier

log = logging.getLogger(__name__)

QUEUE = 64
"""Events that may wait; frames beyond that are dropped and counted."""
QUIET_S = 1.0
"""Without an event for so long, beyond what frames may be held while nothing is wrong, time goes on by itself: an
incident that has settled is explained then, and not with the frame after the next."""


@dataclass(slots=True)
class Hands:
    """What carries the actions out, one callable per kind."""

    frame: Callable[[FrameReady], None]
    write: Callable[[Write], None]
    notify: Callable[[Notify], None]
    explain: Callable[[StartRca], None]
    focus: Callable[[Focus], None]
    shed: Callable[[Shed], None]


class Loop:
    """One thread, one queue."""

    def __init__(self, engine: Engine, hands: Hands, notifier: Notifier, held_s: float = 0.0) -> None:
        """held_s: so much later than others a frame may come while nothing is wrong."""
        self.engine = engine
        self._hands = hands
        self._notifier = notifier
        self._held_s = held_s
        self._focused = False
        self._events: queue.Queue[Event | None] = queue.Queue()
        self.dropped_frames = 0
        self.frames = 0
        self.last_frame_ns = 0
        self.idle: Callable[[], None] = lambda: None
        """Called again and again while no event comes."""

    def post(self, event: Event) -> None:
        """Hands an event over, from any thread, the loop's own included: never waits.

        A frame that finds too much waiting is dropped and counted; frames come for ever, other events are few.
        """
        if isinstance(event, FrameReady) and self._events.qsize() >= QUEUE:
            self.dropped_frames += 1
        else:
            self._events.put(event)

    def stop(self) -> None:
        """Ends run() after the events that wait."""
        self._events.put(None)

    def run(self) -> None:
        """Runs until stop()."""
        pet_ns, late = 0, False
        while True:
            try:
                event = self._events.get(timeout=QUIET_S if late or self._focused else QUIET_S + self._held_s)
                late = False
            except queue.Empty:
                event, late = Tick(time.time_ns()), True
                self.idle()
            if event is None:
                return
            self.handle(event)
            if self._notifier.watchdog_s and time.monotonic_ns() - pet_ns > self._notifier.watchdog_s * NS / 2:
                pet_ns = time.monotonic_ns()
                self._notifier.send("WATCHDOG=1", f"STATUS={self.engine.firing()} alerts firing, {self.frames} frames")

    def rest(self) -> None:
        """Works off what has come since run() ended; nobody may post any more."""
        while not self._events.empty():
            if (event := self._events.get()) is not None:
                self.handle(event)

    def handle(self, event: Event) -> None:
        """Steps the engine by one event and carries out what it asks for."""
        actions = self.engine.step(event)
        if isinstance(event, FrameReady):
            self.frames += 1
            self.last_frame_ns = event.frame.t_ns
            self._hands.frame(event)
        # Who is to be told goes to the durable outbox before the record says it happened: a kill in between doubles a
        # notice, the other way round it would lose one.
        for action in sorted(actions, key=lambda a: not isinstance(a, Notify)):
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Write(item):
                if isinstance(item, HostEvent) and item.source != "etio":  # what we lost ourselves is logged already
                    log.info("event %s %s %s", item.kind, item.entity, item.get("reason") or "")
                self._hands.write(action)
            case Notify(incident, alerts, report):
                what = "report ready" if report else ", ".join(f"{a.name} {a.entity} {a.state}" for a in alerts)
                log.info("incident %s: %s", incident.id, what)
                self._hands.notify(action)
            case StartRca():
                self._hands.explain(action)
            case Focus(on):
                self._focused = on
                self._hands.focus(action)
            case Shed():
                self._hands.shed(action)
