"""What is usual on this host: which things of a kind were seen, since when, and whether a thing that is seen is new.

The behaviour model of etio: no numbers but names (programs, units, users, ports, modules, who starts whom). It learns
with age: nothing is new before a while has been watched, and a kind of thing that changes all the time (the names of
a build's programs) falls silent by itself. Pure: time comes in, nothing is read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etio.core.errors import Broken
from etio.core.frame import NS

HOUR_NS = 3600 * NS
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class HabitsConfig:
    """learn_s: nothing is new before so many seconds have been watched (all runs together).
    most: names kept of each kind; the one unseen for longest gives its place away.
    forget_s: a name unseen for so long is forgotten. per_hour: novelties of a kind told in an hour at most."""

    learn_s: float = 3600.0
    most: int = 2000
    forget_s: float = 30 * 86_400.0
    per_hour: int = 6

    def __post_init__(self) -> None:
        if self.learn_s < 0 or self.most < 1 or self.forget_s <= 0 or self.per_hour < 0:
            raise ValueError("learn_s and per_hour must be at least 0, most at least 1, forget_s above 0")


class Habits:
    """Names of things by kind, with their last sight.

    >>> one = Habits(HabitsConfig(learn_s=40.0))
    >>> one.see("program", ("nginx",), 1 * NS), one.see("program", ("nginx", "sshd"), 50 * NS)
    ((), ('sshd',))
    >>> one.see("program", ("nginx", "sshd"), 51 * NS)
    ()
    """

    def __init__(self, config: HabitsConfig) -> None:
        self._config = config
        self._kinds: dict[str, dict[str, int]] = {}
        self._watched_ns = 0
        self._last_ns = 0
        self._told: dict[str, list[int]] = {}
        self.untold = 0
        """Novelties that were not told because their kind has too many."""

    @property
    def learned(self) -> bool:
        """Whether enough was watched for a novelty to mean something."""
        return self._watched_ns >= self._config.learn_s * NS

    def knows(self, kind: str, name: str) -> bool:
        """Whether this name was seen before."""
        return name in self._kinds.get(kind, {})

    def see(self, kind: str, names: tuple[str, ...], t_ns: int) -> tuple[str, ...]:
        """Takes in what of a kind is there now; returns what is new and worth telling."""
        self._tick(t_ns)
        first = kind not in self._kinds
        known = self._kinds.setdefault(kind, {})
        new = [name for name in dict.fromkeys(names) if name not in known]
        known.update(dict.fromkeys(names, t_ns))
        self._tidy(known, t_ns)
        if first or not self.learned:  # a kind that was never looked at before has no habits yet
            return ()
        return tuple(name for name in new if self._worth(kind, t_ns))

    def _tick(self, t_ns: int) -> None:
        """Only time that was watched counts: a gap of more than a minute does not."""
        passed = t_ns - self._last_ns if self._last_ns else 0
        if 0 < passed <= 60 * NS:
            self._watched_ns += passed
        self._last_ns = t_ns

    def _worth(self, kind: str, t_ns: int) -> bool:
        lately = [t for t in self._told.get(kind, ()) if 0 <= t_ns - t < HOUR_NS]
        fits = len(lately) < self._config.per_hour
        self._told[kind] = [*lately, t_ns][-self._config.per_hour:] if self._config.per_hour else []
        self.untold += not fits
        return fits

    def _tidy(self, known: dict[str, int], t_ns: int) -> None:
        if len(known) <= self._config.most:
            return
        oldest = t_ns - int(self._config.forget_s * NS)
        kept = sorted(((t, name) for name, t in known.items() if t >= oldest), reverse=True)[:self._config.most]
        known.clear()
        known.update({name: t for t, name in kept})

    def snapshot(self) -> dict[str, Any]:
        """State as plain values."""
        kinds = {kind: dict(self._kinds[kind]) for kind in list(self._kinds)}  # copies: it may be asked by a thread
        return {"kinds": kinds, "watched_ns": self._watched_ns}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken where it is none; the object is then as before."""
        kinds, watched = state.get("kinds"), state.get("watched_ns")
        if not isinstance(kinds, dict) or not isinstance(watched, int) or isinstance(watched, bool) or watched < 0:
            raise Broken("habits: no snapshot of what is usual")
        found: dict[str, dict[str, int]] = {}
        for kind, known in kinds.items():
            if not isinstance(kind, str) or not isinstance(known, dict) or not all(
                    isinstance(n, str) and type(t) is int for n, t in known.items()):
                raise Broken("habits: a kind is no table of names and moments")
            found[kind] = dict(list(known.items())[:self._config.most])
        self._kinds, self._watched_ns = found, watched


def common(name: str, longest: int = 120) -> str:
    """A name without its numbers, so that worker-17 and worker-18 are one habit.

    >>> common("kafka-consumer-17"), common("/opt/app-2.4.1/bin/app")
    ('kafka-consumer-#', '/opt/app-#.#.#/bin/app')
    """
    return _DIGITS.sub("#", name)[:longest]
