"""Which file holds which day, and which day may go. Pure but for listing the folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from etio.store.config import StoreConfig

NS = 1_000_000_000
DAY_NS = 86_400 * NS
SUFFIX = ".duckdb"


@dataclass(frozen=True, slots=True)
class DayFile:
    """One file of one day. name: "dYYYYMMDD" (samples) or "rYYYYMMDD" (roll-ups); bytes: its size with its log."""

    name: str
    bytes: int

    @property
    def day(self) -> str:
        """The UTC day, YYYYMMDD."""
        return self.name[1:]

    @property
    def raw(self) -> bool:
        """Whether it holds samples rather than roll-ups."""
        return self.name.startswith("d")


def day_of(t_ns: int) -> str:
    """The UTC day of a moment, YYYYMMDD."""
    return datetime.fromtimestamp(t_ns // NS, UTC).strftime("%Y%m%d")


def start_of(day: str) -> int:
    """Midnight at which a UTC day begins, in nanoseconds."""
    return int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * NS


def days_before(day: str, count: int) -> str:
    """The day `count` days earlier."""
    return (datetime.strptime(day, "%Y%m%d") - timedelta(days=count)).strftime("%Y%m%d")


def raw_name(day: str) -> str:
    """Name of the file with the samples of a day."""
    return f"d{day}"


def rollup_name(day: str) -> str:
    """Name of the file with the roll-ups of a day."""
    return f"r{day}"


def is_day_name(name: str) -> bool:
    """Whether a name is that of a day file: dYYYYMMDD or rYYYYMMDD."""
    return len(name) == 9 and name[0] in "dr" and name[1:].isascii() and name[1:].isdigit()


def path_of(directory: Path, name: str) -> Path:
    """Where a database file of this name lies."""
    return directory / f"{name}{SUFFIX}"


def wal_of(path: Path) -> Path:
    """The write-ahead log beside a database file."""
    return path.with_name(path.name + ".wal")


def siblings(path: Path) -> Iterator[Path]:
    """Logs that DuckDB left beside a database file, whatever their exact name."""
    return (p for p in path.parent.glob(f"{path.name}.*") if "wal" in p.name and ".corrupt-" not in p.name)


def listing(directory: Path) -> list[DayFile]:
    """All day files, oldest first, samples before roll-ups within a day."""
    names = (p.name.removesuffix(SUFFIX) for p in directory.glob(f"[dr]????????{SUFFIX}"))
    files = [DayFile(n, _size(path_of(directory, n))) for n in names if is_day_name(n)]
    return sorted(files, key=lambda f: (f.day, f.name))


def between(files: Sequence[DayFile], start_ns: int, end_ns: int) -> list[str]:
    """The days with any file that may hold something in [start_ns, end_ns], oldest first."""
    first, last = _clamped(start_ns), _clamped(end_ns)
    return sorted({f.day for f in files if first <= f.day <= last})


def expired(files: Sequence[DayFile], today: str, config: StoreConfig) -> list[DayFile]:
    """What retention takes away: by age, then by size, oldest first; never a file of `today` or later."""
    raw_from = days_before(today, config.raw_days - 1)
    any_from = days_before(today, config.retention_days - 1)
    gone = [f for f in files if f.day < any_from or (f.raw and f.day < raw_from)]
    kept = [f for f in files if f not in gone]
    total = sum(f.bytes for f in kept)
    for file in kept:
        if total <= config.max_bytes or file.day >= today:
            break
        gone.append(file)
        total -= file.bytes
    return gone


def _clamped(t_ns: int) -> str:
    """Day of a moment that may lie far outside the calendar."""
    return day_of(min(max(t_ns, 0), 250_000_000_000 * NS))


def _size(path: Path) -> int:
    """Bytes of a file and its log; 0 for what vanished meanwhile."""
    total = 0
    for part in (path, wal_of(path)):
        try:
            total += part.stat().st_size
        except FileNotFoundError:
            continue
    return total
