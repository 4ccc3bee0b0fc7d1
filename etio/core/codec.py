"""Frozen dataclasses to JSON and back, without loss (NaN is null)."""

import dataclasses
import json
import math
import types
import typing
from functools import cache
from typing import Any, TypeVar

from etio.core.errors import Broken

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dataclasses to dicts, tuples to lists, NaN and infinities to null and strings; ready for json.dumps."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON text of a dataclass or of plain values."""
    return json.dumps(to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def loads(cls: type[T], text: str | bytes) -> T:
    """The dataclass `cls` from its JSON text. Raises Broken naming the field that does not fit."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Broken(f"{cls.__name__}: no JSON: {error}") from error
    return from_plain(cls, data)


def from_plain(cls: type[T], data: Any, where: str = "") -> T:
    """The value of type `cls` that to_plain() made `data` of. Raises Broken naming the place."""
    return typing.cast(T, _decode(cls, data, where or getattr(cls, "__name__", str(cls))))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(kind: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _decode_dataclass(kind, data, where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, data, where)
    if origin is tuple:
        return _decode_tuple(args, data, where)
    if origin is dict:
        return _decode_dict(args, data, where)
    if origin is typing.Literal:
        if data not in args:
            raise Broken(f"{where}: {data!r} is none of {', '.join(map(str, args))}")
        return data
    if kind is float:
        return _decode_float(data, where)
    if kind in (int, str, bool) and type(data) is not kind:
        raise Broken(f"{where}: expected {kind.__name__}, got {type(data).__name__}")
    return data


def _decode_dataclass(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise Broken(f"{where}: expected an object, got {type(data).__name__}")
    hints = _hints(kind)
    if unknown := set(data) - set(hints):
        raise Broken(f"{where}: unknown field {sorted(unknown)[0]!r}")
    values = {name: _decode(hints[name], item, f"{where}.{name}") for name, item in data.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise Broken(f"{where}: {error}") from error


def _decode_union(args: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in args:
        return None
    problems = []
    for arg in (a for a in args if a is not type(None)):
        try:
            return _decode(arg, data, where)
        except Broken as error:
            problems.append(str(error))
    raise Broken(problems[0] if problems else f"{where}: nothing fits")


def _decode_tuple(args: tuple[Any, ...], data: Any, where: str) -> Any:
    if not isinstance(data, list):
        raise Broken(f"{where}: expected a list, got {type(data).__name__}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_decode(args[0], v, f"{where}[{i}]") for i, v in enumerate(data))
    if len(args) != len(data):
        raise Broken(f"{where}: expected {len(args)} items, got {len(data)}")
    return tuple(_decode(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, data, strict=True)))


def _decode_dict(args: tuple[Any, ...], data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise Broken(f"{where}: expected an object, got {type(data).__name__}")
    return {_decode(args[0], k, where): _decode(args[1], v, f"{where}.{k}") for k, v in data.items()}


def _decode_float(data: Any, where: str) -> float:
    if data is None:
        return math.nan
    if data in ("inf", "-inf"):
        return float(data)
    if isinstance(data, (int, float)) and not isinstance(data, bool):
        return float(data)
    raise Broken(f"{where}: expected a number, got {type(data).__name__}")
