"""A gateway that forgets to close its sockets."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

CODE = """
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
held = []
while True:
    try:
        held.append(socket.socket())
    except OSError:
        time.sleep(0.01)
    time.sleep(0.004)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """250 sockets a second until its limit of 512 files."""
    with scratch() as folder, running(named_python(folder, "gatewayd", CODE)):
        yield


DRILL = Drill("fd_exhaustion", "process_fds_exhausted", ("gatewayd",), inject)
