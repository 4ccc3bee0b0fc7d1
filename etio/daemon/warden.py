"""Finds the privileged helper, or starts it."""

import logging
import os
import socket
import time
from dataclasses import dataclass

from collector.ebpf.client import connect_warden, spawn_warden
from etio.core.errors import NoData
from etio.daemon.config import DaemonConfig
from etio.daemon.ebpf import NOT_ROOT

log = logging.getLogger(__name__)

WARDEN_S = 5.0
"""systemd starts the warden before us, but it may not listen yet."""


@dataclass(frozen=True, slots=True)
class Warden:
    """The privileged helper: our end of its socket and its pid (0 = systemd's), or why there is none."""

    channel: socket.socket | None = None
    pid: int = 0
    absent: str = ""


def find_warden(config: DaemonConfig) -> Warden:
    """The one systemd started, our own child where we are root, or none with the reason."""
    if config.ebpf == "off":
        return Warden()
    if config.warden_socket:
        return _connected(config.warden_socket)
    if os.geteuid() != 0:
        return Warden(absent=NOT_ROOT)
    try:
        return Warden(*spawn_warden(guarded=True))
    except NoData as error:
        log.warning("no warden: %s", error)
        return Warden(absent=str(error))


def _connected(path: str) -> Warden:
    until = time.monotonic() + WARDEN_S
    while True:
        try:
            return Warden(connect_warden(path))
        except NoData as error:
            not_yet = isinstance(error.__cause__, (FileNotFoundError, ConnectionRefusedError))
            if not not_yet or time.monotonic() >= until:
                log.warning("%s", error)
                return Warden(absent=str(error))
        time.sleep(0.1)
