"""Inference latency T(B, S): every model on every set of measured steps, in sample, held out and extrapolated."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.common import from_caller, parser, write
from bench.signals import entry
from detectors import saturation_fit
from detectors.saturation import FORMS
from etio.capacity import read_sets
from etio.core.errors import EtioError, NoData
from etio.core.frame import Floats

Predictor = Callable[[Floats, Floats], Floats]
Fitter = Callable[[Floats, Floats, Floats], Predictor]
FOLDS = 5
SPLITS = 5
RESAMPLES = 2000
MEASURES = ("r2", "cv_r2", "extrapolation_mre")


def main() -> None:
    """Prints the table and writes the JSON."""
    options = parser("Fits every latency model to every set of DIR/inference/decode_steps.csv.")
    options.add_argument("--data", type=from_caller, required=True, metavar="DIR", help="folder that holds inference/")
    chosen = options.parse_args()
    folder: Path = chosen.data
    sets = fittable(read_sets(folder / "inference" / "decode_steps.csv"))
    scores = {name: np.array([measures(fitter, steps) for steps in sets.values()]) for name, fitter in MODELS.items()}
    table(scores, len(sets))
    resample(scores)
    by_group(sets, scores)
    forms(sets)
    fit_ms, predict_ms = costs(sets)
    print(f"\nfit and choice of form: median {np.median(fit_ms):.1f}, longest {max(fit_ms):.1f} ms CPU; "
          f"prediction of 10,000 points {predict_ms:.3f} ms CPU")
    medians = {name: dict(zip(MEASURES, map(float, np.median(one, axis=0)), strict=True))
               for name, one in scores.items()}
    write(chosen.json, {**medians, "fit_ms": float(np.median(fit_ms)), "predict_10k_ms": predict_ms})


def fittable(sets: dict[str, Floats]) -> dict[str, Floats]:
    """The sets that hold enough for a fit; says which do not."""
    kept = {}
    for name, steps in sets.items():
        try:
            saturation_fit.fit(*steps.T)
            kept[name] = steps
        except EtioError as error:
            print(f"left out: {name}: {error}")
    if not kept:
        raise NoData("no set can be fitted")
    return kept


def _chosen(b: Floats, s: Floats, t: Floats) -> Predictor:
    return saturation_fit.fit(b, s, t).model.predict


def _form(form: str) -> Fitter:
    return lambda b, s, t: saturation_fit.fit_form(form, b, s, t).model.predict


def _least_squares(columns: Callable[[Floats, Floats], tuple[Floats, ...]]) -> Fitter:
    """Relative least squares without constraints; columns take batch and tokens per sequence."""
    def fitter(b: Floats, s: Floats, t: Floats) -> Predictor:
        x = np.stack(columns(b, s / b), axis=1) / t[:, None]
        scale = np.linalg.norm(x, axis=0)
        found = np.linalg.lstsq(x / scale, np.ones_like(t), rcond=None)[0] / scale
        return lambda b, s: np.asarray(np.stack(columns(b, s / b), axis=1) @ found)
    return fitter


def _linear(b: Floats, length: Floats) -> tuple[Floats, ...]:
    return np.ones_like(b), b, length


def _quadratic(b: Floats, length: Floats) -> tuple[Floats, ...]:
    return np.ones_like(b), b, length, b * b, b * length, length * length


MODELS: dict[str, Fitter] = {
    "chosen": _chosen,
    "seed": _form("seed"),
    "three_parameter": _form("three_parameter"),
    "linear": _least_squares(_linear),
    "quadratic": _least_squares(_quadratic),
}


def measures(fitter: Fitter, steps: Floats) -> tuple[float, float, float]:
    """R2 in sample; R2 of predictions of left-out folds of distinct (B, S), mean over SPLITS splits; mean relative
    error at the larger loads of a fit to the smaller (batch and tokens per sequence at most half their maxima).

    R2 is of milliseconds: 1 - squared errors over squared deviations from the mean. NaN where there are too few rows.
    """
    b, s, t = steps.T
    inside = _or_nan(lambda: r2(t, fitter(b, s, t)(b, s)))
    held_out = _or_nan(lambda: float(np.mean([r2(t, out_of_fold(fitter, steps, np.random.default_rng(k)))
                                              for k in range(SPLITS)])))
    return inside, held_out, _or_nan(lambda: extrapolation(fitter, steps))


def extrapolation(fitter: Fitter, steps: Floats) -> float:
    """The last of the three measures; raises NoData where one side has no row."""
    b, s, t = steps.T
    length = s / b
    small = (b <= 0.5 * b.max()) & (length <= 0.5 * length.max())
    if small.all() or not small.any():
        raise NoData("no row on one side")
    guess = fitter(b[small], s[small], t[small])(b[~small], s[~small])
    return float(np.mean(np.abs(guess / t[~small] - 1.0)))


def _or_nan(measure: Callable[[], float]) -> float:
    try:
        return measure()
    except NoData:
        return float("nan")


def r2(truth: Floats, guess: Floats) -> float:
    """Share of the variance explained."""
    return float(1.0 - np.sum((truth - guess) ** 2) / np.sum((truth - truth.mean()) ** 2))


def out_of_fold(fitter: Fitter, steps: Floats, random: np.random.Generator) -> Floats:
    """float[n]: each row predicted by a fit to the folds it is not in."""
    b, s, t = steps.T
    load = np.unique(steps[:, :2], axis=0, return_inverse=True)[1].reshape(-1)
    fold = (random.permutation(load.max() + 1) % FOLDS)[load]
    guess = np.full(len(t), np.nan)
    for k in range(FOLDS):
        train = fold != k
        guess[~train] = fitter(b[train], s[train], t[train])(b[~train], s[~train])
    return guess


def table(scores: dict[str, Floats], count: int) -> None:
    """Medians, and in brackets the quintiles, over the sets."""
    print(f"{count} sets; median (and the worse and the better fifth)\n"
          f"{'model':16}{'R2':>25}{'5-fold R2':>25}{'extrapolation error':>25}")
    for name, one in scores.items():
        low, middle, high = np.nanquantile(one, (0.2, 0.5, 0.8), axis=0)
        cells = [f"{m:.3f} ({lo:.3f}, {hi:.3f})" for lo, m, hi in zip(low, middle, high, strict=True)]
        print(f"{name:16}" + "".join(f"{cell:>25}" for cell in cells))


def resample(scores: dict[str, Floats]) -> None:
    """Bootstrap over sets: how far the chosen model's medians, and its lead over each other model, are luck."""
    count = len(scores["chosen"])
    draws = np.random.default_rng(0).integers(0, count, (RESAMPLES, count))
    medians = {name: np.nanmedian(one[draws], axis=1) for name, one in scores.items()}
    low, high = np.quantile(medians["chosen"], (0.025, 0.975), axis=0)
    print("\nchosen, 95 % of resampled sets of sets: "
          + ", ".join(f"{name} {a:.3f} to {b:.3f}" for name, a, b in zip(MEASURES, low, high, strict=True)))
    sign = np.array([1.0, 1.0, -1.0])
    for name in list(scores)[1:]:
        better = np.mean((medians["chosen"] - medians[name]) * sign > 0, axis=0)
        print(f"  better than {name:16}in " + ", ".join(f"{100 * share:.0f} %" for share in better))


