"""Naming who fills what the network stack keeps: ports, half-open and tracked connections, neighbours."""

from dataclasses import replace

from etio.core.event import HostEvent
from etio.core.evidence import Evidence
from etio.core.facts import Actor, Process, SocketCrowd
from etio.core.report import Culprit
from rca.culprits import CLEAR, fact, kernel_table, named
from rca.exhausted import latest
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, humanise, plural

SOCK_DIAG = "sock_diag"
CONNECTS = "eBPF sock:inet_sock_set_state"
NO_PORT = "no_local_port"
PILE = 64.0
"""Sockets in CLOSE_WAIT from which on a count has seen a pile."""
MOST = 0.5
"""Share of a crowd that one address must have to stand for it."""
MANY_HOSTS = 32
"""Connections to so many different hosts at once are a search rather than a service."""
COOKIES = "tcp_syn_cookies_sent_per_second"
COOKIES_RETURNED = 0.3
"""Share of SYN cookies that come back from which on the clients are real: one in two would be lost at most."""


def number(event: HostEvent, name: str) -> float:
    """A numeric field; NaN where it is none."""
    value = event.get(name)
    return float(value) if isinstance(value, (int, float)) else float("nan")


def text(event: HostEvent, name: str) -> str:
    """A field as text that may be shown."""
    return clean(str(event.get(name) or ""), 80)


def crowd(scene: Scene, state: str) -> SocketCrowd | None:
    """The biggest crowd in one state that was seen during the incident."""
    found = [one for table in scene.facts.sockets for one in table.crowds if one.state == state]
    return max(found, key=lambda one: (one.count, one.pid > 0), default=None)


def known(scene: Scene, pid: int) -> Process | None:
    """A process by its number, where it was seen."""
    return scene.census.process(pid) if pid else None


def called(process: Process | None, pid: int) -> str:
    """A process in words."""
    return f"{clean(process.comm, 40)} (pid {pid})" if process else f"pid {pid}"


def _by_process(scene: Scene, pid: int, claim: str, value: float, source: str, group: str) -> Blame:
    process = known(scene, pid)
    name, cgroup, unit = (process.comm, process.cgroup, process.unit) if process else (f"pid {pid}", "", "")
    culprit = Culprit("process", clean(name, 60), pid, cgroup, unit, claim)
    return Blame(culprit, fact(claim, scene, value, "1", source, f"pid={pid}"), group)


# -- CLOSE_WAIT --------------------------------------------------------------------------------------------------------


def careless(scene: Scene, entity: str) -> Blame | None:
    """The program that does not close what its peers have closed."""
    event = latest(scene, ("close_wait_pile",), "endpoint", entity)
    if event is None:
        return None
    pid, count, seconds = int(number(event, "pid")), number(event, "sockets"), number(event, "seconds")
    peers = plural(int(number(event, "peers")), "host")
    at = f"accepted at {clean(entity)}" if event.get("side") == "server" else f"made to {clean(entity)}"
    told = (f"{count:,.0f} connections {at} whose peers ({peers}) have closed them, some for {seconds:,.0f} seconds "
            "or more")
    if not pid:
        return named("peer", scene, entity, f"Somebody still holds {told}", event.source)
    return _by_process(scene, pid, f"{called(known(scene, pid), pid)} still holds {told}", count, event.source,
                       "processes")


def closed_since(scene: Scene, _entity: str) -> Outcome:
    """Whether the pile is gone. Our namespace and all are counted apart; a count that never saw it is silent."""
    found = [*scene.measures("tcp_state_sockets", fixed=(("state", "close_wait"),)),
             *scene.measures("net_close_wait_sockets")]
    saw = [one for one in found if one.peak >= PILE]
    left = max((one.last for one in saw), default=float("nan"))
    claim = f"{left:,.0f} sockets are left in CLOSE_WAIT" if saw else "no count of sockets in CLOSE_WAIT saw the pile"
    evidence = fact(claim, scene, left, "1", SOCK_DIAG)
    return Outcome(bool(saw) and left <= PILE / 4, evidence, "sockets", "closed_since", "they have been closed since")


# -- local ports -------------------------------------------------------------------------------------------------------


def portless(scene: Scene, peer: str = "") -> Actor | None:
    """Who found no local port most often, towards that peer where one is given."""
    found = [a for a in scene.census.actors("connect_failure")
             if a.reason == NO_PORT and a.count > 0 and (not peer or a.peer == peer)]
    return max(found, key=lambda a: a.count, default=None)


def without_port(scene: Scene, _entity: str) -> Blame | None:
    """The program whose connects fail for want of a local port, in whichever network namespace."""
    actor = portless(scene)
    if actor is None:
        return None
    process = known(scene, actor.pid)
    name = clean(process.comm if process else actor.name, 40)
    claim = (f"{name} (pid {actor.pid}) found no local port for {plural(round(actor.count), 'connection')} to "
             f"{clean(actor.peer)}")
    culprit = Culprit("process", name, actor.pid, process.cgroup if process else "", process.unit if process else "",
                      claim)
    return Blame(culprit, fact(claim, scene, actor.count, "1", CONNECTS, f"pid={actor.pid}"), "ebpf connections")


