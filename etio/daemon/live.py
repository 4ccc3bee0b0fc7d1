"""The running daemon as the API, `etio status` and the page see it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from etio.core.frame import Floats, Frame
from etio.core.ports import Window
from etio.core.ring import Ring
from etio.core.score import Band
from etio.core.season import Season
from etio.core.status import Status

WATCHED_S = 3.0
"""Who asks for the newest frame this often wants each as it comes."""


class LiveView:
    """Newest frame, expected band and the last minutes, behind one lock."""

    def __init__(self, ticks: int, status: Callable[[], Status]) -> None:
        self._ring = Ring(ticks)
        self._lock = threading.Lock()
        self._latest: tuple[Frame, Band | None] | None = None
        self._status = status
        self.season_of: Callable[[str], Season | None] = lambda key: None
        """Whom to ask for the season of a series; the engine, once there is one."""
        self._steps: Mapping[tuple[str, str], Floats] = {}
        self._asked_s = -WATCHED_S

    def push(self, frame: Frame, band: Band | None) -> None:
        """Takes the newest frame in."""
        with self._lock:
            self._ring.push(frame)
            self._latest = (frame, band)

    def keep_steps(self, steps: Mapping[tuple[str, str], Floats]) -> None:
        """Takes in what inference servers did; the arrays are not changed by anybody from now on."""
        self._steps = steps

    def steps(self) -> Mapping[tuple[str, str], Floats]:
        """Steps of inference servers, at most some seconds old."""
        return self._steps

    def status(self) -> Status:
        """The daemon now."""
        return self._status()

    def latest(self) -> tuple[Frame, Band | None] | None:
        """Newest frame and the expected band of its series; None before the first."""
        self._asked_s = time.monotonic()
        return self._latest

    def watched(self) -> bool:
        """Whether somebody looks on: a page that is open, a scraper that comes every few seconds."""
        return time.monotonic() - self._asked_s < WATCHED_S

    def season(self, key: str) -> Season | None:
        """What each hour usually brings for the series with this key, or None."""
        return self.season_of(key)

    def recent(self, start_ns: int, names: Sequence[str] | None = None) -> Window:
        """Samples still in memory from start_ns on."""
        with self._lock:
            return self._ring.window(start_ns, time.time_ns(), names)
