"""Serving regressions and steps slower than their load: on engines that are simulated tick by tick."""

import json

import numpy as np
import pytest

from collector.inference import COLLECTOR
from detectors.serving import Config, Serving
from detectors.serving_latency import Config as LatencyConfig
from detectors.serving_latency import ServingLatency
from detectors.serving_regression import FIELDS
from detectors.state import from_bytes, to_bytes
from etio.capacity import server_sets
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Frame
from etio.core.policy import ALERTS
from etio.core.series import Series, labels
from rca.discover import causes
from rca.judge import series_names

NAMES = ("running_requests", "waiting_requests", "kv_cache_used_ratio", "kv_tokens", "preemptions_per_second",
         "prompt_tokens_per_second", "generated_tokens_per_second", "e2e_latency_p50_seconds", "step_seconds",
         "batch_size")
TAGS = labels(server="vllm:8000", model="llama-8b")
SERIES = (*(Series(f"inference_{n}", "1", labels=TAGS) for n in NAMES),
          Series("inference_server_up", "1", labels=labels(server="vllm:8000")),
          Series("gpu_utilization_ratio", "ratio", labels=labels(gpu="0", uuid="G")))


class Engine:
    """T(B, S) = 18 + 0.25 B + 0.0006 S ms with 3 % noise; the load wanders between 4 and 24 sequences."""

    def __init__(self, seed=5):
        self.rng, self.t, self.load = np.random.default_rng(seed), 0, 12.0

    def tick(self, slow=1.0, steady=False, **over):
        self.t += 1
        self.load = 12.0 if steady else float(np.clip(self.load + self.rng.normal(0, 1.0), 4, 24))
        batch = self.load
        tokens = batch * 700 * (1 + 0.02 * self.rng.standard_normal())
        step = (18 + 0.25 * batch + 0.0006 * tokens) * slow * (1 + 0.03 * self.rng.standard_normal()) / 1e3
        row = {"running_requests": round(batch), "waiting_requests": 0, "kv_cache_used_ratio": tokens / 40_000,
               "kv_tokens": tokens, "preemptions_per_second": 0, "prompt_tokens_per_second": 900,
               "generated_tokens_per_second": batch / step, "e2e_latency_p50_seconds": 5.0 * step / 0.03,
               "step_seconds": step, "batch_size": batch, "up": 1.0, "gpu": 0.93} | over
        values = np.array([row[n] for n in (*NAMES, "up", "gpu")], dtype=float)
        return Frame(self.t * NS, SERIES, values)


def run(detector, engine, ticks, **over):
    """Scores by alert name, one list each, and the notes of the last tick."""
    found = {}
    for _ in range(ticks):
        scores = detector.step(engine.tick(**over))
        for series, value in zip(scores.series, scores.values, strict=True):
            found.setdefault(series.name, []).append(float(value))
    notes = {scores.series[i].name: text for i, text in scores.notes.items()}
    return found, notes


def top(found, name):
    return np.nanmax(found[name]) if np.isfinite(found[name]).any() else np.nan


@pytest.fixture
def warm():
    detector, engine = Serving(Config()), Engine()
    found, _ = run(detector, engine, 900)
    assert {name for name, values in found.items() if np.nanmax([*values, 0.0]) >= 1.0} == set(), "calm load is silent"
    return detector, engine


def test_every_score_is_an_alert_with_the_right_labels():
    for detector in (Serving(Config()), ServingLatency(LatencyConfig())):
        for series in detector.step(Engine().tick()).series:
            assert series.name in ALERTS
            assert dict(series.labels)["server"] == "vllm:8000"


def test_a_full_kv_cache_needs_somebody_who_suffers(warm):
    detector, engine = warm
    assert top(run(detector, engine, 30, kv_cache_used_ratio=0.99)[0], "KvCacheFull") < 1
    found, notes = run(detector, engine, 5, kv_cache_used_ratio=0.99, waiting_requests=9)
    assert found["KvCacheFull"][-1] >= 1
    assert notes["KvCacheFull"] == ": 99 % of it in use, 9 requests wait"
    assert top(run(detector, engine, 5, kv_cache_used_ratio=0.7, preemptions_per_second=2.0)[0], "KvCacheFull") >= 1


