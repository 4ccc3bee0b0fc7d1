"""A drive takes long to empty its cache, which every fsync() waits for."""

from rca.culprits import stalled_device
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="slow_flush",
    title="slow flushes",
    mechanism="The drive takes long to bring its cache to the medium, although few requests queue; whoever asks for "
    "durability (fsync, a commit of a database) waits for that.",
    source="kernel docs block/writeback_cache_control, admin-guide/iostats (flush requests)",
    alerts=("DiskSlow", "DiskSaturated"),
    tables=(Table(
        label="device",
        needs=((Check("disk_flush_latency_seconds", ">=", 0.050, factor=3.0),),),
        supports=(
            Check("pressure_io_some_ratio", ">=", 0.10, factor=1.5),
            Check("disk_busy_ratio", ">=", 0.50, factor=1.5),
            Check("block_latency_p99_seconds", ">=", 0.050, factor=3.0, labels=(("direction", "flush"),)),
        ),
        refutes=(
            Check("disk_queue_length", ">=", 3.0, factor=2.0, why="requests queue: more is asked of it than it can do"),
            Check("block_errors_per_second", ">=", 0.5, why="its requests fail: broken rather than slow"),
        ),
    ),),
    headlines=("Disk {entity} takes {disk_flush_latency_seconds} to make a commit durable",
               "Disk {entity} flushes its cache slowly"),
    summary=(
        "A flush of the cache of {entity} takes {disk_flush_latency_seconds} {disk_flush_latency_seconds:seen}.",
        "Each fsync() and each commit of a database waits for one.",
        "{claim} {blame:ref}.",
        "Some task waited for I/O {pressure_io_some_ratio} of the time {pressure_io_some_ratio:ref}.",
    ),
    explains=("disk_saturation",),
    tell_apart="latency of flushes against that of writes and the length of the queue (/proc/diskstats)",
    specific=3,
    blame=stalled_device,
)
