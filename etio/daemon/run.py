"""`etio run`: from the command line to a running daemon."""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from etio.core.errors import EtioError
from etio.daemon.app import build
from etio.daemon.config import Config
from etio.daemon.privileges import (
    account,
    capabilities,
    drop,
    give,
    raise_files,
    raise_priority,
    readable_after_drop,
)
from etio.daemon.rootless import barrier
from etio.daemon.thrift import Tidy, tame_allocator
from etio.daemon.warden import find_warden

log = logging.getLogger(__name__)

GC_THRESHOLDS = (5_000, 20, 20)
"""Objects more than freed before a collection, and collections of one generation before one of the next. Each answered
request leaves a ring of some twenty: no more of those wait than make half a megabyte."""


@dataclass(slots=True)
class _End:
    """A signal that came before there was anything to stop is kept until there is."""

    early: bool = False
    stop: Callable[[], None] | None = None

    def __call__(self, *_: object) -> None:
        self.early = True
        if self.stop is not None:
            self.stop()


def _listen_for_the_end() -> _End:
    end = _End()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return end


def run(config: Config) -> int:
    """Runs the daemon until SIGTERM or SIGINT; returns the exit status. Raises EtioError with one clear line."""
    tame_allocator()
    asked = _listen_for_the_end()
    warden = find_warden(config.daemon)
    _become_nobody(config)
    app = build(config, warden)
    asked.stop = app.stop
    app.start()
    _settle()
    if asked.early:
        app.stop()
    tidy = Tidy()
    tidy.start()
    app.run()
    tidy.stop()
    _leave()
    return 0


def _settle() -> None:
    """What was made so far stays: no collection of garbage need look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _leave() -> None:
    """Ends at once where a thread still waits for something (a compiler, a dead server); all that is kept is closed.

    Python's own clean-up would pull modules from under that thread, and the libraries would complain of leaks.
    """
    if threading.active_count() > 1:
        log.debug("still busy at the end: %s", ", ".join(t.name for t in threading.enumerate()))
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    gc.unfreeze()  # else what was frozen is never torn down, and libraries complain of leaks


def _become_nobody(config: Config) -> None:
    """Gives root up, if we have it; the state folder goes to the account we become."""
    raise_priority()
    raise_files()
    if os.geteuid() != 0:
        return
    owner = account(config.daemon.user)
    if why := barrier(capabilities(), owner.pw_uid, owner.pw_gid):
        raise EtioError(why)
    for needed in (Path(__file__), Path(sys.executable)):
        if closed := readable_after_drop(owner, needed):
            raise EtioError(
                f"user {owner.pw_name!r} cannot enter {closed}, where this program lives; start it with scripts/run, "
                f"which installs it where that user can read it")
    folder = Path(config.store.directory)
    try:
        give(folder, owner)
    except OSError as error:
        raise EtioError(f"{folder}: cannot be made the state folder of user {owner.pw_name!r}: {error.strerror}; "
                        f"set store.directory (or --state) to another folder") from error
    drop(owner)
