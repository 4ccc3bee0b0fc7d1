"""Jobs that queue for a file lock behind a run that somebody has stopped."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

CODE = "import fcntl, os, time; fcntl.flock(os.open({path!r}, os.O_RDWR), fcntl.LOCK_EX); print(1, flush=True); " \
       "time.sleep(1000)"


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """One takes the lock and is stopped; five wait."""
    with scratch() as folder:
        (folder / "lock").touch()
        code = CODE.format(path=str(folder / "lock"))
        with subprocess.Popen(named_python(folder, "nightlyrun", code), stdout=subprocess.PIPE,
                              start_new_session=True) as holder:
            try:
                assert holder.stdout is not None
                holder.stdout.readline()
                os.kill(holder.pid, signal.SIGSTOP)
                with running(*[named_python(folder, "reportjob", code)] * 5):
                    yield
            finally:
                holder.kill()


DRILL = Drill("lock_holder", "file_lock_pile", ("nightlyrun",), inject, 30.0)
