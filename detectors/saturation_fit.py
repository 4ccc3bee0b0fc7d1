"""Fits T(B, S) to measured steps: non-negative relative least squares, and a choice of form by held-out error.

Every form is linear in its coefficients once its one or two shape parameters (the knee; the seed's two rates) are
given. So a fit is: a small grid of shapes, for all of them at once the normal equations, for all of them at once
non-negative least squares, and the shape with the smallest error. Errors are relative (each row is divided by its own
time): a step of 8 ms and one of 300 ms matter alike.

Form and shape are sought on at most MANY rows, the coefficients on all.

The choice of form: five folds by distinct (B, S), each fold's shape found on the other folds; a form with more
parameters is taken only where its held-out error is smaller by GAIN at least. Set names, model names and GPU names
are never looked at.

Rows further than a factor of IMPLAUSIBLE from a first fit are left out, at most a quarter of them: broken measurements
(a run that failed and reported 0.02 ms) would otherwise own a relative fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.saturation import FORMS, LatencyModel, SeedModel, StepModel
from etio.core.errors import Broken, NoData
from etio.core.frame import Floats

FOLDS = 5
GAIN = 0.1
IMPLAUSIBLE = 3.0
KNEES = 16
RATES = 8
RIDGE = 1e-10
LEAST, MOST = 1e-9, 1e12
MANY = 500
TOLERANCE = 1e-9
ROUNDS = 60
LOADS: Mapping[str, int] = {"three_parameter": 3, "saturating": 8, "knee": 10, "seed": 12}
"""Distinct (B, S) below which a form is not tried: its parameters and a few more; fewer than three is no data."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model and what it rests on.

    held_out: form to root mean square relative error on rows left out (empty when there were too few loads to choose).
    rows, left_out: rows used and rows found implausible. batch_max, tokens_max, length_max: the largest batch, tokens
    in all and tokens per sequence seen; beyond any of them the model extrapolates. error: root mean square relative
    error on the rows used.
    """

    model: LatencyModel
    held_out: Mapping[str, float]
    rows: int
    left_out: int
    batch_max: float
    tokens_max: float
    length_max: float
    error: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked observations: batch, tokens, ms, weight: float64[n], all > 0."""

    batch: Floats
    tokens: Floats
    ms: Floats
    weight: Floats

    def take(self, keep: NDArray[np.bool_]) -> "Rows":
        """Only the rows where `keep` is true."""
        return Rows(self.batch[keep], self.tokens[keep], self.ms[keep], self.weight[keep])

    def some(self) -> "Rows":
        """These rows, or MANY of them drawn evenly: enough to find a form and its shape."""
        if len(self.ms) <= MANY:
            return self
        keep = np.zeros(len(self.ms), bool)
        keep[np.random.default_rng(0).permutation(len(self.ms))[:MANY]] = True
        return self.take(keep)

    def loads(self) -> NDArray[np.intp]:
        """intp[n]: number of the distinct (B, S) of each row."""
        pairs = np.stack([self.batch, self.tokens], axis=1)
        return np.asarray(np.unique(pairs, axis=0, return_inverse=True)[1]).reshape(-1)


def rows(batch: ArrayLike, tokens: ArrayLike, ms: ArrayLike, weight: ArrayLike | None = None) -> Rows:
    """Checks observations. NoData: none, or fewer than three distinct loads. Broken: shapes differ, or a value is NaN,
    zero, negative or beyond LEAST..MOST; the text names the first such row."""
    b, s, t = (np.asarray(one, dtype=float).reshape(-1) for one in (batch, tokens, ms))
    w = np.ones(len(t)) if weight is None else np.asarray(weight, dtype=float).reshape(-1)
    if not len(b) == len(s) == len(t) == len(w):
        raise Broken(f"latency model: {len(b)} batch sizes, {len(s)} token counts, {len(t)} times, {len(w)} weights")
    if not len(t):
        raise NoData("latency model: no observation")
    for name, values in (("batch size", b), ("token count", s), ("time", t), ("weight", w)):
        wrong = np.flatnonzero(~((values >= LEAST) & (values <= MOST)))
        if len(wrong):
            raise Broken(f"latency model: row {wrong[0]}: {name} {values[wrong[0]]} is not a positive number"
                         f" in {LEAST:g}..{MOST:g}")
    return Rows(b, s, t, w)


