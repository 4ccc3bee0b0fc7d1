"""DuckDB's engine without the Python package around it: `import duckdb` costs 6 MB more, for helpers we never call."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
else:
    try:
        import _duckdb as duckdb
    except ImportError:  # another version, laid out otherwise: pay the full price
        import duckdb

__all__ = ["duckdb"]
