"""Control: packages are unpacked, flushed and removed, as an upgrade does it."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch, sh


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Some thousand small files at a time."""
    with scratch() as folder:
        sh("tar", "czf", str(folder / "package.tar.gz"), "-C", "/usr/lib", "python3")
        upgrade = "mkdir new; tar xzf package.tar.gz -C new; sync -f new; rm -rf old; mv new old; sleep 1"
        with running(["sh", "-c", f"while :; do {upgrade}; done"], cwd=str(folder)):
            yield


DRILL = Drill("control_unpack", "", (), inject, seconds=40, needs=("tar",))
