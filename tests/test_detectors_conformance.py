"""Every check of the battery on every detector; and the battery catches detectors that misbehave."""

import time
from dataclasses import dataclass

import numpy as np
import pytest

from detectors import conformance, discover
from etio.core.frame import NS, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series, labels

SPECS = discover()


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SPECS)
def test_detector(name, check):
    check(SPECS[name])


@dataclass(frozen=True)
class NoConfig:
    pass


class Zeros:
    """Says 0 where it knows nothing, writes to the frame, counts calls: everything a detector must not do."""

    name = "zeros"

    def __init__(self, config):
        self.calls = 0

    def step(self, frame):
        self.calls += 1
        if frame.values.flags.writeable:
            frame.values[:] = 0.0
        return Scores("zeros", frame.series, np.full(len(frame.series), float(self.calls % 7 == 0)))

    def band(self):
        return None

    def snapshot(self):
        return {}

    def restore(self, state, series):
        pass


def test_the_battery_finds_what_is_wrong():
    found = conformance.failures(DetectorSpec("zeros", NoConfig, Zeros, "series", ""))
    assert {"unknown_before_learning", "missing_is_missing", "duplicates_teach_nothing", "quiet_noise_is_quiet",
            "refuses_foreign_state", "constant_is_calm", "snapshot_round_trip"} <= set(found)
    assert found["unknown_before_learning"] == "a score before anything was learned"


@pytest.mark.slow
def test_all_detectors_together_cost_less_than_a_millisecond_per_tick():
    """1,000 series, of which 400 mean something to the rules, the trees and the siblings."""
    own, rng = conformance.host(), np.random.default_rng(1)
    groups = tuple(Series(name, "ratio", labels=labels(cgroup=f"/g{i}")) for i in range(92)
                   for name in ("cgroup_memory_used_ratio", "cgroup_memory_failures_per_second",
                                "cgroup_cpu_throttled_ratio", "cgroup_pids_used_ratio"))
    series = own + groups + tuple(Series(f"other{i}_ratio", "ratio") for i in range(1000 - len(own) - len(groups)))
    means = np.concatenate([conformance.CALM_MEANS, np.full(len(series) - len(own), 0.3)])
    ticks = [Frame(i * NS, series, np.abs(means * (1 + 0.05 * rng.standard_normal(1000)))) for i in range(1, 901)]
    costs = []
    for detector in map(conformance.make, SPECS.values()):
        for tick in ticks[:700]:
            detector.step(tick)
        began = time.process_time()
        for tick in ticks[700:]:
            detector.step(tick)
        costs.append((time.process_time() - began) / 200)
    assert sum(costs) < 1e-3
