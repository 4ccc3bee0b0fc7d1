"""The form of a hard rule: comparisons that must all hold for an alert."""

from dataclasses import dataclass
from typing import Literal

from etio.core.series import Labels

Op = Literal[">=", "<="]


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. Its value is measured/threshold (threshold/measured for "<="): 1.0 = just met.

    labels: only series with these. per: divide by this host-wide series first; a quotient above 1 means that the two
    count different things (namespaces) and is no value. total: the sum over all series of that name.
    instead: taken where this one has no value.
    """

    series: str
    op: Op
    threshold: float
    labels: Labels = ()
    per: str = ""
    total: bool = False
    instead: "Condition | None" = None


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert of the things that meet all `conditions`; several rules of one alert are alternatives.

    The first condition says which things (labels) there are; the others are joined by the labels they share with
    it, or speak of the whole host. skip: (label, values) of things that the rule leaves out.
    """

    alert: str
    conditions: tuple[Condition, ...]
    why: str
    source: str
    skip: tuple[str, tuple[str, ...]] = ("", ())
