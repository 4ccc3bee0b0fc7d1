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

__all__ = ["duckdb", "give_back"]
EVERY_ARENA = b"arena.4096.purge"
"""MALLCTL_ARENAS_ALL of jemalloc 5."""


def give_back() -> bool:
    """Hands what DuckDB's own allocator (jemalloc) keeps for later back to the kernel; takes less than a millisecond.

    It would do so itself some seconds after a block was freed, if only it were called then. False where it is built
    otherwise.
    """
    control = _control()
    return control is not None and control(EVERY_ARENA, None, None, None, 0) == 0


@cache
def _control() -> "ctypes._NamedFuncPointer | None":
    file = getattr(duckdb, "__file__", None)
    control = getattr(ctypes.CDLL(file), "duckdb_je_mallctl", None) if file else None
    if control is not None:
        control.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    return control
