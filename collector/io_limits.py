"""Control groups with an I/O limit: how much of it they use. At 100 % the group waits, however idle the disk is.

Reads:  io.max and io.stat (v2), blkio.throttle.* (v1) of the groups that have a limit, looked for every ten seconds
Emits:  cgroup_io_limit_used_ratio
Needs:  a controller for I/O; NoData where there is none
Source: Documentation/admin-guide/cgroup-v2.rst (io.max, io.stat), cgroup-v1/blkio-controller.rst

What the kernel counts are bytes and requests since the group was made. Divided by the limit, their growth per second is
the share of the limit in use: 1.0 = all of it.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.cgroup_files import find_mounts, shown, slurp, walk
from collector.table import Column, Table, emits, number
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

USED = Column("cgroup_io_limit_used_ratio", "ratio", "counter", "I/O of a group over its limit",
              ("cgroup", "device", "limit"))
RESCAN_NS = 10 * NS
WAYS: Mapping[str, tuple[str, str]] = {
    "rbps": ("rbytes", "read bytes"), "wbps": ("wbytes", "written bytes"),
    "riops": ("rios", "reads"), "wiops": ("wios", "writes"),
}
"""Names of limits in io.max: the counter in io.stat that each is about, and words."""
V1_LIMITS: Mapping[str, str] = {
    "read_bps_device": "rbps", "write_bps_device": "wbps", "read_iops_device": "riops", "write_iops_device": "wiops"}
V1_COUNTS: Mapping[tuple[str, str], str] = {
    ("io_service_bytes", "Read"): "rbytes", ("io_service_bytes", "Write"): "wbytes",
    ("io_serviced", "Read"): "rios", ("io_serviced", "Write"): "wios"}
Numbers = dict[tuple[str, str], float]
"""(device number, name) to value."""


def parse_pairs(raw: bytes | None) -> Numbers:
    """Lines such as `8:0 rbps=1048576 wbps=max` (io.max, io.stat); what is no number is left out. Never raises."""
    found: Numbers = {}
    for line in (raw or b"").decode("ascii", "replace").splitlines():
        device, *words = line.split() or [""]
        for word in words:
            name, _, value = word.partition("=")
            if value.isascii() and value.isdigit():
                found[device, name] = float(value)
    return found


def parse_v1_limit(raw: bytes | None, name: str) -> Numbers:
    """Lines such as `253:0 1048576` of one blkio.throttle limit file. Never raises."""
    rows = (line.split() for line in (raw or b"").decode("ascii", "replace").splitlines())
    return {(row[0], name): float(row[1]) for row in rows if len(row) == 2 and row[1].isascii() and row[1].isdigit()}


def parse_v1_count(raw: bytes | None, file: str) -> Numbers:
    """Lines such as `253:0 Read 4096` of blkio.throttle.io_service_bytes or io_serviced. Never raises."""
    found: Numbers = {}
    for line in (raw or b"").decode("ascii", "replace").splitlines():
        words = line.split()
        name = V1_COUNTS.get((file, words[1])) if len(words) == 3 else None
        if name is not None and number(words[2].encode()) >= 0:
            found[words[0], name] = number(words[2].encode())
    return found


@dataclass(frozen=True, slots=True)
class Config:
    """groups: most groups with a limit that are followed."""

    groups: int = 64

    def __post_init__(self) -> None:
        if self.groups < 0:
            raise ValueError("groups must be at least 0")


class IoLimits:
    """Collector of I/O limits in use."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._root = ""
        self._top = ""
        self._v1 = False
        self._limits: dict[str, Numbers] = {}
        self._scan_ns = 0

    def open(self, root: Path) -> None:
        """Raises NoData where no controller limits I/O, Broken without /proc."""
        mounts = find_mounts(root)
        self._root = str(root).rstrip("/")
        self._v1 = "blkio" in mounts.v1
        if not self._v1 and "io" not in mounts.v2_controllers:
            raise NoData("no control group controller for I/O is mounted")
        self._top = mounts.v1["blkio"] if self._v1 else mounts.v2

    def collect(self, t_ns: int) -> Reading:
        """One reading of the groups that have a limit. Raises Broken before open()."""
        if not self._top:
            raise Broken("not open")
        if not self._scan_ns or not 0 <= t_ns - self._scan_ns < RESCAN_NS:
            self._scan_ns = t_ns
            self._limits = dict(self._limited())
        self._table.start()
        for path, limits in self._limits.items():
            counts = self._counts(path)
            for (device, name), limit in limits.items():
                count = counts.get((device, WAYS[name][0]))
                if count is not None and limit > 0:
                    self._table.put((path, device, name), partial(self._series, path, device, name), [count / limit])
        return self._table.reading()

    def close(self) -> None:
        """Nothing is held."""

    def _series(self, path: str, device: str, name: str) -> list[Series]:
        return [USED.series(shown(path) or "/", self._device(device), WAYS[name][1])]

    def _device(self, number_: str) -> str:
        """Name of a block device; its number where sysfs does not tell."""
        try:
            return os.path.basename(os.readlink(f"{self._root}/sys/dev/block/{number_}"))
        except OSError:
            return number_

    def _limited(self) -> Iterator[tuple[str, Numbers]]:
        left = self._config.groups
        for path in walk(self._top):
            limits = self._limits_of(path) if path or self._v1 else {}  # the root of v1 may have limits as well
            if limits and left > 0:
                left -= 1
                yield path, limits

    def _limits_of(self, path: str) -> Numbers:
        if not self._v1:
            return {key: n for key, n in parse_pairs(slurp(f"{self._top}{path}/io.max")).items() if key[1] in WAYS}
        found: Numbers = {}
        for file, name in V1_LIMITS.items():
            found |= parse_v1_limit(slurp(f"{self._top}{path}/blkio.throttle.{file}"), name)
        return found

    def _counts(self, path: str) -> Numbers:
        if not self._v1:
            return parse_pairs(slurp(f"{self._top}{path}/io.stat"))
        found: Numbers = {}
        for file in ("io_service_bytes", "io_serviced"):
            base = f"{self._top}{path}/blkio.throttle.{file}"
            raw = slurp(base + "_recursive")
            found |= parse_v1_count(raw if raw is not None else slurp(base), file)
        return found


COLLECTOR = CollectorSpec(
    name="io_limits", config=Config, build=IoLimits, reads="io.max, io.stat, blkio.throttle.* of groups with a limit",
    emits=emits((USED,)), source="Documentation/admin-guide/cgroup-v2.rst", period_s=2.0, optional=True,
)
