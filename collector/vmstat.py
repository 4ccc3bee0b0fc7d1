"""Virtual memory: faults, swapping, reclaim, compaction, NUMA balancing, and what the pages are used for.

Reads:  /proc/vmstat, every line of it
Emits:  vm_*
Needs:  CONFIG_VM_EVENT_COUNTERS for the events
Source: Linux mm/vmstat.c (vmstat_text); include/linux/mmzone.h; include/linux/vm_event_item.h
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from collector.keyed import Item, Keyed, KeyedFile, first_places, parse_pairs
from collector.table import Column, emits, text
from etio.core.errors import Broken
from etio.core.ports import CollectorSpec
from etio.core.series import Series

_ZONES = ("dma", "dma32", "normal", "high", "movable", "device")
# Column, its meaning, the counter and what it was split into by some kernels
# (pgscan_* by zone until 4.8, allocstall by zone since 4.10, workingset_refault by type since 5.9).
_SUMS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("vm_page_faults_per_second", "page faults, minor and major", ("pgfault",)),
    ("vm_major_faults_per_second", "page faults that had to read", ("pgmajfault",)),
    ("vm_swap_in_pages_per_second", "pages read from swap", ("pswpin",)),
    ("vm_swap_out_pages_per_second", "pages written to swap", ("pswpout",)),
    ("vm_direct_scan_pages_per_second", "pages scanned by allocating tasks themselves",
     ("pgscan_direct", *(f"pgscan_direct_{z}" for z in _ZONES))),
    ("vm_kswapd_scan_pages_per_second", "pages scanned by kswapd",
     ("pgscan_kswapd", *(f"pgscan_kswapd_{z}" for z in _ZONES))),
    ("vm_direct_steal_pages_per_second", "pages reclaimed by allocating tasks themselves",
     ("pgsteal_direct", *(f"pgsteal_direct_{z}" for z in _ZONES))),
    ("vm_alloc_stalls_per_second", "allocations that had to reclaim first",
     ("allocstall", *(f"allocstall_{z}" for z in _ZONES))),
    ("vm_oom_kills_per_second", "tasks killed for want of memory", ("oom_kill",)),
    ("vm_compact_stalls_per_second", "allocations that had to compact memory first", ("compact_stall",)),
    ("vm_thp_fault_fallbacks_per_second", "faults that found no huge page", ("thp_fault_fallback",)),
    ("vm_page_in_kib_per_second", "KiB read from block devices", ("pgpgin",)),
    ("vm_page_out_kib_per_second", "KiB written to block devices", ("pgpgout",)),
    ("vm_numa_pages_migrated_per_second", "pages moved to another node by NUMA balancing", ("numa_pages_migrated",)),
    ("vm_numa_hint_faults_per_second", "faults NUMA balancing caused in order to look", ("numa_hint_faults",)),
    ("vm_workingset_refaults_per_second", "pages read again soon after eviction: thrashing",
     ("workingset_refault", "workingset_refault_anon", "workingset_refault_file")),
)
NAMED = tuple(Column(name, "KiB/s" if "_kib_" in name else "1/s", "counter", text) for name, text, _ in _SUMS)
COLUMNS = (
    *NAMED,
    Column("vm_*_per_second", "1/s", "counter", "any other event of /proc/vmstat, under the kernel's name for it"),
    Column("vm_*pages", "pages", "gauge", "any other nr_* of /proc/vmstat: pages in that use"),
    Column("vm_*_hugepages", "huge pages", "gauge", "transparent huge pages in that use"),
    Column("vm_kernel_stack_kib", "KiB", "gauge", "stacks of kernel and user tasks inside the kernel"),
    Column("vm_*", "1", "gauge", "any other number of /proc/vmstat that is not known to be a counter"),
)
_SKIP = frozenset(("nr_unstable", "nr_memmap_boot_pages"))
"""Constants: the first is printed for old readers, the second is settled at boot."""
_EVENTS_AMONG_USES = re.compile(
    r"nr_(dirtied|written|throttled_written|foll_pin_(acquired|released)|vmscan_\w+|tlb_\w+)$"
)
"""nr_* that only grow (node_stat_item holds both kinds)."""
_EVENTS = re.compile(
    r"(pg|psw|numa_|workingset_(?!nodes$)|allocstall|zone_reclaim_|slabs_|kswapd_|pageoutrun$|drop_|oom_|compact_|htlb_|"
    r"unevictable_pgs_|thp_|balloon_|swap_ra|swpin|swpout|zsw|ksm_|cow_|direct_map_|cma_alloc|vma_lock_|kstack_)"
)
"""Everything behind the nr_* is an event but for single gauges; an unknown name is not taken for one."""
_HUGE = frozenset(("anon_transparent_hugepages", "shmem_hugepages", "file_hugepages"))
_HUGE_MAPPED = frozenset(("shmem_pmdmapped", "file_pmdmapped"))
_KIB = frozenset(("kernel_stack", "shadow_call_stack"))
_ODD_NAMES = {"free_pages_blocks": "free_pageblock_pages"}


def parse_vmstat(data: bytes) -> Keyed:
    """Names and numbers. Raises NoData for an empty file, Broken where not one line is of that form."""
    names, values = parse_pairs(data)
    if not any(c.isalpha() for c in names[0].decode("latin-1")):
        raise Broken(f"begins with {names[0][:20]!r} instead of a name")
    return names, values


def plan(names: list[bytes]) -> Iterator[Item]:
    """The series of a kernel with these lines: the named ones, then every other line under the kernel's name."""
    place = first_places([text(n) for n in names])
    told = set(_SKIP)
    for column, (_, _, keys) in zip(NAMED, _SUMS, strict=True):
        parts = keys[:1] if keys[0] in place else tuple(k for k in keys[1:] if k in place)
        if parts:
            yield Item(column.series(), tuple(place[k] for k in parts))
        if len(parts) == 1:
            told.add(parts[0])
    for key, at in place.items():
        if key not in told:
            yield Item(other_series(key), (at,))


def other_series(key: str) -> Series:
    """The series of a line that has no name of our own.

    >>> other_series("pgrotated").name, other_series("nr_dirtied").kind, other_series("nr_anon_pages").name
    ('vm_pgrotated_per_second', 'counter', 'vm_anon_pages')
    """
    word = re.sub(r"[^a-z0-9_]+", "_", key.lower())
    use = word.removeprefix("nr_")
    if _EVENTS_AMONG_USES.match(word) or _EVENTS.match(word):
        return Series(f"vm_{use}_per_second", "1/s", "counter")
    if use in _HUGE or use in _HUGE_MAPPED:
        return Series(f"vm_{use}_hugepages" if use in _HUGE_MAPPED else f"vm_{use}", "huge pages")
    if use in _KIB:
        return Series(f"vm_{use}_kib", "KiB")
    if use == word:
        return Series(f"vm_{word}", "1")
    use = _ODD_NAMES.get(use, use)
    return Series(f"vm_{use}" if use.endswith("pages") else f"vm_{use}_pages", "pages")


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Vmstat(KeyedFile):
    """Collector of /proc/vmstat."""

    path = "proc/vmstat"
    parse = staticmethod(parse_vmstat)
    plan = staticmethod(plan)


COLLECTOR = CollectorSpec(
    name="vmstat", config=Config, build=Vmstat, reads="/proc/vmstat", emits=emits(COLUMNS),
    source="mm/vmstat.c",
)