def test_a_queue_that_drains_is_none_and_one_that_stays_is(warm):
    detector, engine = warm
    for waiting in (30, 25, 20, 16, 12, 9, 6, 4, 2, 1, 0, 0, 0, 0, 0, 0):
        scores = run(detector, engine, 1, waiting_requests=waiting)[0]["ServingQueueLong"]
        assert not scores[-1] >= 1
    found, notes = run(detector, engine, 20, waiting_requests=30)
    assert found["ServingQueueLong"][-1] >= 1
    assert "30 requests wait" in notes["ServingQueueLong"]


def test_latency_is_judged_by_the_target_and_by_what_is_usual_here(warm):
    detector, engine = warm
    found, notes = run(detector, engine, 5, e2e_latency_p50_seconds=9.0)
    assert found["ServingLatencyHigh"][-1] >= 1
    assert "4 s" in notes["ServingLatencyHigh"]
    slow, other = Serving(Config()), Engine()
    run(slow, other, 900, e2e_latency_p50_seconds=20.0)
    assert not top(run(slow, other, 60, e2e_latency_p50_seconds=25.0)[0], "ServingLatencyHigh") >= 1, "long answers"
    fresh = Serving(Config())
    assert np.isnan(top(run(fresh, Engine(), 100, e2e_latency_p50_seconds=60.0)[0], "ServingLatencyHigh"))


def test_throughput_is_compared_at_the_same_load_only():
    detector, engine = Serving(Config()), Engine()
    run(detector, engine, 600, steady=True)
    assert not top(run(detector, engine, 100, steady=True, slow=1.08)[0], "ServingThroughputLow") >= 1
    fewer = run(detector, engine, 60, running_requests=5, batch_size=5, generated_tokens_per_second=180,
                kv_tokens=3500)[0]
    assert not top(fewer, "ServingThroughputLow") >= 1, "less work is no regression"
    longer = run(detector, engine, 60, steady=True, kv_tokens=30_000, generated_tokens_per_second=250)[0]
    assert not top(longer, "ServingThroughputLow") >= 1, "longer contexts are another load"
    found, notes = run(detector, engine, 400, steady=True, slow=1.3)
    assert found["ServingThroughputLow"][-1] >= 1, "and stays told for as long as it lasts"
    assert "the same load gave" in notes["ServingThroughputLow"]


def test_a_gpu_with_time_left_while_requests_wait(warm):
    detector, engine = warm
    assert top(run(detector, engine, 20, gpu=0.4)[0], "ServingGpuIdle") < 1
    run(detector, engine, 20)
    assert top(run(detector, engine, 20, waiting_requests=6)[0], "ServingGpuIdle") < 1
    assert run(detector, engine, 20, gpu=0.4, waiting_requests=6)[0]["ServingGpuIdle"][-1] >= 1
    assert np.isnan(run(detector, engine, 20, gpu=np.nan, waiting_requests=6)[0]["ServingGpuIdle"][-1])


def test_down_is_told_and_missing_is_missing(warm):
    detector, engine = warm
    gone = dict.fromkeys(NAMES, np.nan)
    found, _ = run(detector, engine, 3, up=0.0, **gone)
    assert found["ServingDown"][-1] >= 1
    assert all(np.isnan(v[-1]) for n, v in found.items() if n != "ServingDown")
    assert np.isnan(run(detector, engine, 3, up=np.nan, **gone)[0]["ServingDown"][-1])


def test_limits_are_settings_and_refuse_nonsense():
    strict = Serving(Config(queue_requests=2.0))
    assert run(strict, Engine(), 30, waiting_requests=8)[0]["ServingQueueLong"][-1] >= 1
    with pytest.raises(ValueError, match="latency_seconds"):
        Config(latency_seconds=0)
    with pytest.raises(ValueError):
        LatencyConfig(block=50)


def test_slower_than_the_load_explains_is_told_with_measured_and_expected():
    detector, engine = ServingLatency(LatencyConfig()), Engine()
    calm, _ = run(detector, engine, 500)
    assert np.isnan(calm["ServingSlow"][:32]).all(), "silent until it has seen enough"
    assert not top(calm, "ServingSlow") >= 1
    found, notes = run(detector, engine, 30, slow=1.4)
    first = int(np.argmax(np.array(found["ServingSlow"]) >= 1))
    assert found["ServingSlow"][-1] >= 1
    assert first <= 12
    assert "where this load explains" in notes["ServingSlow"]
    told = json.loads(dict(detector.facts())["step time vllm:8000"])
    assert told["ms"] / told["expected_ms"] == pytest.approx(1.4, rel=0.12)
    assert told["low_ms"] < told["expected_ms"] < told["high_ms"] < told["ms"]
    assert top(run(detector, engine, 300, slow=1.4)[0], "ServingSlow") >= 1, "one that lasts stays told"


