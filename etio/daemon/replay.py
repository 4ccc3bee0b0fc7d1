"""`etio replay`: recorded frames through the same engine; the alerts must come out the same."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from etio.core.alert import Alert, Incident
from etio.core.engine import Engine, Judge
from etio.core.event import Event, FrameReady, Notify
from etio.core.frame import Frame
from etio.daemon.config import Config
from etio.daemon.season_record import FOLDER, kept, with_seasons
from etio.store import recording


@dataclass(frozen=True, slots=True)
class Transition:
    """An alert that changed state in a replay."""

    t_ns: int
    incident: Incident
    alert: Alert


def engine_of(config: Config) -> Engine:
    """A fresh engine with the configured detectors."""
    judges = [Judge(spec.build(settings), spec.scope) for spec, settings in config.detectors.values()]
    return Engine(config.engine, judges)


def recorded(path: Path) -> Iterator[Frame | Event]:
    """Frames and events of a recording, with the seasons that were kept beside its day files. Raises Broken or
    StoreError, as etio.store.recording does."""
    folder = path if path.is_dir() else path.parent
    seasons = [] if path.suffix == ".npz" else kept(folder / FOLDER)
    yield from with_seasons(recording.replay(path), seasons)


def replay(engine: Engine, items: Iterable[Frame | Event]) -> Iterator[Transition]:
    """Feeds recorded frames and events; yields every change of an alert, in order."""
    for item in items:
        event = FrameReady(item) if isinstance(item, Frame) else item
        t_ns = _time(event)
        for action in engine.step(event):
            if isinstance(action, Notify) and action.report is None:
                for alert in action.alerts:
                    yield Transition(t_ns, action.incident, alert)


def _time(event: Event) -> int:
    if isinstance(event, FrameReady):
        return event.frame.t_ns
    return event.t_ns
