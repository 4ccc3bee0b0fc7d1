"""What the routes work with."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from api.config import ApiConfig
from api.metrics import Exposition
from api.stream import Hub
from etio.core.ports import Archive, Live
from etio.core.report import Report

Render = Callable[[Report, str], str]


@dataclass(frozen=True)
class Context:
    """The daemon's parts, handed to each route. query_slots: people's SQL runs at most this often at once."""

    archive: Archive
    live: Live
    config: ApiConfig
    render: Render
    exposition: Exposition
    hub: Hub
    query_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

