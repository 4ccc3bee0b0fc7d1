"""systemd's notification protocol (sd_notify(3)): one datagram to $NOTIFY_SOCKET."""

import os
import socket


class Notifier:
    """Tells systemd how the daemon does; does nothing where no socket was given."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        usec = os.environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / 2_000_000 if usec.isdigit() else 0.0
        """Seconds between signs of life that systemd expects; 0 = none."""

    def send(self, *lines: str) -> None:
        """Sends state lines such as READY=1, STATUS=..., WATCHDOG=1."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto("\n".join(lines).encode(), address)
            except OSError:
                self._address = ""  # systemd is gone; nobody is left to tell
