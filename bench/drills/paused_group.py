"""A backup that freezes a group of processes, as `docker pause` does, and dies before it thaws it."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import SERVE, cgroup, has_v1, named_python, running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """The freezer of v1, or cgroup.freeze of v2; thawed on leaving, or nothing in it could be ended."""
    file, on, off = ("freezer.state", "FROZEN", "THAWED") if has_v1("freezer") else ("cgroup.freeze", "1", "0")
    with scratch() as folder, cgroup("catalogue", "freezer", {}, {}) as group, running(
            named_python(folder, "catalogue_db", SERVE), cgroups=[group]):
        (group / file).write_text(on)
        try:
            yield
        finally:
            (group / file).write_text(off)


DRILL = Drill("paused_group", "group_frozen", ("catalogue",), inject, seconds=120)
