"""News for the page as server-sent events. Costs nothing while nobody listens; all listeners share one rendering."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from api import curves
from etio.core.codec import to_plain
from etio.core.errors import EtioError
from etio.core.ports import Archive, Live
from etio.core.status import Status

PERIOD_S: Final = 1.0
LOOK_S: Final = 5.0
"""How often the archive is asked for changes that nobody announced."""
MAX_LISTENERS: Final = 8


class Hub:
    """Renders each tick once, whoever listens. Lives in the server's loop; only changed() is for other threads."""

    def __init__(self, archive: Archive, live: Live) -> None:
        self._archive, self._live = archive, live
        self._version = 0
        self._digest: tuple[Any, ...] = ()
        self._looked_ns = 0
        self._tick = (0, "")
        self._closed = asyncio.Event()
        self.listeners = 0

    def changed(self) -> None:
        """Says that an incident or a report changed. For any thread."""
        self._version += 1

    def close(self) -> None:
        """Ends every stream. From the event loop only."""
        self._closed.set()

    async def events(self) -> AsyncIterator[str]:
        """One "tick" event each second while there is something new, for one listener."""
        self.listeners += 1
        sent = ""
        try:
            yield "retry: 3000\n\n"
            while not self._closed.is_set():
                text = await self._render()
                yield text if text != sent else ": idle\n\n"
                sent = text
                await self._sleep()
        finally:
            self.listeners -= 1

    async def _sleep(self) -> None:
        try:
            await asyncio.wait_for(self._closed.wait(), PERIOD_S)
        except TimeoutError:
            return

    async def _render(self) -> str:
        status = self._live.status()
        if status.now_ns - self._looked_ns > LOOK_S * 1e9 or status.now_ns < self._looked_ns:
            self._looked_ns = status.now_ns
            await run_in_threadpool(self._look)
        latest = self._live.latest()
        stamp = hash((latest[0].t_ns if latest else 0, self._version, status.ready, status.alerts_firing))
        if self._tick[0] != stamp or not self._tick[1]:
            values = curves.current(*latest) if latest else {}
            body = {"t_ns": latest[0].t_ns if latest else 0, "version": self._version, "values": values,
                    "status": status_line(status)}
            self._tick = (stamp, f"event: tick\ndata: {json.dumps(to_plain(body), allow_nan=False)}\n\n")
        return self._tick[1]

    def _look(self) -> None:
        try:
            found = self._archive.incidents(50)
        except EtioError:
            return  # the routes tell it; here it is only no news
        digest = tuple((i.id, i.resolved_ns, i.report, len(i.alerts)) for i in found)
        if digest != self._digest:
            self._digest = digest
            self.changed()


def status_line(status: Status) -> dict[str, Any]:
    """The part of the status that the page's head shows."""
    names = ("version", "host", "now_ns", "tier", "tier_reason", "ready", "reasons", "warming", "warm_ratio",
             "series", "alerts_firing", "cpu_percent", "pss_mb", "model", "started_ns")
    line = {name: getattr(status, name) for name in names}
    line["failed"] = [{"name": c.name, "state": c.state, "reason": c.reason, "remedy": c.remedy}
                      for c in status.collectors if c.state in ("failed", "shed")]
    return line
