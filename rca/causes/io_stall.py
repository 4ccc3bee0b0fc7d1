"""A device or file system has stopped answering."""

from rca.spec import CauseSpec, Check, Happened, Shown, Table
from rca.stuck import stalled, waits_for_io

CAUSE = CauseSpec(
    id="io_stall",
    title="stalled I/O",
    mechanism="A device or a frozen file system completes no request, so every task that needs it sleeps.",
    source="kernel docs admin-guide/iostats (in flight), accounting/psi; fsfreeze(8)",
    alerts=("IoStalled", "DiskSlow", "BlockDeviceErrors", "TasksStuck", "HungTask", "RemoteFilesystemGone"),
    tables=(
        Table(
            label="device",
            needs=(
                (Check("disk_inflight_requests", ">=", 1.0),),
                (Check("disk_reads_per_second", "<=", 0.2),),
                (Check("disk_writes_per_second", "<=", 0.2),),
                (Check("pressure_io_some_ratio", ">=", 0.5, factor=2.0), Check("cpu_blocked_tasks", ">=", 1.0)),
            ),
            supports=(Check("pressure_io_full_ratio", ">=", 0.5, factor=2.0), Check("cpu_blocked_tasks", ">=", 1.0),
                      Check("disk_busy_ratio", ">=", 0.9), Check("block_errors_per_second", ">=", 0.01, "mean")),
        ),
        Table(
            # No device has a request in flight, yet tasks wait: the stop is above the block layer.
            needs=(
                (Check("pressure_io_full_ratio", ">=", 0.7, factor=2.0), Check("cpu_blocked_tasks", ">=", 3.0)),
                (Check("disk_inflight_requests", "<=", 0.0),),
            ),
            supports=(Check("cpu_blocked_tasks", ">=", 1.0), Check("pressure_io_some_ratio", ">=", 0.7, factor=2.0)),
            refutes=(Check("disk_reads_per_second", ">=", 20.0, why="disks answer"),
                     Check("disk_writes_per_second", ">=", 20.0, why="disks answer"),
                     Check("disk_inflight_requests", ">=", 1.0, why="a disk has requests in flight")),
            headlines=("Tasks wait for I/O that never reaches a disk",),
            summary=(
                "All tasks waited for I/O {pressure_io_full_ratio} of the time {pressure_io_full_ratio:ref}, yet no "
                "disk has a request in flight {disk_inflight_requests:ref}.",
                "{cpu_blocked_tasks} tasks are blocked in the kernel {cpu_blocked_tasks:ref}.",
                "A frozen file system or a network file system whose server is away looks like that.",
            ),
        ),
        Table(
            # What waits on a lock above the block layer counts neither as blocked nor as I/O pressure: only it hangs.
            needs=(
                (Check("task_stuck_seconds_max", ">=", 3.0, "peak"), Happened(("hung_task",))),
                (Shown(waits_for_io),),
            ),
            supports=(Check("task_uninterruptible", ">=", 1.0), Happened(("hung_task",)),
                      Happened(("nfs_not_responding",)), Check("pressure_io_some_ratio", ">=", 0.5, factor=2.0)),
            headlines=("Tasks hang in the kernel: they wait for {who}", "Tasks hang in the kernel, waiting for I/O"),
            summary=(
                "{claim} {blame:ref}.",
                "The longest of them did not run for {task_stuck_seconds_max} {task_stuck_seconds_max:ref}.",
                "Processes in uninterruptible sleep: {task_uninterruptible} {task_uninterruptible:ref}.",
                "The kernel itself has reported a hung task {hung_task:ref}.",
            ),
        ),
    ),
    headlines=("Disk {entity} has stopped answering",),
    summary=(
        "{entity} holds {disk_inflight_requests} requests {disk_inflight_requests:ref} and completed none "
        "{disk_writes_per_second:ref}.",
        "Some task waited for I/O {pressure_io_some_ratio} of the time {pressure_io_some_ratio:ref}.",
        "{cpu_blocked_tasks} tasks are blocked in the kernel {cpu_blocked_tasks:ref}.",
    ),
    tell_apart="requests in flight and completed per disk, and what tasks in state D wait for (/proc/PID/stack)",
    explains=("disk_saturation",),
    specific=3,
    blame=stalled,
    culprit_needed=False,
)
