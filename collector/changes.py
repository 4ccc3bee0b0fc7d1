"""What changed: settings, mounts, packages, the clock, services. Events only; none of them is a fault by itself.

Reads:  /proc/sys/... of the settings that tuning cards speak of, /sys/kernel/mm/transparent_hugepage/*;
        /proc/self/mountinfo; modification times of the package databases, /var/log/dpkg.log; CLOCK_REALTIME against
        CLOCK_BOOTTIME; the directories of systemd's control groups
Emits:  no series; events sysctl_changed, mount_added, mount_removed, packages_changed, clock_step, unit_started,
        unit_stopped, unit_restarted; within_s of an event: it happened in so many seconds before, which is since the
        last look (once every 15 s, and when an alert fires)
Needs:  -
Source: proc(5), proc_sys(5), clock_getres(2), dpkg(1), systemd.resource-control(5)
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from collector.cgroup_files import parse_mountinfo as parse_cgroup_mounts
from collector.cgroup_files import shown, slurp
from collector.filesystems import SPACE
from collector.filesystems import Config as FilesystemsConfig
from collector.mounts import KERNEL_TYPES, Mount, parse_mountinfo
from collector.table import Fixed
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

KNOBS: Mapping[str, str] = {
    **{name: "proc/sys/" + name.replace(".", "/") for name in (
        "fs.aio-max-nr", "fs.file-max", "fs.inotify.max_user_instances", "fs.inotify.max_user_watches",
        "kernel.keys.maxbytes", "kernel.keys.maxkeys", "kernel.msgmni", "kernel.pty.max", "kernel.shmmni",
        "kernel.numa_balancing", "kernel.pid_max", "kernel.threads-max", "net.core.netdev_budget",
        "net.core.netdev_max_backlog", "net.core.rmem_max", "net.core.somaxconn", "net.ipv4.tcp_abort_on_overflow",
        "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_mtu_probing",
        "net.ipv4.tcp_retries2", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_syn_retries",
        "net.ipv4.tcp_syncookies", "net.ipv4.tcp_synack_retries", "net.ipv4.tcp_mem",
        "net.ipv4.neigh.default.gc_thresh3", "net.core.rmem_default",
        "net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_tcp_timeout_established", "vm.dirty_ratio",
        "vm.dirty_bytes", "vm.dirty_background_ratio", "vm.dirty_background_bytes", "vm.drop_caches",
        "vm.min_free_kbytes", "vm.nr_hugepages", "vm.overcommit_memory", "vm.overcommit_ratio", "vm.page-cluster",
        "vm.swappiness", "vm.watermark_scale_factor", "vm.zone_reclaim_mode")},
    **{f"transparent_hugepage.{name}": f"sys/kernel/mm/transparent_hugepage/{name}" for name in ("enabled", "defrag")},
}
"""Name to path of the settings that are watched: those of the tuning cards, and a few that explain much."""
PACKAGES: Mapping[str, str] = {
    "dpkg": "var/lib/dpkg/status", "rpm": "var/lib/rpm/rpmdb.sqlite", "rpm_db": "var/lib/rpm/Packages",
    "rpm_sysimage": "usr/lib/sysimage/rpm/rpmdb.sqlite", "apk": "lib/apk/db/installed",
    "pacman": "var/lib/pacman/local",
}
DPKG_LOG = "var/log/dpkg.log"
STEP_NS = 200_000_000
"""Least jump of the wall clock that is told; slewing (0.5 ms a second) stays far below."""
JUMP_S = 2.0
"""A jump of this size breaks time-outs, certificates and the order of logs: an event of its own."""
BUSY_NS = 50_000_000
"""If we lost the CPU for longer than this between reading the two clocks, their difference says nothing."""
SETTLED_NS = 30 * NS
"""A package manager writes its database many times; one event when it is done, or after this long."""
LOG_PART = 1 << 16
_LOG_LINE = re.compile(rb"^\S+ \S+ (install|upgrade|remove|purge) (\S+) (\S+) (\S+)$", re.MULTILINE)
_DULL_UNIT = re.compile(r"session-.*\.scope|user(-runtime-dir)?@\d+\.service|init\.scope")
Clocks = Callable[[], tuple[int, int, int]]


def read_clocks() -> tuple[int, int, int]:
    """(boot time before, wall clock, boot time after) in nanoseconds."""
    boot = time.CLOCK_BOOTTIME
    return time.clock_gettime_ns(boot), time.clock_gettime_ns(time.CLOCK_REALTIME), time.clock_gettime_ns(boot)


def parse_knob(raw: bytes) -> str:
    """The value in one line; of a choice such as `always [madvise] never` what is chosen."""
    words = raw.decode("utf-8", "replace").split()
    chosen = [w[1:-1] for w in words if w.startswith("[") and w.endswith("]")]
    return shown(" ".join(chosen or words)[:80])


def parse_dpkg_log(raw: bytes) -> list[str]:
    """What dpkg did, in words: "upgrade nginx 1.18-1 to 1.22-3"; each package once, its last action."""
    done = {name: (action, before, after) for action, name, before, after in _LOG_LINE.findall(raw)}
    return [shown(_told(name, *rest)[:120]) for name, rest in done.items()]


def _told(name: bytes, action: bytes, before: bytes, after: bytes) -> str:
    package, do = name.partition(b":")[0].decode("utf-8", "replace"), action.decode()
    old, new = before.decode("utf-8", "replace"), after.decode("utf-8", "replace")
    return {"install": f"install {package} {new}", "upgrade": f"upgrade {package} {old} to {new}"}.get(
        do, f"{do} {package} {old}")


@dataclass(frozen=True, slots=True)
class Config:
    """most: events of one kind told in one reading; the last of them says how many more there were.
    units: most units that are followed. skip_below: mounts below these folders are not told."""

    most: int = 10
    units: int = 4096
    skip_below: tuple[str, ...] = FilesystemsConfig().skip_below

    def __post_init__(self) -> None:
        if self.most < 1 or self.units < 0:
            raise ValueError("most must be at least 1, units at least 0")


class Changes:
    """Collector of changes. The first reading only learns. `clocks` is the system's but for tests."""

    def __init__(self, config: Config, clocks: Clocks = read_clocks) -> None:
        self._config = config
        self._clocks = clocks
        self._looked_ns = 0
        self._fixed = Fixed(())
        self._base = ""
        self._offset_ns: int | None = None
        self._knobs: dict[str, str] = {}
        self._raw_mounts = b""
        self._mounts: dict[tuple[bytes, bytes, bytes, bytes], Mount] | None = None
        self._packages: dict[str, int] = {}
        self._pending: dict[str, int] = {}
        self._log_end = 0
        self._units: dict[str, int] | None = None
        self._groups = ""

    def open(self, root: Path) -> None:
        """Raises NoData where there is no /proc."""
        self._base = str(root).rstrip("/") + "/"
        raw = slurp(f"{self._base}proc/self/mountinfo", 1 << 20)
        if raw is None:
            raise NoData(f"{self._base}proc/self/mountinfo: not here")
        v1, v2 = parse_cgroup_mounts(raw)
        point = v1.get("name=systemd") or v2
        self._groups = self._base.rstrip("/") + point if point else ""
        self._log_end = self._log_size()

    def collect(self, t_ns: int) -> Reading:
        """What changed since the last reading. Never raises."""
        events: list[HostEvent] = []
        for exact in (self._clock(t_ns), self._package_changes(t_ns)):
            events += self._capped(list(exact))
        for found in (self._settings(t_ns), self._mount_changes(t_ns), self._unit_changes(t_ns)):
            events += [self._since_last(e) for e in self._capped(list(found))]
        self._looked_ns = t_ns
        return self._fixed.reading([], None, tuple(events))

    def close(self) -> None:
        """Nothing is held."""

    def _since_last(self, event: HostEvent) -> HostEvent:
        """With the time in which it happened: nobody knows more than that it was not so at the last look."""
        return replace(event, fields=(*event.fields, ("within_s", round(max(0, event.t_ns - self._looked_ns) / NS, 1))))

    def _capped(self, events: list[HostEvent]) -> list[HostEvent]:
        most = self._config.most
        if len(events) <= most:
            return events
        last = events[most - 1]
        more: tuple[tuple[str, Field], ...] = (("not_told", len(events) - most),)
        return [*events[:most - 1], HostEvent(last.t_ns, last.kind, last.entity, last.fields + more, last.source)]

    def _clock(self, t_ns: int) -> Iterator[HostEvent]:
        before, wall, after = self._clocks()
        if after - before > BUSY_NS:
            return
        old, self._offset_ns = self._offset_ns, wall - (before + after) // 2
        if old is not None and abs(self._offset_ns - old) >= STEP_NS:
            step = (self._offset_ns - old) / NS
            yield HostEvent(t_ns, "clock_step", "host", (("seconds", round(step, 3)),), "CLOCK_REALTIME")
            if abs(step) >= JUMP_S:
                yield HostEvent(t_ns, "clock_jumped", "host", (("seconds", round(step, 3)),), "CLOCK_REALTIME")

    def _settings(self, t_ns: int) -> Iterator[HostEvent]:
        for name, path in KNOBS.items():
            raw = slurp(self._base + path, 256)
            if raw is None:
                continue
            now, old = parse_knob(raw), self._knobs.get(name)
            self._knobs[name] = now
            if old is not None and old != now:
                yield HostEvent(t_ns, "sysctl_changed", f"knob={name}", (("before", old), ("after", now)), f"/{path}")

    def _mount_changes(self, t_ns: int) -> Iterator[HostEvent]:
        raw = slurp(f"{self._base}proc/self/mountinfo", 1 << 20) or b""
        if raw == self._raw_mounts:
            return
        try:
            mounts = parse_mountinfo(raw)
        except (NoData, Broken):
            return
        self._raw_mounts = raw
        now = {(m.device_number, m.point, m.type, m.source): m for m in mounts if self._told(m)}
        old, self._mounts = self._mounts, now
        for kind, here, there in (("mount_removed", old, now), ("mount_added", now, old)):
            for key, mount in (here or {}).items() if old is not None else ():
                if key not in (there or {}):
                    yield HostEvent(t_ns, kind, SPACE[0].series(*mount.labels).entity, (), "/proc/self/mountinfo")

    def _told(self, mount: Mount) -> bool:
        below = any((mount.point + b"/").startswith(f.encode() + b"/") for f in self._config.skip_below)
        return mount.type not in KERNEL_TYPES and not below

    def _package_changes(self, t_ns: int) -> Iterator[HostEvent]:
        for name, path in PACKAGES.items():
            try:
                changed_ns = os.stat(self._base + path).st_mtime_ns
            except OSError:
                continue
            old = self._packages.get(name)
            self._packages[name] = changed_ns
            if old is not None and old != changed_ns:
                self._pending.setdefault(name, t_ns)
                if t_ns - self._pending[name] < SETTLED_NS:
                    continue
            if name in self._pending:
                began_ns = self._pending.pop(name)
                what = self._dpkg_did() if name == "dpkg" else []
                more: tuple[tuple[str, Field], ...] = (
                    ("packages", len(what)), ("what", "; ".join(what[:5]))) if what else ()
                yield HostEvent(began_ns, "packages_changed", f"database={name}", more, f"/{path}")

    def _log_size(self) -> int:
        try:
            return os.stat(self._base + DPKG_LOG).st_size
        except OSError:
            return 0

    def _dpkg_did(self) -> list[str]:
        """The lines of the log since the last time; a log that was rotated meanwhile is read from its start."""
        size = self._log_size()
        start, self._log_end = (self._log_end if size >= self._log_end else 0), size
        try:
            with open(self._base + DPKG_LOG, "rb", buffering=0) as file:
                file.seek(max(start, size - LOG_PART))
                return parse_dpkg_log(file.read(LOG_PART) or b"")
        except OSError:
            return []

    def _unit_changes(self, t_ns: int) -> Iterator[HostEvent]:
        if not self._groups:
            return
        now = dict(_units(self._groups, self._config.units))
        old, self._units = self._units, now
        if old is None:
            return
        for path, inode in now.items():
            if old.get(path) != inode:
                yield _unit_event(t_ns, "unit_restarted" if path in old else "unit_started", path)
        for path in old.keys() - now.keys():
            yield _unit_event(t_ns, "unit_stopped", path)


def _unit_event(t_ns: int, kind: str, path: str) -> HostEvent:
    name = shown(path.rpartition("/")[2]).replace(",", "?")
    return HostEvent(t_ns, kind, f"unit={name}", (("cgroup", shown(path)),), "control groups")


def _units(top: str, most: int) -> Iterator[tuple[str, int]]:
    """(path, inode) of the groups of services and scopes; a group that was made anew has another inode."""
    stack, left = [""], most
    while stack:
        here = stack.pop()
        try:
            entries = list(os.scandir(top + here))
        except OSError:
            continue
        for entry in entries:
            name = entry.name
            if name.endswith(".slice"):
                stack.append(f"{here}/{name}")
            elif name.endswith((".service", ".scope")) and not _DULL_UNIT.fullmatch(name) and left > 0:
                left -= 1
                yield f"{here}/{name}", entry.inode()


COLLECTOR = CollectorSpec(
    name="changes", config=Config, build=Changes,
    reads="/proc/sys/*, /proc/self/mountinfo, package databases, control groups, clocks", emits=(),
    source="proc(5)", period_s=15.0, optional=True,
)
