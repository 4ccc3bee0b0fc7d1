"""The last minutes of every series in memory: what a report looks at first, and what the page draws."""

from collections.abc import Sequence

import numpy as np

from etio.core.frame import Frame
from etio.core.ports import Window
from etio.core.series import Series


class Ring:
    """The newest `ticks` frames as float32; 4 bytes per series and tick."""

    def __init__(self, ticks: int) -> None:
        self._ticks = ticks
        self._t_ns = np.zeros(ticks, dtype=np.int64)
        self._values = np.full((ticks, 0), np.nan, dtype=np.float32)
        self._count = 0
        self._series: tuple[Series, ...] = ()

    def push(self, frame: Frame) -> None:
        """Keeps one frame, forgetting the oldest when full."""
        width = self._values.shape[1]
        if len(frame.series) > width:
            wider = np.full((self._ticks, len(frame.series) + 64), np.nan, dtype=np.float32)
            wider[:, :width] = self._values
            self._values = wider
        at = self._count % self._ticks
        self._values[at] = np.nan
        self._values[at, : len(frame.values)] = frame.values
        self._t_ns[at] = frame.t_ns
        self._series = frame.series
        self._count += 1

    def window(self, start_ns: int, end_ns: int, names: Sequence[str] | None = None) -> Window:
        """Frames in [start_ns, end_ns], oldest first, of the series with these names (None: all)."""
        kept = min(self._count, self._ticks)
        order = (np.arange(self._count - kept, self._count)) % self._ticks
        times = self._t_ns[order]
        order = order[(times >= start_ns) & (times <= end_ns)]
        series = self._series
        if names is None:
            values = self._values[order, : len(series)]
        else:
            wanted = set(names)
            columns = np.array([i for i, s in enumerate(series) if s.name in wanted], dtype=np.intp)
            series = tuple(series[i] for i in columns)
            values = self._values[np.ix_(order, columns)]
        return Window(series, self._t_ns[order], values.astype(np.float64))
