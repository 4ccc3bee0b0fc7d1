"""CPU time of each part by itself: every collector and detector per tick, an explanation, a chart of a day."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import collector
import detectors
from bench.common import parser, write
from bench.signals import entry
from etio.core.builder import Catalogue, FrameBuilder
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels
from etio.store.config import StoreConfig
from etio.store.store import open_store

Costs = dict[str, float]


def main() -> int:
    """Entry."""
    one = parser(__doc__ or "")
    one.add_argument("--series", type=int, default=2000, help="series that the detectors score")
    arguments = one.parse_args()
    result: dict[str, Any] = {}
    for name, costs in (("collectors_us", collectors()), ("detectors_us", judges(arguments.series)),
                        ("store", store(1000, 900))):
        result[name] = {k: round(v, 2) for k, v in costs.items()}
        print(name)
        for part, cost in sorted(costs.items(), key=lambda kv: -kv[1]):
            print(f"  {part:32} {cost:10.2f}")
    write(arguments.json, result)
    return 0


def per_call(call: Callable[[int], Any], times: int) -> float:
    """Microseconds of CPU per call, over `times` calls."""
    began = time.process_time()
    for i in range(times):
        call(i)
    return (time.process_time() - began) / times * 1e6


def collectors() -> Costs:
    """Microseconds per reading of this host, warm caches."""
    costs: Costs = {}
    for name, spec in collector.discover().items():
        one = spec.build(spec.config())
        try:
            one.open(Path("/"))
            per_call(lambda i, one=one: one.collect(i * NS), 5)  # type: ignore[misc]
            costs[name] = per_call(lambda i, one=one: one.collect((i + 5) * NS), 100)  # type: ignore[misc]
        except (NoData, Broken):
            continue
        finally:
            one.close()
    return costs | {"sum": sum(costs.values())}


def judges(count: int) -> Costs:
    """Microseconds per frame of `count` series, after 700 frames of warm-up; river's trees included."""
    rng = np.random.default_rng(1)
    frames = _frames(count, 900, rng)
    costs: Costs = {}
    for name, spec in detectors.discover().items():
        one = spec.build(spec.config())
        for frame in frames[:700]:
            one.step(frame)
        costs[name] = per_call(lambda i, one=one: one.step(frames[700 + i]), 200)  # type: ignore[misc]
    return costs | {"sum": sum(costs.values())}


def _frames(count: int, ticks: int, rng: np.random.Generator) -> list[Frame]:
    """A host of this kind where it has that many series, padded with others."""
    builder = FrameBuilder(Catalogue())
    for name, spec in collector.discover().items():
        one = spec.build(spec.config())
        try:
            one.open(Path("/"))
            for t in (1, 2):
                builder.add(name, t * NS, one.collect(t * NS), 60 * NS)
        except (NoData, Broken):
            continue
        finally:
            one.close()
    first = builder.build(2 * NS)
    more = tuple(Series(f"extra{i}_ratio", "ratio") for i in range(max(0, count - len(first.series))))
    series = (*first.series, *more)
    level = np.abs(np.concatenate([np.nan_to_num(first.values), np.full(len(more), 0.3)])) + 1e-3
    return [Frame(i * NS, series, level * (1 + 0.05 * rng.standard_normal(len(series)))) for i in range(1, ticks + 1)]


def store(count: int, seconds: int) -> Costs:
    """Percent of a core while `count` series are written each second, bytes per sample, milliseconds of a chart."""
    rng = np.random.default_rng(2)
    series = tuple(Series("x_bytes", "bytes", labels=labels(device=str(i))) for i in range(count))
    values = rng.uniform(0, 100, count)
    with tempfile.TemporaryDirectory(prefix="etio-parts-") as folder:
        kept = open_store(StoreConfig(directory=folder, queue_frames=1000, compact=False))
        start, began = 1_795_219_200 * NS, time.process_time()
        for second in range(seconds):
            values = values + rng.normal(0, 0.1, count) * (rng.random(count) < 0.3)
            kept.writer.put_frame(Frame(start + second * NS, series, values.astype(np.float32).astype(np.float64)))
            if second % 60 == 59:
                kept.writer.flush(60)
        spent = time.process_time() - began
        size = sum(f.stat().st_size for f in Path(folder).glob("**/*") if f.is_file())
        chart = per_call(lambda i: kept.archive.curve(series[i].key, start, start + seconds * NS), 5) / 1e3
        rows = kept.writer.stats.rows
        kept.close()
    return {"percent_of_a_core": 100 * spent / seconds, "bytes_per_sample": size / max(rows, 1), "chart_ms": chart}


if __name__ == "__main__":
    entry(main)
