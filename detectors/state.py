"""Snapshots of detectors as bytes and back, without pickle: a file of state can be wrong, but it cannot run code."""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from etio.core.errors import Broken

SKELETON = "skeleton.json"


def to_bytes(state: Mapping[str, Any]) -> bytes:
    """A snapshot (dicts, lists, texts, numbers, arrays) as a zip archive of a JSON skeleton and its arrays.

    >>> back = from_bytes(to_bytes({"t_ns": 5, "part": {"keys": ["a"], "x": np.array([1.0, np.nan])}}))
    >>> back["part"]["keys"], back["part"]["x"]
    (['a'], array([ 1., nan]))
    """
    arrays: list[np.ndarray[Any, Any]] = []

    def walk(value: Any) -> Any:
        """JSON in which arrays are replaced by their number."""
        if isinstance(value, np.ndarray):
            arrays.append(value)
            return {"array": len(arrays) - 1}
        if isinstance(value, Mapping):
            return {"dict": {key: walk(item) for key, item in value.items()}}
        if isinstance(value, (list, tuple)):
            return {"list": [walk(item) for item in value]}
        return value

    skeleton = json.dumps(walk(state))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(_entry(SKELETON), skeleton, compresslevel=1)
        for i, array in enumerate(arrays):
            whole = io.BytesIO()
            np.lib.format.write_array(whole, array, allow_pickle=False)
            archive.writestr(_entry(f"{i}.npy"), whole.getbuffer(), compresslevel=1)
    return out.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without a time of its own: a ZIP knows none before 1980, where a host without a battery may be."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def from_bytes(data: bytes) -> dict[str, Any]:
    """The snapshot that to_bytes() made `data` of. Raises Broken where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            skeleton = json.loads(archive.read(SKELETON))
            value = _fill(skeleton, archive)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError, EOFError, RuntimeError, NotImplementedError,
            RecursionError, zlib.error) as error:
        raise Broken(f"detector state: {error}") from error
    if not isinstance(value, dict):
        raise Broken("detector state: no table at the top")
    return value


def _fill(value: Any, archive: zipfile.ZipFile) -> Any:
    if isinstance(value, dict):
        ((kind, inner),) = value.items()
        if kind == "array" and isinstance(inner, int):
            with archive.open(f"{inner}.npy") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        if kind == "dict" and isinstance(inner, dict):
            return {key: _fill(item, archive) for key, item in inner.items()}
        if kind == "list" and isinstance(inner, list):
            return [_fill(item, archive) for item in inner]
        raise ValueError(f"{kind!r} holds a {type(inner).__name__}")
    return value