def fit(batch: ArrayLike, tokens: ArrayLike, ms: ArrayLike, weight: ArrayLike | None = None,
        among: Sequence[str] = FORMS) -> Fit:
    """The form that held-out error chooses among those named, fitted to all plausible rows.

    batch, tokens, ms, weight: float[n], > 0; equal weights by default. among: in the order of FORMS; too few loads for
    all of them: the three-parameter model. Raises as `rows` does, and NoData where the plausible rows are of too few
    different loads.
    """
    given = rows(batch, tokens, ms, weight)
    kept = given.take(plausible(given))
    count = int(kept.loads().max()) + 1
    if count < LOADS["three_parameter"]:
        raise NoData(f"latency model: {count} distinct (batch, tokens), at least {LOADS['three_parameter']} needed")
    forms = [form for form in among if count >= LOADS[form]] or ["three_parameter"]
    held_out, chosen = {}, forms[0]
    if len(forms) > 1:
        some = kept.some()
        held_out = {form: held_out_error(form, some) for form in forms}
        for form in forms[1:]:
            if held_out[form] < (1.0 - GAIN) * held_out[chosen]:
                chosen = form
    return _result(chosen, kept, held_out, len(given.ms) - len(kept.ms))


def fit_form(form: str, batch: ArrayLike, tokens: ArrayLike, ms: ArrayLike, weight: ArrayLike | None = None) -> Fit:
    """One form, no choice, no row left out. Raises as `rows` does."""
    return _result(form, rows(batch, tokens, ms, weight), {}, 0)


def _result(form: str, kept: Rows, held_out: Mapping[str, float], left_out: int) -> Fit:
    some = kept.some()
    shapes = shapes_of(form, some)
    model, error = _best(form, some, shapes)
    for width in (1.0, 0.4) if form == "seed" else (0.5,) if form == "knee" else ():
        model, error = min((model, error), _best(form, some, _around(form, model, shapes, width)), key=lambda m: m[1])
    if some is not kept:
        model, error = _best(form, kept, _around(form, model, shapes, 0.0)[:1])
    return Fit(model, held_out, len(kept.ms), left_out, float(kept.batch.max()), float(kept.tokens.max()),
               float((kept.tokens / kept.batch).max()), error)


def plausible(given: Rows) -> NDArray[np.bool_]:
    """bool[n]: rows within a factor of IMPLAUSIBLE of a fit that is at first absolute, so that no tiny time owns it."""
    x = features("saturating", given, shapes_of("saturating", given))[0]
    keep, scale = np.ones(len(given.ms), bool), np.full(len(given.ms), np.median(given.ms))
    for _ in range(6):
        a = (x / scale[:, None])[keep]
        target = (given.ms / scale)[keep]
        guess = np.maximum(x @ non_negative((a.T @ a)[None], (a.T @ target)[None])[0], 1e-12)
        ratio = np.abs(np.log(given.ms / guess))
        now = ratio <= np.log(IMPLAUSIBLE)
        if now.mean() < 0.75:
            return np.ones(len(given.ms), bool)
        if (now == keep).all():
            break
        keep, scale = now, guess
    return keep


def held_out_error(form: str, kept: Rows) -> float:
    """Root mean square relative error over folds of distinct (B, S), each predicted by a fit to the others."""
    loads = kept.loads()
    count = int(loads.max()) + 1
    folds = min(FOLDS, count)
    fold = (np.random.default_rng(0).permutation(count) % folds)[loads]
    root = np.sqrt(kept.weight)
    x = features(form, kept, shapes_of(form, kept)) * (root / kept.ms)[:, None]
    parts = [(x[:, fold == k], root[fold == k]) for k in range(folds)]
    gram = np.stack([p.transpose(0, 2, 1) @ p for p, _ in parts], axis=1)
    moment = np.stack([np.einsum("gnp,n->gp", p, r) for p, r in parts], axis=1)
    power = np.array([r @ r for _, r in parts])
    gram, moment, power = gram.sum(1)[:, None] - gram, moment.sum(1)[:, None] - moment, power.sum() - power
    solved = _solve(gram, moment)
    lost = power + np.einsum("gkp,gkpq,gkq->gk", solved, gram, solved) - 2.0 * np.einsum("gkp,gkp->gk", solved, moment)
    shape = lost.argmin(axis=0)
    wrong = sum(float(np.sum((p[shape[k]] @ solved[shape[k], k] - r) ** 2)) for k, (p, r) in enumerate(parts))
    return float(np.sqrt(wrong / kept.weight.sum()))


def shapes_of(form: str, kept: Rows) -> Floats:
    """float[g, 2]: shapes to try: (knee, -) or (batch rate, token rate), geometric; (inf, -) where there is none.

    Knees lie within the loads seen; rates from a quarter of what would saturate at the largest load (nearly linear)
    to four times what saturates at the smallest (a constant).
    """
    b, s = kept.batch, kept.tokens
    if form == "seed":
        batch_rates = np.geomspace(0.25 / b.max(), 4.0 / b.min(), RATES)
        token_rates = np.geomspace(0.25 / s.max(), 4.0 / s.min(), RATES)
        return np.stack(np.meshgrid(batch_rates, token_rates), axis=-1).reshape(-1, 2)
    if form == "knee":
        low, high = max(s.max() / 32.0, s.min()), s.max()
        knees = np.geomspace(low, high, KNEES + 1)[:-1]
        return np.stack([knees, np.zeros(KNEES)], axis=1)
    return np.array([[np.inf, 0.0]])


