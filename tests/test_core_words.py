"""An anomaly says how far the value is from what is usual, in words and numbers."""

import numpy as np

from detectors.robust_z import Config, RobustZ
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, Notify
from etio.core.frame import NS, Frame
from etio.core.policy import EngineConfig
from etio.core.series import Series, labels
from etio.core.words import amount, between

LATENCY = Series("disk_read_latency_seconds", "seconds", "mean", labels(device="sda"))


def test_the_alert_says_value_and_usual_range():
    engine, told, rng = Engine(EngineConfig(), [Judge(RobustZ(Config()), "series")]), [], np.random.default_rng(1)
    for t in range(1, 460):
        value = rng.normal(0.004, 0.0004) if t < 440 else 0.4
        for action in engine.step(FrameReady(Frame((1_790_000_000 + t) * NS, (LATENCY,), np.array([value])))):
            if isinstance(action, Notify):
                told += [a.summary for a in action.alerts]
    assert len(told) == 1
    assert told[0].startswith("sda answers slowly: 400 ms, usually 0 s to ")
    assert told[0].endswith(" ms")


def test_amounts_of_every_unit_are_told():
    assert [amount(x, u) for x, u in ((0.0, "seconds"), (-3.0, "celsius"), (1536.0, "bytes"), (0.5, "cores"),
                                      (float("nan"), "ratio"), (2.5e9, "hertz"), (7, "1"))] == [
        "0 s", "-3 °C", "1.5 KiB", "0.5 cores", "unknown", "2,500,000,000 hertz", "7"]
    assert between(90, 100) == "1.5 to 1.7 min"
