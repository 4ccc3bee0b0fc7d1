"""What one alert is; the kinds themselves stand in the modules beside this one, by subsystem."""

from dataclasses import dataclass

from etio.core.alert import ModelClass, Severity
from etio.core.series import Labels
from etio.core.words import clean


@dataclass(frozen=True, slots=True)
class AlertKind:
    """One alert name.

    carriers: series that a person would look at, first present wins; they carry the value of the alert.
    for_s: seconds of condition, without a gap longer than grace_s, before it fires.
    clear_s: seconds without the condition before it resolves.
    subject: what is wrong, in plain words, with {entity} or labels such as {mount} filled in.
    explain: whether this alert alone is worth a root-cause report.
    model: which of the three models raises it.
    events: kinds of host events that are this alert by themselves.
    cleared_by: kinds of host events that end it for the same entity.
    held: its events describe a lasting state: it stays until cleared, not for a fixed time.

    One of severity "info" is evidence: it opens no incident and tells nobody, but joins an open incident.
    """

    name: str
    severity: Severity
    carriers: tuple[str, ...]
    subject: str
    for_s: float = 4.0
    clear_s: float = 15.0
    grace_s: float = 1.5
    explain: bool = True
    model: ModelClass = "running"
    events: tuple[str, ...] = ()
    cleared_by: tuple[str, ...] = ()
    held: bool = False

    def says(self, entity: str, own: Labels = ()) -> str:
        """The subject of one alert, in one line. entity stands in for labels that it does not have."""
        values = _Known({name: clean(value, 200) for name, value in own})
        values["entity"] = clean(entity, 200)
        return self.subject.format_map(values)


class _Known(dict[str, str]):
    """Labels by name."""

    def __missing__(self, name: str) -> str:
        return self["entity"]
