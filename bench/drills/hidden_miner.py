"""A program that computes and whose file lies in shared memory."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.drills import Drill
from bench.drills._tools import running


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A shell under another name that counts as fast as it can."""
    file = Path("/dev/shm/.kworkerds")
    shutil.copy("/bin/dash", file)
    file.chmod(0o755)
    try:
        with running([str(file), "-c", "while :; do :; done"]):
            yield
    finally:
        file.unlink()


DRILL = Drill("hidden_miner", "unknown_program", ("kworkerds",), inject)
