"""Memory of the whole host: what is free, what could be freed, and what holds the rest.

Reads:  /proc/meminfo
Emits:  memory_*
Needs:  Linux >= 3.14 for memory_available_*
Source: Documentation/filesystems/proc.rst, "meminfo"
"""

from dataclasses import dataclass
from math import isnan

from collector.onefile import OneFile
from collector.table import NAN, Column, emits, value_after
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec

KIB = 1024.0


def _bytes(name: str, text: str) -> Column:
    return Column(f"memory_{name}_bytes", "bytes", "gauge", text)


def _ratio(name: str, text: str) -> Column:
    return Column(f"memory_{name}_ratio", "ratio", "gauge", text)


COLUMNS = (
    _bytes("total", "memory the kernel manages"),
    _bytes("free", "memory nobody uses"),
    _bytes("available", "memory that could be had without swapping, as the kernel estimates it"),
    _bytes("cached", "page cache, shared memory included"),
    _bytes("anon", "memory of processes without a file behind it"),
    _bytes("shmem", "shared memory and tmpfs"),
    _bytes("slab", "kernel objects"),
    _bytes("dirty", "page cache that waits to be written"),
    _bytes("writeback", "page cache that is being written"),
    _bytes("page_tables", "page tables"),
    _bytes("huge_page", "memory set aside for hugetlb pages"),
    _bytes("swap_used", "swap space in use"),
    _ratio("available", "available over total"),
    _ratio("swap_used", "used over all swap space"),
    _ratio("committed", "promised memory over the commit limit"),
)
_KEYS = tuple(f"\n{k}:".encode() for k in (
    "MemTotal", "MemFree", "MemAvailable", "Cached", "AnonPages", "Shmem", "Slab", "Dirty", "Writeback", "PageTables",
    "Hugetlb",
))


def parse_meminfo(data: bytes) -> list[float]:
    """Gauges in the order of COLUMNS, in bytes and ratios; NaN for what this kernel does not tell.

    Raises NoData for an empty file, Broken where MemTotal is missing.
    """
    if not data:
        raise NoData("empty")
    lines = b"\n" + data
    sizes = [value_after(lines, k) * KIB for k in _KEYS]
    total, available = sizes[0], sizes[2]
    if not total > 0:
        raise Broken("MemTotal is missing")
    if isnan(sizes[-1]):  # "Hugetlb" came with 4.18
        sizes[-1] = value_after(lines, b"\nHugePages_Total:") * value_after(lines, b"\nHugepagesize:") * KIB
    swap = value_after(lines, b"\nSwapTotal:")
    swap_used = swap - value_after(lines, b"\nSwapFree:")
    limit = value_after(lines, b"\nCommitLimit:")
    committed = value_after(lines, b"\nCommitted_AS:") / limit if limit > 0 else NAN
    return [*sizes, swap_used * KIB, available / total, swap_used / swap if swap > 0 else NAN, committed]


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Memory(OneFile):
    """Collector of /proc/meminfo."""

    path = "proc/meminfo"
    columns = COLUMNS

    @staticmethod
    def parse(data: bytes) -> list[float]:
        """See parse_meminfo()."""
        return parse_meminfo(data)


COLLECTOR = CollectorSpec(
    name="memory", config=Config, build=Memory, reads="/proc/meminfo", emits=emits(COLUMNS),
    source="Documentation/filesystems/proc.rst",
)