def test_a_busier_server_is_not_a_slow_one():
    detector, engine = ServingLatency(LatencyConfig()), Engine()
    run(detector, engine, 600)
    for batch in np.linspace(12, 34, 120):
        tokens = batch * 700
        step = (18 + 0.25 * batch + 0.0006 * tokens) / 1e3
        found, _ = run(detector, engine, 1, batch_size=batch, running_requests=batch, kv_tokens=tokens,
                       step_seconds=step)
        assert not found["ServingSlow"][-1] >= 1


def test_a_burst_of_long_prompts_is_prompt_work_and_not_slowness():
    detector, engine = ServingLatency(LatencyConfig()), Engine()
    run(detector, engine, 500)
    found, _ = run(detector, engine, 20, slow=1.8, prompt_tokens_per_second=40_000)
    assert not top(found, "ServingSlow") >= 1


@pytest.mark.parametrize("make", [lambda: Serving(Config()), lambda: ServingLatency(LatencyConfig())])
def test_what_was_learned_survives_a_restart(make):
    detector, engine = make(), Engine()
    run(detector, engine, 700, steady=True)
    again = make()
    again.restore(from_bytes(to_bytes(detector.snapshot())), ())
    found, _ = run(again, engine, 30, steady=True, slow=1.5)
    name = "ServingThroughputLow" if isinstance(again, Serving) else "ServingSlow"
    assert found[name][-1] >= 1, "told at once, not learned again"


def test_a_known_model_on_another_server_is_judged_sooner():
    detector, engine = ServingLatency(LatencyConfig()), Engine()
    run(detector, engine, 400)
    state = detector.snapshot()
    tags = labels(server="vllm:9000", model="llama-8b")
    moved = tuple(Series(s.name, s.unit, labels=tags) if s.label("model") else s for s in SERIES)
    again = ServingLatency(LatencyConfig())
    again.restore(state, ())
    for _ in range(3):
        frame = engine.tick()
        again.step(Frame(frame.t_ns, moved, frame.values))
    told = json.loads(dict(again.facts())["step time vllm:9000"])
    assert told["expected_ms"] == pytest.approx(told["ms"], rel=0.2), "its expectation is there with the first step"


@pytest.mark.parametrize("state", [{}, {"t_ns": 0}, {"t_ns": 0, "models": 1}, {"t_ns": 0, "models": {"a": 1}},
                                   {"t_ns": 0, "models": {"a": {"usual": ["x"], "likes": {}}}},
                                   {"t_ns": 0, "models": {}, "known": 3}])
def test_foreign_state_is_broken(state):
    for detector in (Serving(Config()), ServingLatency(LatencyConfig())):
        try:
            detector.restore(state, ())
        except Broken:
            continue
        raise AssertionError(state)


def test_steps_are_what_capacity_needs():
    detector, engine = ServingLatency(LatencyConfig()), Engine()
    run(detector, engine, 400)
    rows = detector.steps()["vllm:8000", "llama-8b"]
    assert rows.shape[1] == 3
    assert len(rows) >= 256
    assert (rows > 0).all()


def test_what_detectors_and_causes_speak_of_is_emitted():
    emitted = {e.name for e in COLLECTOR.emits}
    assert {f"inference_{n}" for n in (*NAMES, "server_up", *FIELDS)} <= emitted
    asked = {name for cause in causes() for name in series_names(cause) if name.startswith("inference_")}
    carried = {name for kind in ALERTS.values() for name in kind.carriers if name.startswith("inference_")}
    assert asked | carried <= emitted
    assert len(asked) >= 8


def test_sets_of_live_servers_are_named_after_server_and_model():
    rows = [[4.0, 4000.0, 25.0], [8.0, 8000.0, 30.0]]
    sets = server_sets([{"server": "vllm:8000", "model": "llama-8b", "steps": rows}])
    assert sets["vllm:8000 llama-8b"].tolist() == rows
    with pytest.raises(NoData, match="no inference server"):
        server_sets([])