# -- half-open connections ---------------------------------------------------------------------------------------------


def flooder(scene: Scene, _entity: str) -> Blame | None:
    """Where the requests come from that are never completed, and whose port they are sent to."""
    one = crowd(scene, "syn_recv")
    if one is None:
        return None
    process = known(scene, one.pid)
    whose = f", where {called(process, one.pid)} listens" if one.pid else ""
    at = clean(one.local)
    if one.host_count >= MOST * one.count:
        source, origin = clean(one.host), f"come from {clean(one.host)}"
    else:
        source, origin = f"{one.hosts:,} addresses", f"come from {one.hosts:,} different addresses, as forged ones do"
    claim = f"{one.count:,} half-open connections to {at}{whose}; they {origin}"
    blame = named("peer", scene, source, claim, SOCK_DIAG)
    return Blame(blame.culprit, blame.evidence, "sockets")


def _against_cookies(scene: Scene, name: str, claim: str, why: str) -> Outcome:
    """Whether a series is a good part of the SYN cookies sent."""
    cookies, other = (max((m.mean for m in scene.measures(one)), default=float("nan")) for one in (COOKIES, name))
    share = other / cookies if cookies > 0 else float("nan")
    holds = None if share != share else share >= COOKIES_RETURNED  # noqa: PLR0124 - NaN
    told = claim.format(f"{share:.0%}") if holds is not None else "no SYN cookies were counted"
    evidence = Evidence("", "fact" if holds is not None else "missing", told, value=share, unit="ratio",
                        coverage=1.0 if holds is not None else 0.0, source="/proc/net/netstat")
    return Outcome(holds, evidence, "snmp", name, why)


def handshakes_completed(scene: Scene, _entity: str) -> Outcome:
    """Whether the clients that got a SYN cookie come back with it, as real ones do."""
    return _against_cookies(scene, "tcp_syn_cookies_returned_per_second", "{} of the SYN cookies came back",
                            "real clients complete their handshakes")


def not_accepted(scene: Scene, _entity: str) -> Outcome:
    """Whether completed connections wait as well, as they do where a program does not accept them."""
    return _against_cookies(scene, "tcp_listen_overflows_per_second",
                            "connections refused by a full accept queue: {} of the SYN cookies sent",
                            "completed connections wait as well: the program does not accept them")


def half_open_crowd(scene: Scene, _entity: str) -> Outcome:
    """Whether many half-open connections were seen."""
    one = crowd(scene, "syn_recv")
    if one is None:
        none = Evidence("", "missing" if not scene.facts.sockets else "fact",
                        "no crowd of half-open connections was seen", source=SOCK_DIAG)
        return Outcome(False if scene.facts.sockets else None, none, "sockets", "half_open")
    claim = f"{one.count:,} connections were half open at one moment, {one.local_count:,} of them to {clean(one.local)}"
    return Outcome(True, fact(claim, scene, float(one.count), "1", SOCK_DIAG), "sockets", "half_open")


def flooded_port(scene: Scene, _entity: str) -> Outcome:
    """Which port the kernel's own log names, and who listens there."""
    event = latest(scene, ("syn_flood_warning",))
    port = text(event, "port") if event is not None else ""
    if not port:
        none = Evidence("", "missing", "the kernel names no port", source="kernel log")
        return Outcome(None, none, "kernel log", "flooded_port")
    at = (one.pid for table in scene.facts.sockets for one in table.listening if one.local.endswith(f":{port}"))
    pid = next((pid for pid in at if pid), 0)
    whose = f", where {called(known(scene, pid), pid)} listens" if pid else ""
    evidence = fact(f"the kernel's log names the port: {port}{whose}", scene, 1.0, "", "kernel log")
    return Outcome(True, evidence, "kernel log", "flooded_port")


# -- network namespaces ------------------------------------------------------------------------------------------------

LOSSES = {
    "listen_overflows": "{} connections a second are turned away because an accept queue is full",
    "udp_buffer_errors": "{} datagrams a second are dropped because the buffer of a socket is full",
    "syn_cookies": "{} SYN cookies a second are sent because a queue of half-open connections is full",
    "conntrack_drops": "{} packets a second are dropped for want of a place in its connection tracking table",
    "receive_drops": "{device} drops {} received packets a second",
    "transmit_drops": "{device} drops {} outgoing packets a second",
    "receive_errors": "{device} has {} receive errors a second",
    "transmit_errors": "{device} has {} transmit errors a second",
}


