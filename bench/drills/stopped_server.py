"""A proxy that a backup script has stopped and never let go on."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import SERVE, named_python, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """SIGSTOP to a process that listens, of normal priority: one in the background may be paused."""
    with scratch() as folder:
        server = subprocess.Popen(named_python(folder, "dbproxy", SERVE), start_new_session=True,
                                  stdin=subprocess.DEVNULL)
        try:
            with contextlib.suppress(PermissionError):  # whatever this program was started with
                os.setpriority(os.PRIO_PROCESS, server.pid, 0)
            time.sleep(1.0)
            server.send_signal(signal.SIGSTOP)
            yield
        finally:
            server.kill()
            server.wait()


DRILL = Drill("stopped_server", "process_stopped", ("dbproxy",), inject)
