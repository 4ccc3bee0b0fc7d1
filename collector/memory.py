"""Memory of the whole host: what is free, what could be freed, and what holds the rest.

Reads:  /proc/meminfo, every line of it but constants
Emits:  memory_*
Needs:  Linux >= 3.14 for memory_available_*
Source: Documentation/filesystems/proc.rst, "meminfo"; Documentation/admin-guide/mm/hugetlbpage.rst
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan

import numpy as np

from collector.keyed import Item, Keyed, KeyedFile, first_places, parse_pairs
from collector.table import NAN, Column, emits, text
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec
from etio.core.series import Series

KIB = 1024.0


def _bytes(name: str, text: str) -> Column:
    return Column(f"memory_{name}_bytes", "bytes", "gauge", text)


def _ratio(name: str, text: str) -> Column:
    return Column(f"memory_{name}_ratio", "ratio", "gauge", text)


def _pages(name: str, text: str) -> Column:
    return Column(f"memory_{name}_pages", "pages", "gauge", text)


_SIZES = (
    (_bytes("total", "memory the kernel manages"), "MemTotal:"),
    (_bytes("free", "memory nobody uses"), "MemFree:"),
    (_bytes("available", "memory that could be had without swapping, as the kernel estimates it"), "MemAvailable:"),
    (_bytes("cached", "page cache, shared memory included"), "Cached:"),
    (_bytes("anon", "memory of processes without a file behind it"), "AnonPages:"),
    (_bytes("shmem", "shared memory and tmpfs"), "Shmem:"),
    (_bytes("slab", "kernel objects"), "Slab:"),
    (_bytes("dirty", "page cache that waits to be written"), "Dirty:"),
    (_bytes("writeback", "page cache that is being written"), "Writeback:"),
    (_bytes("page_tables", "page tables"), "PageTables:"),
    (_bytes("huge_page", "memory set aside for hugetlb pages"), "Hugetlb:"),
    (_bytes("slab_reclaimable", "kernel objects that can be given up: inodes, dentries"), "SReclaimable:"),
    (_bytes("slab_unreclaimable", "kernel objects that cannot be given up; growth without end is a leak"),
     "SUnreclaim:"),
    (_bytes("kernel_reclaimable", "kernel memory that can be given up, slab or not"), "KReclaimable:"),
    (_bytes("committed", "memory promised to processes"), "Committed_AS:"),
)
_COUNTS = (
    (_pages("hugetlb_total", "hugetlb pages of the default size that exist"), "HugePages_Total:"),
    (_pages("hugetlb_free", "hugetlb pages that nobody uses"), "HugePages_Free:"),
    (_pages("hugetlb_reserved", "hugetlb pages promised and not yet used"), "HugePages_Rsvd:"),
    (_pages("hugetlb_surplus", "hugetlb pages above nr_hugepages"), "HugePages_Surp:"),
)
_SWAP_USED, _AVAILABLE, _SWAP_RATIO, _COMMITTED = "=swap used", "=available", "=swap used/all", "=committed"
_MADE = (
    (_bytes("swap_used", "swap space in use"), _SWAP_USED),
    (_ratio("available", "available over total"), _AVAILABLE),
    (_ratio("swap_used", "used over all swap space"), _SWAP_RATIO),
    (_ratio("committed", "promised memory over the commit limit"), _COMMITTED),
)
"""What is worked out of several lines, under names that no line has."""
_OWN_NAMES = {key: column for column, key in (*_SIZES, *_COUNTS, *_MADE)}
COLUMNS = (
    *(column for column, _ in (*_SIZES, *_MADE, *_COUNTS)),
    Column("memory_*_bytes", "bytes", "gauge", "any other line of /proc/meminfo, under the kernel's name for it"),
)
_SKIP = frozenset(("VmallocTotal:", "VmallocChunk:", "Hugepagesize:", "NFS_Unstable:"))
"""Constants: the size of the address space, a setting, and two lines that are 0 since 4.4 and 5.9."""


def parse_meminfo(data: bytes) -> Keyed:
    """Names with their colon and what is worked out of them; bytes, pages (HugePages_*) and ratios.

    Raises NoData for an empty file, Broken where MemTotal is missing.
    """
    if not data:
        raise NoData("empty")
    if data.count(b" kB\n") + data.count(b"\nHugePages_") != data.count(b"\n"):
        data = _only_known_units(data)
    names, values = parse_pairs(data.replace(b" kB\n", b"\n"))
    pages = [i for i, n in enumerate(names) if n.startswith(b"HugePages_")]
    kept = values[pages]
    values = values * KIB
    values[pages] = kept
    made = _worked_out(dict(zip(names, values.tolist(), strict=True)))
    return names + [k.encode() for k in made], np.concatenate([values, list(made.values())])


def _only_known_units(data: bytes) -> bytes:
    """The lines whose unit is certain; a number without one could be anything."""
    lines = data.splitlines(keepends=True)
    return b"".join(n for n in lines if n.endswith(b" kB\n") or (n.startswith(b"HugePages_") and n.endswith(b"\n")))


def _worked_out(size: dict[bytes, float]) -> dict[str, float]:
    total = size.get(b"MemTotal:", NAN)
    if not total > 0:
        raise Broken("MemTotal is missing")
    swap = size.get(b"SwapTotal:", NAN)
    used = swap - size.get(b"SwapFree:", NAN)
    limit = size.get(b"CommitLimit:", NAN)
    made = {
        _SWAP_USED: used, _AVAILABLE: size.get(b"MemAvailable:", NAN) / total,
        _SWAP_RATIO: used / swap if swap > 0 else NAN,
        _COMMITTED: size.get(b"Committed_AS:", NAN) / limit if limit > 0 else NAN,
    }
    if b"Hugetlb:" not in size:  # came with 4.18
        made["Hugetlb:"] = size.get(b"HugePages_Total:", NAN) * size.get(b"Hugepagesize:", NAN)
    return {k: v for k, v in made.items() if not isnan(v)}


def plan(names: list[bytes]) -> Iterator[Item]:
    """The series of a kernel with these lines: the named ones, then every other line under the kernel's name."""
    place = first_places([text(n) for n in names])
    for key, column in _OWN_NAMES.items():
        if key in place:
            yield Item(column.series(), (place[key],))
    for key, at in place.items():
        if key not in _OWN_NAMES and key not in _SKIP and not key.startswith("HugePages_"):
            yield Item(Series(f"memory_{snake(key)}_bytes", "bytes"), (at,))


def snake(key: str) -> str:
    """A name of /proc/meminfo in snake case.

    >>> [snake(k) for k in ("Active(anon):", "SwapTotal:", "DirectMap2M:", "Committed_AS:")]
    ['active_anon', 'swap_total', 'direct_map_2m', 'committed_as']
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Memory(KeyedFile):
    """Collector of /proc/meminfo."""

    path = "proc/meminfo"
    parse = staticmethod(parse_meminfo)
    plan = staticmethod(plan)


COLLECTOR = CollectorSpec(
    name="memory", config=Config, build=Memory, reads="/proc/meminfo", emits=emits(COLUMNS),
    source="Documentation/filesystems/proc.rst",
)
