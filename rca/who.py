"""Who did it: processes of one family added up, compared, and named.

A process table is a list of moments; rates come from the difference of two. 64 equal workers of one parent are one
actor, so are a parent and its short-lived children, also those that came and went between two tables: what they used
is known to who waited for them. etio's own processes are counted, but never blamed.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from etio.core.facts import Actor, Cgroup, Facts, Process, ProcessTable
from etio.core.frame import NS

NAN = math.nan
KERNEL = frozenset((0, 1, 2))
KERNEL_THREADS = frozenset((0, 2))
"""Parents of the threads of the kernel itself."""
HOSTS = frozenset(("sh", "bash", "dash", "zsh", "fish", "ksh", "python", "python3", "perl", "ruby", "node", "java"))
"""Programs that run other people's work: equal names do not make a family unless they started together."""
FAMILY_SECONDS = 3.0
BRIEF_SECONDS = 2.0
CHILDREN_CORES = 0.02
"""Less than this of children that nobody saw is left out: a table is not read in one moment."""
OLD_NS = 60 * NS
"""A table this much older than the onset would dilute the figures."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One process over the window: per second where the name says so, NaN = unknown."""

    process: Process
    cpu_cores: float
    run_delay: float
    read_bytes: float
    write_bytes: float
    major_faults: float
    rss_bytes: float
    rss_growth: float
    new: bool
    gone: bool
    brief: bool = False
    """Gone, and it lived for less than two seconds as far as was seen: its parent answers for it."""
    children_cores: float = 0.0
    """Used by children that ended within the window and that no table shows; part of cpu_cores."""


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that are one actor. pid: of its head. parent: command name of who started it."""

    name: str
    pid: int
    parent: str
    ppid: int
    cgroup: str
    unit: str
    members: tuple[Usage, ...]
    own: bool = False

    def total(self, attribute: str) -> float:
        """Sum over the members; NaN where no member has a value. Memory is that of members that are there, if any is:
        who was started anew ten times did not hold it ten times."""
        there = [m for m in self.members if not m.gone] if attribute == "rss_bytes" else []
        return _sum(getattr(m, attribute) for m in there or self.members)

    @property
    def threads(self) -> int:
        """Threads of all members that are still there."""
        return sum(m.process.threads for m in self.members if not m.gone)


class Census:
    """The process, cgroup and actor tables of one incident, ready for questions."""

    def __init__(self, facts: Facts, onset_ns: int, end_ns: int) -> None:
        self.facts = facts
        self.onset_ns, self.end_ns = onset_ns, end_ns
        seen = [t for t in facts.processes if t.processes]
        tables = _until(seen, onset_ns, end_ns)
        self.base = _base(tables, onset_ns) if len(tables) > 1 else None
        self.tables = tables[tables.index(self.base):] if self.base else tables
        self.last = tables[-1] if tables else None
        self.seconds = (self.last.t_ns - self.base.t_ns) / NS if self.last and self.base else NAN
        self._known = {p.pid: p for t in seen for p in t.processes}
        self._seen_ns = {p.pid: t.t_ns for t in seen for p in t.processes}
        self._alive = {p.pid for p in seen[-1].processes} if seen else set()
        self._usages = self._with_children(self._measure())
        self._brief = {u.process.pid for u in self._usages if u.brief}
        self.groups = self._group()

    @property
    def span(self) -> tuple[int, int]:
        """Window of the process figures."""
        if self.last is None:
            return (0, 0)
        return (self.base.t_ns if self.base else self.last.t_ns, self.last.t_ns)

    def process(self, pid: int) -> Process | None:
        """The newest sight of a process, also of one that is gone."""
        return self._known.get(pid)

    def alive(self, pid: int) -> bool:
        """Whether it is in the newest table."""
        return pid in self._alive

    def ranked(self, attribute: str, where: Callable[[Process], bool] | None = None) -> list[Group]:
        """Groups with a value above 0, biggest first; etio's own left out. where: which members count."""
        groups = []
        for group in self.groups:
            members = tuple(m for m in group.members if where is None or where(m.process))
            if members and not group.own:
                kept = group if len(members) == len(group.members) else _named(members, group)
                if kept.total(attribute) > 0:
                    groups.append(kept)
        return sorted(groups, key=lambda g: -g.total(attribute))

    def own(self, attribute: str) -> float:
        """What etio itself used."""
        return _sum(g.total(attribute) for g in self.groups if g.own)

    def newcomers(self) -> dict[int, int]:
        """Parent pid -> number of processes that appeared after the base table."""
        found: dict[int, int] = defaultdict(int)
        for usage in self._usages:
            if usage.new:
                found[usage.process.ppid] += 1
        return found

    def actors(self, kind: str, device: str = "") -> list[Actor]:
        """Actors of one kind added up over the tables that reach into the incident, biggest count first."""
        sums: dict[tuple[str, int, int, str, str, int], Actor] = {}
        own = set(self.facts.own_pids)
        for table in self.facts.actors:
            if table.end_ns < self.onset_ns - 10 * NS:
                continue
            for one in table.actors:
                if one.kind != kind or (device and one.device not in ("", device)) or (one.pid and one.pid in own):
                    continue
                key = (one.name, one.pid, one.ppid, one.device, one.peer, one.port)
                sums[key] = _plus(sums.get(key), one)
        return sorted(sums.values(), key=lambda a: -a.count)

    def cgroup(self, path: str) -> tuple[Cgroup, Cgroup] | None:
        """(earlier, newest) sight of a group around the incident, or None."""
        seen = [(t.t_ns, c) for t in self.facts.cgroups for c in t.cgroups if c.path == path]
        if not seen:
            return None
        before = [c for t, c in seen if t <= self.onset_ns]
        return (before[-1] if before else seen[0][1]), seen[-1][1]

    def _measure(self) -> list[Usage]:
        first: dict[tuple[int, float], Process] = {}
        newest: dict[tuple[int, float], Process] = {}
        for table in self.tables:
            for one in table.processes:
                key = _key(one)
                first.setdefault(key, one)
                newest[key] = one
        base = {_key(p) for p in self.base.processes} if self.base else set()
        return [self._usage(first[key], newest[key], base) for key in newest]

    def _usage(self, first: Process, last: Process, base: set[tuple[int, float]]) -> Usage:
        new = self.base is not None and _key(first) not in base
        seconds = self.seconds if self.base else self._age(last)

        def rate(attribute: str) -> float:
            then = 0.0 if new or self.base is None else float(getattr(first, attribute))
            change = float(getattr(last, attribute)) - then
            return change / seconds if change >= 0 and seconds > 0 else NAN

        gone = last.pid not in self._alive
        growth = last.rss_bytes - (0.0 if new else first.rss_bytes)
        return Usage(
            last, rate("cpu_seconds"), rate("run_delay_seconds"), rate("read_bytes"), rate("write_bytes"),
            rate("major_faults"), last.rss_bytes, growth if self.base else NAN, new, gone,
            gone and not self._lived(last) >= BRIEF_SECONDS)

    def _with_children(self, usages: list[Usage]) -> list[Usage]:
        """What children used that ended unseen goes to the living process that waited for them."""
        if self.base is None or not self.seconds > 0:
            return usages
        then = {_key(p): p.children_cpu_seconds for p in self.base.processes}
        shown: dict[int, float] = defaultdict(float)
        for one in usages:
            if one.gone:
                waited = then.get(_key(one.process), 0.0)  # for what ended before the window
                shown[self._survivor(one.process)] += _or0(one.process.cpu_seconds) + _or0(waited)
        return [self._credited(u, then.get(_key(u.process), 0.0), shown[u.process.pid]) for u in usages]

    def _credited(self, usage: Usage, before: float, shown: float) -> Usage:
        """before: what it had waited for at the base table. shown: what children used that tables do show."""
        used = (usage.process.children_cpu_seconds - before - shown) / self.seconds
        if usage.gone or not used >= CHILDREN_CORES:
            return usage
        return replace(usage, cpu_cores=_or0(usage.cpu_cores) + used, children_cores=used)

    def _survivor(self, process: Process) -> int:
        """The nearest ancestor that is alive; 0 where it cannot be told."""
        for _ in range(16):
            if process.ppid in self._alive:
                return process.ppid
            parent = self._known.get(process.ppid)
            if parent is None:
                break
            process = parent
        return 0

    def _lived(self, process: Process) -> float:
        """Seconds from its start to its last sight; NaN where the boot time is unknown."""
        boot_ns = self.facts.host.boot_ns
        return (self._seen_ns[process.pid] - boot_ns) / NS - process.start_s if boot_ns else NAN

    def _age(self, process: Process) -> float:
        """Seconds it has lived: with a single table, averages since its start are all there is."""
        if self.last is None or not self.facts.host.boot_ns:
            return NAN
        return (self.last.t_ns - self.facts.host.boot_ns) / NS - process.start_s

    def _head(self, process: Process, brief: bool) -> Process:
        """Climbs from a process to the head of its family."""
        for _ in range(16):
            parent = self._known.get(process.ppid)
            if parent is None or parent.pid in KERNEL or parent.pid == process.pid:
                break
            answers = parent.pid in self._alive or parent.pid in self._brief  # one that is brief has a parent as well
            if not (_family(parent, process) or (brief and answers)):
                break
            process, brief = parent, parent.pid in self._brief
        return process

    def _group(self) -> list[Group]:
        families: dict[tuple[int, str, str], list[Usage]] = defaultdict(list)
        heads: dict[tuple[int, str, str], Process] = {}
        for usage in self._usages:
            head = self._head(usage.process, usage.brief)
            key = (head.ppid, head.comm, head.cgroup)
            families[key].append(usage)
            heads.setdefault(key, head)
        return [self._make(heads[key], members) for key, members in families.items()]

    def _make(self, head: Process, members: list[Usage]) -> Group:
        own = any(m.process.pid in self.facts.own_pids for m in members)
        parent = self._known.get(head.ppid)
        siblings = sum(m.process.ppid == head.ppid for m in members)
        if siblings > 1:
            head = max(members, key=lambda m: (not m.gone, _or0(m.cpu_cores))).process
        cgroup, unit = head.cgroup, head.unit
        return Group(head.comm, head.pid, parent.comm if parent else "", head.ppid, cgroup, unit, tuple(members), own)


