"""From the loop to the outbox: what has to be told is kept in memory while the store cannot take it."""

import logging
from collections import deque

from api.webhook import Sender
from etio.core.errors import StoreError
from etio.core.event import Notify

log = logging.getLogger(__name__)

MOST = 1000
"""Notices that wait for the store; beyond that the oldest are lost, and that is said."""


class Notices:
    """Hands notices over in order. A full disk delays them and stops nothing."""

    def __init__(self, sender: Sender, host: str) -> None:
        self._sender = sender
        self._host = host
        self._waiting: deque[tuple[Notify, str]] = deque()
        self._trouble = ""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, notice: Notify, address: str) -> None:
        """Keeps a notice, durably if the store can. address: of the page, for links."""
        if len(self._waiting) >= MOST:
            lost, _ = self._waiting.popleft()
            log.error("a webhook about incident %s is lost: the store has taken nothing for too long", lost.incident.id)
        self._waiting.append((notice, address))
        self.push()

    def push(self) -> None:
        """Tries again what waits; costs nothing while nothing does."""
        while self._waiting:
            notice, address = self._waiting[0]
            try:
                self._sender.queue(notice, self._host, address)
            except StoreError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    log.error("webhooks are kept in memory only: %s", error)
                return
            self._waiting.popleft()
            self._trouble = ""

    def close(self) -> None:
        """One last try."""
        self.push()
        if self._waiting:
            log.error("%d webhooks are lost: the store could not take them before the end", len(self._waiting))
