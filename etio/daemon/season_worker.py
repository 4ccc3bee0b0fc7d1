"""The season worker: five-minute roll-ups down its pipe, seasons up; gone when its pipe ends.

Run by etio.daemon.seasons as a child of the lowest priority, so that statsmodels never lives in the daemon.
"""

import json
import os
import pickle
import sys
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from detectors.seasonal_fit import Rollup, fit
from etio.core.errors import Broken
from etio.core.season import Season, Zone


def main() -> int:
    """Entry of the process: one line of JSON for each roll-up, "null" where it has no season."""
    os.nice(40)  # the daemon itself runs at a high priority; this ends at the lowest there is
    out, sys.stdout = sys.stdout, sys.stderr
    for rollup in received(sys.stdin.buffer):
        season = fit(rollup)
        out.write(json.dumps(plain(season) if season else None) + "\n")
        out.flush()
    return 0


def received(source: IO[bytes]) -> Iterator[Rollup]:
    """Every roll-up up to the end of the stream. A pickle is safe: the parent is the only writer of the pipe.

    Raises Broken for anything else than a roll-up.
    """
    while True:
        try:
            rollup = pickle.load(source)
        except EOFError:
            return
        if not isinstance(rollup, Rollup):
            raise Broken(f"the season worker was sent a {type(rollup).__name__}")
        yield rollup


def plain(season: Season) -> dict[str, Any]:
    """A season as JSON."""
    return {"key": season.key, "explained": season.explained, "made_ns": season.made_ns,
            "zone": [season.zone.name, season.zone.since_ns, season.zone.offset_s],
            "ranges": [a.tolist() for a in (season.low, season.middle, season.high)]}


def season_of(line: bytes) -> Season | None:
    """What one line of the worker says. Raises Broken on anything else."""
    try:
        found = json.loads(line)
        if found is None:
            return None
        low, middle, high = (np.array(row, dtype=np.float32) for row in found["ranges"])
        name, since_ns, offset_s = found["zone"]
        zone = Zone(str(name), tuple(map(int, since_ns)), tuple(map(int, offset_s)))
        return Season(str(found["key"]), low, middle, high, float(found["explained"]), int(found["made_ns"]), zone)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise Broken(f"season worker: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