def _until(tables: list[ProcessTable], onset_ns: int, end_ns: int) -> list[ProcessTable]:
    """The tables of the time before and during the trouble; all where too few would be left to compare."""
    kept = [t for t in tables if t.t_ns <= end_ns + NS]
    return kept if len(kept) > 1 and kept[-1].t_ns > onset_ns else tables


def _base(tables: list[ProcessTable], onset_ns: int) -> ProcessTable:
    """The table that differences start from: the newest before the onset unless it is old and two newer ones exist."""
    before = [t for t in tables[:-1] if t.t_ns <= onset_ns]
    after = [t for t in tables if t.t_ns > onset_ns]
    if before and (len(after) < 2 or onset_ns - before[-1].t_ns <= OLD_NS):
        return before[-1]
    return after[0] if len(after) > 1 else tables[0]


def _key(process: Process) -> tuple[int, float]:
    """What tells a process from a later one with the same pid."""
    return process.pid, -1.0 if math.isnan(process.start_s) else process.start_s


def _family(parent: Process, child: Process) -> bool:
    if parent.cgroup != child.cgroup or len(parent.comm) < 3:
        return False
    if parent.comm in HOSTS:
        return parent.comm == child.comm and abs(child.start_s - parent.start_s) <= FAMILY_SECONDS
    return child.comm.startswith(parent.comm)


def _named(members: tuple[Usage, ...], group: Group) -> Group:
    """The part of a group that is left after a filter, named after its biggest member."""
    if any(m.process.pid == group.pid for m in members):
        return Group(group.name, group.pid, group.parent, group.ppid, group.cgroup, group.unit, members, group.own)
    head = max(members, key=lambda m: _or0(m.cpu_cores)).process
    return Group(head.comm, head.pid, group.name, head.ppid, head.cgroup, head.unit, members, group.own)


def _plus(old: Actor | None, new: Actor) -> Actor:
    if old is None:
        return new
    amount = _sum((old.amount, new.amount))
    return replace(new, count=old.count + new.count, amount=amount, unit=new.unit or old.unit)


def _sum(values: Iterable[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) if known else NAN


def _or0(value: float) -> float:
    """For ordering only: an unknown counts as nothing."""
    return 0.0 if math.isnan(value) else value
