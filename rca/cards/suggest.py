"""Cards of a cause, applied to this host: present value read now, proposal computed, commands written."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

from etio.core.errors import Broken, NoData
from etio.core.evidence import Evidence
from etio.core.facts import Cgroup, Facts
from etio.core.ports import Knobs
from etio.core.report import Finding, Suggestion
from rca.cards.applied import Applied
from rca.cards.card import Card, Require, load_cards
from rca.cards.command import clean_entity, show
from rca.cards.propose import Present, propose, series_name, understand

MOST = 4
_UNIT_NAME = re.compile(r".*\.(service|slice|scope)")


def suggest(
    finding: Finding, evidence: Sequence[Evidence], facts: Facts, knobs: Knobs, now_ns: int
) -> tuple[Suggestion, ...]:
    """At most four suggestions for the finding's cause, best first.

    A card is left out when the host is at or beyond its proposal already or has no such knob, when it is
    contraindicated, when its entity is unknown or has a name that no command may carry, and when the proposal cannot
    be computed.
    """
    slots = entity_slots(finding, evidence)
    near = _near(finding, evidence, slots, facts)
    found: list[tuple[bool, Suggestion]] = []
    for card in sorted(load_cards(), key=lambda c: (c.rank, c.id)):
        if finding.cause in card.causes and _applies(card, finding, near, facts) and _is_for(card, slots, knobs) \
                and _binds(card, facts, knobs):
            applied = _apply(card, slots, near, facts, knobs)
            written = _write(applied, finding.cause, now_ns) if applied else None
            unread = bool(card.get.kind) and applied is not None and applied.present is None
            found += [(unread, written)] if written else []
    found.sort(key=lambda pair: pair[0])  # stable: a knob that could not be read comes last
    return tuple(suggestion for _, suggestion in found[:MOST])


def _near(finding: Finding, evidence: Sequence[Evidence], slots: Mapping[str, str], facts: Facts) -> list[Evidence]:
    """Evidence of this finding first, then other, without what speaks of another thing of the same kind."""
    own = [e for e in evidence if not _of_another(entity_labels(e.entity), slots)]
    own.sort(key=lambda e: (e.id not in finding.supports, e.entity != finding.entity))
    return own + [e for group in _own_group(slots, facts) for e in _of_table(group)]


def _of_another(labels: Mapping[str, str], slots: Mapping[str, str]) -> bool:
    return any(
        name in labels and name in slots and labels[name].removeprefix("/dev/") != slots[name]
        for name in ("cgroup", "device", "mount")
    )


def _of_table(group: Cgroup) -> tuple[Evidence, ...]:
    """What the group table says of a group, for findings whose evidence does not.

    A group that is stopped by its quota uses its quota.
    """
    used = Evidence("", "fact", "", series_key="cgroup_memory_used_bytes", value=group.memory_bytes)
    if not math.isfinite(group.quota_cores):
        return (used,)
    return used, Evidence("", "fact", "", series_key="cgroup_cpu_usage_cores", value=group.quota_cores)


def _applies(card: Card, finding: Finding, evidence: Sequence[Evidence], facts: Facts) -> bool:
    when = card.when
    if not (_fits_host(card, facts) and _fits_culprit(card, finding, evidence, facts)):
        return False
    if (when.scope == "host" and finding.entity != "host") or (when.entities and finding.entity not in when.entities):
        return False
    kind = next((entity_labels(e.entity).get("type", "") for e in evidence if e.id in finding.supports), "")
    kind = entity_labels(finding.entity).get("type", kind)
    if when.filesystems and kind and kind not in when.filesystems:
        return False
    if when.evidence and not any(series_name(e) in when.evidence for e in evidence if e.id in finding.supports):
        return False
    return not any(_holds(c.series, c.above, c.below, evidence) for c in card.contraindications)


def _fits_host(card: Card, facts: Facts) -> bool:
    when, host = card.when, facts.host
    kind = when.virtual == "any" or (when.virtual == "only") == host.virtual
    return kind and not host.memory_bytes < when.min_memory


def _fits_culprit(card: Card, finding: Finding, evidence: Sequence[Evidence], facts: Facts) -> bool:
    when, who = card.when, finding.culprit
    if who is None:
        return not when.culprit
    killed = {entity_labels(e.entity).get("pid", "") for e in evidence if e.kind == "event"}
    return not (when.survivor and (not who.pid or str(who.pid) in killed)) and _threads(finding, facts) >= when.threads


def _threads(finding: Finding, facts: Facts) -> float:
    """Threads of the process that was named; inf where they are unknown, so that nothing is held against a card."""
    pid = finding.culprit.pid if finding.culprit else 0
    known = [p.threads for table in facts.processes[-1:] for p in table.processes if p.pid == pid]
    return known[0] if known else math.inf


def _is_for(card: Card, slots: Mapping[str, str], knobs: Knobs) -> bool:
    when = card.when
    if when.mounts and slots.get("mount") not in when.mounts:
        return False
    if when.not_devices and slots.get("device", "").startswith(when.not_devices):
        return False
    return all(_met(need, slots, knobs) for need in when.requires)


def _binds(card: Card, facts: Facts, knobs: Knobs) -> bool:
    """Whether the limit that the card raises is the one that the full accept queue meets; yes where none was seen."""
    full = [one.limit for table in facts.sockets for one in table.listening if one.waiting >= one.limit > 0]
    if not card.when.queue or not full:
        return card.when.queue != "program"
    try:
        host = understand(knobs.read("sysctl", "net.core.somaxconn", "")).number
    except (NoData, Broken):
        return card.when.queue != "program"
    return (max(full) < host) == (card.when.queue == "program")


def _met(need: Require, slots: Mapping[str, str], knobs: Knobs) -> bool:
    """Whether a setting is as the card needs it; one that cannot be read meets no `only`."""
    try:
        present = understand(knobs.read(need.kind, need.key, slots.get(need.entity, "")))
    except (NoData, Broken):
        return not need.only
    return present.word not in need.never and (not need.only or present.word in need.only)


def _holds(name: str, above: float, below: float, evidence: Sequence[Evidence]) -> bool:
    return bool(name) and any(series_name(e) == name and (e.value > above or e.value < below) for e in evidence)


def entity_labels(entity: str) -> dict[str, str]:
    """Labels of an entity in the notation of Series.entity; the first of equal names wins.

    Paths may hold commas: a control group is the only label of its series, and after a mount only its type follows.

    >>> entity_labels("device=sda1,mount=/a,b=c,type=ext4")["mount"]
    '/a,b=c'
    """
    if entity.startswith("cgroup="):
        return {"cgroup": entity.removeprefix("cgroup=")}
    if match := re.fullmatch(r"(?:(.*?),)?mount=(.*?)(?:,type=([\w.]*))?", entity, re.DOTALL):
        front, mount, kind = match.groups()
        return {"mount": mount, **({"type": kind} if kind else {}), **(entity_labels(front) if front else {})}
    found: dict[str, str] = {}
    for part in re.split(r",(?=[a-z_]+=)", entity):
        name, sign, value = part.partition("=")
        if sign:
            found.setdefault(name, value)
    return found


def entity_slots(finding: Finding, evidence: Sequence[Evidence]) -> dict[str, str]:
    """Which device, cgroup, mount, pid and unit the finding speaks of; ill-formed names are left out."""
    slots: dict[str, str] = {}
    for name, value in _candidates(finding, evidence):
        if name in slots or not value:
            continue
        try:
            slots[name] = clean_entity(name, value)
        except Broken:
            slots[name] = ""  # the nearest name counts; a farther one would be another thing
    last = slots.get("cgroup", "").rsplit("/", 1)[-1]
    if _UNIT_NAME.fullmatch(last):
        slots.setdefault("unit", last)
    return {k: v for k, v in slots.items() if v}


def _candidates(finding: Finding, evidence: Sequence[Evidence]) -> Iterator[tuple[str, str]]:
    yield from _pairs(finding.entity)
    if who := finding.culprit:
        yield "pid", str(who.pid) if who.pid else ""
        yield "cgroup", who.cgroup or (who.name if who.kind == "cgroup" else "")
        yield "unit", who.unit or (who.name if who.kind == "unit" else "")
        yield "device", who.name if who.kind == "device" else ""
        yield "mount", who.name if who.kind == "filesystem" and who.name.startswith("/") else ""
    for item in evidence:
        if item.id in finding.supports:
            yield from _pairs(item.entity)


def _pairs(entity: str) -> Iterator[tuple[str, str]]:
    labels = entity_labels(entity)
    yield from ((k, labels.get(k, "")) for k in ("device", "cgroup", "mount", "pid", "unit"))
    yield "device", labels.get("gpu", "")


def _apply(
    card: Card, slots: Mapping[str, str], evidence: Sequence[Evidence], facts: Facts, knobs: Knobs
) -> Applied | None:
    if card.get.entity and card.get.entity not in slots:
        return None
    try:
        present, note = _read(card, slots, knobs, facts)
    except NoData:
        return None
    present = present or _from_table(card, slots, facts)
    proposal = propose(card, present, evidence, facts.host)
    if proposal is None or proposal.already:
        return None
    return Applied(card, slots, present, note, proposal, _group_version(card, knobs))


def _group_version(card: Card, knobs: Knobs) -> int:
    """1 where the root group of this host has settings of v1, which v2 leaves out there; 0 where it has none."""
    for key in ("cpu_quota", "memory_limit") if card.get.kind == "cgroup" else ():
        try:
            return understand(knobs.read("cgroup", key, "/")).version % 2
        except (NoData, Broken):
            continue
    return 0


def _read(card: Card, slots: Mapping[str, str], knobs: Knobs, facts: Facts) -> tuple[Present | None, str]:
    """The present value, or None and why it could not be read. Raises NoData where the host has no such knob at all."""
    if not card.get.kind:
        return None, "nothing to read: this is no setting of the kernel"
    try:
        text = knobs.read(card.get.kind, card.get.key, slots.get(card.get.entity, ""))
    except NoData as error:
        if not card.get.entity or (card.get.kind == "cgroup" and _no_controller(card, slots, facts)):
            raise
        if "?" in slots.get(card.get.entity, ""):
            return None, "could not be read: each ? in its name may stand for a character that cannot be shown"
        return None, f"not there any more: {error}"
    except Broken as error:
        return None, f"could not be read: {error}"
    return understand(text), ""


def _no_controller(card: Card, slots: Mapping[str, str], facts: Facts) -> bool:
    """Whether the group table knows the group but no such limit: then this host has no such controller."""
    return any(math.isnan(_limit(card, group)) for group in _own_group(slots, facts))


def _limit(card: Card, group: Cgroup) -> float:
    limits = {
        "cpu_quota": group.quota_cores, "memory_limit": group.memory_limit_bytes, "pids_limit": group.pids_limit
    }  # fmt: skip
    return limits.get(card.get.key, math.inf) if card.get.kind == "cgroup" else math.nan


def _from_table(card: Card, slots: Mapping[str, str], facts: Facts) -> Present | None:
    """A limit as the last group table held it, for a group that is gone by now; its text stays empty."""
    known = card.get.kind == "cgroup" and card.get.key in ("cpu_quota", "memory_limit", "pids_limit")
    held = next((_limit(card, g) for g in _own_group(slots, facts) if known), math.nan)
    return None if math.isnan(held) else Present("", held)


def _own_group(slots: Mapping[str, str], facts: Facts) -> list[Cgroup]:
    """The group the finding speaks of, as the last table has it."""
    return [group for table in facts.cgroups[-1:] for group in table.cgroups if group.path == slots.get("cgroup")]


def _write(applied: Applied, cause: str, now_ns: int) -> Suggestion | None:
    card, values, present = applied.card, applied.values(), applied.present
    try:
        return Suggestion(
            card=card.id, title=show(card.title, values), knob=show(card.knob, values), cause=cause,
            current=present.text if present else "", proposed=applied.proposal.value, why=card.why,
            effect=show(card.effect, values), risk=card.risk, risk_note=_risk_note(card),
            apply=applied.command(card.apply), rollback=applied.rollback(), verify=applied.command(card.verify),
            source=f"{card.source} [{card.trust}]", current_note=applied.note,
            read_ns=now_ns if present and present.text else 0,
        )  # fmt: skip
    except Broken:
        return None  # the card speaks of an entity that is unknown here, or that no command may carry


def _risk_note(card: Card) -> str:
    notes = [f"Not when {c.reason}." for c in card.contraindications]
    return " ".join([card.risk_note, *notes])
