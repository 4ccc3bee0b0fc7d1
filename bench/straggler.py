"""Stragglers: slow ranks found in recorded training jobs, and in healthy ones with one rank slowed down."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.common import from_caller, parser, write
from bench.signals import entry
from detectors.straggler import Stragglers
from detectors.straggler_statistics import groups_of, median_of_others
from detectors.straggler_wholes import Config, Slow
from detectors.straggler_work import Member, Operations, Work, own_compute
from etio.core.frame import Floats

SIZES = {"5": 5, "10": 3, "25": 3}
"""Injected slowdown in percent, and within how many steps it must be found."""
ONSETS = (0.25, 0.5, 0.75)
"""Where in the trace the slowdown begins."""
COLUMNS = ["dp_rank", "stage", "rank", "step", "optype", "duration", "mc"]


@dataclass(frozen=True, slots=True)
class Run:
    """What the detector said over one job: told[k] after each step."""

    told: tuple[tuple[Slow, ...], ...]

    def numbers(self, what: str) -> list[int]:
        """Everybody of this sort that was ever blamed."""
        return sorted({s.number for step in self.told for s in step if s.what == what})

    def first(self, rank: int, start: int) -> int | None:
        """Steps from the first slow one (1 = that very step) until the rank is blamed; None where it never is."""
        for i, step in enumerate(self.told[start:], 1):
            if any(s.what == "rank" and s.number == rank for s in step):
                return i
        return None


@dataclass(frozen=True, slots=True)
class Case:
    """One rank slowed down by so many percent from one step on."""

    trace: str
    percent: str
    rank: int
    delay: int | None
    others: int


def load(path: Path) -> Work:
    """Own-compute time per rank and step of one trace."""
    table = pq.read_table(path, columns=COLUMNS)
    table = table.filter(pc.match_substring(pc.cast(table["optype"], pa.string()), "compute"))
    column = {name: table[name].to_numpy() for name in COLUMNS}
    who = np.stack([column[n].astype(np.int64) for n in ("rank", "stage", "dp_rank")], axis=1)
    rows, member = np.unique(who, axis=0, return_inverse=True)
    members = tuple(Member(int(r), int(s), int(d)) for r, s, d in rows)
    kind = np.array([f"{o}/{c}" for o, c in zip(column["optype"], column["mc"], strict=True)], dtype=object)
    return own_compute(members, Operations(
        member.reshape(-1).astype(np.intp), column["step"].astype(np.int64), kind,
        column["duration"].astype(np.float64)))


def run(work: Work, seconds: Floats) -> Run:
    """Streams one job through a fresh detector."""
    watch = Stragglers(Config())
    return Run(tuple(watch.step(work.members, row) for row in seconds))


def healthy(work: Work, slow: list[int]) -> Floats:
    """The trace as if nobody were slow: the blamed ranks' durations divided by their own factor, which is the median
    over all steps of their ratio to the median of the other ranks of their stage. The noise stays as it was."""
    groups = groups_of([m.stage for m in work.members])
    seconds = work.seconds.copy()
    for i, member in enumerate(work.members):
        if member.rank in slow:
            ratios = [row[i] / median_of_others(row, groups)[i] for row in work.seconds]
            seconds[:, i] /= np.nanmedian(ratios)
    return seconds


def inject(name: str, work: Work, seconds: Floats) -> list[Case]:
    """Every rank slowed down by every size at every onset, one at a time."""
    cases = []
    for percent in SIZES:
        for i, member in enumerate(work.members):
            for onset in ONSETS:
                start = int(onset * len(seconds))
                changed = seconds.copy()
                changed[start:, i] *= 1.0 + int(percent) / 100.0
                said = run(work, changed)
                others = set(said.numbers("rank")) - {member.rank}
                cases.append(Case(name, percent, member.rank, said.first(member.rank, start), len(others)))
    return cases


def summary(cases: list[Case], within: int) -> dict[str, float | int | None]:
    """A rank counts as found when it is blamed within the allowed steps at every onset."""
    ranks = {(c.trace, c.rank) for c in cases}
    late = {(c.trace, c.rank) for c in cases if c.delay is None or c.delay > within}
    delays = [c.delay for c in cases if c.delay is not None]
    return {"ranks": len(ranks), "found": len(ranks - late),
            "median_delay_steps": float(np.median(delays)) if delays else None}


def main(arguments: list[str] | None = None) -> int:
    """Entry."""
    one = parser(__doc__ or "")
    one.add_argument("--data", type=from_caller, required=True, metavar="DIR", help="has straggler/trace-*.parquet")
    options = one.parse_args(arguments)
    found = sorted((options.data / "straggler").glob("trace-*.parquet")) or sorted(options.data.glob("trace-*.parquet"))
    if not found:
        print(f"no trace-*.parquet in {options.data}/straggler", file=sys.stderr)
        return 2
    alarms, cases, traces = 0, [], {}
    for path in found:
        name, work = path.stem.removeprefix("trace-"), load(path)
        said = run(work, work.seconds)
        traces[name] = {"blamed_ranks": said.numbers("rank"), "blamed_stages": said.numbers("stage")}
        print(f"\ntrace {name}: {len(work.members)} ranks, {len(work.steps)} steps")
        for slow in said.told[-1] or ("nobody is slow at the end",):
            print(f"  {slow}")
        seconds = healthy(work, traces[name]["blamed_ranks"])
        alarms += len(run(work, seconds).numbers("rank"))
        cases += inject(name, work, seconds)
    result = {"clean_false_alarms": alarms,
              "injected": {p: summary([c for c in cases if c.percent == p], SIZES[p]) for p in SIZES}, "traces": traces}
    _print(alarms, cases)
    write(options.json, result)
    return 0


def _print(alarms: int, cases: list[Case]) -> None:
    print(f"\nfalse alarms on the healthy traces: {alarms}; "
          f"on healthy ranks while another was slow: {sum(c.others for c in cases)} in {len(cases)} runs")
    print(f"\n{'trace':<6} {'slower':>7} {'within':>7} {'found':>9} {'delay: median':>14} {'worst':>6}")
    for name in dict.fromkeys(c.trace for c in cases):
        for percent, within in SIZES.items():
            some = [c for c in cases if c.trace == name and c.percent == percent]
            told = summary(some, within)
            worst = max((np.inf if c.delay is None else c.delay) for c in some)
            print(f"{name:<6} {percent + ' %':>7} {within:>7} {told['found']:>4}/{told['ranks']:<4} "
                  f"{told['median_delay_steps'] or np.nan:>14.1f} {worst:>6.0f}")


if __name__ == "__main__":
    entry(main)
