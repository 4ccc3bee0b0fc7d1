"""The kernel log as typed events: I/O and memory errors, XIDs, hung tasks, lock-ups, resets, crashes.

Reads:  /dev/kmsg, from its end on: only what is said after the start; /proc/self/mountinfo and /sys/class/block/*/dev
        to name the mount of a broken file system; /proc/driver/nvidia/gpus/*/information
Emits:  kernel_messages_per_second{level}, kernel_messages_lost_per_second; events: collector.kmsg_kinds.KINDS
Needs:  a warden that opens it, or CAP_SYSLOG (kernel.dmesg_restrict = 1 is the default of Debian)
Source: Documentation/ABI/testing/dev-kmsg

Only facility 0 is believed: whoever may write to /dev/kmsg can write "NVRM: Xid", but not as the kernel. Records are
numbered; those the kernel overwrote before they were read are counted as lost, so is what is no record. Each kind tells
ten events at once and then one in six seconds; how many were left out is a field of the next one ("not_told").
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from collector.cgroup_files import slurp
from collector.files import fault
from collector.filesystems import SPACE
from collector.gpu.binding import pci_address
from collector.kernel_clock import monotonic_ns
from collector.kmsg_kinds import Message, understand
from collector.kmsg_record import LEVELS, Record, parse_record
from collector.mounts import parse_mountinfo, worth_following
from collector.table import Column, Fixed, emits
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent, pid_of
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

MESSAGES = Column("kernel_messages_per_second", "1/s", "counter", "messages of the kernel itself", ("level",))
LOST = Column("kernel_messages_lost_per_second", "1/s", "counter", "messages overwritten before they were read")
SIZE = 8192
"""A record has at most this many bytes (PRINTK_MESSAGE_MAX is smaller); a shorter buffer fails with EINVAL."""
SHOWN = 200
SAME_NS = 10 * NS
"""Two reports of one XID, by the log and by NVML, are no farther apart."""
REMEDY = "remedy: start as root, or install the units (etio-warden)"


@dataclass(frozen=True, slots=True)
class Config:
    """records: most records taken in one reading; the rest waits in the kernel for the next.
    burst, refill_s: events of one kind that are told at once, and how often one more after that."""

    records: int = 256
    burst: int = 10
    refill_s: float = 6.0

    def __post_init__(self) -> None:
        if self.records < 1 or self.burst < 1 or not self.refill_s > 0:
            raise ValueError("records and burst must be at least 1, refill_s above 0")


@dataclass(slots=True)
class _Bucket:
    """How many events of one kind may still be told, and how many were not."""

    left: float
    t_ns: int
    not_told: int = 0


@dataclass(slots=True)
class Limiter:
    """Rate limit of each kind. Memory: one entry for each kind of a closed list."""

    burst: int
    refill_s: float
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def pass_on(self, event: HostEvent) -> HostEvent | None:
        """The event, with the count of those left out before it; None where it is one of them."""
        bucket = self._buckets.setdefault(event.kind, _Bucket(float(self.burst), event.t_ns))
        gained = max(0, event.t_ns - bucket.t_ns) / NS / self.refill_s
        bucket.left, bucket.t_ns = min(float(self.burst), bucket.left + gained), max(bucket.t_ns, event.t_ns)
        if bucket.left < 1.0:
            bucket.not_told += 1
            return None
        bucket.left -= 1.0
        missed, bucket.not_told = bucket.not_told, 0
        return replace(event, fields=(*event.fields, ("not_told", missed))) if missed else event


class Kmsg:
    """Collector of the kernel log.

    source: gives an open descriptor of /dev/kmsg, which is ours then; -1 = not yet, ask again. Without one the file
    itself is opened. oom_here: whether OOM kills are told from the log (else eBPF tells them, with more to say).
    gpu_entity: how the series of a GPU at a PCI address call it; "" where they do not know it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([*(MESSAGES.series(level) for level in LEVELS), LOST.series()])
        self._counts = [0.0] * (len(LEVELS) + 1)
        self._limiter = Limiter(config.burst, config.refill_s)
        self._root = Path("/")
        self._fd = -1
        self._last = -1
        self._victims: dict[int, tuple[tuple[str, Field], ...]] = {}
        self._killed: deque[tuple[int, tuple[tuple[str, Field], ...]]] = deque(maxlen=64)
        self._xids: deque[tuple[str, int, int]] = deque(maxlen=64)
        self.source: Callable[[], int] | None = None
        self.gpu_entity: Callable[[str], str] = lambda _: ""
        self.oom_here: Callable[[], bool] = lambda: True

    def open(self, root: Path) -> None:
        """Raises NoData (no way to it) or Broken."""
        self._root = root
        self._connect()

    def collect(self, t_ns: int) -> Reading:
        """What was said since the last reading. Raises NoData or Broken."""
        if self._fd < 0:
            self._connect()
        booted_ns = t_ns - monotonic_ns()
        events = []
        for record in self._records():
            if record.from_kernel:
                self._counts[record.level] += 1
                event = self._event(record, min(t_ns, booted_ns + record.microseconds * 1000))
                told = self._limiter.pass_on(event) if event is not None else None
                events += [told] if told is not None else []
        return self._fixed.reading(list(self._counts), None, tuple(events))

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _connect(self) -> None:
        """Starts at the end of the log; after a gap of ours, behind the last record that was seen."""
        self._fd = self.source() if self.source is not None else self._open_file()
        if self._fd < 0:
            return
        try:
            os.lseek(self._fd, 0, os.SEEK_END if self._last < 0 else os.SEEK_SET)
        except OSError as error:
            if error.errno != errno.ESPIPE:
                raise fault("/dev/kmsg", error) from error

    def _open_file(self) -> int:
        path = self._root / "dev/kmsg"
        try:
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise NoData(f"{path}: {error.strerror}; {REMEDY}") from error
        except OSError as error:
            raise fault(path, error) from error

    def _records(self) -> Iterator[Record]:
        """New records, oldest first, at most `records` of them."""
        for _ in range(self._config.records if self._fd >= 0 else 0):
            try:
                raw = os.read(self._fd, SIZE)
            except BlockingIOError:
                return
            except BrokenPipeError:  # the next one was overwritten; the read after this goes on at the oldest
                continue
            except OSError as error:
                raise fault("/dev/kmsg", error) from error
            if not raw:
                return
            try:
                record = parse_record(raw)
            except Broken:
                self._counts[-1] += 1
                continue
            if record.sequence > self._last:
                self._counts[-1] += record.sequence - self._last - 1 if self._last >= 0 else 0
                self._last = record.sequence
                yield record

    def _event(self, record: Record, t_ns: int) -> HostEvent | None:
        told = understand(record.text)
        if told is None:
            return None
        if told.kind == "oom_context":
            self._victims = {pid_of(told.entity): tuple(f for f in told.fields if f[1])}
            return None
        if told.kind == "oom_kill":
            event = self._oom_kill(told, t_ns)
            self._killed.append((pid_of(told.entity), event.fields))
            return event if self.oom_here() else None
        entity, fields = self._resolved(told), told.fields
        if told.entity.startswith("gpu="):
            entity, fields = self._gpu(told, t_ns)
        return HostEvent(t_ns, told.kind, entity, (*fields, ("message", _shown(record.text))), "/dev/kmsg")

    def _gpu(self, told: Message, t_ns: int) -> tuple[str, tuple[tuple[str, Field], ...]]:
        """A GPU as its series call it where NVML knows it, with its PCI address beside, else by that address."""
        pci = pci_address(told.entity.removeprefix("gpu="))
        xid = told.get("xid")
        if isinstance(xid, int):
            self._xids.append((pci, xid, t_ns))
        known = self.gpu_entity(pci)
        return known or f"gpu={pci}{self._gpu_uuid(pci)}", (*told.fields, *((("pci", pci),) if known else ()))

    def told_xid(self, pci: str, xid: int, t_ns: int) -> bool:
        """Whether the log told this XID of the GPU at a PCI address within ten seconds; from any thread."""
        return any(one[:2] == (pci, xid) and abs(one[2] - t_ns) <= SAME_NS for one in list(self._xids))

    def victim(self, pid: int) -> tuple[tuple[str, Field], ...]:
        """What the log said of a process the kernel killed for want of memory; empty where it said nothing (yet). From
        any thread."""
        return next((fields for known, fields in reversed(list(self._killed)) if known == pid), ())

    def _oom_kill(self, told: Message, t_ns: int) -> HostEvent:
        """limited: the group whose limit was met, which may be one above that of the victim."""
        groups = self._victims.pop(pid_of(told.entity), ())
        return HostEvent(t_ns, "oom_kill", told.entity, (*told.fields, *groups), "/dev/kmsg")

    def _resolved(self, told: Message) -> str:
        """The entity as other collectors call it, where that is known."""
        name = told.entity.partition("=")[2]
        if told.kind == "filesystem_readonly":
            return self._mount_of(name) or told.entity
        return told.entity

    def _mount_of(self, device: str) -> str:
        """Device, mount and type as the collector of file systems labels them; "" where it is not mounted."""
        base = str(self._root).rstrip("/")
        number = (slurp(f"{base}/sys/class/block/{device.replace('/', '!')}/dev", 32) or b"").strip()
        try:
            mounts = worth_following(parse_mountinfo(slurp(f"{base}/proc/self/mountinfo", 1 << 20) or b""))
        except (NoData, Broken):
            return ""
        found = [m for m in mounts if number and m.device_number == number]
        return SPACE[0].series(*found[0].labels).entity if found else ""

    def _gpu_uuid(self, pci: str) -> str:
        raw = slurp(f"{str(self._root).rstrip('/')}/proc/driver/nvidia/gpus/{pci.lower()}/information", 4096) or b""
        rows = (line.partition(b":") for line in raw.splitlines())
        uuid = next((value.strip() for key, _, value in rows if key.strip() == b"GPU UUID"), b"")
        return f",uuid={_shown(uuid.decode('ascii', 'replace'))}" if uuid.startswith(b"GPU-") else ""


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:SHOWN])


COLLECTOR = CollectorSpec(
    name="kmsg", config=Config, build=Kmsg, reads="/dev/kmsg", emits=emits((MESSAGES, LOST)),
    needs="a warden, or CAP_SYSLOG", source="Documentation/ABI/testing/dev-kmsg",
)