def _around(form: str, model: LatencyModel, shapes: Floats, width: float) -> Floats:
    """A finer grid around the shape of `model`: `width` steps of the coarse grid on either side."""
    if form not in ("seed", "knee"):
        return shapes
    if isinstance(model, SeedModel):
        middle, values = np.array([model.batch_rate, model.token_rate]), [np.unique(shapes[:, i]) for i in (0, 1)]
    elif isinstance(model, StepModel):
        middle, values = np.array([model.knee_tokens]), [shapes[:, 0]]
    steps = [width * (np.log(one[-1] / one[0]) / max(1, len(one) - 1)) * np.linspace(-1.0, 1.0, 9) for one in values]
    axes = [centre * np.exp(step) for centre, step in zip(middle, steps, strict=True)]
    if form == "knee":
        return np.stack([axes[0], np.zeros(9)], axis=1)
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)


def features(form: str, kept: Rows, shapes: Floats) -> Floats:
    """float[g, n, p]: columns of the linear part of a form for each shape."""
    b, s, one = kept.batch, kept.tokens, np.ones_like(kept.batch)
    if form == "three_parameter":
        return np.stack([one, b, s], axis=1)[None]
    wide = (len(shapes), len(b))
    if form == "seed":
        work = 1.0 / (np.expm1(-shapes[:, :1] * b) * np.expm1(-shapes[:, 1:] * s))
        columns = [one, work, work * s, b, s]
    else:
        times = np.maximum(1.0, s / shapes[:, :1])
        columns = [times / b, times * (1.0 - 1.0 / b), b, s, s / b]
    return np.stack([np.broadcast_to(column, wide) for column in columns], axis=2)


def _best(form: str, kept: Rows, shapes: Floats) -> tuple[LatencyModel, float]:
    root = np.sqrt(kept.weight)
    x = features(form, kept, shapes) * (root / kept.ms)[:, None]
    solved = non_negative(x.transpose(0, 2, 1) @ x, np.einsum("gnp,n->gp", x, root))
    lost = np.sum((np.einsum("gnp,gp->gn", x, solved) - root) ** 2, axis=1)
    i = int(lost.argmin())
    return _model(form, solved[i], shapes[i]), float(np.sqrt(lost[i] / kept.weight.sum()))


def _model(form: str, c: Floats, shape: Floats) -> LatencyModel:
    if form == "seed":
        fixed, work0, work1, per_sequence, per_token = map(float, c)
        return SeedModel(fixed, work0, work1, per_sequence, per_token, float(shape[0]), float(shape[1]))
    if form == "three_parameter":
        return StepModel(form, float(c[0]), float(c[0]), float(c[1]), float(c[2]))
    return StepModel(form, float(c[0]), float(c[1]), float(c[2]), float(c[3]), float(c[4]), float(shape[0]))


def _solve(gram: Floats, moment: Floats) -> Floats:
    g, k, p = moment.shape
    return non_negative(gram.reshape(g * k, p, p), moment.reshape(g * k, p)).reshape(g, k, p)


def non_negative(gram: Floats, moment: Floats) -> Floats:
    """Minimises x' gram x - 2 moment' x over x >= 0 for many small problems at once: float[m, p, p], float[m, p] ->
    float[m, p].

    Block principal pivoting: all wrong signs change sides while that makes progress, else the last one only, which
    cannot cycle. Kim, J., Park, H. (2011), SIAM J. Sci. Comput. 33(6), https://doi.org/10.1137/110821172

    >>> non_negative(np.eye(2)[None], np.array([[3.0, -1.0]]))
    array([[3., 0.]])
    """
    p = moment.shape[1]
    scale = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    scale = np.where(scale > 0, scale, 1.0)
    g = gram / (scale[:, :, None] * scale[:, None, :]) + RIDGE * np.eye(p)
    h = moment / scale
    limit = TOLERANCE * np.maximum(np.abs(h).max(axis=1, keepdims=True), 1e-300)
    passive = np.zeros(h.shape, bool)
    fewest, patience = np.full(len(h), p + 1), np.full(len(h), 3)
    for _ in range(ROUNDS):
        system = np.where(passive[:, :, None] & passive[:, None, :], g, 0.0) + np.eye(p) * ~passive[:, None, :]
        x = np.linalg.solve(system, np.where(passive, h, 0.0)[:, :, None])[:, :, 0]
        wrong = np.where(passive, x < -limit, np.einsum("mpq,mq->mp", g, x) - h < -limit)
        count = wrong.sum(axis=1)
        if not count.any():
            break
        patience = np.where(count < fewest, 3, patience - 1)
        fewest = np.minimum(fewest, count)
        last = np.eye(p, dtype=bool)[p - 1 - wrong[:, ::-1].argmax(axis=1)] & wrong
        passive ^= np.where((patience > 0)[:, None], wrong, last)
    return np.asarray(np.maximum(np.where(passive, x, 0.0), 0.0) / scale)
