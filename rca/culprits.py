"""Naming the culprit of each kind of trouble: functions (scene, entity) -> Blame | None, the `blame` of a cause."""

import math
from collections import Counter
from collections.abc import Callable

from etio.core.evidence import Evidence
from etio.core.facts import Process
from etio.core.report import Culprit, CulpritKind
from rca.scene import Scene
from rca.spec import Blame
from rca.units import clean, humanise, plural
from rca.who import KERNEL_THREADS, Group

CLEAR = 1.5
"""A culprit stands out when it has this many times what the second has."""
TABLES = "two process tables (/proc)"


def fact(claim: str, scene: Scene, value: float, unit: str, source: str, entity: str = "host") -> Evidence:
    """Evidence from facts, not from a series."""
    span = scene.census.span if source == TABLES else (scene.case.onset_ns, scene.case.end_ns)
    return Evidence("", "fact", claim, entity, "", span, value, unit, source=source)


def numbered(pid: int) -> str:
    """A process id in words. A negative one is that of a process outside our PID namespace, as the host numbers it."""
    return f"pid {pid}" if pid >= 0 else f"pid {-pid} of the host"


def describe(group: Group) -> str:
    """A group in words: name, how many, started by whom, where it runs."""
    head = f"{clean(group.name, 40)} (pid {group.pid})"
    if len(group.members) > 1:
        known = group.parent and group.ppid > 2
        starter = f", started by {clean(group.parent, 40)} (pid {group.ppid})" if known else ""
        head = f"{clean(group.name, 40)}, {plural(len(group.members), 'process', 'processes')}{starter}"
    elif group.threads > 1:
        head += f" with {plural(group.threads, 'thread')}"
    if group.members and all(m.gone for m in group.members):
        head += ", gone by now,"
    where = group.unit or (group.cgroup if group.cgroup not in ("", "/") else "")
    return head + (f" in {clean(where, 60)}" if where else "")


Where = Callable[["Scene", str], Callable[[Process], bool]]


def by_usage(
    attribute: str, did: str, unit: str, where: Where | None = None, floor: float = 0.0
) -> Callable[[Scene, str], Blame | None]:
    """A blame function: the family of processes with the most of something. did: "wrote {}"."""

    def blame(scene: Scene, entity: str) -> Blame | None:
        ranked = scene.census.ranked(attribute, where(scene, entity) if where else None)
        if not ranked or ranked[0].total(attribute) < floor:
            return None
        return _stand_out(scene, ranked, attribute, did, unit)

    return blame


def _stand_out(scene: Scene, ranked: list[Group], attribute: str, did: str, unit: str) -> Blame:
    top, amount = ranked[0], ranked[0].total(attribute)
    of = f" of the {scene.cpus}" if unit == "cores" and scene.cpus else ""
    claim = f"{describe(top)} {did.format(humanise(amount, unit) + of)}{_through_children(top, attribute)}"
    second = ranked[1].total(attribute) if len(ranked) > 1 else 0.0
    clear = amount >= CLEAR * second
    if not clear:
        claim += f"; {describe(ranked[1])} as good as equal ({humanise(second, unit)})"
    evidence = fact(claim, scene, amount, unit, TABLES, f"pid={top.pid}")
    return Blame(_process(top, claim), evidence, "processes", clear)


def _through_children(group: Group, attribute: str) -> str:
    """That most of the CPU time of a group was used by processes that lived too briefly to be seen."""
    brief = sum(m.children_cores if not m.brief else m.cpu_cores for m in group.members if m.brief or m.children_cores)
    if attribute != "cpu_cores" or not brief >= 0.5 * group.total(attribute):
        return ""
    names = Counter(m.process.comm for m in group.members if m.brief and m.process.comm != group.name)
    named = ", ".join(clean(name, 20) for name, _ in names.most_common(3))
    return f", most of it in processes that have ended{f' ({named})' if named else ''}"


def _process(group: Group, claim: str) -> Culprit:
    return Culprit("process", clean(group.name, 60), group.pid, group.cgroup, group.unit, claim)


def in_cgroup(scene: Scene, entity: str) -> Callable[[Process], bool]:
    """Filter: processes of the group or below it; all where the entity is the host.

    On v1 a process may be in it by one controller and elsewhere by the others; then the group's own list tells.
    """
    members = {pid for table in scene.facts.cgroups for one in table.cgroups if one.path == entity
               for pid in one.members}
    members |= {int(pid) for pid in dict(scene.facts.extra).get(f"members cgroup={entity}", "").split()}
    below = entity.rstrip("/") + "/"
    return lambda p: not entity or p.pid in members or p.cgroup == entity or p.cgroup.startswith(below)


def named(kind: CulpritKind, scene: Scene, name: str, claim: str, source: str) -> Blame:
    """A culprit that is no process, such as a mount or a device."""
    return Blame(Culprit(kind, clean(name, 200), claim=claim), fact(claim, scene, float("nan"), "", source), "facts")


