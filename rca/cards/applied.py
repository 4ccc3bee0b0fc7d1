"""One card on this host: its slots filled in, its commands written."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from etio.core.errors import Broken
from rca.cards.card import Card
from rca.cards.command import Commands, clean_value, render
from rca.cards.propose import DEFAULT_PERIOD_US, Present, Proposal, show_number

_ENDS = re.compile(r"systemctl (re)?start|systemctl stop")
_MISSING = "# nothing was read that could be written back: note the present value before you apply"


@dataclass(frozen=True, slots=True)
class Applied:
    """A card on this host: the entity's names, the present value (None: unread, `note` says why), the proposal.

    version: of the control groups of this host, for a group that is gone; 0 unknown.
    """

    card: Card
    slots: Mapping[str, str]
    present: Present | None
    note: str
    proposal: Proposal
    version: int = 0

    def command(self, commands: Commands) -> str:
        """The form of the command that fits the entity, filled in. Raises Broken where a slot has no value, or where a
        unit would be restarted that is no service: a slice holds all the sessions and services below it."""
        read = self.present.version if self.present else 0
        service = self.slots.get("unit", "").endswith(".service")
        unit = _is_unit(self.slots) and (service or not _ENDS.search(commands.unit))
        form = commands.pick(unit, read or self.version)
        text = getattr(commands, form) if form else ""
        if _ENDS.search(text) and not service:
            raise Broken(f"{self.slots.get('unit')} is no service")
        return render(text, self.values(form)) if form else ""

    def values(self, form: str = "any") -> dict[str, str]:
        """Every slot that has a value, for one form of a command."""
        goal = self.proposal
        found = dict(self.slots) | slot_values("proposed", goal.value, goal.number, form, self.present)
        if self.present:
            word = self.present.several or (
                self.present.word if math.isnan(self.present.number) else show_number(self.present.number, ""))
            found |= slot_values("current", word, self.present.number, form, self.present)
        return found

    def rollback(self) -> str:
        """The way back; where it needs the present value and that is unknown, it says so."""
        if self.present is None and any("{current" in text for text in self.card.rollback.every().values()):
            return _MISSING
        return self.command(self.card.rollback)


def _is_unit(slots: Mapping[str, str]) -> bool:
    """Whether the unit is the group itself: a limit on a group inside a unit is no property of the unit."""
    unit = slots.get("unit", "")
    return bool(unit) and slots.get("cgroup", unit).rsplit("/", 1)[-1] == unit


def slot_values(name: str, word: str, number: float, form: str, present: Present | None) -> dict[str, str]:
    """The slots {name}, {name:us} ... that can be written; no limit becomes the word that this form understands."""
    found = {}
    try:
        found[name] = clean_value(word)
    except Broken:
        found[name] = ""
    if number == math.inf:
        none = {"unit": "infinity", "v1": "-1"}.get(form, "max")
        whole = "infinity" if form == "unit" else "max"
        return {name: whole} | {f"{name}:{k}": none for k in ("us", "percent", "bytes")}
    if not math.isnan(number):
        period = present.period_us if present else DEFAULT_PERIOD_US
        exact = present.exact if present and name == "current" else math.nan
        us, size = (number * period, number) if math.isnan(exact) else (exact, exact)
        found |= {f"{name}:us": f"{us:.0f}", f"{name}:percent": f"{number * 100:.0f}%"}
        found |= {f"{name}:bytes": f"{size:.0f}", f"{name}:period": f"{period:.0f}"}
    return found
