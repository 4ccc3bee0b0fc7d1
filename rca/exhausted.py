"""Who stands at the end of a limit: told from host events, whose fields carry the numbers."""

from etio.core.event import HostEvent, pid_of
from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.culprits import fact, named
from rca.scene import Scene
from rca.spec import Blame
from rca.units import clean, humanise, plural

NO_LIMIT = 2**60


def latest(scene: Scene, kinds: tuple[str, ...], label: str = "", entity: str = "") -> HostEvent | None:
    """The newest event of these kinds in the incident."""
    found = scene.happened(kinds, label, entity)
    return found[-1] if found else None


def _text(event: HostEvent, name: str) -> str:
    return clean(str(event.get(name) or ""), 200)


def _number(event: HostEvent, name: str) -> float:
    value = event.get(name)
    return float(value) if isinstance(value, (int, float)) else float("nan")


def culprit_of(event: HostEvent, pid: int, claim: str) -> Culprit:
    """The process an event speaks of."""
    return Culprit("process", clean(_text(event, "comm"), 60) or f"pid {pid}", pid, _text(event, "cgroup"),
                   _text(event, "unit"), claim)


def _blamed(scene: Scene, event: HostEvent, pid: int, claim: str, value: float) -> Blame:
    evidence: Evidence = fact(claim, scene, value, "1", event.source, f"pid={pid}")
    return Blame(culprit_of(event, pid, claim), evidence, "processes")


def _where(event: HostEvent) -> str:
    place = _text(event, "unit") or _text(event, "cgroup").strip("/")
    return f" in {clean(place, 60)}" if place else ""


def file_holder(scene: Scene, entity: str) -> Blame | None:
    """The process that has all the files open that it may."""
    event = latest(scene, ("fds_exhausted",), "pid", entity)
    if event is None:
        return None
    used, limit, pid = _number(event, "open"), _number(event, "limit"), pid_of(event.entity)
    most = f" of the {limit:,.0f} it may (RLIMIT_NOFILE)" if 0 < limit < NO_LIMIT else ""
    return _blamed(scene, event, pid, f"{_text(event, 'comm')} (pid {pid}){_where(event)} has {used:,.0f} files "
                                      f"open{most}", used)


def task_owner(scene: Scene, entity: str) -> Blame | None:
    """The user who has all the tasks it may have, with the process of most threads."""
    event = latest(scene, ("user_tasks_exhausted",), "uid", entity)
    if event is None:
        return None
    tasks, limit, pid = _number(event, "tasks"), _number(event, "limit"), int(_number(event, "pid"))
    own = _number(event, "own")
    whose = f"{own:,.0f} of them" if own >= 0 else "most"
    name = _text(event, "comm")
    claim = (f"user id {clean(entity, 20)} has {tasks:,.0f} tasks of the {limit:,.0f} with which {name} starts no more "
             f"(RLIMIT_NPROC); {whose} belong to {name} (pid {pid}){_where(event)}")
    return _blamed(scene, event, pid, claim, tasks)


def file_watcher(scene: Scene, entity: str) -> Blame | None:
    """The user who watches as many files as it may, with the process that has most of the watches or instances."""
    event = latest(scene, ("inotify_exhausted",), "uid", entity)
    if event is None:
        return None
    used, limit, most, pid = (_number(event, name) for name in ("used", "limit", "most", "pid"))
    what = "instances" if "what=instances" in event.entity.split(",") else "watches"
    known = scene.census.process(int(pid))
    comm, cgroup, unit = (known.comm, known.cgroup, known.unit) if known else (_text(event, "comm"), "", "")
    name = clean(comm, 60) or f"pid {pid:.0f}"
    where = unit or cgroup.strip("/")
    claim = (f"user id {clean(entity, 20)} has {used:,.0f} inotify {what} of the {limit:,.0f} it may have "
             f"(fs.inotify.max_user_{what}); {most:,.0f} of them belong to {name} (pid {pid:.0f})"
             + (f" in {clean(where, 60)}" if where else ""))
    culprit = Culprit("process", name, int(pid), cgroup, unit, claim)
    return Blame(culprit, fact(claim, scene, used, "1", event.source, f"pid={pid:.0f}"), "open files",
                 most >= 0.5 * used)