cpu_hog = by_usage("cpu_cores", "used {}", "cores", floor=0.1)


def throttled_group(scene: Scene, entity: str) -> Blame | None:
    """The control group that meets its quota, with its busiest process."""
    ranked = scene.census.ranked("cpu_cores", in_cgroup(scene, entity))
    quota = scene.value("cgroup_cpu_quota_cores", "cgroup", entity)
    seen = scene.census.cgroup(entity)
    if math.isnan(quota) and seen:
        quota = seen[1].quota_cores
    limit = f"may use {humanise(quota, 'cores')} of CPU" if math.isfinite(quota) else "has a CPU quota"
    unit = (seen[1].unit if seen else "") or (ranked[0].unit if ranked else "")
    used = humanise(ranked[0].total("cpu_cores"), "cores") if ranked else ""
    who = f"; its busiest is {describe(ranked[0])} with {used}" if ranked else ""
    claim = f"{clean(unit or entity, 80)} {limit}{who}"
    evidence = fact(claim, scene, quota, "cores", TABLES if ranked else "cgroup files", f"cgroup={entity}")
    culprit = Culprit("unit" if unit else "cgroup", clean(unit or entity, 200), ranked[0].pid if ranked else 0,
                      entity, unit, claim)
    return Blame(culprit, evidence, "processes" if ranked else "cgroup")


def disk_user(scene: Scene, entity: str) -> Blame | None:
    """Who issues the block I/O of the device; the process tables where the kernel's own threads do it for others."""
    totals: dict[int, float] = {}
    for actor in scene.census.actors("block_io", entity):
        known = scene.census.process(actor.pid)
        if not actor.name.startswith(("kworker", "jbd2", "kswapd", "loop", "dm")):
            group = next((g for g in scene.census.groups if any(m.process.pid == actor.pid for m in g.members)), None)
            key = group.pid if group else (known.pid if known else actor.pid)
            totals[key] = totals.get(key, 0.0) + actor.count
    if totals:
        ordered = sorted(totals, key=lambda pid: -totals[pid])
        clear = len(ordered) == 1 or totals[ordered[0]] >= CLEAR * totals[ordered[1]]
        where = f" to {clean(entity)}" if entity else ""
        did = f"issued {totals[ordered[0]]:,.0f} block requests{where}"
        return _actor_blame(scene, ordered[0], did, "block_io", clear)
    return _io_from_tables(scene, entity)


def _io_from_tables(scene: Scene, _entity: str) -> Blame | None:
    wrote = scene.census.ranked("write_bytes")
    read = scene.census.ranked("read_bytes")
    use_reads = read and (not wrote or read[0].total("read_bytes") > wrote[0].total("write_bytes"))
    if use_reads:
        return _stand_out(scene, read, "read_bytes", "read {}", "bytes/s")
    return _stand_out(scene, wrote, "write_bytes", "wrote {}", "bytes/s") if wrote else None


def _actor_blame(scene: Scene, pid: int, did: str, kind: str, clear: bool) -> Blame:
    group = next((g for g in scene.census.groups if any(m.process.pid == pid for m in g.members)), None)
    known = scene.census.process(pid)
    actor = next((a for a in scene.census.actors(kind) if a.pid == pid), None)
    name = group.name if group else known.comm if known else actor.name if actor else numbered(pid)
    gone = "" if pid < 0 or scene.census.alive(pid) or not scene.census.last else " (gone by now)"
    text = describe(group) if group else f"{clean(name, 40)} ({numbered(pid)})"
    claim = f"{text} {did}" if "gone by now" in text else f"{text}{gone} {did}"
    where = (known.cgroup, known.unit) if known else ("", "")
    source = TABLES if kind == "process table" else f"eBPF {kind}"
    culprit = Culprit("process", clean(name, 60), max(pid, 0), *where, claim)
    probe = {"block_io": "ebpf block", "fork": "ebpf process"}.get(kind, "processes")
    return Blame(culprit, fact(claim, scene, float("nan"), "", source, f"pid={pid}"), probe, clear)


def _by_family(scene: Scene, totals: dict[int, float]) -> dict[int, float]:
    """Counts by process, those of one family added up under its head: two loops of one script are one actor."""
    heads = {m.process.pid: g.pid for g in scene.census.groups for m in g.members}
    found: dict[int, float] = {}
    for pid, count in totals.items():
        head = heads.get(pid, pid)
        found[head] = found.get(head, 0.0) + count
    return found


