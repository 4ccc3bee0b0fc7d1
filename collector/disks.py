"""Block devices: throughput, latency, how busy, how long the queue.

Reads:  /proc/diskstats
Emits:  disk_*{device}, of whole disks (dm, md, nvme and used loop devices as well; no partitions, no RAM disks)
Needs:  Linux >= 4.18 for disk_discard_*, 5.5 for disk_flush*
Source: Documentation/admin-guide/iostats.rst
"""

import os
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.files import File
from collector.late import LateCollector
from collector.table import Column, Table, emits, numbers, text, whole_lines
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec

SECTOR = 512.0  # bytes, in this file always, whatever the device's own block size is
MILLISECOND = 1e-3
FIELDS = 11
DISCARD_FIELDS = 15
FLUSH_FIELDS = 17
_LABELS = ("device",)
COLUMNS = (
    Column("disk_read_bytes_per_second", "bytes/s", "counter", "bytes read", _LABELS),
    Column("disk_write_bytes_per_second", "bytes/s", "counter", "bytes written", _LABELS),
    Column("disk_reads_per_second", "1/s", "counter", "reads completed", _LABELS),
    Column("disk_writes_per_second", "1/s", "counter", "writes completed", _LABELS),
    Column("disk_read_latency_seconds", "seconds", "mean", "mean time from queue to completion of a read", _LABELS),
    Column("disk_write_latency_seconds", "seconds", "mean", "mean time from queue to completion of a write", _LABELS),
    Column("disk_busy_ratio", "ratio", "counter", "share of time with at least one request in flight", _LABELS),
    Column("disk_queue_length", "1", "counter", "mean number of requests in flight", _LABELS),
    Column("disk_inflight_requests", "1", "gauge", "requests in flight at this moment", _LABELS),
)
SHAPE = (
    Column("disk_read_size_bytes", "bytes", "mean", "mean size of a read: small ones are random access", _LABELS),
    Column("disk_write_size_bytes", "bytes", "mean", "mean size of a write", _LABELS),
    Column("disk_read_merges_per_second", "1/s", "counter", "reads that joined one in the queue", _LABELS),
    Column("disk_write_merges_per_second", "1/s", "counter", "writes that joined one in the queue", _LABELS),
)
DISCARD = (
    Column("disk_discards_per_second", "1/s", "counter", "discards completed (TRIM)", _LABELS),
    Column("disk_discard_bytes_per_second", "bytes/s", "counter", "bytes discarded", _LABELS),
    Column("disk_discard_latency_seconds", "seconds", "mean", "mean time of a discard", _LABELS),
)
FLUSH = (
    Column("disk_flush_latency_seconds", "seconds", "mean", "mean time of a flush", _LABELS),
    Column("disk_flushes_per_second", "1/s", "counter", "flushes completed: what fsync() waits for", _LABELS),
)
_NO_DISKS = (b"ram", b"zram", b"fd", b"sr")


def parse_diskstats(data: bytes, skip: Container[bytes] = ()) -> list[tuple[bytes, list[float]]]:
    """(device, numbers behind its name) of each line, in the order of the file, without the devices in `skip`.

    A line that is too short is left out. Raises NoData for an empty file, Broken where no line is of this form.
    """
    rows: list[tuple[bytes, list[float]]] = []
    good = False
    for line in whole_lines(data):
        fields = line.split()
        if len(fields) < 3 + FIELDS:
            continue
        good = True
        if fields[2] not in skip:
            rows.append((fields[2], numbers(fields[3:3 + FLUSH_FIELDS])))
    if not good and data:
        raise Broken("no line with the counters of a block device")
    if not good:
        raise NoData("no block device")
    return rows


def is_partition(name: bytes, disk: bytes) -> bool:
    """Whether `name` is a partition of `disk`: sda1 of sda, nvme0n1p1 of nvme0n1, but not dm-10 of dm-1."""
    rest = name[len(disk):]
    if not disk or not rest or not name.startswith(disk):
        return False
    if disk[-1:].isdigit():
        return rest[:1] == b"p" and rest[1:].isdigit()
    return rest.isdigit()


def raw_values(n: list[float]) -> tuple[list[float], list[float]]:
    """(values, weights) in the order of COLUMNS and SHAPE from the numbers of one line; a weight counts only for a
    mean."""
    reads, writes, read, written = n[0], n[4], n[2] * SECTOR, n[6] * SECTOR
    values = [
        read, written, reads, writes, n[3] * MILLISECOND, n[7] * MILLISECOND, n[9] * MILLISECOND, n[10] * MILLISECOND,
        n[8], read, written, n[1], n[5],
    ]
    return values, [0.0, 0.0, 0.0, 0.0, reads, writes, 0.0, 0.0, 0.0, reads, writes, 0.0, 0.0]


@dataclass(frozen=True, slots=True)
class Config:
    """idle_loops: loop devices that never did any I/O, too. max_devices: how many disks are followed at most."""

    idle_loops: bool = False
    max_devices: int = 256


class Disks(LateCollector):
    """Collector of /proc/diskstats."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._file: File | None = None
        self._root = Path("/")
        self._disks: set[bytes] = set()
        self._skip: set[bytes] = set()

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._root = root
        self._file = File(root / "proc/diskstats")

    def grab(self, t_ns: int) -> Callable[[], Reading]:
        """See etio.core.ports.Deferring. Raises NoData or Broken."""
        if self._file is None:
            raise NoData("not open")
        return partial(self._made, self._file, self._file.read())

    def _made(self, file: File, data: bytes) -> Reading:
        self._table.start()
        for name, row in file.made(data, lambda data: parse_diskstats(data, self._skip)):
            if name in self._disks or self._is_new_disk(name, row):
                self._put(name, row)
        return self._table.reading()

    def _put(self, name: bytes, row: list[float]) -> None:
        put, device = self._table.put, text(name)
        put(name, lambda: [c.series(device) for c in (*COLUMNS, *SHAPE)], *raw_values(row))
        if len(row) >= DISCARD_FIELDS:
            put((name, "discard"), lambda: [c.series(device) for c in DISCARD],
                [row[11], row[13] * SECTOR, row[14] * MILLISECOND], [0.0, 0.0, row[11]])
        if len(row) >= FLUSH_FIELDS:
            put((name, "flush"), lambda: [c.series(device) for c in FLUSH],
                [row[16] * MILLISECOND, row[15]], [row[15], 0.0])

    def _is_new_disk(self, name: bytes, row: list[float]) -> bool:
        if name.startswith(b"loop") and not self._config.idle_loops and not row[0] + row[4] > 0:
            return False
        if name.startswith(_NO_DISKS) or self._is_partition(name) or len(self._disks) >= self._config.max_devices:
            self._skip.add(name)
            return False
        self._disks.add(name)
        return True

    def _is_partition(self, name: bytes) -> bool:
        """By sysfs, where it is there (Xen hosts have a whole disk called xvda1); else by name."""
        known = self._root / "sys/class/block" / text(name).replace("/", "!")
        if os.path.exists(known):
            return os.path.exists(known / "partition")
        return any(is_partition(name, disk) for disk in self._disks)

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


COLLECTOR = CollectorSpec(
    name="disks", config=Config, build=Disks, reads="/proc/diskstats",
    emits=emits((*COLUMNS, *SHAPE, *DISCARD, *FLUSH)), source="Documentation/admin-guide/iostats.rst",
)
