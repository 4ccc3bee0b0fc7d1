"""Which name server is slow or silent, and who waits for it."""

from etio.core.event import HostEvent
from etio.core.evidence import Evidence
from rca.culprits import fact, named
from rca.exhausted import latest
from rca.scene import Scene
from rca.socket_culprits import called, known, number, text
from rca.spec import Blame, Outcome
from rca.units import clean, humanise, plural

UNANSWERED = 0.1
"""Datagrams that come back, of those sent, below which hardly any is answered."""
NAN = float("nan")


def mute_server(scene: Scene, entity: str) -> Blame | None:
    """The name server that does not answer, and who waits for it."""
    event = latest(scene, ("lookups_unanswered",), "server", entity)
    if event is None:
        return None
    pid = int(number(event, "pid"))
    who = f" of {called(known(scene, pid), pid)}" if pid else ""
    claim = (f"{plural(int(number(event, 'lookups')), 'name lookup')}{who} got no answer from {clean(entity)}, the "
             f"first {number(event, 'seconds'):.0f} seconds ago")
    claim += _listed(event, entity)
    blame = named("peer", scene, entity, claim, event.source)
    return Blame(blame.culprit, blame.evidence, "udp sockets")


def slow_server(scene: Scene, entity: str) -> Blame | None:
    """The name server at which lookups take long, how long at least, and who asks it."""
    event = latest(scene, ("lookups_slow",), "server", entity)
    if event is None:
        return None
    pid, least = int(number(event, "pid")), humanise(number(event, "least_seconds"), "seconds")
    who = f", the last ones of {called(known(scene, pid), pid)}" if pid else ""
    claim = (f"{plural(int(number(event, 'lookups')), 'name lookup')} within half a minute were seen to wait for "
             f"{clean(entity)}{who}; one took {least} or more in the mean")
    claim += _listed(event, entity)
    blame = named("peer", scene, entity, claim, event.source)
    return Blame(blame.culprit, blame.evidence, "events")  # the same reading that told it


def _listed(event: HostEvent, server: str) -> str:
    """What the host's own settings say of a name server, as the end of a sentence."""
    listed, options = text(event, "nameservers"), text(event, "options")
    if not listed:
        return ""
    if server.rpartition(":")[0].strip("[]") not in listed.split(", "):  # a container, or a program's own settings
        return f"; it is none of those that /etc/resolv.conf of this host names: {listed}"
    return f"; /etc/resolv.conf names {listed}" + (f", options {options}" if options else "")


def answers(scene: Scene, entity: str) -> Outcome:
    """Whether hardly any datagram comes back to this host, from anybody: then nothing answers, however late."""
    event = latest(scene, ("lookups_slow",), "server", entity)
    sent, received = (number(event, name) if event else NAN for name in ("sent_per_second", "received_per_second"))
    if not sent > 0:
        none = Evidence("", "missing", "how many datagrams come back: not known", coverage=0.0, source="/proc/net/snmp")
        return Outcome(None, none, "snmp", "answers")
    claim = f"datagrams of this host, to and from anybody: {sent:,.1f} sent and {received:,.1f} received a second"
    few = received <= UNANSWERED * sent
    return Outcome(few, fact(claim, scene, received / sent, "ratio", "/proc/net/snmp"), "snmp", "answers")
