"""A disk is asked for more than it can do."""

from rca.culprits import disk_user
from rca.kernel_actors import TIMES, times_of_requests
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="disk_saturation",
    title="disk saturation",
    mechanism="A disk gets requests faster than it completes them; they queue, and everybody who needs it waits.",
    source="USE method (Gregg); kernel docs admin-guide/iostats, accounting/psi",
    alerts=("DiskSaturated", "DiskSlow", "WritersHeldBack"),
    tables=(Table(
        label="device",
        needs=(
            (Check("disk_busy_ratio", ">=", 0.85),),
            # Busy alone is no saturation: a disk that serves many requests at once may be busy and fast.
            (Check("disk_queue_length", ">=", 2.0, factor=2.0), Check("pressure_io_some_ratio", ">=", 0.20, factor=2.0),
             Check("disk_write_latency_seconds", ">=", 0.010, factor=3.0),
             Check("disk_read_latency_seconds", ">=", 0.010, factor=3.0)),
        ),
        supports=(
            Check("pressure_io_some_ratio", ">=", 0.10, factor=1.5),
            Check("block_latency_p99_seconds", ">=", 0.005, factor=2.0),
            Check("block_queue_p99_seconds", ">=", 0.005, factor=2.0),
            Shown(times_of_requests, reads=TIMES),
            Check("disk_write_bytes_per_second", ">=", 1_000_000.0, factor=3.0),
            Check("disk_read_bytes_per_second", ">=", 1_000_000.0, factor=3.0),
            Check("memory_dirty_bytes", ">=", 128 * 2.0**20, factor=1.5),
            Check("memory_writeback_bytes", ">=", 32 * 2.0**20, factor=1.5),
            Check("dirty_throttle_seconds_per_second", ">=", 0.3, factor=3.0),
        ),
        refutes=(Check("block_errors_per_second", ">=", 0.5, why="its requests fail: broken rather than busy"),),
        doubts=(Check("vm_workingset_refaults_per_second", ">=", 1000.0, factor=5.0),),
    ),),
    headlines=("{who} saturates disk {entity}", "Disk {entity} is saturated"),
    summary=(
        "{entity} was busy {disk_busy_ratio} of the time {disk_busy_ratio:seen}.",
        "{disk_queue_length} requests wait in its queue {disk_queue_length:ref}.",
        "{claim} {blame:ref}.",
        "Some task waited for I/O {pressure_io_some_ratio} of the time {pressure_io_some_ratio:ref}.",
        "The slowest 1 % of its requests take {block_latency_p99_seconds} or more {block_latency_p99_seconds:ref}.",
        "{times_of_requests:said} {times_of_requests:ref}.",
        "Writers were held back {dirty_throttle_seconds_per_second} until their pages were on disk "
        "{dirty_throttle_seconds_per_second:ref}.",
    ),
    explains=("dirty_throttling",),
    tell_apart="queue length and latency of the disk, and who issues its requests (eBPF block, or /proc/PID/io)",
    specific=2,
    blame=disk_user,
)
