"""Who breaks connections off by resets, and who asks for connections where nobody listens: from what the kernel counts
by program, port and peer."""

from collections.abc import Callable, Iterable
from math import isnan

from etio.core.facts import Actor
from etio.core.report import Culprit
from rca.conditions import series_evidence
from rca.culprits import CLEAR, fact, named
from rca.meanings import meaning
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, plural

CONNECTIONS = "eBPF sock:inet_sock_set_state"
TURNED_AWAY = "eBPF tcp:tcp_send_reset"
RATIO = "net_connections_reset_ratio"
REASONS = "net_resets_by_reason_per_second"
BY_PROGRAM = ("TCP_ABORT_ON_CLOSE", "TCP_STATE", "TCP_DISCONNECT_WITH_DATA", "TCP_ABORT_ON_LINGER",
              "TCP_ABORT_ON_MEMORY", "TCP_KEEPALIVE_TIMEOUT")
"""Why the kernel resets a connection that its own side ends; the others answer a segment that fits no connection."""
LEAST = 20.0
"""Connections that one must have broken off, or asked for, to be named."""
MOST = 0.6
"""Share of all that one port must have for it to be the one."""
MORE = 1.5
"""Times the part of connections that is usually reset, up to which it is as it was."""
MANY_PORTS = 20
"""Closed ports asked for from one address from which on it looks for open ones."""


def resetter(scene: Scene, _entity: str) -> Blame | None:
    """The program of this host that breaks connections off; else the peer that does, and who has the other end."""
    own = _grouped(scene.census.actors("reset_sent"), lambda a: (a.name, a.port or a.peer))
    peers = _grouped(scene.census.actors("reset_received"), lambda a: ("", a.port or a.peer))
    sent, received = (sum(a.count for one in found for a in one) for found in (own, peers))
    # Where both ends are on this host each reset counts twice, and the program that sent it is the cause.
    if own and sent >= LEAST and sent >= received / CLEAR:
        return _program(scene, own)
    return _peer(scene, peers) if peers and received >= LEAST else None


def _program(scene: Scene, ranked: list[list[Actor]]) -> Blame:
    first, count = ranked[0][0], sum(a.count for a in ranked[0])
    process = scene.census.process(first.pid)
    name = clean(process.comm if process else first.name, 40)
    who = f"{name} (pid {first.pid})" if process else name
    where = f"that came in at port {first.port}, {_mostly(ranked[0])}" if first.port else f"to {clean(first.peer)}"
    claim = f"{who} broke off {plural(round(count), 'connection')} {where}"
    culprit = Culprit("process", name, first.pid if process else 0, process.cgroup if process else "",
                      process.unit if process else "", claim)
    return Blame(culprit, fact(claim, scene, count, "1", CONNECTIONS, f"pid={first.pid}" if process else "host"),
                 "ebpf resets", _clear(ranked))


def _peer(scene: Scene, ranked: list[list[Actor]]) -> Blame:
    first, count = ranked[0][0], sum(a.count for a in ranked[0])
    times = plural(round(count), "connection")
    if not first.port:
        process = scene.census.process(first.pid)
        who = f" of {clean(first.name, 40)}" + (f" (pid {first.pid})" if process else "") if first.name else ""
        blame = named("peer", scene, first.peer, f"{clean(first.peer)} broke off {times}{who}", CONNECTIONS)
    else:
        claim = f"{times} at port {first.port}{_listener(scene, first.port)} were broken off by their clients, " \
                f"{_mostly(ranked[0])}"
        blame = named("peer", scene, first.peer, claim, CONNECTIONS)
    return Blame(blame.culprit, blame.evidence, "ebpf resets", _clear(ranked))