REFUSED = {
    "asynchronous I/O requests": "who asks io_setup for more than is left gets EAGAIN; databases and virtual machines "
    "may not start",
    "keys": "add_key fails with EDQUOT for this user, whose containers may not start",
    "bytes of keys": "add_key fails with EDQUOT for this user",
    "semaphore sets": "semget fails with ENOSPC, which programs tell as a disk without space",
    "shared memory segments": "shmget fails with ENOSPC, which programs tell as a disk without space",
    "message queues": "msgget fails with ENOSPC, which programs tell as a disk without space",
    "MiB of committed memory": "malloc, mmap and fork fail with ENOMEM, however much of it is free, for the kernel "
    "promises no more than this (vm.overcommit_memory = 2)",
    "terminals": "nobody can log in or open a terminal any more",
}


def quota_holder(scene: Scene, entity: str) -> Blame | None:
    """What the kernel gives out no more of, and who has most of it where that is known."""
    event = latest(scene, ("quota_exhausted",), "quota", entity)
    if event is None:
        return None
    used, limit, own = (_number(event, name) for name in ("used", "limit", "own"))
    uid, pid, knob = int(_number(event, "uid")), int(_number(event, "pid")), _text(event, "knob")
    refused = f"; {REFUSED[entity]}" if entity in REFUSED else ""
    claim = f"{used:,.0f} of {limit:,.0f} {clean(entity, 40)} are in use ({knob})"
    process = scene.census.process(pid) if pid else None
    if process is not None and own >= 0.5 * used:
        name = clean(process.comm, 60)
        claim += f", {own:,.0f} of them made by {name} (pid {pid}){refused}"
        culprit = Culprit("process", name, pid, process.cgroup, process.unit, claim)
        return Blame(culprit, fact(claim, scene, used, "1", event.source, f"pid={pid}"), "quotas")
    whose = f", {own:,.0f} of them those of user id {uid}" if uid >= 0 and own >= 0.5 * used else ""
    return named("kernel", scene, knob, f"{claim}{whose}{refused}", event.source)


def zombie_parent(scene: Scene, entity: str) -> Blame | None:
    """The parent that does not wait for its children."""
    event = latest(scene, ("zombies_pile_up",), "pid", entity)
    if event is None:
        return None
    pid = pid_of(event.entity)
    now = scene.census.last
    count = sum(p.state == "Z" and p.ppid == pid for p in now.processes) if now else 0
    count = max(count, int(_number(event, "zombies")))
    claim = f"{_text(event, 'comm')} (pid {pid}){_where(event)} has {count:,} dead children that it did not collect"
    return _blamed(scene, event, pid, claim, float(count))


def stopped_process(scene: Scene, entity: str) -> Blame | None:
    """The process that a signal has stopped."""
    event = latest(scene, ("process_stopped",), "pid", entity)
    if event is None:
        return None
    pid = pid_of(event.entity)
    claim = f"{_text(event, 'comm')} (pid {pid}){_where(event)} is stopped (state T): a signal such as SIGSTOP holds it"
    return _blamed(scene, event, pid, claim, 1.0)


def lock_holder(scene: Scene, entity: str) -> Blame | None:
    """The process that does not give a file lock back, with one of those who wait."""
    event = latest(scene, ("file_lock_pile",), "lock", entity)
    if event is None:
        return None
    pid, waiters, seconds = int(_number(event, "pid")), int(_number(event, "waiters")), _number(event, "seconds")
    known = scene.census.process(pid) if pid else None
    comm = known.comm if known else _text(event, "comm")
    who = f"{clean(comm, 40)} (pid {pid})" if comm else f"pid {pid}" if pid else "somebody who is no single process"
    state = {"T": ", which a signal has stopped,", "D": ", which sleeps in the kernel,"}.get(_text(event, "state"), "")
    first = _text(event, "first_comm") or "a process"
    wait = f"{plural(waiters, 'task')} {'waits' if waiters == 1 else 'wait'}"
    claim = (f"{who}{state} holds a file lock ({_text(event, 'kind')}) for which {wait}, such as {clean(first, 40)} "
             f"(pid {int(_number(event, 'first_pid'))}); the same for {seconds:,.0f} seconds or more")
    evidence = fact(claim, scene, float(waiters), "1", event.source, event.entity)
    if not pid:
        return Blame(Culprit("kernel", f"lock {clean(entity, 40)}", claim=claim), evidence, "file locks")
    cgroup, unit = (known.cgroup, known.unit) if known else ("", "")
    return Blame(Culprit("process", clean(comm, 60) or f"pid {pid}", pid, cgroup, unit, claim), evidence, "file locks")


