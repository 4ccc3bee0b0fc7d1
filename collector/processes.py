"""Processes on request: who is there, what they used so far, and where they belong.

Reads: /proc/PID/{stat,schedstat,cgroup,cmdline,io,task/*/schedstat}, /proc/uptime.
Gives: etio.core.facts.ProcessTable. Cost: about 10 us per sleeping process, 20 us per busy one, however many there are.
Needs: nothing; /proc/PID/io of other users needs CAP_SYS_PTRACE, else it comes from the warden through `io_of`.
Source: proc_pid_stat(5); Documentation/scheduler/sched-stats.rst.
"""

import fcntl
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

from collector.cgroup_files import parse_proc_cgroup, slurp
from collector.process_files import NAN, Stat, parse_cmdline, parse_io, parse_schedstat, parse_stat
from etio.core.errors import Broken, NoData
from etio.core.facts import Process, ProcessTable, unit_of
from etio.core.frame import NS

IO_MAX = 64
"""Most processes that `io_of` is asked about in one call."""
REFRESH_NS = 30 * NS
REFRESH_FOCUS_NS = 5 * NS
HURRY_NS = 25 * NS // 10
"""Readings closer together than this are those of somebody who looks for a culprit: everything is read then."""
KEEP_OPEN = 2048
"""Stat files held open: reading one again costs half. The kernel keeps 5 KB for each."""
LOW_FILES, HIGH = 200, 1024
"""More than so many are held at high numbers, so that what needs low ones, such as select(2), finds some left."""
IDLE_THREADS = 64
"""Threads whose run delay is read in a reading that nobody hurries for."""
KERNEL_THREAD_NS = 19 * NS
"""An idle kernel thread is looked at again after so long when nobody hurries: half of all processes are such."""

IoOf = Callable[[Sequence[int]], Mapping[int, tuple[float, float]]]


@dataclass(slots=True)
class _Known:
    """What is remembered of one process between readings."""

    fd: int
    raw: bytes = b""
    stat: Stat | None = None
    row: Process | None = None
    seen_ns: int = 0
    refreshed_ns: int = 0
    uid: int = -1
    cgroup: str = ""
    unit: str = ""
    cmdline: str = ""
    score: float = 0.0
    stale: bool = True
    """It ran since the last close look."""
    io: tuple[float, float] = (NAN, NAN)
    io_denied: bool = False
    delay: float = NAN
    thread_delays: dict[str, float] = field(default_factory=dict)
    gone_delay: float = 0.0


