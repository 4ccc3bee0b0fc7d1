"""Frozen and missing signals are told; what rests, idles, saturates or was taken away is not."""

import numpy as np
import pytest

from detectors.signals import Config, Signals
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels
from etio.daemon.config import from_table

START = 1_790_000_000
POWER, HEAT = (Series(n, u, labels=labels(gpu="0")) for n, u in (("gpu_power_watts", "watts"),
                                                                 ("gpu_fan_speed", "1")))
LINE = Series("network_receive_bytes_per_second", "bytes/s", labels=labels(device="eth0"))
OTHER = Series("network_transmit_bytes_per_second", "bytes/s", labels=labels(device="eth0"))


def run(series, values, ticks, one=None, start=0):
    """Every (output, note) that was ever an alarm, in order; values(t) -> list."""
    one, told = one or Signals(Config()), {}
    for t in range(start, ticks):
        scores = one.step(Frame((START + t) * NS, series, np.array(values(t), dtype=float)))
        told |= {scores.series[i].key: note for i, note in scores.notes.items() if scores.values[i] >= 1}
    return told


def noise(seed=1):
    table = np.random.default_rng(seed).normal(100.0, 5.0, (20_000, 4))
    return lambda t, i=0: float(table[t, i])


def test_a_sensor_that_answers_with_its_last_reading_is_told():
    x = noise()
    told = run((POWER,), lambda t: [x(t) if t < 800 else x(800)], 900)
    assert list(told) == ['SignalStuck{source="gpu"}']
    assert 'gpu_power_watts{gpu="0"} has been exactly ' in told['SignalStuck{source="gpu"}']


def test_one_of_many_that_rests_is_no_blindness():
    x = noise()
    alone = run((POWER, HEAT, LINE), lambda t: [x(t), x(t, 1), x(min(t, 800), 2)], 900)
    assert list(alone) == ['SignalStuck{source="network"}']
    several = tuple(Series(f"gpu_value{i}", "1", labels=labels(gpu="0")) for i in range(4))
    assert run(several, lambda t: [x(t), x(t, 1), x(t, 2), x(min(t, 800), 3)], 900) == {}


@pytest.mark.parametrize("value", [
    lambda x, t: 0.0 if t > 800 else x(t),  # idle
    lambda x, t: float(round(x(t) / 20)) * 20,  # a coarse reading repeats itself all the time
    lambda x, t: x(t // 30 * 30),  # a source that is read each half minute
    lambda x, t: 5.0,  # a constant
    lambda x, t: x(t) if t % 200 < 150 else 7.0,  # rests now and then
], ids=["idle", "coarse", "slow", "constant", "rests"])
def test_what_rests_by_nature_is_not_told(value):
    x = noise()
    assert run((LINE,), lambda t: [value(x, t)], 3000) == {}


@pytest.mark.parametrize("kept", [
    Series("filesystem_available_bytes", "bytes", labels=labels(device="/dev/vdb1")),
    Series("filesystem_used_ratio", "ratio", labels=labels(device="/dev/vdb1")),
    Series("cgroup_memory_used_bytes", "bytes", labels=labels(cgroup="/build")), Series("tcp_established", "1"),
], ids=lambda s: s.name)
def test_what_is_kept_rests_with_its_owner(kept):
    """Recorded: a program rewrote its logs for 20 minutes and was ended; its file system was told as frozen."""
    x = noise()
    assert run((kept, POWER), lambda t: [x(min(t, 1200)) / 200, x(t, 1)], 3000) == {}


def test_a_saturated_ratio_is_not_frozen():
    busy, rng = Series("cpu_busy_ratio", "ratio"), np.random.default_rng(1)
    table = rng.uniform(0.2, 0.9, 2000)
    assert run((busy,), lambda t: [1.0 if t > 900 else table[t]], 1200) == {}


def test_a_signal_that_is_gone_while_its_source_goes_on_is_told():
    x = noise()
    told = run((LINE, OTHER), lambda t: [x(t) if t < 800 else np.nan, x(t, 1)], 900)
    assert list(told) == ['SignalMissing{source="network"}']
    assert told['SignalMissing{source="network"}'].startswith(': network_receive_bytes_per_second{device="eth0"} for ')


def test_a_device_or_collector_that_is_gone_as_a_whole_is_not_told():
    x = noise()
    assert run((LINE, OTHER, POWER), lambda t: [*([x(t), x(t, 1)] if t < 800 else [np.nan] * 2), x(t, 2)], 1200) == {}


def test_a_latency_without_requests_is_not_missing():
    x, rng = noise(), np.random.default_rng(2)
    idle = rng.random(4000) < 0.02
    quiet = np.repeat(idle[::40], 40)
    assert run((LINE, OTHER), lambda t: [np.nan if quiet[t] or t > 3000 else x(t), x(t, 1)], 3500) == {}


def test_the_alarm_ends_and_is_not_repeated_within_hours():
    x, one = noise(), Signals(Config())
    frozen = lambda t: [x(t) if t < 800 or 900 < t < 2000 else x(800)]  # noqa: E731
    assert run((POWER,), frozen, 900, one)
    assert run((POWER,), frozen, 2200, one, 901) == {}


def test_a_restart_remembers_what_is_lively():
    x, one, other = noise(), Signals(Config()), Signals(Config())
    run((POWER,), lambda t: [x(t)], 800, one)
    other.restore(one.snapshot(), ())
    assert run((LINE, POWER), lambda t: [x(t, 1), x(800)], 900, other, 801)


def test_the_daemon_tells_it_which_collector_emits_what():
    settings = from_table({}, "test").detectors["signals"][1]
    assert settings.sources["disk_read_latency_seconds"] == "disks"
    given = from_table({"detector": {"signals": {"sources": {"x": "y"}}}}, "test").detectors["signals"][1]
    assert given.sources == {"x": "y"}
