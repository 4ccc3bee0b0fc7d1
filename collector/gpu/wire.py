"""What travels between the guard and its worker: lines of JSON, a request down, a greeting, rounds and XIDs up."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collector.gpu.session import Round, Told
from collector.gpu.slow import Holder
from etio.core.errors import Broken


@dataclass(frozen=True, slots=True)
class Greeting:
    """names: of the GPUs by index. absent, broken: why there is nothing to ask, "" = there is."""

    names: tuple[str, ...] = ()
    driver: str = ""
    absent: str = ""
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Xid:
    """One XID event. instance: of MIG, -1 = none."""

    index: int
    xid: int
    instance: int = -1


Line = Greeting | Xid | Round


def greeting_line(greeting: Greeting) -> bytes:
    """As it travels."""
    return _line("greeting", {"names": greeting.names, "driver": greeting.driver, "absent": greeting.absent,
                              "broken": greeting.broken})


def xid_line(index: int, xid: int, instance: int) -> bytes:
    """As it travels."""
    return _line("xid", [index, xid, instance])


def round_line(one: Round) -> bytes:
    """As it travels; values that are no numbers must have been left out."""
    told = [[t.index, t.uuid, t.pci, t.values, t.lost] for t in one.told]
    holders = None if one.holders is None else [
        [h.gpu, h.uuid, h.pid, None if math.isnan(h.memory_bytes) else h.memory_bytes, h.instance]
        for h in one.holders]
    return _line("round", [told, holders, {str(k): v for k, v in one.facts.items()}])


def understand(line: bytes) -> Line:
    """One line of the worker. Raises Broken."""
    try:
        kind, body = json.loads(line)
        if kind == "greeting":
            return Greeting(tuple(map(str, body["names"])), str(body["driver"]), str(body["absent"]),
                            str(body["broken"]))
        if kind == "xid":
            return Xid(*map(int, body))
        if kind == "round":
            return _round(*body)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise Broken(f"NVML worker: a line that makes no sense: {error}") from error
    raise Broken(f"NVML worker: a line of kind {kind!r}")


def _round(told: Any, holders: Any, facts: Any) -> Round:
    cards = tuple(Told(int(i), str(uuid), str(pci), dict(_numbers(values)), str(lost))
                  for i, uuid, pci, values, lost in told)
    held = None if holders is None else tuple(
        Holder(int(gpu), str(uuid), int(pid), math.nan if memory is None else float(memory), int(instance))
        for gpu, uuid, pid, memory, instance in holders)
    return Round(cards, held, {int(i): {str(k): str(v) for k, v in told.items()} for i, told in facts.items()})


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    return ((str(name), float(value)) for name, value in values.items())


def _line(kind: str, body: Any) -> bytes:
    return json.dumps([kind, body], separators=(",", ":"), allow_nan=False).encode() + b"\n"
