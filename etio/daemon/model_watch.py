"""Which model would be asked? Found out in a child process, so that an HTTP client never lives in the daemon."""

import json
import socket
import subprocess
import sys
import threading
from dataclasses import asdict
from urllib.parse import urlsplit

from rca.llm.config import LlmConfig

EVERY_S = 60.0
CONNECT_S = 0.2
CODE = ("import json, sys; from rca.llm.config import LlmConfig; from rca.llm.probe import probe; "
        "print(probe(LlmConfig(**json.loads(sys.argv[1]))).reason)")


def unreachable(config: LlmConfig) -> str:
    """Why there is nobody to ask, or "" where something listens at the endpoint."""
    if config.enabled == "off":
        return "switched off (rca.llm.enabled)"
    parts = urlsplit(config.endpoint)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), CONNECT_S):
            return ""
    except OSError as error:
        return f"no model answers at {config.endpoint} ({error})"


class ModelWatch(threading.Thread):
    """Keeps `text` true: a connection attempt each minute, a real question only when that begins or ceases to work."""

    def __init__(self, config: LlmConfig) -> None:
        super().__init__(name="model-watch", daemon=True)
        self._config = config
        self._stop_event = threading.Event()
        self._absent: str | None = None
        self.text = "not asked yet"

    def look(self) -> None:
        """Looks once."""
        absent = unreachable(self._config)
        if absent:
            self.text = absent
        elif self._absent != "":
            self.text = _ask(self._config)
        self._absent = absent

    def run(self) -> None:
        """The thread."""
        while not self._stop_event.wait(EVERY_S):
            self.look()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop_event.set()


def _ask(config: LlmConfig) -> str:
    try:
        done = subprocess.run([sys.executable, "-c", CODE, json.dumps(asdict(config))], capture_output=True, text=True,
                              timeout=4 * config.probe_s + 10, check=False)
    except subprocess.TimeoutExpired:
        return f"{config.endpoint} does not answer in time"
    return done.stdout.strip() or f"could not ask {config.endpoint}: {done.stderr.strip()[-200:]}"
