"""A lasting shift is told with its moment and levels, what is no shift is not; reports tell it as a change before."""

import numpy as np
import pytest

from detectors.level_shift import MOST_A_TICK, Config, LevelShift
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, HostEvent, Write
from etio.core.frame import NS, Frame
from etio.core.policy import EngineConfig
from etio.core.series import Series, labels
from rca.agent import explain
from rca.case import Case
from tests import incident_builder as build

START = 1_790_000_000 // 3600 * 3600
DISK = Series("disk_read_latency_seconds", "seconds", "mean", labels(device="sda"))


def told(value, ticks, series=DISK, step=1, seed=1):
    rng, one, found = np.random.default_rng(seed), LevelShift(Config()), []
    for t in range(0, ticks, step):
        one.step(Frame((START + t) * NS, (series,), np.array([value(t, rng)])))
        found += [(t, shift) for _, shift in one.shifts()]
    return found


def test_a_shift_is_told_once_with_its_moment_and_levels():
    found = told(lambda t, rng: rng.normal(0.004 if t < 900 else 0.030, 0.0005), 2400)
    assert len(found) == 1
    at, shift = found[0]
    assert 900 + 150 <= at <= 900 + 200
    assert abs(shift.t_ns / NS - START - 900) <= 20
    assert shift.before == pytest.approx(0.004, rel=0.1)
    assert shift.after == pytest.approx(0.030, rel=0.1)


def test_there_and_back_are_two_shifts():
    found = told(lambda t, rng: rng.normal(0.004 if t % 2400 < 1200 else 0.030, 0.0005), 4000)
    assert [round((s.t_ns / NS - START) / 100) for _, s in found] == [12, 24, 36]


def test_a_slow_rise_over_half_an_hour_is_seen_at_the_slow_pace():
    found = told(lambda t, rng: rng.normal(0.010 + 0.020 * np.clip((t - 7200) / 600, 0, 1), 0.004), 18_000)
    assert len(found) == 1
    assert 7000 <= found[0][1].t_ns / NS - START <= 8000


@pytest.mark.parametrize("value", [
    lambda t, rng: rng.normal(0.010, 0.003),
    lambda t, rng: 0.010 * np.exp(rng.standard_t(3) * 0.3),
    lambda t, rng: 0.2 if t % 600 < 60 else rng.normal(0.01, 0.001),  # a burst each ten minutes
    lambda t, rng: 0.02 + 0.015 * np.sin(t / 200) + rng.normal(0, 0.001),  # goes up and down
    lambda t, rng: 0.0100 if t < 900 else 0.0101,  # next to nothing
], ids=["noise", "tails", "bursts", "waves", "tiny"])
def test_what_is_no_shift_is_not_told(value):
    assert told(value, 6000) == []


def test_gaps_and_restarts():
    found = told(lambda t, rng: np.nan if 400 < t < 600 else rng.normal(0.004 if t < 1500 else 0.03, 5e-4), 2400)
    assert len(found) == 1
    one, other, rng = LevelShift(Config()), LevelShift(Config()), np.random.default_rng(1)
    for t in range(1000):
        one.step(Frame((START + t) * NS, (DISK,), rng.normal(0.004 if t < 900 else 0.03, 5e-4, 1)))
    other.restore(one.snapshot(), ())
    found = []
    for t in range(1000, 1300):
        other.step(Frame((START + t) * NS, (DISK,), rng.normal(0.03, 5e-4, 1)))
        found += other.shifts()
    assert len(found) == 1


def test_the_engine_keeps_it_as_an_event_and_a_report_tells_it():
    engine, kept, rng = Engine(EngineConfig(), [Judge(LevelShift(Config()), "group")]), [], np.random.default_rng(1)
    for t in range(1300):
        frame = Frame((START + t) * NS, (DISK,), rng.normal(0.004 if t < 900 else 0.03, 5e-4, 1))
        kept += [a.item for a in engine.step(FrameReady(frame)) if isinstance(a, Write)]
    event = kept[0]
    assert isinstance(event, HostEvent)
    assert (event.kind, event.entity, event.get("what")) == ("level_shift", "device=sda", DISK.key)
    spec = build.load("cpu_saturation")
    moved = HostEvent(build.ONSET_NS - 100 * NS, *(getattr(event, n) for n in ("kind", "entity", "fields", "source")))
    now = build.ONSET_NS + spec.get("fault_s", 12) * NS
    history = build.MemoryHistory(build.window_of(spec), (*build.events_of(spec), moved))
    report = explain(Case(build.incident_of(spec, now), now, "testhost"), history, build.facts_of(spec),
                     build.NoKnobs(), None)
    lines = [m.text for m in report.changes if "level shifted" in m.text]
    assert lines == ['mean read latency (device="sda"): level shifted from 4 ms to 30 ms']
    assert not [m for m in report.timeline if "level shift" in m.text]


def test_hundreds_of_shifts_at_once_are_told_over_some_ticks_the_largest_first():
    """Verifying and wording them all in one tick took 30 ms."""
    rng, one, count = np.random.default_rng(4), LevelShift(Config()), 3 * MOST_A_TICK
    series = tuple(Series(f"some{i}_ratio", "ratio") for i in range(count))
    size = 0.2 + 0.6 * np.arange(count) / count
    ticks: dict[int, list[tuple[str, float]]] = {}
    for t in range(900):
        x = rng.normal(0.1, 0.01, count) + (size if t >= 500 else 0.0)
        one.step(Frame((START + t) * NS, series, x))
        if found := one.shifts():
            ticks[t] = [(s.name, shift.after - shift.before) for s, shift in found]
            assert all(abs(shift.t_ns / NS - START - 500) <= 20 for _, shift in found)
    assert max(map(len, ticks.values())) <= MOST_A_TICK
    assert max(ticks) - min(ticks) <= 10
    assert sorted(name for told in ticks.values() for name, _ in told) == sorted(s.name for s in series)
    first, *_, last = (np.mean([rise for _, rise in told]) for told in ticks.values())
    assert first > last
