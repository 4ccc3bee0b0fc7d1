"""Bulk writers fill what may be dirty on a file system; one that writes little there is put to sleep as well."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, small_ext4

LIMIT = 1 << 20
BULK = ("import os\n"
        "block = bytes(1 << 20)\n"
        "with open(f'bulk-{os.getpid()}', 'wb', buffering=0) as f:\n"
        "    while True:\n"
        "        f.seek(0)\n"
        "        for _ in range(40):\n"
        "            f.write(block)\n")
LITTLE = ("import time\n"
          "with open('ledger', 'wb', buffering=0) as f:\n"
          "    while True:\n"
          "        f.seek(0)\n"
          "        for _ in range(400):\n"
          "            f.write(bytes(16384))\n"
          "            time.sleep(0.01)\n")


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A file system of its own, of which no more than 1 MiB may be dirty: the host as a whole is left alone."""
    with scratch() as folder, small_ext4(folder, "mount", 256) as mount:
        number = os.stat(mount).st_dev
        limits = Path(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}")
        (limits / "strict_limit").write_text("1")
        (limits / "max_bytes").write_text(str(LIMIT))
        names = folder / "bin"
        names.mkdir()
        bulk = [named_python(names, "unpacker", BULK) for _ in range(3)]
        with running(*bulk, named_python(names, "ledger", LITTLE), cwd=str(mount)):
            yield


DRILL = Drill("dirty_writers", "dirty_throttling", ("unpacker",), inject, needs=("mkfs.ext4",))
