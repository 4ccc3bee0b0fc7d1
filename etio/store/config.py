"""Settings of the store."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Section [store].

    directory: the state folder; everything the store writes lies in it.
    raw_days: days of full-resolution samples, today included; older days keep only their roll-ups.
    retention_days: days of anything at all. max_bytes: of all day files together; the oldest go first.
    min_free_bytes: below this much free space on the volume no samples are written.
    batch_seconds: how long samples are gathered; a kill -9 loses at most this much.
    queue_frames: frames that may wait for the writer; more are dropped and counted.
    memory_limit_mb: DuckDB's buffers in the daemon; compact_memory_mb: in the compaction child.
    window_cells: largest window() in values; longer ranges come from roll-ups.
    compact: sort closed days and make their roll-ups, in a child process.
    """

    directory: str = "/var/lib/etio"
    raw_days: int = 7
    retention_days: int = 90
    max_bytes: int = 4096 * MIB
    min_free_bytes: int = 256 * MIB
    batch_seconds: float = 10.0
    queue_frames: int = 120
    memory_limit_mb: int = 32
    compact_memory_mb: int = 64
    window_cells: int = 6_000_000
    compact: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for a setting that cannot work."""
        for name in ("raw_days", "retention_days", "max_bytes", "queue_frames", "window_cells"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.min_free_bytes < 0:
            raise ValueError("min_free_bytes must not be negative")
        if not 0.05 <= self.batch_seconds <= 60:
            raise ValueError("batch_seconds must lie between 0.05 and 60")
        if min(self.memory_limit_mb, self.compact_memory_mb) < 16:
            raise ValueError("memory_limit_mb and compact_memory_mb must be at least 16")
        if not self.directory.startswith("/"):
            raise ValueError("directory must be an absolute path")
