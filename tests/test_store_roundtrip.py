"""What goes into the store comes out the same, from files, from roll-ups and from the queue."""


import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.series import Series, labels
from etio.store import days
from etio.store.store import open_store
from tests.store_rig import config, write

NS = 1_000_000_000
NOON = days.start_of("20261120") + 12 * 3600 * NS


@pytest.fixture
def store(tmp_path):
    one = open_store(config(tmp_path))
    yield one
    one.close()


def catalogue(n):
    return tuple(Series("disk_busy_ratio", "ratio", "gauge", labels(device=f'we"ird\n{i}')) for i in range(n))


def make_frames(count, series, start_ns=NOON, step_ns=NS + 123, seed=1):
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(count):
        values = rng.normal(0, 1e6, len(series)).astype(np.float32).astype(np.float64)
        values[rng.random(len(series)) < 0.1] = np.nan
        frames.append(Frame(start_ns + i * step_ns, series, values))
    return frames


def matrix(frames, n):
    return np.array([np.concatenate([f.values, np.full(n - len(f.values), np.nan)]) for f in frames])


def test_window_gives_back_the_very_same_numbers(store):
    series = catalogue(7)
    frames = make_frames(50, series)
    frames[10] = Frame(frames[10].t_ns, series, np.full(7, np.nan))  # a tick at which everything was missing
    write(store, frames)
    window = store.archive.window(0, 2**62)
    assert window.series == series
    assert window.t_ns.tolist() == [f.t_ns for f in frames]
    np.testing.assert_array_equal(window.values, matrix(frames, 7))


def test_unwritten_frames_are_served_and_not_twice(store):
    series = catalogue(3)
    frames = make_frames(20, series)
    write(store, frames[:12])
    for frame in frames[12:]:
        store.writer.put_frame(frame)
    window = store.archive.window(frames[5].t_ns, frames[18].t_ns)
    assert window.t_ns.tolist() == [f.t_ns for f in frames[5:19]]
    np.testing.assert_array_equal(window.values, matrix(frames[5:19], 3))
    curve = store.archive.curve(series[1].key, frames[0].t_ns, frames[-1].t_ns)
    np.testing.assert_array_equal(curve.mean, matrix(frames, 3)[:, 1])


def test_a_frame_of_nothing_is_a_frame(store):
    write(store, [Frame(NOON, (), np.empty(0))])
    assert store.archive.window(0, 2**62).t_ns.tolist() == [NOON]


def test_what_does_not_fit_is_refused_at_the_door(store):
    with pytest.raises(ValueError, match="shape"):
        store.writer.put_frame(Frame(NOON, catalogue(3), np.zeros(2)))
    with pytest.raises(TypeError):
        store.writer.put(HostEvent(NOON, "oom_kill", "x", (("rss", object()),)))
    assert store.writer.flush()


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), max_size=20))
def test_any_text_of_the_kernel_can_be_kept(store, text):
    """Names of processes and mounts may hold anything, undecodable bytes included."""
    t_ns = NOON + abs(hash(text)) % 10**12
    series = (Series("filesystem_used_ratio", "ratio", "gauge", labels(mount=text)),)
    event = HostEvent(t_ns, "oom_kill", "pid=1", (("comm", text),))
    store.writer.put(event)
    write(store, [Frame(t_ns, series, np.array([1.0]))])
    shown = text.encode("utf-8", "replace").decode()
    assert shown in [e.get("comm") for e in store.archive.events(t_ns, t_ns)]
    window = store.archive.window(t_ns, t_ns)
    assert shown in [s.label("mount") for s in window.series]
    assert store.archive.curve(Series("filesystem_used_ratio", "", "gauge", labels(mount=shown)).key, 0, 2**61)
