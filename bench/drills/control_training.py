"""Control: a training job whose ranks are all alike, at a pace that changes for all of them."""

import contextlib
import time
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._gpu_job import training
from bench.drills._tools import scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Four ranks; after a while every one computes 30 % longer, as with a bigger batch."""
    with scratch() as folder, training(folder) as job:
        time.sleep(20)
        for rank in range(len(job.ranks)):
            job.slow(rank)
        yield


DRILL = Drill("control_training", "", (), inject, seconds=30, needs=("gcc",))
