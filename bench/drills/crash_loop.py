"""A worker that crashes at its start, and a script that starts it again."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """SIGABRT three times a second, without core files."""
    with scratch() as folder:
        worker = named_python(folder, "mailworker", "")[0]
        code = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()"
        with running(["/bin/sh", "-c", f"while :; do {worker} -c '{code}'; sleep 0.3; done"]):
            yield


DRILL = Drill("crash_loop", "crash_loop", ("mailworker",), inject)
