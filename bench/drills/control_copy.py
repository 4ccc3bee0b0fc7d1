"""Control: an ordinary copy of a large file."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """cp of 1 GiB, five seconds of rest, again."""
    with scratch() as folder:
        file = folder / "backup.img"
        with file.open("wb") as out:
            for _ in range(1024):
                out.write(b"y" * (1 << 20))
        with running(["sh", "-c", "while :; do cp backup.img copy.img; sync copy.img; rm copy.img; sleep 5; done"],
                     cwd=str(folder)):
            yield


DRILL = Drill("control_copy", "", (), inject, seconds=40)
