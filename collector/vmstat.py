"""Virtual memory events: faults, swapping, reclaim, compaction, NUMA balancing.

Reads:  /proc/vmstat
Emits:  vm_* rates
Needs:  CONFIG_VM_EVENT_COUNTERS for all but the page in/out rates
Source: Linux mm/vmstat.c (vmstat_text); Documentation/admin-guide/mm/numa_memory_policy.rst
"""

from dataclasses import dataclass
from math import isnan

from collector.onefile import OneFile
from collector.table import NAN, Column, emits, value_after
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec

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
COLUMNS = tuple(Column(name, "KiB/s" if "_kib_" in name else "1/s", "counter", text) for name, text, _ in _SUMS)
_KEYS = tuple(tuple(f"\n{k} ".encode() for k in keys) for _, _, keys in _SUMS)


def parse_vmstat(data: bytes) -> list[float]:
    """Cumulative counters in the order of COLUMNS; NaN for what this kernel does not count.

    Raises NoData for an empty file, Broken where not one known counter is found.
    """
    if not data:
        raise NoData("empty")
    lines = b"\n" + data
    values = [_total(lines, keys) for keys in _KEYS]
    if all(map(isnan, values)):
        raise Broken("holds none of the counters of vmstat")
    return values


def _total(lines: bytes, keys: tuple[bytes, ...]) -> float:
    """The first counter where it is there, else the sum of those it was split into."""
    whole = value_after(lines, keys[0])
    if not isnan(whole) or len(keys) == 1:
        return whole
    parts = [v for v in (value_after(lines, k) for k in keys[1:]) if not isnan(v)]
    return sum(parts) if parts else NAN


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Vmstat(OneFile):
    """Collector of /proc/vmstat."""

    path = "proc/vmstat"
    columns = COLUMNS

    @staticmethod
    def parse(data: bytes) -> list[float]:
        """See parse_vmstat()."""
        return parse_vmstat(data)


COLLECTOR = CollectorSpec(
    name="vmstat", config=Config, build=Vmstat, reads="/proc/vmstat", emits=emits(COLUMNS),
    source="mm/vmstat.c",
)