def by_group(sets: dict[str, Floats], scores: dict[str, Floats]) -> None:
    """The chosen model's medians per group of sets: all of one GPU type or one engine (the first and third part of a
    name of four or more), else of one source."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(sets):
        parts = name.split("/")
        for group in {parts[0], parts[2]} if len(parts) > 3 else {parts[0]}:
            groups.setdefault(group, []).append(i)
    print("\nchosen, by group of sets (never looked at by a fit)")
    for group, members in sorted(groups.items()):
        cells = np.nanmedian(scores["chosen"][members], axis=0)
        print(f"{group:24}{len(members):4} sets" + "".join(f"{cell:10.3f}" for cell in cells))


def forms(sets: dict[str, Floats]) -> None:
    """How often each form is chosen on all rows of a set, and rows that were left out."""
    fits = [saturation_fit.fit(*steps.T) for steps in sets.values()]
    chosen = [one.model.form for one in fits]
    print("\nforms chosen: " + ", ".join(f"{form} {chosen.count(form)}" for form in FORMS)
          + f"; sets with implausible rows left out: {sum(one.left_out > 0 for one in fits)}")


def costs(sets: dict[str, Floats]) -> tuple[list[float], float]:
    """CPU milliseconds of a fit for each set (the fastest of three), and of predicting 10,000 points."""
    fits = [min(_cpu_ms(lambda steps=steps: saturation_fit.fit(*steps.T)) for _ in range(3))  # type: ignore[misc]
            for steps in sets.values()]
    batch, tokens = np.meshgrid(np.arange(1.0, 101.0), np.linspace(100.0, 200_000.0, 100))
    models = [saturation_fit.fit(*steps.T).model for steps in sets.values()]
    predictions = [_cpu_ms(lambda m=model: m.predict(batch.ravel(), tokens.ravel()), 20)  # type: ignore[misc]
                   for model in models]
    return fits, max(predictions)


def _cpu_ms(work: Callable[[], object], times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return 1000.0 * (time.process_time() - start) / times


if __name__ == "__main__":
    entry(main)
