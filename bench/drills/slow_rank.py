"""One rank of a training job computes 30 % longer than the other three."""

import contextlib
import time
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._gpu_job import training
from bench.drills._tools import scratch

LEARN_S = 25.0
"""The job runs healthily for so long before."""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Four ranks on stand-ins for NCCL and CUDA; the third becomes slower."""
    with scratch() as folder, training(folder) as job:
        time.sleep(LEARN_S)
        job.slow(2)
        yield


DRILL = Drill("slow_rank", "slow_rank", ("trainer-2",), inject, needs=("gcc",))
