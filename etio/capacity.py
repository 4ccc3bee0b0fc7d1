"""`etio capacity`: what an inference server can carry, from measured decode steps."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from detectors.saturation import StepModel, to_plain
from detectors.saturation_fit import Fit, fit
from detectors.saturation_plan import MOST_TOKENS, at, capacity, frontier, peak
from etio.core.errors import Broken, NoData
from etio.core.frame import Floats
from etio.core.words import visible

COLUMNS = ("set", "batch_size", "kv_tokens", "step_ms")
MOST_BATCH = 65536
SHADES = ((0.5, "█"), (0.8, "▓"), (1.0, "▒"))
"""Step time over target, and the block that shows it; longer than the target is a dot."""


def read_sets(path: Path) -> dict[str, Floats]:
    """Set name to float64[n, 3]: batch size, tokens in the KV cache of the whole batch, milliseconds of the step.

    A CSV file with the columns of COLUMNS. Raises NoData (no file, no row), Broken (a column or a number is wrong).
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (lines.fieldnames or ())]
            if missing:
                raise Broken(f"{path}: no column {', '.join(missing)}; a header {','.join(COLUMNS)} is needed")
            sets: dict[str, list[tuple[float, ...]]] = {}
            for line in lines:
                sets.setdefault(line["set"], []).append(_numbers(path, lines.line_num, line))
    except OSError as error:
        raise NoData(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise Broken(f"{path}: not a CSV file: {error}") from error
    if not sets:
        raise NoData(f"{path}: no row")
    return {name: np.array(values) for name, values in sets.items()}


def _numbers(path: Path, number: int, line: dict[str, str]) -> tuple[float, ...]:
    try:
        return tuple(float(line[name]) for name in COLUMNS[1:])
    except (TypeError, ValueError) as error:
        raise Broken(f"{path}: line {number}: {error}") from error


def server_sets(servers: list[dict[str, Any]]) -> dict[str, Floats]:
    """The same (set name to float64[n, 3]) of live servers, from the answer of GET /api/v1/inference; sets are called
    "SERVER MODEL".

    Raises NoData where no server has been seen at work for long enough.
    """
    sets = {f"{one['server']} {one['model']}": np.array(one["steps"], dtype=np.float64).reshape(-1, 3)
            for one in servers}
    if not sets:
        raise NoData("no inference server has been seen at work yet; `etio doctor` tells what is watched")
    return sets


def pick(sets: dict[str, Floats], name: str, option: str = "--set") -> tuple[str, Floats]:
    """(name, float64[n, 3]) of the set of that name, or the only one whose name contains it.

    Raises NoData with what there is.
    """
    found = [name] if name in sets else [one for one in sets if name.lower() in one.lower()]
    if len(found) != 1:
        some = ", ".join((found or list(sets))[:8])
        raise NoData(f"{option} {name}: {len(found)} sets match; some: {some}")
    return found[0], sets[found[0]]


def answer(name: str, steps: Floats, wanted: dict[str, Any]) -> dict[str, Any]:
    """Everything `etio capacity` says of one set, as plain values.

    steps: float64[n, 3] as of `read_sets`. wanted: target_ms, length (tokens per sequence), most_batch, demand (tokens
    per second) or None, headroom; None for target_ms: twice the fastest step measured; for length: the median measured.
    """
    fitted = fit(*steps.T)
    model = fitted.model
    target, length, most = _given(wanted, steps, fitted)
    result = {"set": name, "model": to_plain(model), "fit": _fit(fitted), "target_ms": target, "length": length,
              "frontier": _frontier(fitted, target, most), "peak": asdict(peak(model, length, None, most))}
    try:
        best = peak(model, length, target, most)
        result["peak_under_target"] = asdict(best)
        if wanted.get("demand"):
            result["capacity"] = asdict(capacity(best, wanted["demand"], wanted.get("headroom", 0.2)))
    except NoData as error:
        result["peak_under_target"], result["reason"] = None, str(error)
    return result


def _given(wanted: dict[str, Any], steps: Floats, fitted: Fit) -> tuple[float, float, int]:
    target, length, most = (wanted.get(name) for name in ("target_ms", "length", "most_batch"))
    if target is None:
        target = round(2.0 * float(np.median(np.sort(steps[:, 2])[:3])), 1)
    if length is None:
        length = float(np.median(steps[:, 1] / steps[:, 0]))
    if most is None:
        most = int(fitted.batch_max)
    if not 1 <= most <= MOST_BATCH:
        raise Broken(f"capacity: a batch of at most {most} sequences: 1 to {MOST_BATCH} can be asked for")
    return target, length, most


def _fit(fitted: Fit) -> dict[str, Any]:
    held_out = dict(fitted.held_out)
    return {"rows": fitted.rows, "left_out": fitted.left_out, "error": fitted.error, "held_out": held_out,
            "batch_max": fitted.batch_max, "tokens_max": fitted.tokens_max, "length_max": fitted.length_max,
            "monotone_in_batch": fitted.model.monotone_in_batch if isinstance(fitted.model, StepModel) else None}


def _frontier(fitted: Fit, target_ms: float, most: int) -> list[dict[str, Any]]:
    batch = powers(most)
    found = []
    for b, tokens in zip(batch, frontier(fitted.model, target_ms, batch), strict=True):
        beyond = bool(b > fitted.batch_max or tokens > min(fitted.tokens_max, b * fitted.length_max))
        row: dict[str, Any] = {"batch": b, "tokens": None, "length": None, "tokens_per_second": None}
        if tokens >= MOST_TOKENS:
            beyond = True
        elif np.isfinite(tokens):
            row |= {"tokens": float(tokens), "length": float(tokens) / b,
                    "tokens_per_second": at(fitted.model, b, float(tokens)).tokens_per_second}
        found.append(row | {"unbounded": bool(tokens >= MOST_TOKENS), "extrapolated": beyond})
    return found


def powers(most: int) -> list[int]:
    """1, 2, 4 ... and `most` itself.

    >>> powers(24)
    [1, 2, 4, 8, 16, 24]
    """
    return sorted({*(2**k for k in range(most.bit_length()) if 2**k <= most), most})


def picture(steps: Floats, result: dict[str, Any]) -> list[str]:
    """A map of the target: one row per length, one column per batch size, how much of the target a step takes."""
    fitted = fit(*steps.T)
    batch = powers(int(max(one["batch"] for one in result["frontier"])))
    lengths = np.unique(np.round(np.geomspace(*_range(steps), 9)))[::-1]
    lines = []
    for length in lengths:
        share = fitted.model.predict(batch, np.array(batch) * length) / result["target_ms"]
        lines.append(f"{length:>9,.0f} " + "".join(_shade(one) * 4 for one in share))
    lines.append(" " * 10 + "".join(f"{b:<4}" for b in batch))
    return lines


def _range(steps: Floats) -> tuple[float, float]:
    lengths = steps[:, 1] / steps[:, 0]
    return float(lengths.min()), max(float(lengths.max()), float(lengths.min()) * 2)


def _shade(share: float) -> str:
    return next((block for limit, block in SHADES if share <= limit), "·")


def show(steps: Floats, result: dict[str, Any]) -> None:
    """Prints `answer` for a person at a terminal."""
    from etio.show import console, table

    fitted, model = result["fit"], result["model"]
    console.print(visible(result["set"]), style="bold", markup=False, highlight=False)
    console.print(f"{fitted['rows']} steps, form {model['form']}, typical error {100 * fitted['error']:.1f} %"
                  + (f", {fitted['left_out']} implausible rows left out" if fitted["left_out"] else ""),
                  highlight=False)
    console.print("  " + ", ".join(f"{name} {value:.4g}" for name, value in model.items()
                                   if isinstance(value, float) and value), highlight=False)
    console.print(f"\n[bold]Under {result['target_ms']:g} ms a step[/] (measured up to {fitted['batch_max']:.0f} "
                  f"sequences, {fitted['tokens_max']:,.0f} tokens, {fitted['length_max']:,.0f} each)", highlight=False)
    table({"columns": ("sequences", "tokens in all", "tokens each", "tokens/s", ""), "truncated": False,
           "rows": [_row(one) for one in result["frontier"]]})
    _say(result)
    console.print(f"\nStep time over target, by tokens each (rows) and sequences (columns): "
                  f"{', '.join(f'{block} <= {100 * limit:.0f} %' for limit, block in SHADES)}, · longer",
                  highlight=False)
    for line in picture(steps, result):
        console.print(line, highlight=False)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    if one["unbounded"]:
        return (str(one["batch"]), "any", "any", "", "length hardly matters in these data")
    if one["tokens"] is None:
        return (str(one["batch"]), "none", "", "", "slower than the target at any length")
    return (str(one["batch"]), f"{one['tokens']:,.0f}", f"{one['length']:,.0f}", f"{one['tokens_per_second']:,.0f}",
            "beyond what was measured" if one["extrapolated"] else "")


def _say(result: dict[str, Any]) -> None:
    from etio.show import console

    for key, words in (("peak_under_target", "within the target"), ("peak", "without one")):
        point = result[key]
        text = result.get("reason", "") if point is None else (
            f"{point['tokens_per_second']:,.0f} tokens/s with {point['batch']} sequences of {result['length']:,.0f} "
            f"tokens, {point['step_ms']:.1f} ms a step")
        console.print(f"Most throughput {words}: {text}", highlight=False)
    if "capacity" in result:
        need = result["capacity"]
        console.print(f"{need['demand']:,.0f} tokens/s need [bold]{need['servers']}[/] such servers, "
                      f"{100 * need['used_ratio']:.0f} % used", highlight=False)


def overview(sets: dict[str, Floats], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """`answer` for every set; one that cannot be fitted carries "error" instead."""
    found = []
    for name, steps in sets.items():
        try:
            found.append(answer(name, steps, wanted))
        except (NoData, Broken) as error:
            found.append({"set": name, "error": str(error)})
    return found


def show_overview(results: list[dict[str, Any]]) -> None:
    """Prints one line per set."""
    from etio.show import table

    rows = []
    for one in results:
        if "error" in one:
            rows.append((visible(one["set"]), one["error"], "", "", "", ""))
            continue
        best = one["peak_under_target"]
        rows.append((visible(one["set"]), one["model"]["form"],
                     f"{100 * one['fit']['error']:.1f} %", f"{one['target_ms']:g}",
                     "none" if best is None else str(best["batch"]),
                     "" if best is None else f"{best['tokens_per_second']:,.0f}"))
    table({"columns": ("set", "form", "error", "target ms", "sequences", "tokens/s"), "rows": rows, "truncated": False})
