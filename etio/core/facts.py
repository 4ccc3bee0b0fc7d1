"""What a collector offers on request: who is there, what they use, how the host is set up.

Plain values, so that a recorded incident carries them along.
"""

from dataclasses import dataclass, field, replace
from math import isnan
from typing import Literal

NAN = float("nan")


def unit_of(path: str) -> str:
    """The systemd unit that a group belongs to, "" where none shows: the deepest service or scope of the path.

    >>> unit_of("/user.slice/user-0.slice/user@0.service/app.slice/etio.service")
    'etio.service'
    """
    for part in reversed(path.split("/")):
        if part.endswith((".service", ".scope")):
            return part
    return ""


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment; cumulative figures are since its start. NaN = not readable for us."""

    pid: int
    ppid: int
    comm: str
    cgroup: str = ""
    unit: str = ""
    uid: int = -1
    state: str = ""
    start_s: float = NAN
    """Seconds after boot at which it started."""
    threads: int = 1
    cpu_seconds: float = NAN
    run_delay_seconds: float = NAN
    rss_bytes: float = NAN
    read_bytes: float = NAN
    write_bytes: float = NAN
    major_faults: float = NAN
    children_cpu_seconds: float = NAN
    """Of children that ended and were waited for, with what they had waited for themselves."""
    cmdline: str = ""
    """At most 200 characters, control characters replaced. Untrusted text: only ever shown, escaped."""


@dataclass(frozen=True, slots=True)
class ProcessTable:
    """All processes seen at one moment."""

    t_ns: int
    processes: tuple[Process, ...]


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One control group at one moment; cumulative figures as the kernel counts them. NaN = no such controller.

    path: below the cgroup root, the same for v1 and v2, such as ``/system.slice/nginx.service``.
    quota_cores: CPU limit in cores; inf = none.
    """

    path: str
    unit: str = ""
    cpu_seconds: float = NAN
    quota_cores: float = NAN
    periods: float = NAN
    throttled_periods: float = NAN
    throttled_seconds: float = NAN
    memory_bytes: float = NAN
    memory_limit_bytes: float = NAN
    memory_failures: float = NAN
    oom_kills: float = NAN
    pids: float = NAN
    pids_limit: float = NAN
    read_bytes: float = NAN
    write_bytes: float = NAN
    members: tuple[int, ...] = ()
    """On v1, some of the processes in it and below, looked up while it is near its limit of tasks or memory: there a
    process may be in another group by each controller, and its own path names only one of them."""


@dataclass(frozen=True, slots=True)
class CgroupTable:
    """All control groups seen at one moment."""

    t_ns: int
    cgroups: tuple[Cgroup, ...]


ActorKind = Literal["fork", "exec", "block_io", "retransmit", "reset", "connect_failure", "reclaim", "run_delay", "oom",
                    "cpu_hold", "preempted", "migrate", "compaction", "dirty_wait", "lock_wait", "failure",
                    "queue_drop", "reset_sent", "reset_received", "turned_away"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did something the kernel counted, over one window; from eBPF heavy-hitter tables.

    kind: what was counted. name: command name of the process, or the address of a peer ("10.0.0.2:80").
    peer: whom it was done to, where both are known. reason: why, where the kernel says so.
    port: of this host, at which a connection from outside came in; 0 where there is none.
    count: events; amount: in `unit` ("bytes", "seconds"; "" where only the count means something).
    """

    kind: ActorKind
    name: str
    pid: int = 0
    ppid: int = 0
    count: float = 0.0
    amount: float = NAN
    unit: str = ""
    device: str = ""
    peer: str = ""
    reason: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class ActorTable:
    """Heavy hitters between two moments."""

    start_ns: int
    end_ns: int
    actors: tuple[Actor, ...]

    def plus(self, later: "ActorTable") -> "ActorTable":
        """This one and the one that follows it as one: who did the same to the same is one actor."""
        sums: dict[tuple[object, ...], Actor] = {}
        for one in (*self.actors, *later.actors):
            key = (one.kind, one.name, one.pid, one.ppid, one.unit, one.device, one.peer, one.reason, one.port)
            known = sums.get(key)
            sums[key] = one if known is None else replace(
                known, count=known.count + one.count, amount=_sum(known.amount, one.amount))
        return ActorTable(self.start_ns, later.end_ns, tuple(sums.values()))


def _sum(one: float, other: float) -> float:
    """The sum of what is known."""
    return other if isnan(one) else one if isnan(other) else one + other


@dataclass(frozen=True, slots=True)
class Socket:
    """One TCP socket of the daemon's network namespace at one moment; NaN = not known.

    local, remote: "10.0.0.2:80"; remote is "" for a listener.
    waiting, limit: of a listener, connections that wait to be accepted and how many may; NaN for others.
    unread_bytes, unsent_bytes: what its program has not read, what its peer has not confirmed.
    retries: times the oldest segment was sent again in vain; sent_again: segments sent again so far.
    pid: 0 where it could not be told.
    """

    local: str
    remote: str = ""
    state: str = ""
    pid: int = 0
    uid: int = -1
    waiting: float = NAN
    limit: float = NAN
    unread_bytes: float = NAN
    unsent_bytes: float = NAN
    retries: int = 0
    sent_again: float = NAN
    rtt_seconds: float = NAN
    cwnd: float = NAN
    memory_bytes: float = NAN


@dataclass(frozen=True, slots=True)
class SocketCrowd:
    """Many TCP sockets in one state, as one.

    local, remote: the address that most of them share, with `local_count` and `remote_count` of them.
    hosts: different hosts at the other end; host: the most common of them, with `host_count` sockets.
    pid: the process that holds most of a sample (in syn_recv: that listens there), 0 where it could not be told.
    """

    state: str
    count: int
    local: str = ""
    local_count: int = 0
    remote: str = ""
    remote_count: int = 0
    hosts: int = 0
    host: str = ""
    host_count: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True)
class SocketTable:
    """Sockets worth looking at, read while something is wrong.

    listening: those with a queue, fullest first. busiest: connections with most data or most trouble.
    states: number of sockets in each state. whole: False where there were too many to look at them all.
    crowds: states with many sockets.
    """

    t_ns: int
    listening: tuple[Socket, ...] = ()
    busiest: tuple[Socket, ...] = ()
    states: tuple[tuple[str, int], ...] = ()
    whole: bool = True
    crowds: tuple[SocketCrowd, ...] = ()


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What the host is."""

    name: str
    kernel: str = ""
    os: str = ""
    cpus: int = 0
    numa_nodes: int = 0
    memory_bytes: float = NAN
    gpus: tuple[str, ...] = ()
    boot_ns: int = 0
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything on hand about an incident beside the series.

    processes, cgroups, actors, sockets: oldest first; at least two tables are needed for a rate.
    tier: "T1" with eBPF, "T2" without. missing: what could not be collected, and why ("ebpf: not root").
    """

    host: HostInfo
    tier: str = "T2"
    processes: tuple[ProcessTable, ...] = ()
    cgroups: tuple[CgroupTable, ...] = ()
    actors: tuple[ActorTable, ...] = ()
    missing: tuple[str, ...] = ()
    own_pids: tuple[int, ...] = ()
    dropped_series: int = 0
    cpu_percent: float = NAN
    pss_mb: float = NAN
    extra: tuple[tuple[str, str], ...] = field(default=())
    sockets: tuple[SocketTable, ...] = ()
