"""`etio run`: from the command line to a running daemon."""

import logging
import os
import signal
import socket
from pathlib import Path

from collector.ebpf.client import spawn_warden

from etio.core.errors import EtioError, NoData
from etio.daemon.app import build
from etio.daemon.config import Config
from etio.daemon.privileges import account, drop, give, raise_priority, readable_after_drop

log = logging.getLogger(__name__)


def run(config: Config) -> int:
    """Runs the daemon until SIGTERM or SIGINT; returns the exit status. Raises EtioError with one clear line."""
    warden, pid = _warden(config)
    _become_nobody(config)
    app = build(config, warden, pid)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.stop())
    app.start()
    app.run()
    return 0


def _warden(config: Config) -> tuple[socket.socket | None, int]:
    """A socket to the privileged helper and its pid, or (None, 0) where there is none."""
    path = config.daemon.warden_socket
    if config.daemon.ebpf == "off":
        return None, 0
    if path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
        except OSError as error:
            log.warning("no warden at %s (%s): going on without eBPF; systemctl status etio-warden", path, error)
            sock.close()
            return None, 0
        return sock, 0
    if os.geteuid() != 0:
        return None, 0
    try:
        return spawn_warden()
    except NoData as error:
        log.warning("no warden: %s", error)
        return None, 0


def _become_nobody(config: Config) -> None:
    """Gives root up, if we have it; the state folder goes to the account we become."""
    raise_priority()
    if os.geteuid() != 0:
        return
    owner = account(config.daemon.user)
    here = Path(__file__)
    if barrier := readable_after_drop(owner, here):
        raise EtioError(
            f"user {owner.pw_name!r} cannot enter {barrier}, where this program lives; start it with scripts/run, "
            f"which installs it where that user can read it")
    give(Path(config.store.directory), owner)
    drop(owner)
