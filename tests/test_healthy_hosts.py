"""What a healthy host does and nobody wants to be woken for, through the engine as it is delivered."""

import numpy as np
import pytest

from etio.core.event import FrameReady, Notify
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels
from etio.daemon.config import load
from etio.daemon.replay import engine_of

START_NS = 1_795_000_000 * NS
CPU = (
    Series("cpu_busy_ratio", "ratio"), Series("cpu_runnable_per_core", "1"), Series("pressure_cpu_some_ratio", "ratio"),
    Series("sched_run_delay_p99_seconds", "seconds"), Series("cpu_mode_ratio", "ratio", labels=labels(mode="user")),
    Series("cpu_mode_ratio", "ratio", labels=labels(mode="nice")),
)


def told(series, rows):
    """Names of the alerts that somebody is told of, one frame a second."""
    engine, names = engine_of(load(None)), set()
    for second, values in enumerate(rows):
        for action in engine.step(FrameReady(Frame(START_NS + second * NS, series, np.asarray(values, dtype=float)))):
            if isinstance(action, Notify):
                names |= {a.name for a in action.alerts if a.state == "firing"}
    return names


def crowd(nice, seconds=40):
    """Five calm minutes of a host, then more threads than cores, of which this share is niced. Figures as recorded."""
    noise = np.random.default_rng(7)
    for _ in range(300):
        busy = noise.uniform(0.05, 0.15)
        yield busy, 0.5, busy / 3, noise.uniform(0.002, 0.012), busy, 0.0
    for _ in range(seconds):
        yield 1.0, noise.uniform(20, 40), 0.99, noise.uniform(0.2, 0.5), 1.0 - nice, nice


def test_a_crowd_of_background_work_is_nobodys_trouble():
    assert told(CPU, crowd(nice=0.65)) == set()


def test_a_crowd_of_ordinary_work_is_told():
    assert {"CpuSaturated", "RunQueueLong"} <= told(CPU, crowd(nice=0.1))


@pytest.mark.parametrize("names", [("pressure_cpu_some_ratio",), ("sched_run_delay_p99_seconds",)])
def test_waiting_alone_is_told_where_no_background_work_is_known_of(names):
    at = [i for i, s in enumerate(CPU) if s.name in names]
    assert told(tuple(CPU[i] for i in at), ([row[i] for i in at] for row in crowd(nice=0.65))) != set()