def knocker(scene: Scene, _entity: str) -> Blame | None:
    """The port that others ask for in vain, and from where; where it is many ports from one address, that address."""
    found = scene.census.actors("turned_away")
    ports, peers = _grouped(found, lambda a: a.port), _grouped(found, lambda a: a.name)
    if not found or sum(a.count for a in found) < LEAST:
        return None
    total, count = sum(a.count for a in found), sum(a.count for a in ports[0])
    if count >= MOST * total:
        port = ports[0][0].port
        claim = (f"{plural(round(count), 'connection')} to port {port} of this host were turned away: nobody listens "
                 f"there; they come {_mostly(ports[0], 'name')}")
        blame = named("peer", scene, ports[0][0].name, claim, TURNED_AWAY)
        return Blame(blame.culprit, blame.evidence, "ebpf resets")
    asked = {a.port for a in peers[0]}
    tries = f"asked for {plural(len(asked), 'closed port')} of this host"
    search = ", as somebody does who looks for open ones" if len(asked) >= MANY_PORTS else ""
    blame = named("peer", scene, peers[0][0].name, f"{clean(peers[0][0].name)} {tries}{search}", TURNED_AWAY)
    return Blame(blame.culprit, blame.evidence, "ebpf resets", len(asked) >= MANY_PORTS and _clear(peers))


def why_reset(scene: Scene, _entity: str) -> Outcome:
    """For which reason the kernel resets connections that this host ends, where one of them has most."""
    found = {reason: m for m in scene.measures(REASONS) if (reason := m.series.label("reason") or "") in BY_PROGRAM
             and m.mean > 0}
    worst = max(found, key=lambda reason: found[reason].mean, default="")
    total = sum(m.mean for m in found.values())
    if not worst or found[worst].mean < MOST * total:
        none = fact("the kernel gives no one reason for the resets", scene, float("nan"), "", TURNED_AWAY)
        return Outcome(None, none, "ebpf reasons", "why_reset")
    claim = f"the kernel's reason for most resets of this host's side: {worst}{meaning(worst)}"
    return Outcome(True, fact(claim, scene, found[worst].mean, "1/s", TURNED_AWAY), "ebpf reasons", "why_reset")


def usual_share(scene: Scene, _entity: str) -> Outcome:
    """Whether there are only more connections than before, and the same part of them is reset."""
    one = next(iter(scene.measures(RATIO)), None)
    if one is None or isnan(one.now) or isnan(one.baseline):
        none = fact("the part of connections that is reset: not known", scene, float("nan"), "", CONNECTIONS)
        return Outcome(None, none, "ebpf connections", RATIO)
    outcome = one.now <= MORE * one.baseline
    return Outcome(outcome, series_evidence(one, one.now), "ebpf connections", RATIO,
                   "there are more connections, and no greater part of them is reset than before")


def _grouped(actors: Iterable[Actor], key: Callable[[Actor], object]) -> list[list[Actor]]:
    """Actors of the same key together, with most events first, and so within."""
    groups: dict[object, list[Actor]] = {}
    for one in actors:
        groups.setdefault(key(one), []).append(one)
    for group in groups.values():
        group.sort(key=lambda a: -a.count)
    return sorted(groups.values(), key=lambda group: -sum(a.count for a in group))


def _clear(ranked: list[list[Actor]]) -> bool:
    """Whether the first stands out from the second."""
    first, second = (sum(a.count for a in group) for group in (ranked[0], ranked[1] if len(ranked) > 1 else []))
    return first >= CLEAR * second


def _mostly(actors: list[Actor], attribute: str = "peer") -> str:
    """Where they come from: one address, or the one with most of several."""
    counts: dict[str, float] = {}
    for one in actors:
        counts[getattr(one, attribute)] = counts.get(getattr(one, attribute), 0.0) + one.count
    first = max(counts, key=lambda peer: counts[peer])
    several = f" and {plural(len(counts) - 1, 'other address', 'other addresses')}" if len(counts) > 1 else ""
    return f"from {clean(first) or 'an unknown address'}{several}"


def _listener(scene: Scene, port: int) -> str:
    """Who listens at a port of this host, as far as that was seen."""
    at = (one.pid for table in scene.facts.sockets for one in table.listening if one.local.endswith(f":{port}"))
    process = scene.census.process(next((pid for pid in at if pid), 0))
    return f", where {clean(process.comm, 40)} (pid {process.pid}) listens," if process else ""
