"""Every check of the battery on every detector; and the battery catches detectors that misbehave."""

from dataclasses import dataclass

import numpy as np
import pytest

from detectors import conformance, discover
from etio.core.ports import DetectorSpec
from etio.core.score import Scores

SPECS = discover()


@pytest.mark.slow
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
