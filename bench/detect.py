"""Anomaly detectors on public labelled host metrics: events found, false alarms, VUS-PR, HitRate."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the daemon runs; threads only spin on matrices this small

import numpy as np

from bench.common import from_caller, parser, write
from bench.detect_data import Dataset, Machine, dump, load
from bench.detect_methods import METHODS, Run
from bench.scoring import Outcome, bootstrap, hit_rates, outcome, pooled, vus_pr
from bench.signals import entry

OURS = "joint"
HEAD = (f"{'set':4} {'method':11} {'F1 adapt':>8} {'P':>5} {'R':>5} {'FA/day':>6} {'F1 fixed':>9} {'FA/day':>6} "
        f"{'VUS-PR':>7} {'HR@100':>7} {'@150':>5} {'delay':>6} {'us/row':>7}  F1 adapt of ours minus this, 90 %")


@dataclass(frozen=True, slots=True)
class Result:
    """One method on one set: outcomes per machine with the following and the fixed threshold, and the rest."""

    adaptive: list[Outcome]
    fixed: list[Outcome]
    vus: float
    hits: tuple[float, float]
    micros: float


def score(dataset: Dataset, runs: Sequence[Run], micros: float) -> Result:
    """Reads the labels: the only place that does."""
    adaptive, fixed, vus, hits = [], [], [], []
    for machine, run in zip(dataset.machines, runs, strict=True):
        test = slice(machine.train, None)
        adaptive.append(outcome(machine.label, run.alarm[test] > run.threshold[test], dataset.convention))
        fixed.append(outcome(machine.label, run.alarm[test] > run.fixed, dataset.convention))
        vus.append(vus_pr(machine.label, run.ranking[test], machine.buffer))
        if run.carriers is not None:
            hits += hit_rates(run.carriers[test], machine.events)
    rates = np.mean(hits, axis=0).tolist() if hits else [float("nan")] * 2
    known = [v for v in vus if not np.isnan(v)]
    return Result(adaptive, fixed, float(np.mean(known)) if known else float("nan"), (rates[0], rates[1]), micros)


def figures(dataset: Dataset, result: Result) -> dict[str, float | None]:
    """The figures of the JSON; delay in minutes, None where there is nothing to say."""
    adaptive, fixed = pooled(result.adaptive), pooled(result.fixed)
    found = {
        "event_f1_fixed": fixed.f1, "false_alarms_per_day_fixed": fixed.false_per_day,
        "event_f1_adaptive": adaptive.f1, "false_alarms_per_day_adaptive": adaptive.false_per_day,
        "vus_pr": result.vus, "hit_100": result.hits[0], "hit_150": result.hits[1],
        "delay_minutes": adaptive.delay * dataset.period_s / 60,
        "precision": adaptive.precision, "recall": adaptive.recall, "microseconds_per_row": result.micros,
    }
    return {name: None if np.isnan(value) else round(value, 4) for name, value in found.items()}


def line(dataset: Dataset, method: str, result: Result, ours: Result | None) -> str:
    """One row of the table."""
    f, fixed = pooled(result.adaptive), pooled(result.fixed)
    gain = ""
    if ours is not None and method != OURS:
        gain = "[{:+.2f}, {:+.2f}]".format(*bootstrap(ours.adaptive, result.adaptive))
    delay = f.delay * dataset.period_s / 60
    return (f"{dataset.name:4} {method:11} {f.f1:8.3f} {f.precision:5.2f} {f.recall:5.2f} {f.false_per_day:6.2f} "
            f"{fixed.f1:9.3f} {fixed.false_per_day:6.2f} {result.vus:7.3f} {result.hits[0]:7.3f} "
            f"{result.hits[1]:5.3f} {delay:5.0f}m {result.micros:7.1f}  {gain}")


def write_dump(folder: Path, machine: Machine, run: Run) -> None:
    """Scores of the test rows, as the data folder's README says; alarm: the following threshold."""
    test = slice(machine.train, None)
    columns: dict[str, Any] = {
        "score": run.ranking[test], "alarm": (run.alarm[test] > run.threshold[test]).astype(np.int8),
        "alarm_fixed": (run.alarm[test] > run.fixed).astype(np.int8),
    }
    if run.carriers is not None:
        columns |= {f"s_d{i + 1:02}": run.carriers[test, i].astype(np.float64) for i in range(run.carriers.shape[1])}
    dump(folder, machine, columns)


def run_all(dataset: Dataset, methods: Sequence[str], folder: Path | None) -> dict[str, dict[str, float | None]]:
    """Runs the methods on one set, prints their rows, and dumps our scores."""
    found: dict[str, dict[str, float | None]] = {}
    ours: Result | None = None
    rows = sum(len(m.x) for m in dataset.machines)
    for method in methods:
        began = time.process_time()
        runs = METHODS[method](dataset)
        micros = (time.process_time() - began) / rows * 1e6
        result = score(dataset, runs, micros)
        ours = result if method == OURS else ours
        print(line(dataset, method, result, ours), flush=True)
        found[method] = figures(dataset, result)
        if method == OURS and folder is not None:
            for machine, run in zip(dataset.machines, runs, strict=True):
                write_dump(folder, machine, run)
    return found


def main() -> None:
    """Prints the table; --json and --dump write files."""
    arguments = parser("Anomaly detectors on public labelled host metrics.")
    arguments.add_argument("--data", type=from_caller, required=True, metavar="DIR", help="has anomaly/smd and /asd")
    arguments.add_argument("--dump", type=from_caller, metavar="DIR", help="write every score as parquet")
    arguments.add_argument("--methods", default=",".join(METHODS), help="comma-separated, of: " + ", ".join(METHODS))
    options = arguments.parse_args()
    if unknown := [m for m in options.methods.split(",") if m not in METHODS]:
        arguments.error(f"unknown method {unknown[0]!r}")
    folder: Path | None = options.dump
    try:
        datasets = load(options.data)
    except FileNotFoundError as error:
        arguments.error(str(error))
    print(HEAD)
    found = {d.name: run_all(d, options.methods.split(","), folder) for d in datasets}
    result: dict[str, Any] = {name: methods.get(OURS, {}) for name, methods in found.items()}
    write(options.json, {**result, "methods": found})


if __name__ == "__main__":
    entry(main)
