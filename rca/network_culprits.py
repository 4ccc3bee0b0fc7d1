"""Naming the culprit of network trouble: the `blame` functions of its causes."""

from collections.abc import Iterable
from dataclasses import replace

from etio.core.facts import Actor, Socket
from etio.core.report import Culprit
from rca.culprits import CLEAR, fact, lossy_peer, named
from rca.exhausted import latest
from rca.scene import Scene
from rca.socket_culprits import NO_PORT, number, text
from rca.spec import Blame
from rca.units import clean, humanise, plural
from rca.who import KERNEL_THREADS

SOCK_DIAG = "sock_diag"
NOBODY_LISTENS = (("reason", "NO_SOCKET"),)
"""A segment to a port without a listener: the kernel answers it with a reset, so nothing is lost."""
WAITED = 1.0
"""Seconds of waiting for a peer from which on they matter more than how often it failed."""
STANDS = 0.6
"""Share of what a queue drops that must be dropped while one process runs for it to be the sender."""
LEAST_SEGMENT = 536
"""Bytes that any path carries in one segment (RFC 9293, 3.7.1): what is no larger is swallowed for no path MTU."""
FULL = 0.8
"""Share of its queue from which on a listener counts as full."""


def full_listener(scene: Scene, _entity: str) -> Blame | None:
    """Whose accept queue is full: the fullest that was seen, with the process that should empty it."""
    seen = [one for table in scene.facts.sockets for one in table.listening if _fill(one) >= FULL]
    if not seen:
        return None
    worst = max(seen, key=lambda one: (_fill(one), one.waiting))
    pid = next((one.pid for one in seen if one.local == worst.local and one.pid), 0)
    process = scene.census.process(pid) if pid else None
    name = clean(process.comm, 40) if process else (f"pid {pid}" if pid else clean(worst.local))
    where = f"{clean(worst.local)}, where {worst.waiting:,.0f} connections wait in a queue for {worst.limit:,.0f}"
    who = f"{name} (pid {pid}) listens on" if pid else "Somebody listens on"
    claim = f"{who} {where}"
    evidence = fact(claim, scene, worst.waiting, "1", SOCK_DIAG, f"pid={pid}" if pid else "host")
    others = {one.local for one in seen} - {worst.local}
    culprit = Culprit("process" if pid else "peer", name, pid, process.cgroup if process else "",
                      process.unit if process else "", claim)
    return Blame(culprit, evidence, "sockets", not others)


def _fill(one: Socket) -> float:
    return one.waiting / (one.limit + 1) if one.limit >= 0 else 0.0


def lossy_peer_and_sender(scene: Scene, entity: str) -> Blame | None:
    """The peer that segments must be sent to again, and which process of this host sends them, where that was seen."""
    blame = lossy_peer(scene, entity)
    if blame is None or blame.culprit.kind != "peer":
        return blame
    sockets = [one for table in scene.facts.sockets for one in table.busiest if clean(one.remote) == blame.culprit.name]
    known = [p for one in reversed(sockets) if (p := scene.census.process(one.pid)) is not None]
    if not known:
        return blame
    claim = f"{blame.culprit.claim}, by {clean(known[0].comm, 40)} (pid {known[0].pid})"
    return replace(blame, culprit=replace(blame.culprit, claim=claim), evidence=replace(blame.evidence, claim=claim))


def failing_peer(scene: Scene, _entity: str) -> Blame | None:
    """To whom connections fail, and who wants them."""
    ranked = _by_peer(a for a in scene.census.actors("connect_failure") if a.reason != NO_PORT)
    if not ranked:
        return None
    peer, actors = ranked[0]
    count, waited = sum(a.count for a in actors), sum(a.amount for a in actors)
    first = max(actors, key=lambda a: a.count)
    process = scene.census.process(first.pid)
    who = f"{clean(first.name, 40)} (pid {first.pid})" if process else clean(first.name, 40)
    others = f" and {plural(len({a.name for a in actors}) - 1, 'other')}" if len({a.name for a in actors}) > 1 else ""
    times = plural(round(count), "connection")
    claim = (f"{times} of {who}{others} to {clean(peer)} failed, after {humanise(waited / count, 'seconds')} each")
    blame = named("peer", scene, peer, claim, "eBPF sock:inet_sock_set_state")
    clear = len(ranked) == 1 or _weight(actors)[0] >= CLEAR * _weight(ranked[1][1])[0]
    if waited < WAITED and len(ranked) > 1:
        clear = count >= CLEAR * sum(a.count for a in ranked[1][1])
    return Blame(blame.culprit, blame.evidence, "ebpf connections", clear)


def _by_peer(actors: Iterable[Actor]) -> list[tuple[str, list[Actor]]]:
    """(peer, actors), the peer that was waited for longest first; where nobody had to wait, that failed most often."""
    found: dict[str, list[Actor]] = {}
    for one in actors:
        if one.peer and one.count > 0:
            found.setdefault(one.peer, []).append(one)
    return sorted(found.items(), key=lambda pair: _weight(pair[1]), reverse=True)


def _weight(actors: Iterable[Actor]) -> tuple[float, float]:
    """(seconds waited, connections): being turned away at once is no waiting, however often."""
    actors = list(actors)
    waited = sum(a.amount for a in actors)
    return waited if waited >= WAITED else 0.0, sum(a.count for a in actors)


