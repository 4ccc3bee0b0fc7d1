"""A benchmark that is told to end undoes what it did: SIGTERM, SIGHUP and Ctrl-C become SystemExit, once."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class _Ending:
    """came: the signal that was told first, 0 before. held: depth of held()."""

    def __init__(self) -> None:
        self.came = 0
        self.held = 0

    def take(self, number: int, _frame: FrameType | None) -> None:
        """The handler. A second signal does not break into the undoing that the first one began."""
        if self.came:
            return
        self.came = number
        print(f"{signal.Signals(number).name}: undoing what was done, then the end", file=sys.stderr, flush=True)
        if not self.held:
            raise SystemExit(128 + number)


_ending = _Ending()


def entry(main: Callable[[], int | None]) -> NoReturn:
    """Runs a benchmark and exits with its status, 128 + number after a signal; a signal that is ignored stays so."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _ending.take)
    sys.exit(main())


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What is done within is done to its end; a signal that came before or meanwhile raises SystemExit afterwards.

    Whatever error undoing may meet after a signal, the program goes on ending.
    """
    _ending.held += 1
    try:
        yield
    finally:
        _ending.held -= 1
        if _ending.came and not _ending.held:
            raise SystemExit(128 + _ending.came)


@contextlib.contextmanager
def whole(cause: contextlib.AbstractContextManager[None]) -> Iterator[None]:
    """A context manager that is entered in full and left in full, or not entered at all."""
    with contextlib.ExitStack() as stack:
        with held():
            stack.enter_context(cause)
        try:
            yield
        finally:
            with held():
                stack.close()
