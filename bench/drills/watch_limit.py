"""An indexer that watches each folder of a tree, until its user may watch no more (inotify)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")
FOLDERS, MAY = 2200, 2000
WATCH = """
import ctypes, os, time
libc = ctypes.CDLL(None)
os.chdir({tree!r})
descriptor = libc.inotify_init()
while True:
    for name in os.listdir("."):
        libc.inotify_add_watch(descriptor, name.encode(), 2)
    time.sleep(1.0)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """The limit of each user is lowered, so that a small tree is enough."""
    before = LIMIT.read_text()
    with scratch() as folder:
        tree = folder / "tree"
        for number in range(FOLDERS):
            (tree / str(number)).mkdir(parents=True)
        LIMIT.write_text(str(MAY))
        try:
            with running(named_python(folder, "photo_indexer", WATCH.format(tree=str(tree)))):
                yield
        finally:
            LIMIT.write_text(before)


DRILL = Drill("watch_limit", "inotify_exhausted", ("photo_indexer",), inject, seconds=150)
