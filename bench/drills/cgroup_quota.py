"""A busy service that may use half a core."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cgroup, running


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """CFS quota of 0.5 core for a group that wants one."""
    limits = {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}
    with cgroup("billing", "cpu", limits, {"cpu.max": "50000 100000"}) as group, \
            running(["stress-ng", "--cpu", "1", "--timeout", "60"], cgroups=[group]):
        yield


DRILL = Drill("cgroup_quota", "cgroup_cpu_throttling", ("billing",), inject, needs=("stress-ng",))
