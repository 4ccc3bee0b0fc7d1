"""What travels between the daemon and its RCA worker, over two pipes: one request down, a report up.

Request: a pickle, which is safe because the worker is the daemon's own child and the pipe has no other writer.
Answer: one line of JSON (no pickle: the worker may talk to a model).
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any

from etio.core.alert import Incident
from etio.core.errors import Broken
from etio.core.event import HostEvent
from etio.core.facts import Facts
from etio.core.ports import Window
from etio.core.report import Report


@dataclass(frozen=True, slots=True)
class Request:
    """Everything an explanation needs. `settings`: plain tables of the sections rca and rca.llm."""

    incident: Incident
    now_ns: int
    facts: Facts
    window: Window
    events: tuple[HostEvent, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Narration:
    """A told report that a model may put into words. `settings` as above."""

    report: Report
    settings: dict[str, Any]


class WindowHistory:
    """The shipped window in the shape of etio.core.ports.History."""

    def __init__(self, window: Window, events: Sequence[HostEvent]) -> None:
        self._window = window
        self._events = tuple(events)

    def window(self, start_ns: int, end_ns: int, names: Sequence[str] | None = None) -> Window:
        """Samples of the shipped window in [start_ns, end_ns]."""
        all_of = self._window
        rows = (all_of.t_ns >= start_ns) & (all_of.t_ns <= end_ns)
        if names is None:
            return Window(all_of.series, all_of.t_ns[rows], all_of.values[rows])
        wanted = set(names)
        columns = [i for i, s in enumerate(all_of.series) if s.name in wanted]
        return Window(tuple(all_of.series[i] for i in columns), all_of.t_ns[rows], all_of.values[rows][:, columns])

    def events(self, start_ns: int, end_ns: int) -> Sequence[HostEvent]:
        """Shipped events in [start_ns, end_ns]."""
        return [e for e in self._events if start_ns <= e.t_ns <= end_ns]


def send(out: IO[bytes], request: Request | Narration) -> None:
    """Writes one request."""
    pickle.dump(request, out, protocol=pickle.HIGHEST_PROTOCOL)
    out.flush()


def receive(source: IO[bytes]) -> Request | Narration | None:
    """Reads one request; None at the end of the stream, also in the middle of one: the daemon has been killed.

    Raises Broken on what is no request.
    """
    try:
        request = pickle.load(source)
    except (EOFError, pickle.UnpicklingError) as error:
        if not source.read(1):
            return None
        raise Broken(f"odd request to the RCA worker: {error}") from error
    if not isinstance(request, (Request, Narration)):
        raise Broken(f"the RCA worker was sent a {type(request).__name__}")
    return request
