"""Control: what scripts and batch jobs do all day, each of which looks a little like a fault."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cores, named_python, running, scratch

POOL = """
import os, time
held = [open('/dev/null') for _ in range(300)]
while True:
    for _ in range(60):
        if os.fork() == 0:
            os._exit(0)
    time.sleep(2)
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
"""
WAIT = "while :; do grep -q nobody-is-called-this /etc/passwd; test -e /nonexistent; sleep 0.2; done"
PAUSED = "while :; do sleep 30 & p=$!; kill -STOP $p; sleep 6; kill -CONT $p; kill $p; wait $p; done"


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A parent that collects its children late, a script that waits, a job that is paused, one busy pinned thread."""
    with scratch() as folder, running(
        named_python(folder, "taskpool", POOL), ["/bin/sh", "-c", WAIT], ["/bin/sh", "-c", PAUSED],
        ["taskset", "-c", str(cores() - 1), *named_python(folder, "reporter", "while True: sum(range(100000))")],
    ):
        yield


DRILL = Drill("control_scripts", "", (), inject, seconds=40, needs=("taskset",))
