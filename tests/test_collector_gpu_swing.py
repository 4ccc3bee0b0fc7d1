"""The rhythm of a GPU that waits for its batches, told from a GPU that works now and then."""

import math

import numpy as np
import pytest

from collector.gpu.session import Told
from collector.gpu.swing import SAMPLES, Swings

RNG = np.random.default_rng(5)


def last(uses):
    swings = Swings()
    told = [Told(0, "GPU-a", "", {} if math.isnan(u) else {"gpu_utilization_ratio": u}) for u in uses]
    return [swings.take(one) for one in told][-1]


@pytest.mark.parametrize(("work", "pause"), [(2, 6), (1, 3), (5, 9)])
def test_work_and_pauses_in_a_rhythm_give_the_mean(work, pause):
    uses = ([0.97] * work + [0.0] * pause) * 30
    assert last(uses[:2 * SAMPLES]) == pytest.approx(work / (work + pause), abs=0.1)


@pytest.mark.parametrize("uses", [
    [0.95] * 120,
    list(RNG.uniform(0.85, 1.0, 120)),
    list((RNG.random(120) < 0.25) * 0.97),
    [0.97, 0, 0, 0] * 10,
    [*([0.97, 0, 0, 0] * 30)[:119], math.nan],
], ids=["steady", "noise", "requests now and then", "too short", "missing now"])
def test_anything_else_gives_nothing(uses):
    assert math.isnan(last(uses))


def test_gpus_are_told_apart():
    swings, found = Swings(), {}
    for i in range(120):
        for uuid, use in (("a", 0.97 * (i % 4 == 0)), ("b", 0.9)):
            found[uuid] = swings.take(Told(0, uuid, "", {"gpu_utilization_ratio": use}))
    assert found["a"] == pytest.approx(0.24, abs=0.02)
    assert math.isnan(found["b"])
