"""The process that talks to NVML: `python -m collector.gpu.worker SLOW_SECONDS NOTE_FD`, asked by lines on its input.

It writes the call that it is about to make into shared memory (NOTE_FD), so that its watcher can tell where it hangs.
It ends with its input, and with the thread that started it, even while a call hangs.
"""

import contextlib
import ctypes
import mmap
import signal
import sys
import threading
from collections.abc import Callable

from collector.gpu.session import Session
from collector.gpu.wire import Greeting, greeting_line, round_line, xid_line
from etio.core.errors import Broken, NoData

NOTE_BYTES = 128
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Greets, then answers each line (a time in nanoseconds) with a round."""
    slow_s, fd = float(arguments[0]), int(arguments[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the daemon, which ends us
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    lock = threading.Lock()

    def say(line: bytes) -> None:
        with lock, contextlib.suppress(BrokenPipeError):  # nobody listens: the input ends as well
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

    session = Session(slow_s, notes(fd))
    greeting = greet(session)
    say(greeting_line(greeting))
    if greeting.names:
        session.listen(lambda index, xid, instance: say(xid_line(index, xid, instance)))
    for line in sys.stdin.buffer:
        say(round_line(session.read(int(line))))


def greet(session: Session) -> Greeting:
    """Opens the session and tells how that went."""
    try:
        names = session.open()
    except NoData as error:
        return Greeting(absent=str(error))
    except Broken as error:
        return Greeting(broken=str(error))
    return Greeting(names, session.driver)


def notes(fd: int) -> Callable[[str], None]:
    """A function that leaves a note in the shared memory behind a descriptor."""
    memory = mmap.mmap(fd, NOTE_BYTES)

    def note(text: str) -> None:
        memory[:] = text.encode("ascii", "replace")[:NOTE_BYTES].ljust(NOTE_BYTES, b"\0")

    return note


if __name__ == "__main__":
    main(sys.argv[1:])
