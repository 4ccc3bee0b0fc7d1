"""A storage engine that reserves contexts of asynchronous I/O until the kernel gives out no more."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

CODE = """
import ctypes, time
libc, held = ctypes.CDLL(None), []
while True:
    context = ctypes.c_ulong(0)
    if libc.syscall(206, 500, ctypes.byref(context)) == 0:
        held.append(context)
    else:
        time.sleep(0.2)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Contexts of 500 requests each (io_setup is number 206 on x86-64 only)."""
    with scratch() as folder, running(named_python(folder, "blobstore", CODE)):
        yield


DRILL = Drill("aio_limit", "quota_exhausted", ("fs.aio-max-nr",), inject)
