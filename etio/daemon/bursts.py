"""Work on what was read, in bursts: while nothing is wrong, several ticks are worked through at once, from parsing on.

Code that ran a moment ago runs three to eight times as fast as code that did not run for a second (docs/decisions/
008-bursts.md), so three frames in a row cost little more than one. Nothing is read less
often, and no frame is different; only what follows from a frame follows up to `most` - 1 ticks later, which no rule
that waits for a condition to last notices.
"""

from collections.abc import Callable
from functools import partial

from etio.core.builder import FrameBuilder
from etio.core.event import Event, FrameReady
from etio.core.frame import Reading


class Bursts:
    """Between the collectors and the frame builder; only the sampler's thread calls it.

    most: ticks that are worked through at once; 1: each as it comes. hurry: whether somebody waits for the next frame.
    """

    def __init__(self, builder: FrameBuilder, post: Callable[[Event], None], most: int,
                 hurry: Callable[[], bool]) -> None:
        self._builder, self._post, self._most, self._hurry = builder, post, most, hurry
        self._held: list[Callable[[], None]] = []
        self._ticks = 0
        self._told = False

    def hold(self, work: Callable[[], None]) -> None:
        """Work that belongs to this tick; it may tell() events."""
        self._held.append(work)

    def add(self, collector: str, t_ns: int, reading: Reading, max_age_ns: int) -> None:
        """Takes one reading in."""
        self._held.append(partial(self._add, collector, t_ns, reading, len(reading.values), max_age_ns))

    def drop(self, collector: str) -> None:
        """Forgets a collector."""
        self._held.append(partial(self._builder.drop, collector))

    def cut(self, t_ns: int) -> None:
        """A tick is over: its frame is handed over now, or with those that follow."""
        self._held.append(partial(self._cut, t_ns))
        self._ticks += 1
        if self._ticks >= self._most or self._told or self._hurry():
            self._work_off()
            self._told = False

    def tell(self, event: Event) -> None:
        """An event: behind the frames from before it, and the frame of its own tick follows at once."""
        self._work_off()
        self._told = True
        self._post(event)

    def close(self) -> None:
        """Hands over what is held."""
        self._work_off()

    def _work_off(self) -> None:
        held, self._held, self._ticks = self._held, [], 0
        for work in held:
            work()

    def _add(self, collector: str, t_ns: int, reading: Reading, count: int, max_age_ns: int) -> None:
        """Some collectors go on adding to the list of series that their readings share."""
        if len(reading.series) > count:
            reading = Reading(reading.series[:count], reading.values, reading.weights, reading.events)
        self._builder.add(collector, t_ns, reading, max_age_ns)

    def _cut(self, t_ns: int) -> None:
        self._post(FrameReady(self._builder.build(t_ns)))
