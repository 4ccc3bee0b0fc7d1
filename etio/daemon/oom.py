"""Witnesses of an OOM kill: eBPF tells it at once, the kernel log knows the group of a victim that is gone; where
neither can be had, the kernel still counts."""

from collections.abc import Callable
from dataclasses import replace

from etio.core.event import Event, Field, HostEvent
from etio.core.frame import Reading

Said = tuple[tuple[str, Field], ...]


def _placed(event: HostEvent) -> bool:
    """Whether the control group of a victim is known: one that has ended is in the root group already."""
    return event.get("cgroup") not in (None, "", "/")


class Victims:
    """Completes oom_kill events; one without a group waits until the log has been read once more. One thread."""

    def __init__(self, log_of: Callable[[int], Said] | None = None) -> None:
        """log_of: fields that the kernel log told of the victim with this pid; None where there is no log."""
        self._log_of = log_of
        self._held: list[tuple[HostEvent, int]] = []

    def take(self, event: Event) -> tuple[Event, ...]:
        """The event, completed; nothing while it waits. Other events pass."""
        if not isinstance(event, HostEvent) or event.kind != "oom_kill":
            return (event,)
        whole = self.completed(event)
        if self._log_of is None or _placed(whole):
            return (whole,)
        self._held.append((event, 2))
        return ()

    def overdue(self) -> tuple[HostEvent, ...]:
        """Called once per tick: those that are complete now, or have waited for two ticks."""
        ready, kept = [], []
        for event, ticks in self._held:
            whole = self.completed(event)
            if _placed(whole) or ticks <= 1:
                ready.append(whole)
            else:
                kept.append((event, ticks - 1))
        self._held = kept
        return tuple(ready)

    def completed(self, event: HostEvent) -> HostEvent:
        """An oom_kill event with what the log has told of its victim by now; any other as it is. From any thread."""
        pid = event.entity.removeprefix("pid=")
        if event.kind != "oom_kill" or self._log_of is None or not pid.isdigit():
            return event
        fields = event.fields if _placed(event) else tuple(f for f in event.fields if f[0] != "cgroup")
        known = {name for name, _ in fields}
        more = [(k, v) for k, v in self._log_of(int(pid)) if k not in known]
        return replace(event, fields=(*fields, *more)) if more else event


class Counted:
    """The kernel's own count of kills, told as events while nobody names the victims. One thread."""

    COUNT = "vm_oom_kills_per_second"

    def __init__(self, named: Callable[[], bool]) -> None:
        """named: whether somebody tells of each kill just now."""
        self._named = named
        self._last = -1.0

    def take(self, t_ns: int, reading: Reading) -> tuple[HostEvent, ...]:
        """An event when the count (a raw counter) grew since the last reading of its collector."""
        place = next((i for i, one in enumerate(reading.series) if one.name == self.COUNT), -1)
        if place < 0:
            return ()
        count, last = float(reading.values[place]), self._last
        self._last = count
        if not 0 <= last < count or self._named():
            return ()
        return (HostEvent(t_ns, "oom_kill", "host", (("kills", int(count - last)),), "/proc/vmstat"),)
