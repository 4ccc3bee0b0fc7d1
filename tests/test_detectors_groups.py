"""Siblings, subsystems and drifts: who is told, and the healthy look-alikes that are not. State as bytes."""

import contextlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import conformance, discover
from detectors.drift import KEEP, Drift, Watch
from detectors.drift import Config as DriftConfig
from detectors.half_space import Config as HalfSpaceConfig
from detectors.half_space import HalfSpace
from detectors.peers import FAMILIES, Config, Peers
from detectors.state import from_bytes, to_bytes
from etio.core.errors import Broken
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels

SPECS = discover()


def gpus(n, **means):
    """Series and means of n GPUs; a mean is a number for all or a list."""
    series, values = [], []
    for name, mean in means.items():
        for i in range(n):
            series.append(Series(name, "x", labels=labels(gpu=str(i), uuid=f"GPU-{i}")))
            values.append(mean[i] if isinstance(mean, list) else mean)
    return tuple(series), np.array(values, dtype=float)


def watch(detector, series, means, ticks=120, noise=0.02, start=1):
    """Last scores by entity after some ticks with relative noise."""
    rng = np.random.default_rng(start)
    for i in range(start, start + ticks):
        scores = detector.step(Frame(i * NS, series, means * (1 + noise * rng.standard_normal(len(means)))))
    return {s.key: v for s, v in zip(scores.series, scores.values, strict=True)}


def alarms(scores):
    return {key for key, value in scores.items() if value >= 1}


def test_the_slow_gpu_is_told_in_every_position():
    for slow in range(4):
        clocks = [1.9e9] * 4
        clocks[slow] = 1.4e9
        found = watch(Peers(Config()), *gpus(4, gpu_sm_clock_hertz=clocks, gpu_utilization_ratio=0.9))
        assert alarms(found) == {f'peer_deviation{{gpu="{slow}",series="gpu_sm_clock_hertz",uuid="GPU-{slow}"}}'}


def test_a_hot_gpu_is_told_by_difference_not_ratio():
    found = watch(Peers(Config()), *gpus(4, gpu_temperature_celsius=[60, 60, 85, 61], gpu_utilization_ratio=0.9))
    assert len(alarms(found)) == 1


def test_idle_and_busy_gpus_are_no_peers():
    found = watch(Peers(Config()), *gpus(
        4, gpu_sm_clock_hertz=[1.9e9, 0.3e9, 0.3e9, 0.3e9], gpu_utilization_ratio=[0.9, 0.0, 0.0, 0.0],
        gpu_memory_used_ratio=[0.8, 0.0, 0.0, 0.0]))
    assert np.isnan(list(found.values())).all()


def test_two_siblings_cannot_outvote_each_other():
    found = watch(Peers(Config()), *gpus(2, gpu_sm_clock_hertz=[1.9e9, 1.0e9], gpu_utilization_ratio=0.9))
    assert np.isnan(list(found.values())).all()


def test_a_moment_of_deviation_is_not_told():
    detector = Peers(Config())
    series, means = gpus(4, gpu_sm_clock_hertz=1.9e9, gpu_utilization_ratio=0.9)
    watch(detector, series, means)
    slow = means.copy()
    slow[0] = 1.2e9
    assert not alarms(watch(detector, series, slow, ticks=4, start=121))
    assert alarms(watch(detector, series, slow, ticks=20, start=125))
    assert not alarms(watch(detector, series, means, ticks=60, start=145))


def disks(latency, rate, names=("nvme0n1", "nvme1n1", "nvme2n1", "nvme3n1")):
    series, values = [], []
    for i, name in enumerate(names):
        own = labels(device=name)
        series += [Series("disk_read_latency_seconds", "seconds", labels=own),
                   Series("disk_reads_per_second", "1/s", labels=own)]
        values += [latency[i], rate[i]]
    return tuple(series), np.array(values)


def test_the_slow_member_of_an_array_is_told():
    found = watch(Peers(Config()), *disks([1e-3, 1e-3, 8e-3, 1e-3], [200] * 4))
    assert alarms(found) == {'peer_deviation{device="nvme2n1",series="disk_read_latency_seconds"}'}


def test_one_busy_disk_and_disks_of_another_kind_are_ordinary():
    assert not alarms(watch(Peers(Config()), *disks([1e-3, 1e-3, 8e-3, 1e-3], [20, 20, 900, 20])))
    assert not alarms(watch(Peers(Config()), *disks([1e-3, 1e-3, 1e-3, 8e-3], [200] * 4,
                                                    names=("nvme0n1", "nvme1n1", "nvme2n1", "sda"))))
    assert not alarms(watch(Peers(Config()), *disks([1e-3, 1e-3, 1e-3, 8e-3], [200] * 4,
                                                    names=("loop0", "loop1", "loop2", "loop3"))))


