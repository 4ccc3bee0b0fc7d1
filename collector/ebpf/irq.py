"""Reader of irq.bcc.c: time spent in interrupts.

Emits: irq_soft_seconds_per_second{vector}, irq_hard_seconds_per_second (handlers of devices; the CPU's own timer and
its calls between cores are not among them), irq_line_seconds_per_second{irq,device} for lines that ever took 1 ms of a
tick, irq_ksoftirqd_seconds_per_second (soft interrupts put off to the thread because there were too many),
irq_worst_core_ratio and irq_mean_core_ratio (of the time since the last reading, both kinds together).
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from collector.ebpf.families import IRQ_CPU_BYTES, IRQ_LINES, IRQ_VECTORS
from collector.ebpf.heavy import Counts, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import LateFamily, Values, symbols
from etio.core.frame import Floats
from etio.core.series import Series, labels

VECTORS = {0: "HI", 1: "TIMER", 2: "NET_TX", 3: "NET_RX", 4: "BLOCK", 5: "IRQ_POLL", 6: "TASKLET", 7: "SCHED",
           8: "HRTIMER", 9: "RCU"}
"""Of the kernel's include/linux/interrupt.h; the running kernel's own names win."""
MOST_LINES = 32
NOTABLE_NS = 1_000_000
_SOFT_RUNS = slice(IRQ_VECTORS, 2 * IRQ_VECTORS)
_HARD, _KSOFTIRQD = 2 * IRQ_VECTORS, 2 * IRQ_VECTORS + 2


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._sys = Path(entry["root"]) / "sys/kernel/irq"
        self._lines = mapped.view("<u8", 0, IRQ_LINES)
        self._cpus = mapped.view("<u8", 8 * IRQ_LINES, cpus * IRQ_CPU_BYTES // 8).reshape(cpus, IRQ_CPU_BYTES // 8)
        self._vectors = {**VECTORS, **symbols(entry, "softirq_exit")}
        self._last_lines, self._last_busy = self._lines.copy(), self._busy(self._cpus.copy())
        self._last_ns = time.monotonic_ns()
        self._shown: list[tuple[str, int]] = []
        self.series = [
            Series("irq_worst_core_ratio", "ratio"), Series("irq_mean_core_ratio", "ratio"),
            Series("irq_hard_seconds_per_second", "seconds/s", "counter"),
            Series("irq_ksoftirqd_seconds_per_second", "seconds/s", "counter"),
        ]

    @staticmethod
    def _busy(cpus: Any) -> Floats:
        """float64[cpus]: nanoseconds in interrupts so far."""
        spent: Floats = (cpus[:, :IRQ_VECTORS].sum(axis=1) + cpus[:, _HARD]).astype(np.float64)
        return spent

    def grab(self) -> Callable[[], Values]:
        """See Family. Vectors and lines appear when they have taken time."""
        return partial(self._values, self._cpus.copy(), self._lines.copy(), time.monotonic_ns())

    def _values(self, now: Counts, lines: Counts, clock: int) -> Values:
        total = now.sum(axis=0)
        self._show(total, lines)
        self._last_lines = lines
        sums = {"soft": total[:IRQ_VECTORS], "line": lines}
        return [*self._shares(now, clock), float(total[_HARD]) / 1e9, float(total[_KSOFTIRQD]) / 1e9,
                *(float(sums[kind][number]) / 1e9 for kind, number in self._shown)]

    def runs(self) -> Mapping[str, float]:
        """See Family."""
        soft, hard = float(self._cpus[:, _SOFT_RUNS].sum()), float(self._cpus[:, _HARD + 1].sum())
        return {"softirq_entry": soft, "softirq_exit": soft, "irq_handler_entry": hard, "irq_handler_exit": hard}

    def _shares(self, cpus: Counts, clock: int) -> tuple[float, float]:
        """Worst and mean share of a core's time; cores without a single interrupt ever do not exist."""
        busy = self._busy(cpus)
        span, grown = clock - self._last_ns, busy - self._last_busy
        real = busy > 0
        self._last_busy, self._last_ns = busy, clock
        if span <= 0 or not real.any():
            return np.nan, np.nan
        shares = np.minimum(grown[real] / span, 1.0)
        return float(shares.max()), float(shares.mean())

    def _show(self, total: Any, lines: Any) -> None:
        for vector in range(IRQ_VECTORS):
            if total[vector] and ("soft", vector) not in self._shown:
                self._shown.append(("soft", vector))
                name = self._vectors.get(vector, str(vector)).lower()
                self.series.append(Series("irq_soft_seconds_per_second", "seconds/s", "counter", labels(vector=name)))
        for line in np.flatnonzero(lines - self._last_lines >= NOTABLE_NS).tolist():
            known = sum(kind == "line" for kind, _ in self._shown)
            if ("line", line) not in self._shown and known < MOST_LINES:
                self._shown.append(("line", line))
                own = labels(irq=str(line), device=self._device(line))
                self.series.append(Series("irq_line_seconds_per_second", "seconds/s", "counter", own))

    def _device(self, line: int) -> str:
        """The handlers of a line, as the kernel names them; "" where it does not say."""
        try:
            return text((self._sys / str(line) / "actions").read_bytes().strip())[:64]
        except OSError:
            return ""
