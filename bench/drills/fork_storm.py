"""A script that starts short-lived processes as fast as it can."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A shell loop that runs /bin/true, under a name of its own."""
    with scratch() as folder:
        shell = folder / "cronwrap"
        shell.symlink_to("/bin/bash")
        with running([str(shell), "-c", "while :; do /bin/true; done"]):
            yield


DRILL = Drill("fork_storm", "fork_storm", ("cronwrap",), inject)