def moved_clock(scene: Scene, entity: str) -> Blame | None:
    """Nobody but the clock: who has set it the kernel does not tell."""
    event = latest(scene, ("clock_jumped",))
    if event is None:
        return None
    seconds = _number(event, "seconds")
    way = "forward" if seconds > 0 else "back"
    claim = f"The wall clock was set {humanise(abs(seconds), 'seconds')} {way}"
    blame = named("kernel", scene, "wall clock", claim, event.source)
    return Blame(blame.culprit, blame.evidence, "clock")


def stranger(scene: Scene, entity: str) -> Blame | None:
    """The process that computes and hides its file."""
    event = latest(scene, ("behaviour_suspect",), "pid", entity)
    if event is None:
        return None
    pid = pid_of(event.entity)
    uses = next((u.cpu_cores for g in scene.census.groups for u in g.members if u.process.pid == pid), float("nan"))
    much = f" and uses {humanise(uses, 'cores')}" if uses == uses else ""  # noqa: PLR0124 - NaN
    who = f"{_text(event, 'comm')} (pid {pid}, user id {_text(event, 'uid')}){_where(event)}"
    claim = f"{who} runs {_text(event, 'what')}"
    return _blamed(scene, event, pid, claim + much, uses)


def slow_receiver(scene: Scene, entity: str) -> Blame | None:
    """The program whose UDP socket loses datagrams."""
    found = scene.happened(("udp_socket_drops",))
    if not found:
        return None
    event = max(found, key=lambda e: _number(e, "drops_per_second"))
    pid, port = int(_number(event, "pid")), event.entity.removeprefix("port=")
    known = scene.census.process(pid) if pid else None
    who = f"{clean(known.comm, 40)} (pid {pid})" if known else f"pid {pid}" if pid else "a program that cannot be seen"
    rate = _number(event, "drops_per_second")
    claim = f"{who} loses {rate:,.0f} datagrams a second at its UDP port {clean(port, 10)}"
    evidence = fact(claim, scene, rate, "1/s", event.source, event.entity)
    if known is None:
        return None if not pid else Blame(Culprit("process", f"pid {pid}", pid, claim=claim), evidence, "udp sockets")
    culprit = Culprit("process", clean(known.comm, 60), pid, known.cgroup, known.unit, claim)
    return Blame(culprit, evidence, "udp sockets")


def port_user(scene: Scene, entity: str) -> Blame | None:
    """The program that holds the ports towards a peer; the peer where all of them wait in TIME_WAIT."""
    event = latest(scene, ("ports_exhausted",), "peer", entity)
    if event is None:
        return None
    pid = int(_number(event, "pid")) or _refused_a_port(scene, entity)
    known = scene.census.process(pid) if pid else None
    used, most, waiting = (_number(event, name) for name in ("ports", "range", "time_wait"))
    told = (f"{used:,.0f} of the {most:,.0f} local ports are in use towards {clean(entity, 60)}, "
            f"{waiting:,.0f} of them in TIME_WAIT")
    if known is None:
        return named("peer", scene, entity, told, event.source)
    claim = f"{clean(known.comm, 40)} (pid {pid}) connects to it: {told}"
    culprit = Culprit("process", clean(known.comm, 60), pid, known.cgroup, known.unit, claim)
    return Blame(culprit, fact(claim, scene, used, "1", event.source, event.entity), "processes")


def _refused_a_port(scene: Scene, peer: str) -> int:
    """Who was refused a port towards a peer, where nobody holds a socket any more: all are in TIME_WAIT."""
    found = [a for a in scene.census.actors("connect_failure") if a.reason == "no_local_port" and a.peer == peer]
    return max(found, key=lambda a: a.count).pid if found else 0
