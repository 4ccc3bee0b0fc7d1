"""A program that searches a large network fills the table of neighbours."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch

CLIENT = """
import itertools, resource, selectors, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = []
for n in itertools.cycle(range(16, 16000)):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(('10.87.%d.%d' % (n >> 8, n & 255), 443))
    held.append(s)
    if len(held) > 1500:
        held.pop(0).close()
    time.sleep(0.001)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A network of 16,000 addresses, two of which exist."""
    with far_host("annex", "uplink5", "10.87.0", prefix=18), scratch() as folder, running(
            named_python(folder, "inventoryd", CLIENT)):
        yield


DRILL = Drill("neighbours", "neighbour_table_full", ("inventoryd",), inject, seconds=45, needs=("ip",))