def fork_parent(scene: Scene, entity: str) -> Blame | None:
    """Who starts the processes: forks of parents that are gone count for the parent that is alive."""
    totals: dict[int, float] = {}
    for actor in scene.census.actors("fork"):
        owner = actor.pid
        if not scene.census.alive(owner) and scene.census.alive(actor.ppid) and actor.ppid > 2:
            owner = actor.ppid
        totals[owner] = totals.get(owner, 0.0) + actor.count
    source = "forked {:,.0f} times"
    if not totals:
        own = set(scene.facts.own_pids)
        totals = {p: float(n) for p, n in scene.census.newcomers().items() if p > 2 and p not in own and n >= 3}
        source = "is the parent of {:,.0f} processes that appeared between two looks"
    if not totals:
        return None
    totals = _by_family(scene, totals)
    ordered = sorted(totals, key=lambda p: -totals[p])
    clear = len(ordered) == 1 or totals[ordered[0]] >= CLEAR * totals[ordered[1]]
    kind = "fork" if source.startswith("forked") else "process table"
    return _actor_blame(scene, ordered[0], source.format(totals[ordered[0]]), kind, clear)


def lossy_peer(scene: Scene, entity: str) -> Blame | None:
    """To whom segments must be sent again; else the device or the reason of the drops."""
    peers = scene.census.actors("retransmit")
    if peers and peers[0].count >= 3:
        device = f" over {clean(peers[0].device)}" if peers[0].device else ""
        claim = f"{peers[0].count:,.0f} segments had to be sent again to {clean(peers[0].name)}{device}"
        blame = named("peer", scene, peers[0].name, claim, "eBPF tcp_retransmit_skb")
        clear = len(peers) == 1 or peers[0].count >= CLEAR * peers[1].count
        return Blame(blame.culprit, blame.evidence, "ebpf net", clear)  # the same probe as net_retransmits
    return _dropping_device(scene)


def _dropping_device(scene: Scene) -> Blame | None:
    names = [f"network_{n}_per_second" for n in
             ("receive_drops", "transmit_drops", "receive_errors", "transmit_errors", "qdisc_drops")]
    found = [m for n in names for m in scene.measures(n) if m.now >= 1.0]
    if not found:
        return None
    worst = max(found, key=lambda m: m.now)
    device = worst.series.label("device") or "host"
    claim = f"{clean(device)} counts {humanise(worst.now, worst.series.unit)} ({worst.series.name.replace('_', ' ')})"
    return named("device", scene, device, claim, "netlink (link statistics)")


def hypervisor(scene: Scene, _entity: str) -> Blame:
    """Nobody on this host."""
    return named("kernel", scene, "hypervisor", "The hypervisor runs other guests on the same physical CPUs", "proc(5)")


def gpu_itself(scene: Scene, entity: str) -> Blame:
    """The GPU of the entity."""
    return named("device", scene, f"GPU {entity}", f"GPU {clean(entity)} itself", "NVML")


def mount_itself(scene: Scene, entity: str) -> Blame:
    """The file system of the entity."""
    return named("filesystem", scene, entity, f"It is the file system {clean(entity)}", "statvfs")


def device_itself(scene: Scene, entity: str) -> Blame:
    """The device of the entity."""
    return named("device", scene, entity, f"The device {clean(entity)} itself", "host events")


def stalled_device(scene: Scene, entity: str) -> Blame | None:
    """The device that does not answer, with one of those who wait for it."""
    seen = [p for t in scene.census.tables if t.t_ns > scene.case.onset_ns for p in t.processes if p.state == "D"]
    often = Counter(p.pid for p in seen)
    waiting = max(seen, key=lambda p: (p.ppid not in KERNEL_THREADS, often[p.pid]), default=None)
    who = f"{clean(waiting.comm, 40)} (pid {waiting.pid}) waits in state D for" if waiting else "It is"
    return named("device", scene, entity, f"{who} the device {clean(entity)}", "/proc/diskstats") if entity else None


def kernel_table(scene: Scene, _entity: str) -> Blame:
    """A table of the kernel that is too small for the load."""
    return named("kernel", scene, "nf_conntrack", "The table of nf_conntrack is too small for this load", "/proc/sys")


def most_tasks(scene: Scene, entity: str) -> Blame | None:
    """Who has the most processes and threads in the group, or on the host, and whether it is that who starts them."""
    inside = in_cgroup(scene, entity)
    ranked = sorted(((group, n) for group in scene.census.groups if not group.own
                     and (n := sum(m.process.threads for m in group.members if not m.gone and inside(m.process)))),
                    key=lambda pair: -pair[1])
    if not ranked and entity:
        return named("cgroup", scene, entity, f"It is the group {clean(entity, 80)}", "cgroup files")
    if not ranked:
        return None
    top, tasks = ranked[0]
    forks = sum(a.count for a in scene.census.actors("fork") if any(m.process.pid == a.pid for m in top.members))
    started = f"; it started {plural(round(forks), 'process or thread', 'processes or threads')} meanwhile"
    claim = f"{describe(top)} has the most tasks: {tasks:,}{started if forks >= 1 else ''}"
    evidence = fact(claim, scene, float(tasks), "1", TABLES, f"pid={top.pid}")
    clear = len(ranked) == 1 or tasks >= CLEAR * ranked[1][1]
    return Blame(_process(top, claim), evidence, "processes", clear)
