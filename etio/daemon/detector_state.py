"""What detectors have learned outlives a restart: snapshots now and then and at the end, taken back at the start."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectors.state import from_bytes, to_bytes
from etio.core.due import is_due
from etio.core.errors import Broken, StoreError
from etio.core.frame import NS
from etio.core.ports import Detector
from etio.store.store import Store

log = logging.getLogger(__name__)

NAME = "detectors"
EVERY_S = 300.0
OLDEST_S = 86_400.0
"""The longest baseline is six hours of samples: what was usual longer ago than a day says little about now."""
AHEAD_S = 60.0
"""A snapshot from further in the future is that of a clock that was wrong."""


class DetectorState:
    """Saves and restores the detectors of one engine. Never stops the daemon: without a snapshot it learns anew."""

    def __init__(self, store: Store, detectors: Sequence[Detector]) -> None:
        self._store = store
        self._detectors = tuple(detectors)
        self._due_ns = 0
        self._thread: threading.Thread | None = None

    def restore(self, now_ns: int) -> bool:
        """Takes the kept snapshot back; False when there is none that serves. Before the first frame."""
        self._due_ns = now_ns + int(EVERY_S * NS)
        try:
            data = self._store.load_state(NAME)
        except StoreError as error:
            log.warning("detectors learn anew: %s", error)
            return False
        if data is None:
            return False
        try:
            saved = from_bytes(data)
            age_s = (now_ns - _moment(saved)) / NS
            parts = saved["detectors"]
            if not isinstance(parts, dict):
                raise Broken("detector state: no table of detectors")
        except (Broken, AttributeError, KeyError, MemoryError) as error:
            self._set_aside(error)
            return False
        if not -AHEAD_S <= age_s <= OLDEST_S:
            log.info("detectors learn anew: their snapshot is %.0f s old", age_s)
            return False
        return self._give_back(parts)

    def after_frame(self, t_ns: int) -> None:
        """Saves when that is due. From the thread that steps the detectors; the disk is written by another."""
        if not is_due(t_ns, self._due_ns, int(EVERY_S * NS)) or (self._thread is not None and self._thread.is_alive()):
            return
        self._due_ns = t_ns + int(EVERY_S * NS)
        state = self._snapshot(t_ns)
        self._thread = threading.Thread(target=self._save, args=(state,), name="detector-state", daemon=True)
        self._thread.start()

    def close(self, now_ns: int) -> None:
        """Saves once more; when no thread steps the detectors any longer, and before the store is closed."""
        if self._thread is not None:
            self._thread.join()
        self._save(self._snapshot(now_ns))

    def _snapshot(self, t_ns: int) -> dict[str, Any]:
        return {"t_ns": t_ns, "detectors": {d.name: d.snapshot() for d in self._detectors}}

    def _save(self, state: Mapping[str, Any]) -> None:
        try:
            self._store.save_state(NAME, to_bytes(state))
        except StoreError as error:
            log.warning("what the detectors have learned could not be saved: %s", error)

    def _give_back(self, parts: Mapping[str, Any]) -> bool:
        good = False
        for detector in self._detectors:
            part = parts.get(detector.name)
            if not isinstance(part, dict):
                continue
            try:
                detector.restore(part, ())
                good = True
            except Broken as error:
                log.warning("detector %s learns anew: %s", detector.name, error)
        return good

    def _set_aside(self, error: Exception) -> None:
        path = Path(self._store.config.directory) / "state" / NAME
        aside = path.with_name(f"{NAME}.damaged")
        try:
            path.replace(aside)
        except OSError as problem:
            log.warning("detectors learn anew; %s is damaged (%s) and stays: %s", path, error, problem)
            return
        log.warning("detectors learn anew; their snapshot was damaged (%s) and set aside as %s", error, aside)


def _moment(saved: Mapping[str, Any]) -> int:
    t_ns = saved.get("t_ns")
    if not isinstance(t_ns, int) or isinstance(t_ns, bool):
        raise Broken("detector state: no time")
    return t_ns
