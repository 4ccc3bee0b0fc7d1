"""A proxy that a backup script has stopped and never let go on."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, scratch

CODE = """
import socket
s = socket.socket()
s.bind(('127.0.0.1', 0))
s.listen(8)
while True:
    s.accept()[0].close()
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """SIGSTOP to a process that listens, of normal priority: one in the background may be paused."""
    with scratch() as folder:
        server = subprocess.Popen(named_python(folder, "dbproxy", CODE), start_new_session=True,
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