class ProcessReader:
    """Reads the process table; keeps what does not change. Not thread-safe: one reader per thread.

    io_of: the way to the figures of /proc/PID/io that this process may not read itself; at most 64 pids a call.
    focus: how many processes (the busiest that ran since the last close look) are looked at closely in one reading:
        I/O, and run delay of all threads. Of a process that slept, what was found before still holds.
    threads: most threads whose run delay is read in one reading.
    keep_open: most stat files held open; fewer where this process may not have so many.
    """

    def __init__(self, root: Path, io_of: IoOf | None = None, focus: int = IO_MAX, threads: int = 256,
                 keep_open: int = KEEP_OPEN) -> None:
        self._proc = str(root).rstrip("/") + "/proc"
        self._io_of = io_of
        self._focus = focus
        self._threads = threads
        self._keep_open = keep_open
        self._open = 0
        self._known: dict[int, _Known] = {}
        self._read_ns = 0
        self._hurry = True

    def read(self, t_ns: int) -> ProcessTable:
        """All processes now. Raises NoData where there is no /proc."""
        try:
            pids = [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        except OSError as error:
            raise NoData(f"{self._proc}: {error.strerror}") from error
        self._hurry = t_ns - self._read_ns <= HURRY_NS
        self._read_ns = t_ns
        self._forget(set(self._known).difference(pids))
        uptime = self._uptime()
        live = [k for pid in pids if (k := self._look(pid, t_ns, uptime)) is not None]
        ran = sorted((k for k in live if k.stale), key=lambda k: -k.score)
        self._look_closely(ran[: self._focus])
        return ProcessTable(t_ns, tuple(self._row(k, t_ns, uptime) for k in live))

    def close(self) -> None:
        """Gives the open files back; may be called twice."""
        self._forget(set(self._known))

    def _forget(self, pids: set[int]) -> None:
        for pid in pids:
            known = self._known.pop(pid)
            if known.fd >= 0:
                os.close(known.fd)
                self._open -= 1

    def _uptime(self) -> float:
        raw = slurp(f"{self._proc}/uptime", 64) or b""
        try:
            return float(raw.split()[0])
        except (IndexError, ValueError):
            return NAN

    def _look(self, pid: int, t_ns: int, uptime: float) -> _Known | None:
        """Reads the stat of one process; None where it is gone or unreadable."""
        known = self._known.get(pid)
        if known is not None and not self._hurry and self._rests(known, t_ns):
            return known
        raw = self._stat(pid, known)
        if raw is None and known is not None:  # the number may already belong to another process
            self._forget({pid})
            known, raw = None, self._stat(pid, None)
        if raw is None:
            return None
        if known is None:
            known = self._known[pid] = _Known(self._hold(pid))
        try:
            self._take(known, raw, t_ns, uptime)
        except Broken:
            return None
        return known

    @staticmethod
    def _rests(known: _Known, t_ns: int) -> bool:
        """Whether it is a kernel thread that was idle not long ago."""
        stat = known.stat
        return (stat is not None and stat.kernel_thread and known.score < 0.01 and not known.stale
                and 0 <= t_ns - known.seen_ns < KERNEL_THREAD_NS)

    def _stat(self, pid: int, known: _Known | None) -> bytes | None:
        if known is None or known.fd < 0:
            return slurp(f"{self._proc}/{pid}/stat", 4096)
        try:
            return os.pread(known.fd, 4096, 0)
        except OSError:
            return None

    def _hold(self, pid: int) -> int:
        """Keeps the file open: reading it again costs half, and it can never show another process."""
        if self._open >= self._keep_open:
            return -1
        try:
            fd = os.open(f"{self._proc}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1
        if self._open >= LOW_FILES and (fd := self._lift(fd)) < 0:
            return -1
        self._open += 1
        return fd

    def _lift(self, low: int) -> int:
        """The same file at a high number; -1, now and for ever, where this process may not have such."""
        try:
            return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH)
        except OSError:
            self._keep_open = self._open
            return -1
        finally:
            os.close(low)

    def _take(self, known: _Known, raw: bytes, t_ns: int, uptime: float) -> None:
        """Takes a stat in and scores how busy the process is (cores since the last reading, fading)."""
        before = known.stat
        if raw == known.raw and before is not None and before.state not in "RD":
            known.score *= 0.7
            known.seen_ns = t_ns  # it slept: what the close look found still holds
            return
        known.stale = True
        now = parse_stat(raw)
        if before is not None and before.start_s != now.start_s:
            self._renew(known)
            before = None
        if before is None or (before.comm != now.comm and not now.kernel_thread):
            known.refreshed_ns = 0
        seconds = (t_ns - known.seen_ns) / NS if before is not None else uptime - now.start_s
        used = now.cpu_seconds - (before.cpu_seconds if before is not None else 0.0)
        rate = used / seconds if seconds > 0.05 else used
        waits = 0.05 if now.state == "D" else 0.0  # in uninterruptible sleep: most often I/O
        known.score = max(rate, waits, 0.7 * known.score)
        known.raw, known.stat, known.row, known.seen_ns = raw, now, None, t_ns
        self._wait_time(known, now)

    @staticmethod
    def _renew(known: _Known) -> None:
        """The number belongs to another process now."""
        known.row, known.score, known.io, known.io_denied = None, 0.0, (NAN, NAN), False
        known.delay, known.gone_delay = NAN, 0.0
        known.thread_delays.clear()

    def _wait_time(self, known: _Known, stat: Stat) -> None:
        """Run delay of a process of one thread; of several threads it is summed for the focus only."""
        if stat.threads == 1 and not known.thread_delays:
            known.delay = parse_schedstat(slurp(f"{self._proc}/{stat.pid}/schedstat", 128))

    def _look_closely(self, focus: Sequence[_Known]) -> None:
        left = self._threads if self._hurry else min(self._threads, IDLE_THREADS)
        ask: list[_Known] = []
        for known in focus:
            stat = known.stat
            known.stale = False
            if stat is None or stat.kernel_thread or stat.state == "Z":
                continue
            if 1 < stat.threads <= left or (stat.threads == 1 and known.thread_delays):
                left -= stat.threads
                self._sum_threads(known, stat.pid)
            elif stat.threads > 1:
                self._set(known, delay=NAN)  # nobody looked: the figure of before would read as "no wait"
            if not self._own_io(known, stat.pid):
                ask.append(known)
        self._ask_io(ask[:IO_MAX])

    def _sum_threads(self, known: _Known, pid: int) -> None:
        """Sums the run delay of all threads; what ended threads had waited stays in the sum."""
        base = f"{self._proc}/{pid}/task"
        try:
            tids = os.listdir(base)
        except OSError:
            return
        now = {tid: parse_schedstat(slurp(f"{base}/{tid}/schedstat", 128)) for tid in tids}
        now = {tid: delay for tid, delay in now.items() if not math.isnan(delay)}
        known.gone_delay += sum(d for tid, d in known.thread_delays.items() if tid not in now)
        known.thread_delays = now
        self._set(known, delay=known.gone_delay + sum(now.values()) if now else NAN)

    def _own_io(self, known: _Known, pid: int) -> bool:
        """True where /proc/PID/io could be read (or the process is gone), False where it is not ours to read."""
        if known.io_denied:
            return False
        raw = b""
        try:
            with open(f"{self._proc}/{pid}/io", "rb", buffering=0) as file:
                raw = file.read(512)
        except PermissionError:
            known.io_denied = True
        except OSError:
            return True
        if raw:
            self._set(known, io=parse_io(raw))
        return bool(raw)

    def _ask_io(self, ask: Sequence[_Known]) -> None:
        if self._io_of is None or not ask:
            return
        by_pid = {k.stat.pid: k for k in ask if k.stat is not None}
        found = self._io_of(list(by_pid))
        for pid, known in by_pid.items():
            self._set(known, io=found.get(pid, (NAN, NAN)))

    @staticmethod
    def _set(known: _Known, delay: float | None = None, io: tuple[float, float] | None = None) -> None:
        """Takes a finding; the finished row is made anew only where something changed (NaN equals NaN here)."""
        if delay is not None and repr(delay) != repr(known.delay):
            known.delay, known.row = delay, None
        if io is not None and repr(io) != repr(known.io):
            known.io, known.row = io, None

    def _row(self, known: _Known, t_ns: int, uptime: float) -> Process:
        """The finished row; that of an unchanged process is the very object of the reading before."""
        stat = known.stat
        assert stat is not None
        age = t_ns - known.refreshed_ns
        matters = known.score > 0.01 or uptime - stat.start_s < 30  # young ones are still being put in their group
        if not known.refreshed_ns or not 0 <= age < (REFRESH_FOCUS_NS if matters else REFRESH_NS):
            self._identify(known, stat, t_ns)
        if known.stale:  # it ran and nobody looked closely: an old figure would read as "no I/O", "no wait"
            self._set(known, delay=NAN if stat.threads > 1 else None, io=(NAN, NAN))
        if known.row is None:
            known.row = Process(
                pid=stat.pid, ppid=stat.ppid, comm=intern(stat.comm), cgroup=known.cgroup, unit=known.unit,
                uid=known.uid, state=stat.state, start_s=stat.start_s, threads=stat.threads,
                cpu_seconds=stat.cpu_seconds, run_delay_seconds=known.delay, rss_bytes=stat.rss_bytes,
                read_bytes=known.io[0], write_bytes=known.io[1], major_faults=stat.major_faults,
                children_cpu_seconds=stat.children_cpu_seconds, cmdline=known.cmdline,
            )
        return known.row

    def _identify(self, known: _Known, stat: Stat, t_ns: int) -> None:
        """Reads what rarely changes: owner, group, unit, command line."""
        base = f"{self._proc}/{stat.pid}"
        cgroup = parse_proc_cgroup(slurp(f"{base}/cgroup", 4096) or b"")
        cmdline = known.cmdline
        if stat.kernel_thread:
            cmdline = ""
        elif stat.state != "D":  # it takes mmap_lock: a process that hangs while it holds that would hang us
            cmdline = parse_cmdline(slurp(f"{base}/cmdline", 1024) or b"")
        try:
            uid = os.stat(base).st_uid
        except OSError:
            uid = known.uid
        if (uid, cgroup, cmdline) != (known.uid, known.cgroup, known.cmdline):
            # Many share these; tables of three minutes hold each but once, and no longer than they need it.
            known.uid, known.cgroup, known.cmdline = uid, intern(cgroup), intern(cmdline)
            known.unit = intern(unit_of(cgroup))
            known.row = None
        known.refreshed_ns = t_ns
        known.io_denied = False


def zombies_by_parent(table: ProcessTable) -> Counter[int]:
    """How many dead, not yet collected children each process has (parent pid to count)."""
    return Counter(p.ppid for p in table.processes if p.state == "Z")
