"""Gives memory back that only rare work needed: what remains is what the daemon uses all the time.

Three habits make a process grow that loads big libraries and works now and then: each thread gets an arena of its own
and keeps what it once needed, freed blocks stay with the allocator, and code that ran once (start-up, a report, a
query) stays mapped. Clean pages of a library are still in the page cache when they are let go; the next call maps them
again, sixteen at a time, without reading the disk. Measured figures: docs/memory.md.
"""

import ctypes
import gc
import importlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from etio.daemon.pagewise import Pagewise
from etio.store.duck import give_back

log = logging.getLogger(__name__)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MADV_DONTNEED = 4
ARENAS = 2
MAPPED_FROM = 512 * 1024
"""Blocks from this size on are mapped on their own, and go back to the kernel as soon as they are freed."""
TRIM_FROM = 4 * 1024 * 1024
FIRST_S, EVERY_S = 20.0, 60.0
ANON_STEP = 2 * 1024 * 1024
FILE_STEP = 4 * 1024 * 1024
"""Growth since the last look that is worth a look."""
AT_LEAST_EVERY = 5
"""Looks after which it is done without growth: what was in use then may not be now."""
LIBRARY_FROM = 512 * 1024
READ_ONLY = frozenset(("r-xp", "r--p"))
_HEAD = re.compile(r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<mode>\S{4}) \S+ \S+ \d+ *(?P<path>.*)")
PAGE = os.sysconf("SC_PAGE_SIZE")


def tame_allocator() -> None:
    """Few arenas, big blocks on their own, no huge pages for what is half empty. Before any thread is started."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc; elsewhere nothing of this applies
        libc.mallopt(M_ARENA_MAX, ARENAS)
        libc.mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_FROM)
    set_huge = getattr(importlib.import_module("numpy._core.multiarray"), "_set_madvise_hugepage", None)
    if set_huge is not None:
        set_huge(0)


def trim_heap() -> None:
    """Gives freed blocks back to the kernel, those of DuckDB too, and rings of objects that nobody holds."""
    gc.collect()  # some milliseconds: what is there since the start is frozen
    give_back()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Address and length of a read-only mapping of a library that holds nothing but what is in the file."""

    start: int
    length: int


def clean_libraries(smaps: Iterator[str] | None = None) -> tuple[Mapping, ...]:
    """Big read-only mappings of shared libraries without a page of their own (relocated tables have such pages)."""
    if smaps is None:
        with open("/proc/self/smaps", encoding="utf-8", errors="replace") as file:
            return clean_libraries(iter(file))
    found, current = [], None
    for line in smaps:
        if head := _HEAD.match(line):
            current = _library(head) if head["mode"] in READ_ONLY and head["path"].startswith("/") else None
        elif current is not None and line.startswith("Anonymous:"):
            if line.split()[1:2] == ["0"]:
                found.append(current)
            current = None
    return tuple(found)


def _library(head: re.Match[str]) -> Mapping | None:
    """The mapping of one head line of smaps, or None where it is none that may be let go."""
    start, length = int(head["start"], 16), int(head["end"], 16) - int(head["start"], 16)
    return Mapping(start, length) if length >= LIBRARY_FROM and ".so" in head["path"] else None


def let_go(mappings: tuple[Mapping, ...]) -> None:
    """Unmaps the pages; they come back from the page cache when they are used."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for one in mappings:
        libc.madvise(one.start, one.length, MADV_DONTNEED)


def resident() -> tuple[int, int]:
    """Bytes of this process now: (anonymous, of files). Raises OSError."""
    with open("/proc/self/statm", "rb") as file:
        words = file.read().split()
    total, shared = int(words[1]) * PAGE, int(words[2]) * PAGE
    return total - shared, shared


@dataclass(slots=True)
class Thrift:
    """What is there after each giving back is the measure: only growth beyond it is worth another one."""

    anon: int = 0
    file: int = 0
    gave: bool = False
    looks: int = 0
    pages: Pagewise = field(default_factory=Pagewise)

    def step(self) -> None:
        """One look. Raises OSError where the kernel does not tell."""
        anon, file = resident()
        if self.gave:  # a minute later: what is back is in use
            self.gave, self.anon, self.file, self.looks = False, anon, file, 0
            return
        self.looks += 1
        idle = self.looks >= AT_LEAST_EVERY
        if idle or file > self.file + FILE_STEP:
            mappings = clean_libraries()
            self.pages.add((one.start, one.length) for one in mappings)
            let_go(mappings)
            self.gave = True
        if idle or anon > self.anon + ANON_STEP:
            trim_heap()
            self.gave = True


class Tidy(threading.Thread):
    """Looks once a minute; costs some milliseconds when there is something to give back, else some microseconds."""

    def __init__(self) -> None:
        super().__init__(name="tidy", daemon=True)
        self._end = threading.Event()
        self._thrift = Thrift()

    def run(self) -> None:
        """The thread."""
        wait_s = FIRST_S  # what only the start needed
        while not self._end.wait(wait_s):
            wait_s = EVERY_S
            try:
                self._thrift.step()
            except OSError as error:
                log.info("memory is not given back: %s", error)
                return

    def stop(self) -> None:
        """Ends the thread."""
        self._end.set()
