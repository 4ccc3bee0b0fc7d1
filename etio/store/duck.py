"""DuckDB's engine without the Python package around it: `import duckdb` costs 6 MB more, for helpers we never call."""

import ctypes
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
else:
    try:
        import _duckdb as duckdb
    except ImportError:  # another version, laid out otherwise: pay the full price
        import duckdb

__all__ = ["duckdb", "give_back", "held_bytes"]
EVERY_ARENA = b"arena.4096.purge"
"""MALLCTL_ARENAS_ALL of jemalloc 5."""
COUNT_NOW, ALLOCATED = b"epoch", b"stats.allocated"


def give_back() -> bool:
    """Hands what DuckDB's own allocator (jemalloc) keeps for later back to the kernel; takes less than a millisecond.

    It would do so itself some seconds after a block was freed, if only it were called then. False where it is built
    otherwise.
    """
    control = _control()
    return control is not None and control(EVERY_ARENA, None, None, None, 0) == 0


def held_bytes() -> int:
    """What DuckDB has allocated in this process, cached blocks and rows that are in no file yet included; 0 where it
    cannot be told. Takes some microseconds."""
    control = _control()
    if control is None:
        return 0
    epoch, found, size = ctypes.c_uint64(1), ctypes.c_size_t(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_size_t))
    control(COUNT_NOW, None, None, ctypes.byref(epoch), ctypes.sizeof(epoch))
    control(ALLOCATED, ctypes.byref(found), ctypes.byref(size), None, 0)
    return found.value


@cache
def _control() -> "ctypes._NamedFuncPointer | None":
    file = getattr(duckdb, "__file__", None)
    control = getattr(ctypes.CDLL(file), "duckdb_je_mallctl", None) if file else None
    if control is not None:
        control.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    return control
