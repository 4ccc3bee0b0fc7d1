"""Block devices and file systems: slow, full, broken."""

from etio.core.alerts.kind import AlertKind

KINDS = (
    AlertKind("DiskSaturated", "warning", ("disk_busy_ratio",), "{entity} is saturated", for_s=6),
    AlertKind("DiskSlow", "warning", ("disk_read_latency_seconds", "disk_write_latency_seconds"),
              "{entity} answers slowly", for_s=6),
    AlertKind("IoStalled", "critical", ("pressure_io_full_ratio", "cpu_blocked_tasks"), "I/O makes no progress",
              for_s=8),
    AlertKind("WritersHeldBack", "warning", ("dirty_throttle_seconds_per_second",),
              "writers sleep until their pages are on disk", for_s=8),
    AlertKind("CgroupIoThrottled", "warning", ("cgroup_io_limit_used_ratio",), "{entity} is held back by its I/O limit",
              for_s=5, grace_s=2.5),
    AlertKind("FilesystemFull", "critical", ("filesystem_used_ratio",), "{entity} is full", for_s=2),
    AlertKind("FilesystemInodesFull", "critical", ("filesystem_inodes_used_ratio",), "{entity} is out of inodes",
              for_s=2),
    AlertKind("FilesystemFillsSoon", "warning", ("filesystem_available_bytes",), "{entity} fills up", for_s=5,
              clear_s=120, grace_s=10),
    AlertKind("InodesRunOutSoon", "warning", ("filesystem_inodes_used_ratio",), "{entity} runs out of inodes", for_s=5,
              clear_s=120, grace_s=10),
    AlertKind("FilesystemReadOnly", "critical", ("filesystem_readonly",), "{entity} became read-only", for_s=0,
              clear_s=60, model="asset", events=("filesystem_readonly",)),
    AlertKind("FilesystemError", "critical", (), "the file system on {entity} is damaged", for_s=0, clear_s=60,
              model="asset", events=("filesystem_error",)),
    AlertKind("RemoteFilesystemGone", "critical", (), "{entity} of a network file system does not answer", for_s=0,
              clear_s=150, model="asset", events=("nfs_not_responding",), cleared_by=("nfs_responding",)),
    AlertKind("BlockDeviceErrors", "critical", ("block_errors_per_second",), "{entity} returns I/O errors", for_s=0,
              clear_s=60, model="asset"),
    AlertKind("KernelIoError", "critical", (), "requests to {entity} fail", for_s=0, clear_s=60, model="asset",
              events=("block_io_error", "block_device_reset")),
)
