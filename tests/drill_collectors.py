"""Two collectors that misbehave while a file tells them to. The drills copy this file into a daemon's collector/."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series


@dataclass(frozen=True)
class Config:
    """No settings."""


class Drill:
    """One number, which never changes."""

    flag = ""

    def __init__(self, config):
        self._flag = Path(os.environ["ETIO_DRILL"]) / self.flag
        self._series = (Series(f"drill_{self.flag}", "1"),)

    def open(self, root):
        pass

    def collect(self, t_ns):
        if self._flag.exists():
            self.misbehave()
        return Reading(self._series, np.ones(1))

    def misbehave(self):
        raise NotImplementedError

    def close(self):
        pass


class Burner(Drill):
    """Computes for a third of each second."""

    flag = "burn"

    def misbehave(self):
        until = time.thread_time() + 0.3
        while time.thread_time() < until:
            pass


class Sleeper(Drill):
    """Does not return, like a call into a dead driver."""

    flag = "hang"

    def misbehave(self):
        while self._flag.exists():
            time.sleep(0.1)


def spec(cls, **more):
    return CollectorSpec(name=f"drill_{cls.flag}", config=Config, build=cls, reads="nothing", emits=(), **more)


COLLECTOR = spec(Burner, optional=True)
