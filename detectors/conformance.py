"""What every detector must do, as a battery: `failures(spec)` runs all checks; the tests run each for each detector.

A check is a function of a DetectorSpec that raises AssertionError with a sentence. The host of the battery is
synthetic, seeded and small (32 series that every detector of this package knows something of); its fault is one
that physics, statistics and comparison with siblings can all see.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from etio.core.errors import Broken
from etio.core.frame import NS, Floats, Frame
from etio.core.ports import Detector, DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series, labels

START_NS = 1_760_000_000 * NS
CALM, FAULT = 700, 120
"""Ticks of the synthetic host: enough for every warm-up, then the fault."""
FALSE_ALARM_TICKS = 3000
Check = Callable[[DetectorSpec], None]


def host() -> tuple[Series, ...]:
    """The catalogue of the synthetic host: host-wide series, 4 disks, 4 GPUs."""
    wide = (
        ("cpu_busy_ratio", "ratio"), ("pressure_cpu_some_ratio", "ratio"), ("cpu_runnable_per_core", "1"),
        ("memory_available_ratio", "ratio"), ("vm_page_faults_per_second", "1/s"),
        ("network_receive_bytes_per_second", "bytes/s"), ("tcp_retransmits_per_second", "1/s"),
        ("process_forks_per_second", "1/s"),
    )
    disk = (("disk_busy_ratio", "ratio"), ("disk_read_latency_seconds", "seconds"), ("disk_reads_per_second", "1/s"))
    gpu = (("gpu_utilization_ratio", "ratio"), ("gpu_memory_used_ratio", "ratio"), ("gpu_sm_clock_hertz", "hertz"))
    return (
        *(Series(name, unit) for name, unit in wide),
        *(Series(n, unit, labels=labels(device=f"nvme{i}n1")) for i in range(4) for n, unit in disk),
        *(Series(n, unit, labels=labels(gpu=str(i))) for i in range(4) for n, unit in gpu),
    )


CALM_MEANS = (0.2, 0.02, 0.3, 0.6, 500.0, 1e6, 0.1, 10.0, *(0.2, 2e-3, 100.0) * 4, *(0.9, 0.5, 1.9e9) * 4)
FAULT_MEANS = (1.0, 0.8, 3.0, 0.02, 9000.0, 1e8, 80.0, 2000.0, 1.0, 0.4, 100.0, *(0.2, 2e-3, 100.0) * 3,
               0.9, 0.5, 1.0e9, *(0.9, 0.5, 1.9e9) * 3)


def frames(calm: int = CALM, fault: int = FAULT, seed: int = 7) -> Iterator[Frame]:
    """The synthetic host at 1 Hz: `calm` ticks of quiet noise (5 % of each level), then `fault` ticks of trouble."""
    rng, series = np.random.default_rng(seed), host()
    for i in range(calm + fault):
        means = np.array(CALM_MEANS if i < calm else FAULT_MEANS)
        yield Frame(START_NS + i * NS, series, np.abs(means * (1.0 + 0.05 * rng.standard_normal(len(means)))))


def make(spec: DetectorSpec) -> Detector:
    """A fresh detector at its default setting."""
    made: Detector = spec.build(spec.config())
    return made


def top(scores: Scores) -> float:
    """The highest score; -inf where there is none."""
    known = scores.values[np.isfinite(scores.values)]
    return float(known.max()) if len(known) else -np.inf


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)


def _same(one: Scores, other: Scores) -> bool:
    return one.series == other.series and np.array_equal(one.values, other.values, equal_nan=True)


def names_and_shapes(spec: DetectorSpec) -> None:
    """Its name, scope, units and array shapes are what the contract says."""
    detector = make(spec)
    _require(detector.name == spec.name, "the detector and its spec differ in name")
    _require(spec.scope in ("series", "group", "rule"), f"unknown scope {spec.scope!r}")
    for frame in frames(100, 20):
        scores = detector.step(frame)
        _require(scores.detector == spec.name, "scores carry another name")
        _require(scores.values.shape == (len(scores.series),), "one score per series")
        _require(scores.values.dtype == np.float64, "scores are float64")
        _require(not np.isinf(scores.values).any() and not (scores.values < 0).any(), "scores are finite and >= 0")
        if spec.scope == "series":
            _require(scores.series is frame.series, "the frame's own tuple is handed back")
        else:
            _require(all(s.unit == "thresholds" for s in scores.series), "group scores are in thresholds")


def unknown_before_learning(spec: DetectorSpec) -> None:
    """The first frames give NaN, not 0; a rule needs no learning and may speak at once."""
    if spec.scope == "rule":
        return
    detector = make(spec)
    for frame in frames(10, 0):
        _require(bool(np.isnan(detector.step(frame).values).all()), "a score before anything was learned")


def reproducible(spec: DetectorSpec) -> None:
    """Two detectors of one setting give the same scores for the same frames."""
    one, other = make(spec), make(spec)
    for frame in frames():
        _require(_same(one.step(frame), other.step(frame)), f"scores differ at tick {frame.t_ns}")


def frame_untouched(spec: DetectorSpec) -> None:
    """The frame is not written to, and earlier scores do not change afterwards."""
    detector, kept = make(spec), []
    for frame in frames(400, 40):
        before = frame.values.copy()
        frame.values.setflags(write=False)
        scores = detector.step(frame)
        kept.append((scores, scores.values.copy()))
        _require(np.array_equal(before, frame.values), "the frame was written to")
    _require(all(np.array_equal(s.values, v, equal_nan=True) for s, v in kept), "old scores changed")


def append_only(spec: DetectorSpec) -> None:
    """Series of scores keep their place while the catalogue grows."""
    detector = make(spec)
    seen: tuple[Series, ...] = ()
    for i, frame in enumerate(frames(200, 20)):
        n = min(4 + i // 5, len(frame.series))
        now = detector.step(Frame(frame.t_ns, frame.series[:n], frame.values[:n])).series
        _require(now[: len(seen)] == seen, "a series of the scores moved")
        seen = now


def survives_bad_input(spec: DetectorSpec) -> None:
    """Gaps, all-NaN frames, duplicates, a clock that jumps both ways, resets and huge values: finite or NaN."""
    detector = make(spec)
    rng = np.random.default_rng(3)
    for i, frame in enumerate(frames(400, 200)):
        values, t_ns = frame.values.copy(), frame.t_ns
        values[rng.random(len(values)) < 0.1] = np.nan
        if i % 50 == 7:
            values[:] = np.nan
        if i % 50 == 13:
            values[:] = (0.0, 1e38, -1e38, np.inf, -np.inf)[i // 50 % 5]
        if i % 50 == 23:
            t_ns -= NS * (1, 5, 3600)[i // 50 % 3]
        if i > 300:
            t_ns += 7200 * NS
        scores = detector.step(Frame(t_ns, frame.series, values))
        _require(not np.isinf(scores.values).any(), f"an infinite score at tick {i}")
        detector.band()
    empty = make(spec)
    _require(len(empty.step(Frame(START_NS, (), np.empty(0))).values) == len(empty.step(Frame(
        START_NS + NS, (), np.empty(0))).values), "an empty catalogue")


def missing_is_missing(spec: DetectorSpec) -> None:
    """A frame without values has no scores of series or rules, and hours of them teach nothing."""
    detector = make(spec)
    for frame in frames(CALM, 0):
        detector.step(frame)
    blank = Frame(frame.t_ns + NS, frame.series, np.full(len(frame.series), np.nan))
    scores = detector.step(blank)
    if spec.scope != "group":
        _require(bool(np.isnan(scores.values).all()), "a score of a missing value")
    for i in range(2, 400):
        scores = detector.step(replace(blank, t_ns=frame.t_ns + i * NS))
    _require(bool(np.isnan(scores.values).all()), "a score after minutes without any value")


def duplicates_teach_nothing(spec: DetectorSpec) -> None:
    """A frame given again, or with an older time, does not change what follows."""
    plain, doubled = make(spec), make(spec)
    for frame in frames(400, 30):
        want = plain.step(frame)
        got = doubled.step(frame)
        _require(_same(want, got), "a repeated frame changed what follows")
        doubled.step(frame)


def constant_is_calm(spec: DetectorSpec) -> None:
    """A series that never moves does not alarm, not even when it then moves by next to nothing."""
    detector, series, values = make(spec), host(), np.array(CALM_MEANS)
    worst = -np.inf
    for i in range(900):
        nudged = values * (1.0 + 1e-4 * (i > 800))
        worst = max(worst, top(detector.step(Frame(START_NS + i * NS, series, nudged))))
    _require(worst < 1.0, f"score {worst:.2f} on a constant host")


SLOW = ("trends", "degradation", "signals", "seasonal", "serving", "serving_latency", "ranks")
"""Detectors of what a jump of all series at once is not: declines, frozen signals, the hour of the day, servers.
What they see is in tests of their own; here they must keep still."""


def sees_the_fault(spec: DetectorSpec) -> None:
    """The calm part does not alarm, the fault does, and it is scored before it is learned."""
    detector = make(spec)
    tops = np.array([top(detector.step(frame)) for frame in frames(CALM, _patience(spec))])
    _require(tops[:CALM].max() < 1.0, f"score {tops[:CALM].max():.2f} in the calm part")
    if spec.name in SLOW:
        _require(tops.max() < 1.0, f"score {tops.max():.2f} of a fault that is not its own")
        return
    _require(tops[CALM:].max() >= 1.0, f"at most {tops[CALM:].max():.2f} during the fault")
    if spec.name in ("robust_z", "hard_rules"):
        _require(tops[CALM] >= 1.0, "the first tick of the fault was learned before it was scored")


def _patience(spec: DetectorSpec) -> int:
    """Ticks of fault that a detector may take: some look at lasting shifts only."""
    return 600 if spec.name in ("drift", "level_shift") else FAULT


def quiet_noise_is_quiet(spec: DetectorSpec) -> None:
    """Gaussian, heavy-tailed (Student t, 4 degrees) and Poisson noise stay within 3 runs of alarms in 50 minutes."""
    for kind in ("gauss", "heavy", "poisson"):
        runs, above = 0, False
        detector = make(spec)
        for frame in _noise(kind):
            now = top(detector.step(frame)) >= 1.0
            runs += now and not above
            above = now
        _require(runs <= 3, f"{runs} false alarms on {kind} noise")


def _noise(kind: str) -> Iterator[Frame]:
    rng, series, means = np.random.default_rng(11), host(), np.array(CALM_MEANS)
    for i in range(FALSE_ALARM_TICKS):
        yield Frame(START_NS + i * NS, series, _draw(rng, kind, means))


def _draw(rng: "np.random.Generator", kind: str, means: Floats) -> Floats:
    if kind == "poisson":
        events = np.array([s.unit == "1/s" for s in host()])
        return np.where(events, rng.poisson(np.minimum(means, 1e6)), means)
    draw = rng.standard_normal(len(means)) if kind == "gauss" else rng.standard_t(4, len(means))
    return np.asarray(np.abs(means * (1.0 + 0.03 * draw)))


def snapshot_round_trip(spec: DetectorSpec) -> None:
    """A restored detector goes on exactly as the one it was taken from, and the snapshot is its own copy."""
    every = list(frames())
    detector, again = make(spec), make(spec)
    for frame in every[:600]:
        detector.step(frame)
    state = detector.snapshot()
    ahead = [detector.step(frame) for frame in every[600:]]
    again.restore(state, every[0].series)
    for frame, want in zip(every[600:], ahead, strict=True):
        _require(_same(again.step(frame), want), f"the restored detector differs at tick {frame.t_ns}")


def restore_in_another_order(spec: DetectorSpec) -> None:
    """After a restart the catalogue comes in another order, and piece by piece: what was learned is found again."""
    detector, again = make(spec), make(spec)
    for frame in frames(CALM, 0):
        detector.step(frame)
    again.restore(detector.snapshot(), ())
    order = np.arange(len(frame.series))[::-1]
    turned = Frame(frame.t_ns + NS, tuple(frame.series[i] for i in order), frame.values[order])
    again.step(Frame(turned.t_ns, turned.series[:5], turned.values[:5]))
    turned = replace(turned, t_ns=turned.t_ns + NS)
    want = detector.step(replace(frame, t_ns=turned.t_ns))
    got = again.step(turned)
    known = {s.key for s, v in zip(want.series, want.values, strict=True) if np.isfinite(v)}
    found = {s.key for s, v in zip(got.series, got.values, strict=True) if np.isfinite(v)}
    _require(known <= found, f"forgotten over a restart: {sorted(known - found)[:3]}")


def refuses_foreign_state(spec: DetectorSpec) -> None:
    """State of another form raises Broken and leaves the detector as a fresh one."""
    detector, fresh = make(spec), make(spec)
    for state in ({"nonsense": 1}, {"keys": "x", "t_ns": 0}, {"keys": [1], "t_ns": -1, "tick": "x"}):
        try:
            detector.restore(state, ())
        except Broken:
            continue
        raise AssertionError(f"state {state} was taken")
    for frame in frames(80, 5):
        _require(_same(detector.step(frame), fresh.step(frame)), "not fresh after refused state")


def bounded_memory(spec: DetectorSpec) -> None:
    """Ten times the ticks keep no more state than the detector had when settled, but for averages it may hold."""
    detector = make(spec)
    sizes = []
    for i, frame in enumerate(frames(3000, 0)):
        detector.step(frame)
        if i in (600, 2999):
            sizes.append(_size(detector.snapshot()))
    _require(sizes[1] <= sizes[0] + 8 * 3000, f"state grew from {sizes[0]} to {sizes[1]} bytes")


def _size(value: object) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(_size(v) for v in value.values())
    return sum(_size(v) for v in value) if isinstance(value, (list, tuple)) else 8


def band_is_ordered(spec: DetectorSpec) -> None:
    """Where there is a band: low <= middle <= high, NaN while warming, and a calm value lies inside."""
    detector = make(spec)
    for i, frame in enumerate(frames(400, 0)):
        detector.step(frame)
        band = detector.band()
        if band is None or i not in (10, 399):
            continue
        if i == 10:
            _require(bool(np.isnan(band.low).all() and np.isnan(band.high).all()), "a band while warming up")
            continue
        _require(bool((band.low <= band.middle).all() and (band.middle <= band.high).all()), "a band out of order")
        inside = (band.low <= frame.values) & (frame.values <= band.high)
        _require(bool(inside.all()), "a calm value outside of its band")


CHECKS: tuple[Check, ...] = (
    names_and_shapes, unknown_before_learning, reproducible, frame_untouched, append_only, survives_bad_input,
    missing_is_missing, duplicates_teach_nothing, constant_is_calm, sees_the_fault, quiet_noise_is_quiet,
    snapshot_round_trip, restore_in_another_order, refuses_foreign_state, bounded_memory, band_is_ordered,
)


def failures(spec: DetectorSpec) -> dict[str, str]:
    """Every check that the detector does not pass, with what went wrong.

    >>> from detectors.hard_rules import DETECTOR
    >>> failures(DETECTOR)
    {}
    """
    found = {}
    for check in CHECKS:
        try:
            check(spec)
        except AssertionError as error:
            found[check.__name__] = str(error)
    return found
