"""Once a day: what do the hours of the day and the week usually bring? Read from the archive, fitted in a child."""

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from detectors.seasonal_fit import PRESENT, Rollup
from detectors.subsystems import FEATURES
from etio.core.errors import Broken, StoreError
from etio.core.event import SeasonsReady
from etio.core.frame import NS
from etio.core.policy import SHIFTS
from etio.core.ports import Archive
from etio.core.season import UTC, Season
from etio.core.series import Series
from etio.daemon.season_record import keep
from etio.daemon.season_worker import season_of
from etio.daemon.timezone import host_zone
from etio.daemon.worker import NOT_FOR_CHILDREN

log = logging.getLogger(__name__)

DAYS = 21
"""Of roll-ups that a season is fitted to: three weeks, so that a week can be foretold from two."""
STRETCH_S = 300
FIRST_S = 600.0
"""The first look is that long after the start."""
PAUSE_S = 0.5
"""Least rest between two series."""
RESTS = 50.0
"""And so many times as long as reading took: with 2 % of a core, reading the archive is not felt."""
MOST = 250
NAMES = SHIFTS | {name for names in FEATURES.values() for name in names}
"""Series that have a season: those that speak for a subsystem or hurt somebody."""


class Seasons:
    """A thread that sleeps nearly always. Nothing that goes wrong here stops the daemon: then there are no seasons."""

    def __init__(self, archive: Archive, post: Callable[[SeasonsReady], None], every_h: float,
                 pause_s: float = PAUSE_S, zone: str = "", folder: Path | None = None) -> None:
        """every_h: hours between two looks; 0 = never. zone: name of the time zone; "" = that of the host. folder:
        where what was found is kept for replays."""
        self._archive, self._post, self._every_s, self._pause_s = archive, post, 3600.0 * every_h, pause_s
        self._zone_name, self._zone, self._folder = zone, UTC, folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="seasons", daemon=True)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the child, while there is one."""
        child = self._child
        return (child.pid,) if child is not None else ()

    def start(self) -> None:
        """Begins to wait for the first look."""
        if self._every_s > 0:
            self._thread.start()

    def stop(self) -> None:
        """Ends a look that is under way."""
        self._stop.set()
        if self._child is not None:
            self._child.kill()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        wait_s = min(FIRST_S, self._every_s)
        while not self._stop.wait(wait_s):
            wait_s = self._every_s
            try:
                seasons = self.look(time.time_ns())
            except (OSError, StoreError, Broken) as error:
                log.warning("no new seasons: %s", error)
                continue
            if seasons and not self._stop.is_set():
                log.info("%d series have a season", len(seasons))
                self._tell(SeasonsReady(time.time_ns(), seasons))

    def _tell(self, event: SeasonsReady) -> None:
        self._post(event)
        if self._folder is not None:
            try:
                keep(self._folder, event)
            except OSError as error:
                log.warning("seasons are not kept for replays: %s", error)

    def look(self, now_ns: int) -> tuple[Season, ...]:
        """Seasons of all series that have one. Raises OSError, StoreError or Broken."""
        wanted = [s for s in self._archive.series() if s.name in NAMES][:MOST]
        found: list[Season] = []
        self._zone = host_zone(now_ns, self._zone_name)
        try:
            rest_s = self._pause_s
            for one in wanted:
                if self._stop.wait(rest_s):
                    break
                began = time.monotonic()
                rollup = self._rollup(one, now_ns)
                rest_s = max(self._pause_s, RESTS * (time.monotonic() - began)) if self._pause_s else 0.0
                season = self._fit(rollup) if rollup is not None else None
                found += [season] if season is not None else []
        finally:
            _end(self._child)
            self._child = None
        return tuple(found)

    def _rollup(self, series: Series, now_ns: int) -> Rollup | None:
        """What the archive knows of a series; None where that is less than two days."""
        half = STRETCH_S * NS // 2  # a curve's points are as wide as a stretch, and tell the middle of each
        end = now_ns // (STRETCH_S * NS) * STRETCH_S * NS - half
        curve = self._archive.curve(series.key, end - DAYS * 86_400 * NS, end, DAYS * 86_400 // STRETCH_S)
        if curve is None or np.isfinite(curve.mean).sum() < PRESENT * 2 * 86_400 / STRETCH_S:
            return None
        return Rollup(series, curve.t_ns, curve.low, curve.mean, curve.high, self._zone)

    def _fit(self, rollup: Rollup) -> Season | None:
        """Asks the child, which is started when it is first needed."""
        child = self._child = self._child or _start()
        assert child.stdin is not None
        assert child.stdout is not None
        pickle.dump(rollup, child.stdin)
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            raise Broken("the season worker has ended")
        return season_of(line)


def _start() -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if k not in NOT_FOR_CHILDREN}
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = "1"
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return subprocess.Popen([sys.executable, "-m", "etio.daemon.season_worker"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=environment, close_fds=True,
                            start_new_session=True)  # ours is put before those of others


def _end(child: subprocess.Popen[bytes] | None) -> None:
    """Ends the child, if it has not ended by itself, and closes its pipes."""
    if child is None:
        return
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what it has not read cannot be flushed any more
                continue
