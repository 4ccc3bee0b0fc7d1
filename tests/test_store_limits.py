"""What the store may cost: memory, processor time, bytes. Short here; scripts/bench measures long runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

RUN = """
import sys, time, resource
import numpy as np
from etio.core.frame import Frame
from etio.core.series import Series, labels
from etio.store import days
from etio.store.config import StoreConfig
from etio.store.store import open_store

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

def burned():
    ticks = open(f"/proc/self/task/{store.writer._thread.native_id}/schedstat").read().split()[0]
    return int(ticks) / 1e9

seconds, count = int(sys.argv[2]), 1000
store = open_store(StoreConfig(directory=sys.argv[1], batch_seconds=60, queue_frames=1000, compact=False))
series = tuple(Series("x_bytes", "bytes", "gauge", labels(device=str(i))) for i in range(count))
rng = np.random.default_rng(1)
walk, start, before, peak = rng.uniform(0, 100, count), days.start_of("20261120"), resident(), 0.0
for at in range(0, seconds, 5):
    for second in range(at, at + 5):
        walk = walk + rng.normal(0, 0.1, count) * (rng.random(count) < 0.3)
        values = np.round(walk, 2).astype(np.float32).astype(np.float64)
        assert store.writer.put_frame(Frame(start + second * 10**9, series, values))
    assert store.writer.flush(60)
    peak = max(peak, resident())
cpu = burned()
began = time.perf_counter()
for i in range(5):
    curve = store.archive.curve(series[i].key, start, start + seconds * 10**9)
milliseconds = (time.perf_counter() - began) / 5 * 1e3
rows = store.writer.stats.rows
store.close()
size = sum(f.bytes for f in days.listing(store.database.directory) if f.raw)
print(peak - before, 100 * cpu / seconds, size / rows, milliseconds)
"""


@pytest.mark.slow
def test_an_hour_of_a_thousand_series_stays_small(tmp_path):
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path), "3600"], capture_output=True, text=True,
                          check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    growth_mb, cpu_percent, bytes_per_sample, curve_ms = map(float, done.stdout.split())
    print(f"growth {growth_mb:.0f} MB, {cpu_percent:.3f} % of a core, {bytes_per_sample:.2f} B/sample,"
          f" {curve_ms:.0f} ms a curve")
    assert growth_mb < 65
    assert bytes_per_sample < 12