def test_no_family_compares_what_may_differ():
    assert not {f.series for f in FAMILIES} & {"cpu_core_busy_ratio", "disk_busy_ratio", "disk_queue_length"}


def test_drift_tells_a_lasting_shift_and_no_burst():
    series = (Series("cpu_busy_ratio", "ratio"),)
    detector = Drift(DriftConfig())
    rng = np.random.default_rng(1)
    told = []
    for i in range(1, 6001):
        level = 0.7 if i > 4000 or i % 1000 < 20 else 0.2
        told.append(detector.step(Frame(i * NS, series, np.array([level + rng.normal(0, 0.03)]))).values[0])
    assert np.isnan(told[:300]).all()
    assert np.nanmax(told[:4000]) < 1
    assert max(told[4000:4900]) >= 1
    assert max(told[5500:]) < 1, "a drift is told once"


def test_drift_keeps_at_most_its_limit():
    watch_one = Watch(DriftConfig())
    for i in range(3 * KEEP):
        watch_one.add(0.3 + 0.01 * (i % 7))
    assert len(watch_one.values) < KEEP


def test_half_space_sees_a_combination_far_from_all_before():
    """Every feature at 7 spreads at once: no single series is far beyond its threshold, together they are."""
    names = ("cpu_busy_ratio", "cpu_runnable_per_core", "pressure_cpu_some_ratio", "cpu_forks_per_second")
    series = tuple(Series(name, "x") for name in names)
    detector, rng = HalfSpace(HalfSpaceConfig()), np.random.default_rng(2)
    calm = [detector.step(Frame(i * NS, series, rng.normal(10.0, 1.0, 4))).values[0] for i in range(1, 2001)]
    odd = [detector.step(Frame(i * NS, series, np.full(4, 17.0))).values[0] for i in range(2001, 2031)]
    assert np.nanmax(calm) < 1 <= max(odd)


def test_subsystems_without_series_stay_unknown():
    scores = HalfSpace(HalfSpaceConfig()).step(Frame(1, (Series("cpu_busy_ratio", "ratio"),), np.array([0.1])))
    assert [s.label("subsystem") for s in scores.series] == ["cpu", "memory", "disk", "network", "gpu"]
    assert np.isnan(scores.values).all()


@pytest.mark.parametrize("name", SPECS)
def test_state_survives_as_bytes(name):
    detector, again = conformance.make(SPECS[name]), conformance.make(SPECS[name])
    every = list(conformance.frames(650, 50))
    for frame in every[:620]:
        detector.step(frame)
    again.restore(from_bytes(to_bytes(detector.snapshot())), every[0].series)
    for frame in every[620:]:
        want, got = detector.step(frame), again.step(frame)
        assert np.array_equal(want.values, got.values, equal_nan=True)


@pytest.mark.parametrize("name", [n for n in SPECS if n != "hard_rules"])
def test_damaged_state_is_broken(name):
    detector = conformance.make(SPECS[name])
    for frame in conformance.frames(620, 0):
        detector.step(frame)
    state = dict(detector.snapshot())
    for key in state:
        for wrong in (None, "text", np.zeros(3), {"a": 1}, [1.5]):
            with pytest.raises(Broken):
                conformance.make(SPECS[name]).restore({**state, key: wrong}, frame.series)


@given(st.binary(max_size=300))
def test_any_bytes_are_broken_or_state(data):
    with pytest.raises(Broken):
        from_bytes(data)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_flipped_bytes_are_broken_or_state(at, to):
    data = bytearray(to_bytes({"keys": ["a", "b"], "x": np.arange(20.0), "n": [1, 2]}))
    data[at % len(data)] = to
    with contextlib.suppress(Broken):
        assert isinstance(from_bytes(bytes(data)), dict)


@pytest.mark.parametrize("skeleton", ['{"dict": 5}', '{"list": 5}', '{"array": "0"}', '{"dict": {"a": {"dict": 5}}}',
                                      '{"other": []}', '{}', '5', '{"a": 1, "b": 2}', "[" * 100_000])
def test_a_skeleton_of_another_form_is_broken(skeleton):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("skeleton.json", skeleton)
    with pytest.raises(Broken):
        from_bytes(out.getvalue())
