"""Recordings give back the frames and events that went in, or say clearly that they cannot."""


import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etio.core.errors import Broken, StoreError
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.series import Series, labels
from etio.store import days
from etio.store.compact import compact
from etio.store.config import StoreConfig
from etio.store.recording import record, replay
from etio.store.store import open_store
from tests.property_rig import outcome

NS = 1_000_000_000
MIDNIGHT = days.start_of("20261120")
SERIES = tuple(Series("a_ratio", "ratio", "counter", labels(x=f'"{i}\\')) for i in range(5))


def frames(count=1300):
    rng = np.random.default_rng(3)
    result = []
    for i in range(count):
        width = 3 if i < 7 else 5  # the catalogue grows
        row = rng.normal(0, 1, width).astype(np.float32).astype(np.float64)
        row[rng.random(width) < 0.3] = np.nan
        result.append(Frame(MIDNIGHT + i * NS + i, SERIES[:width], row))
    return result


EVENTS = [HostEvent(MIDNIGHT + 5 * NS, "oom_kill", "pid=1", (("comm", "x"), ("rss_bytes", 5))),
          HostEvent(MIDNIGHT + 99 * NS, "link_down", "device=eth0", source="netlink"),
          HostEvent(MIDNIGHT + 9999 * NS, "link_up", "device=eth0")]


def assert_same(got, wanted):
    got = list(got)
    assert [f for f in got if isinstance(f, HostEvent)] == EVENTS
    times = [item.t_ns for item in got]
    assert times == sorted(times)
    seen = [f for f in got if isinstance(f, Frame)]
    assert len(seen) == len(wanted)
    for one, other in zip(seen, wanted, strict=True):
        assert one.t_ns == other.t_ns
        assert one.series == other.series
        np.testing.assert_array_equal(one.values, other.values)


def test_npz_round_trip(tmp_path):
    some = frames()
    assert record(tmp_path / "x.npz", some, EVENTS) == len(some)
    assert_same(replay(tmp_path / "x.npz"), some)


@pytest.mark.parametrize("how", ["folder", "file", "compacted"])
def test_day_files_round_trip(tmp_path, how):
    some = frames()
    store = open_store(StoreConfig(directory=str(tmp_path), batch_seconds=60, min_free_bytes=0, queue_frames=10**6))
    for event in EVENTS:
        store.writer.put(event)
    assert store.writer.settle()
    for frame in some:
        store.writer.put_frame(frame)
    store.close()
    path = days.path_of(tmp_path, "d20261120")
    if how == "compacted":
        compact(tmp_path, "20261120", 64)
        path.with_name(path.name + ".new").replace(path)
    assert_same(replay(tmp_path if how == "folder" else path), some)


def test_what_is_no_recording_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nonsense")
    (tmp_path / "x.duckdb").write_bytes(b"nonsense" * 1000)
    for name in ("missing.npz", "missing", "x.npz", "empty"):
        with pytest.raises(Broken, match=name):
            list(replay(tmp_path / name))
    with pytest.raises(StoreError, match=r"x\.duckdb"):
        list(replay(tmp_path / "x.duckdb"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5), st.integers(0, 3000))
def test_a_damaged_recording_is_broken_and_nothing_else(tmp_path, harm, cut):
    path = tmp_path / "x.npz"
    record(path, frames(20), EVENTS)
    content = bytearray(path.read_bytes())
    for at, value in harm:
        content[at % len(content)] = value
    path.write_bytes(content[: max(len(content) - cut, 0)] if cut < 1000 else content)
    found = outcome(lambda: list(replay(path)), Broken, says="x.npz")
    if found is not None:
        assert len(found) == 20 + len(EVENTS)
        assert all(isinstance(one, HostEvent) or len(one.values) == len(one.series) for one in found)
