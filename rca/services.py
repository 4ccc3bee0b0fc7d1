"""Services that fail, or end and are started again: told from host events, systemd's own count before ours."""

from collections.abc import Sequence

from etio.core.event import HostEvent
from etio.core.report import Culprit
from rca.culprits import fact
from rca.exhausted import latest
from rca.scene import Scene
from rca.spec import Blame
from rca.units import clean, humanise


def looping(scene: Scene, entity: str) -> Blame | None:
    """The unit or program that ends and is started again."""
    event = latest(scene, ("crash_loop",), "program", entity)
    if event is None:
        return None
    unit, comm, cgroup = (_text(event, name) for name in ("unit", "comm", "cgroup"))
    place = clean(unit or cgroup.strip("/"), 60)
    who = f"{comm} in {place}" if comm and place else comm or unit
    starts, told, how = _count(event, scene.happened(("unit_restarts",), "program", entity))
    claim = f"{who} ended and was started again {told}{f': {how}' if how else ''}"
    culprit = Culprit("unit" if unit else "process", clean(unit or comm, 200), int(_number(event, "pid")), cgroup, unit,
                      claim)
    return Blame(culprit, fact(claim, scene, starts, "1", event.source, event.entity), "processes")


def _count(event: HostEvent, counted: Sequence[HostEvent]) -> tuple[float, str, str]:
    """(how often it was started again, the same in words, how it ended); counted: what systemd has said of it."""
    ended = next((words for one in (*reversed(counted), event) if (words := _text(one, "ended"))), "")
    if not counted:
        starts, within = _number(event, "starts"), humanise(_number(event, "seconds"), "seconds")
        return starts, f"{starts:,.0f} times within {within}", _text(event, "how")
    starts, total = sum(_number(one, "restarts") for one in counted), _number(counted[-1], "total")
    more = f", {total:,.0f} times since a person started it" if total > starts else ""
    return starts, f"by systemd {starts:,.0f} times{more}", ended or _text(event, "how")


def failed_unit(scene: Scene, entity: str) -> Blame | None:
    """The unit that failed, and how."""
    event = latest(scene, ("unit_failed",), "unit", entity)
    if event is None:
        return None
    unit, how = _text(event, "unit") or clean(entity, 200), _text(event, "ended")
    claim = f"{unit} failed{f': {how}' if how else ''}"
    evidence = fact(claim, scene, _number(event, "status"), "1", event.source, event.entity)
    return Blame(Culprit("unit", unit, 0, "", unit, claim), evidence, "systemd")


def _text(event: HostEvent, name: str) -> str:
    return clean(str(event.get(name) or ""), 200)


def _number(event: HostEvent, name: str) -> float:
    value = event.get(name)
    return float(value) if isinstance(value, (int, float)) else float("nan")
