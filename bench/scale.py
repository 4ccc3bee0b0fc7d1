"""What a tick costs on large hosts: 8, 64 and 256 cores, 64 disks, 8 GPUs, 2,000 control groups, made of golden trees.

Real /proc files cost more to read (the kernel makes their text), the same on every size; what is measured here is what
etio itself does with them, where a loop within a loop would hide.
"""

import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import collector
import detectors
from bench.common import parser, write
from bench.parts import per_call
from bench.scale_host import Size, make
from bench.signals import entry
from collector.cgroups import CgroupReader
from collector.processes import ProcessReader
from etio.core.builder import Catalogue, FrameBuilder
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Frame, Reading
from etio.core.series import Series, labels
from etio.daemon.config import DaemonConfig
from etio.daemon.privileges import raise_files

SIZES = (Size(8, 4, 125, 1, 150), Size(64, 64, 1000, 8, 800), Size(256, 64, 2000, 8, 2000))
NOT_FROM_FILES = frozenset(("nvml", "gpu_jobs", "kmsg", "inference", "ebpf"))
"""Collectors that ask a driver, a server or the live kernel."""
GPU = ("utilization_ratio", "memory_activity_ratio", "memory_used_bytes", "memory_used_ratio", "temperature_celsius",
       "power_watts", "power_limit_watts", "sm_clock_hertz", "memory_clock_hertz", "throttle_power_ratio",
       "throttle_thermal_ratio", "ecc_corrected_per_second", "pcie_link_width", "processes")
WARM, TICKS = 110, 40
SETTLE = 50
"""Looks until a table of the largest host is settled."""


def main() -> int:
    """Entry."""
    one = parser(__doc__ or "")
    arguments = one.parse_args()
    raise_files()
    hosts: dict[str, Any] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="etio-scale-") as folder:
            make(Path(folder) / "root", size)
            hosts[str(size.cores)] = measure(Path(folder) / "root", size)
        _show(str(size.cores), hosts[str(size.cores)])
    result = {"hosts": hosts, "growth": growth(hosts)}
    print("cost grows with the number of things to the power of "
          + ", ".join(f"{v:.2f} ({k})" for k, v in result["growth"].items()))
    write(arguments.json, result)
    return 0


def growth(hosts: dict[str, Any]) -> dict[str, float]:
    """Exponent of each cost over the number of things, from the smallest host to the largest: 1 = linear."""
    small, *_, large = hosts.values()
    things = math.log(large["things"] / small["things"])
    return {k: round(math.log(large[k] / small[k]) / things, 2) for k in small if k.endswith("_ms")}


def measure(root: Path, size: Size) -> dict[str, Any]:
    """Milliseconds of CPU per tick (of a second) and per look, and what was left out."""
    readings, costs, periods = read_all(root)
    readings["gpus"] = _gpus(size.gpus)
    builder = FrameBuilder(Catalogue(DaemonConfig().max_series))

    def cut(i: int) -> None:
        for name, reading in readings.items():
            builder.add(name, i * NS, reading, 600 * NS)
        builder.build(i * NS)

    cut(1)
    frame_ms = per_call(lambda i: cut(i + 2), TICKS) / 1e3
    frame = builder.build(100 * NS)
    detect, dearest = _detect(frame.series, frame.values)
    collect = {name: cost / periods[name] / 1e3 for name, cost in costs.items()}
    looks = {"processes_look_ms": _look(ProcessReader(root).read), "cgroups_look_ms": _look(CgroupReader(root).read)}
    left_out = {s.key: float(v) for s, v in zip(frame.series, frame.values, strict=True)
                if s.name.endswith("left_out") and v > 0}
    dearest |= {f"collect {n}": c for n, c in collect.items()}
    return {
        **asdict(size), "things": size.things, "series": len(frame.series),
        "collect_ms": round(sum(collect.values()), 3), "frame_ms": round(frame_ms, 3), "detect_ms": round(detect, 3),
        "total_ms": round(sum(collect.values()) + frame_ms + detect, 3), **looks,
        "left_out": left_out, "series_refused": sum(builder.catalogue.refused.values()),
        "dearest": {k: round(v, 3) for k, v in sorted(dearest.items(), key=lambda kv: -kv[1])[:6]},
    }


def read_all(root: Path) -> tuple[dict[str, Reading], dict[str, float], dict[str, float]]:
    """The last reading of each collector, its microseconds per reading, and its period."""
    readings, costs, periods = {}, {}, {}
    for name, spec in collector.discover().items():
        if name in NOT_FROM_FILES:
            continue
        one = spec.build(spec.config())
        try:
            one.open(root)
            readings[name] = one.collect(NS)
            step = int(spec.period_s * NS)
            costs[name] = per_call(lambda i, one=one, step=step: one.collect(NS + (i + 1) * step),  # type: ignore[misc]
                                   TICKS)
            readings[name] = one.collect(NS + (TICKS + 2) * step)
            periods[name] = spec.period_s
        except (NoData, Broken):
            readings.pop(name, None)
        finally:
            one.close()
    return readings, costs, periods


def _gpus(count: int) -> Reading:
    series = tuple(Series(f"gpu_{what}", "ratio" if "ratio" in what else "1", labels=labels(gpu=str(g), uuid=f"G-{g}"))
                   for g in range(count) for what in GPU)
    return Reading(series, np.full(len(series), 0.5))


def _detect(series: tuple[Series, ...], values: Any) -> tuple[float, dict[str, float]]:
    """Milliseconds per frame of all detectors, and of each."""
    rng = np.random.default_rng(1)
    level = np.abs(np.nan_to_num(values)) + 1e-3
    frames = [Frame(i * NS, series, level * (1 + 0.05 * rng.standard_normal(len(series))))
              for i in range(1, WARM + TICKS + 1)]
    costs = {}
    for name, spec in detectors.discover().items():
        one = spec.build(spec.config())
        for frame in frames[:WARM]:
            one.step(frame)
        costs[f"detect {name}"] = per_call(lambda i, one=one: one.step(frames[WARM + i]), TICKS) / 1e3  # type: ignore[misc]
    return sum(costs.values()), costs


def _look(read: Any) -> float:
    """Milliseconds of one look at a table, once all of it is known: at some of it each look looks closely."""
    for i in range(SETTLE):
        read((i + 1) * NS)
    return round(per_call(lambda i: read((i + 1 + SETTLE) * NS), 5) / 1e3, 2)


def _show(name: str, row: dict[str, Any]) -> None:
    print(f"{name} cores, {row['disks']} disks, {row['groups']} groups, {row['gpus']} GPUs, {row['processes']} "
          f"processes: {row['series']} series; a tick costs {row['total_ms']:.2f} ms of CPU (collect "
          f"{row['collect_ms']:.2f}, frame {row['frame_ms']:.2f}, detect {row['detect_ms']:.2f}); a look at processes "
          f"{row['processes_look_ms']:.1f} ms, at groups {row['cgroups_look_ms']:.1f} ms")
    print("  dearest:  " + ", ".join(f"{k} {v:.2f}" for k, v in row["dearest"].items()))
    print("  left out: " + (", ".join(f"{k} {v:.0f}" for k, v in row["left_out"].items()) or "nothing")
          + f"; series refused: {row['series_refused']}", flush=True)


if __name__ == "__main__":
    entry(main)
