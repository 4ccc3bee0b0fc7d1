"""The two classes of uvicorn that we use, without its command line.

`import uvicorn` runs its package's ``__init__``, which loads the command line with click, reloaders and
multiprocessing: 2 MB that a server inside another program never calls. Here the package is entered without it; the
placeholder is taken away again at once, and whoever imports uvicorn later finds it whole, with the same classes.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import Server

__all__ = ["Config", "Server"]
_NAMED = ("uvicorn.loops.asyncio", "uvicorn.lifespan.off", "uvicorn.protocols.http.h11_impl")
"""What uvicorn imports by name when it starts, in the configuration that api.server gives it."""


@contextmanager
def _bare_package() -> Iterator[None]:
    """Stands a placeholder in for the package, unless it is loaded already."""
    found = importlib.util.find_spec("uvicorn")
    if "uvicorn" in sys.modules or found is None:
        yield
        return
    bare = ModuleType("uvicorn")
    bare.__path__ = list(found.submodule_search_locations or ())
    sys.modules["uvicorn"] = bare
    try:
        bare.__dict__["Config"] = importlib.import_module("uvicorn.config").Config  # some modules ask the package
        yield
    finally:
        del sys.modules["uvicorn"]


def __getattr__(name: str) -> type:
    """Config and Server, loaded at their first use. Raises ImportError where uvicorn is not installed."""
    if name not in __all__:
        raise AttributeError(name)
    try:
        with _bare_package():
            found: type = getattr(importlib.import_module(f"uvicorn.{name.lower()}"), name)
            for one in _NAMED:
                importlib.import_module(one)
    except (ImportError, AttributeError):  # another version, laid out otherwise: pay the full price
        found = getattr(importlib.import_module("uvicorn"), name)
    return found
