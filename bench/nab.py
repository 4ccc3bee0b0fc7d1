"""A smoke test on ten host-like series of the Numenta benchmark: windows found and alarms outside of them."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.common import from_caller, parser, write
from bench.scoring import Bools, Floats
from bench.signals import entry
from detectors.fusion import Fusion, FusionConfig
from detectors.level_shift import Config as ShiftConfig
from detectors.level_shift import LevelShift
from detectors.robust_z import Config, RobustZ
from etio.core.frame import NS, Frame
from etio.core.series import Series

COOL = 12
"""Rows between alarms that count as one: an hour."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One series. t_s int64[n], x float64[n], windows: (first, last) second of what its authors marked."""

    name: str
    t_s: np.ndarray[Any, np.dtype[np.int64]]
    x: Floats
    windows: tuple[tuple[int, int], ...]

    @property
    def series(self) -> Series:
        """The series, in units of a hundredth of its usual level, since nothing is known of its own."""
        return Series("nab_value_ratio", "ratio")

    @property
    def scaled(self) -> Floats:
        """Values over the 95 % quantile of the first day: a ratio, as the product's units are."""
        first = self.x[self.t_s < self.t_s[0] + 86_400]
        top = float(np.quantile(first, 0.95))
        return np.asarray(self.x / top if top > 0 else self.x)


def traces(folder: Path) -> list[Trace]:
    """Every series of the folder. Raises FileNotFoundError."""
    marked = json.loads((folder / "windows.json").read_text())
    found = []
    for path in sorted(folder.glob("*.csv")):
        with path.open() as file:
            rows = [(_seconds(r["timestamp"]), float(r["value"])) for r in csv.DictReader(file)]
        t, x = (np.array(column) for column in zip(*rows, strict=True))
        windows = tuple((_seconds(a), _seconds(b)) for a, b in marked.get(path.name, ()))
        found.append(Trace(path.stem, t.astype(np.int64), x.astype(np.float64), windows))
    return found


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text.split(".", maxsplit=1)[0]).replace(tzinfo=UTC).timestamp())


def joint(trace: Trace) -> Bools:
    """The fused score of a single series with its following threshold."""
    fusion = Fusion(1, 1, FusionConfig(period_s=300.0))
    looks = [fusion.step(np.array([[v]]), np.array(0.04)) for v in trace.scaled]
    return np.array([bool(one.alarm[0] > one.threshold[0]) for one in looks])


def robust_z(trace: Trace) -> Bools:
    """The per-series detector, at one alarm a day."""
    return _stepped(trace, RobustZ(Config(max_gap_s=3000.0, tick_s=300.0)))


def level_shift(trace: Trace) -> Bools:
    """Verified shifts; a row is taken for ten seconds, its fast pace."""
    return _stepped(trace, LevelShift(ShiftConfig(hold_s=10.0)), 10)


def _stepped(trace: Trace, detector: Any, every_s: int = 300) -> Bools:
    said = []
    for i, value in enumerate(trace.scaled):
        scores = detector.step(Frame((i + 1) * every_s * NS, (trace.series,), np.array([value])))
        said.append(bool((scores.values >= 1).any()))
    return np.array(said)


METHODS: dict[str, Callable[[Trace], Bools]] = {"joint": joint, "robust_z": robust_z, "level_shift": level_shift}


def judged(trace: Trace, mask: Bools) -> tuple[int, int]:
    """(windows with an alarm, alarms outside of all windows)."""
    rows = np.flatnonzero(mask)
    starts = rows[np.r_[True, np.diff(rows) > COOL]] if len(rows) else rows
    found = sum(bool(mask[(trace.t_s >= a) & (trace.t_s <= b)].any()) for a, b in trace.windows)
    outside = [r for r in starts.tolist() if not any(a <= trace.t_s[r] <= b for a, b in trace.windows)]
    return found, len(outside)


def main() -> None:
    """Prints one line per series and method, and their sums."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=from_caller, required=True, metavar="DIR", help="has anomaly/nab")
    options = arguments.parse_args()
    folder = options.data / "anomaly" / "nab"
    try:
        every = traces(folder)
    except FileNotFoundError as error:
        arguments.error(str(error))
    days = sum((one.t_s[-1] - one.t_s[0]) / 86_400 for one in every)
    marked = sum(len(one.windows) for one in every)
    result: dict[str, Any] = {}
    for name, method in METHODS.items():
        pairs = [judged(one, method(one)) for one in every]
        found, outside = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
        print(f"{name:12} {found:2d} of {marked} windows, {outside / days:.2f} alarms a day outside of them")
        result[name] = {"found": found, "windows": marked, "outside_per_day": round(outside / days, 3)}
    write(options.json, result)


if __name__ == "__main__":
    entry(main)