def dweller(scene: Scene, entity: str) -> Blame | None:
    """Who lives in the network namespace that loses something, and what it loses."""
    events = scene.happened(("namespace_losses",), "namespace", entity)
    if not events:
        return None
    last, pid = events[-1], int(number(events[-1], "pid"))
    told = dict.fromkeys(_loss(event) for event in events)
    where = number(last, "number")
    which = f" (network namespace {where:.0f})" if where > 0 else ""
    others = int(number(last, "processes")) - 1
    crew = f" and {plural(others, 'other process', 'other processes')}" if others > 0 else ""
    place = text(last, "unit") or text(last, "cgroup").strip("/")
    living = f" of {place}" if place else ""
    name, unit = text(last, "program") or f"pid {pid}", text(last, "unit")
    claim = f"Where {name} (pid {pid}){crew}{living} live{'' if crew else 's'}{which}, {'; '.join(told)}"
    culprit = Culprit("process", clean(name, 60), pid, clean(str(last.get("cgroup") or ""), 200), unit, claim)
    evidence = fact(claim, scene, number(last, "per_second"), "1/s", last.source, last.entity)
    return Blame(culprit, evidence, "namespaces")


def _loss(event: HostEvent) -> str:
    words = LOSSES.get(str(event.get("what")), "{} losses a second")
    return words.format(f"{number(event, 'per_second'):,.0f}", device=text(event, "device"))


# -- neighbours --------------------------------------------------------------------------------------------------------


def neighbour_maker(scene: Scene, entity: str) -> Blame | None:
    """Who looks for so many neighbours, else the device and network they belong to."""
    event = latest(scene, ("neighbour_crowd",), "family", entity)
    if event is None:
        return None
    device, entries, waiting = text(event, "device"), number(event, "entries"), number(event, "waiting")
    told = (f"{entries:,.0f} of the neighbours belong to {device}, in {text(event, 'network')}, and {waiting:,.0f} of "
            "them have not answered")
    seeker = crowd(scene, "syn_sent")
    if seeker is None or not seeker.pid or seeker.hosts < MANY_HOSTS:
        blame = named("device", scene, device, f"Nearly all comes from {device}: {told}", event.source)
        return Blame(blame.culprit, blame.evidence, "rtnetlink")
    claim = f"{called(known(scene, seeker.pid), seeker.pid)} tries to connect to {seeker.hosts:,} hosts at once; {told}"
    return _by_process(scene, seeker.pid, claim, float(seeker.hosts), SOCK_DIAG, "sockets")


# -- tracked connections -----------------------------------------------------------------------------------------------


def tracked_by(scene: Scene, entity: str) -> Blame | None:
    """Whose connections fill the table of connection tracking: the program, else the address, else the table."""
    event = latest(scene, ("conntrack_crowd",))
    if event is None:
        return kernel_table(scene, entity)
    source, target = text(event, "source"), text(event, "target")
    by_source, by_target = number(event, "source_ratio"), number(event, "target_ratio")
    looked, unanswered = number(event, "looked"), number(event, "unanswered")
    said = [f"{by_source:.0%} come from {source}"] if by_source >= MOST else []
    said += [f"{by_target:.0%} go to {target}"] if by_target >= MOST else []
    said += [f"{unanswered / looked:.0%} have no answer"] if unanswered >= MOST * looked else []
    told = f"Of {looked:,.0f} tracked connections that were looked at {', '.join(said) or 'no address has most'}"
    own = _owner(scene, target, source)
    if own is not None and own.pid:
        count = f"{own.count:,} connections of {called(known(scene, own.pid), own.pid)} are among them"
        return _by_process(scene, own.pid, f"{told}; {count}", float(own.count), event.source, "sockets")
    name = source if by_source >= MOST else target if by_target >= MOST else "nf_conntrack"
    return named("peer" if said and name != "nf_conntrack" else "kernel", scene, name, told, event.source)


def tracked_in(scene: Scene, entity: str) -> Blame | None:
    """Who lives in the network namespace with this number; the namespace where nobody was seen."""
    for event in scene.happened(("namespace_losses",)):
        if f"{number(event, 'number'):.0f}" == entity:
            return dweller(scene, event.entity.removeprefix("namespace="))
    claim = f"It is network namespace {clean(entity, 20)}; lsns -t net shows who lives there"
    return named("kernel", scene, f"network namespace {clean(entity, 20)}", claim, "kernel log")


def memory_hog(scene: Scene, _entity: str) -> Blame | None:
    """The process whose sockets hold most memory, among the busiest that were looked at."""
    held: dict[int, float] = {}
    for one in scene.facts.sockets[-1].busiest if scene.facts.sockets else ():
        if one.pid and one.memory_bytes > 0:
            held[one.pid] = held.get(one.pid, 0.0) + one.memory_bytes
    if not held:
        return None
    pid = max(held, key=lambda key: held[key])
    claim = (f"Sockets of {called(known(scene, pid), pid)} hold {humanise(held[pid], 'bytes')}, the most among those "
             "with most data on their way or unread")
    blame = _by_process(scene, pid, claim, held[pid], SOCK_DIAG, "sockets")
    return replace(blame, clear=held[pid] >= CLEAR * max((v for k, v in held.items() if k != pid), default=0.0))


def _owner(scene: Scene, target: str, source: str) -> SocketCrowd | None:
    """The crowd of our own sockets that fits a tracked target or source."""
    for state in ("established", "syn_sent", "close_wait", "fin_wait1"):
        one = crowd(scene, state)
        if one is not None and one.pid and (one.remote == target or one.local.rpartition(":")[0] == source):
            return one
    return None