def busiest_device(scene: Scene, _entity: str) -> Blame | None:
    """The network device with most packets: its interrupts are the likely work of a core that does nothing else."""
    totals: dict[str, float] = {}
    for name in ("network_receive_packets_per_second", "network_transmit_packets_per_second"):
        for one in scene.measures(name):
            device = one.series.label("device") or ""
            if device and device != "lo" and one.now == one.now:
                totals[device] = totals.get(device, 0.0) + one.now
    ordered = sorted(totals.items(), key=lambda pair: -pair[1])
    if not ordered or ordered[0][1] < 1000:
        return None
    device, packets = ordered[0]
    claim = f"{clean(device)} moves most packets: {humanise(packets, '1/s')}"
    blame = named("device", scene, device, claim, "/proc/net/dev")
    return Blame(blame.culprit, blame.evidence, "link", len(ordered) == 1 or packets >= CLEAR * ordered[1][1])


def silent_peer(scene: Scene, entity: str) -> Blame | None:
    """The peer that confirms nothing any more, with the program of this host that waits for it."""
    event = latest(scene, ("connections_stalled",), "peer", entity)
    if event is None:
        return None
    pid, count, retries = (int(number(event, name)) for name in ("pid", "connections", "retries"))
    process = scene.census.process(pid) if pid else None
    who = f" of {clean(process.comm, 40)} (pid {pid})" if process else f" of pid {pid}" if pid else ""
    waiting, segment, silent = (number(event, name) for name in ("unconfirmed", "segment", "silent_seconds"))
    carry = "carries" if count == 1 else "carry"
    told = (f"{plural(count, 'connection')}{who} to {clean(entity)} {carry} nothing: {humanise(waiting, 'bytes')} wait "
            f"to be confirmed, the oldest segment was sent {retries + 1} times")
    if silent >= 0:
        told += f", nothing was heard for {silent:,.0f} seconds"
    if LEAST_SEGMENT < segment <= waiting:
        told += (f"; whole segments of {segment:,.0f} bytes are among it, so small packets may still pass where these "
                 "do not (path MTU)")
    return named("peer", scene, entity, told, event.source)


def overrun_queue(scene: Scene, _entity: str) -> Blame | None:
    """Whose packets a queue drops and at which interface; the interface alone where nobody stands out."""
    found = scene.census.actors("queue_drop")
    totals: dict[str, float] = {}
    for one in found:
        totals[one.device] = totals.get(one.device, 0.0) + one.count
    if not totals:
        return None
    device = max(totals, key=lambda name: totals[name])
    senders = [one for one in found if one.device == device]
    first, where = senders[0], f"the queue of {clean(device, 60) or 'an interface'}"
    process = scene.census.process(first.pid)
    clear = len(totals) == 1 or totals[device] >= CLEAR * sum(n for name, n in totals.items() if name != device)
    # A packet may also be dropped while somebody else's work is interrupted, above all a thread of the kernel.
    if process is None or process.ppid in KERNEL_THREADS or first.count < STANDS * totals[device]:
        claim = f"{where[0].upper()}{where[1:]} dropped {totals[device]:,.0f} packets"
        blame = named("device", scene, device or "unknown interface", claim, "eBPF skb:kfree_skb")
        return Blame(blame.culprit, blame.evidence, "ebpf drops", clear)
    claim = (f"{clean(process.comm, 40)} (pid {first.pid}) was running when {where} dropped {first.count:,.0f} of the "
             f"{totals[device]:,.0f} packets that were lost there")
    culprit = Culprit("process", clean(process.comm, 60), first.pid, process.cgroup, process.unit, claim)
    evidence = fact(claim, scene, first.count, "1", "eBPF skb:kfree_skb", f"pid={first.pid}")
    return Blame(culprit, evidence, "ebpf senders", clear)


def flapping_link(scene: Scene, entity: str) -> Blame | None:
    """The link that comes and goes: how often, whether from this host, what hangs on it, what it cost."""
    event = latest(scene, ("link_flapping",), "device", entity)
    if event is None:
        return None
    away, switched = number(event, "down_ratio"), number(event, "switched_off_ratio")
    changes, seconds = (int(number(event, name)) for name in ("changes", "seconds"))
    told = [f"{clean(entity)} changed between up and down {plural(changes, 'time')} within {plural(seconds, 'second')}"
            f" and was down at {humanise(away, 'ratio')} of the looks"]
    if away > 0:
        told.append("somebody on this host switches it off and on" if switched >= FULL else
                    "nobody on this host switches it off: its carrier goes" if switched == 0 else
                    "at some of them it was switched off on this host")
    other, below, whole = number(event, "other_end"), text(event, "stands_on"), text(event, "part_of")
    lost = number(event, "unsent_packets")
    told += [f"its other end is interface {other:.0f} of the network namespace that is in"] if other > 0 else []
    told += [f"it stands on {below}"] if below else []
    told += [f"it is part of {whole}"] if whole else []
    told += [f"{plural(int(lost), 'packet')} could not be sent"] if lost > 0 else []
    return named("device", scene, entity, "; ".join(told), event.source)
