"""The form of an answer: ids are enumerations built for each report, so that a model can name nothing else."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from etio.core.report import Report

MAX_SENTENCES = 6
MAX_CITED = 4
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def answer_schema(report: Report) -> dict[str, Any]:
    """JSON schema of an answer about this report."""
    sentence = {
        "text": {"type": "string"},
        "evidence": _list_of(enum(e.id for e in report.evidence), MAX_CITED, 1),
    }
    properties: dict[str, Any] = {
        "order": _list_of(enum(f.cause for f in report.findings), len(report.findings)),
        "sentences": {"type": "array", "items": _object(sentence), "minItems": 1, "maxItems": MAX_SENTENCES},
    }
    if cards := enum(s.card for s in report.suggestions):
        properties["cards"] = _list_of(cards, 2)
    return _object(properties)


def enum(ids: Iterator[str] | Sequence[str]) -> list[str]:
    """Distinct well-formed ids, in order."""
    return [i for i in dict.fromkeys(ids) if _ID.fullmatch(i)]


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False
    }  # fmt: skip


def _list_of(ids: list[str], most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", "enum": ids}, "minItems": least, "maxItems": most}


def mismatches(value: Any, schema: dict[str, Any], where: str = "answer") -> Iterator[str]:
    """Where `value` is not of the schema, in words of ours; handles the part of JSON schema that is used here."""
    kind = schema["type"]
    if kind == "object":
        yield from _object_mismatches(value, schema, where)
    elif kind == "array":
        yield from _array_mismatches(value, schema, where)
    elif not isinstance(value, str):
        yield f"{where} is no string"
    elif value not in schema.get("enum", [value]):
        yield f"{where} is an id that does not exist"


def _object_mismatches(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where} is no object"
        return
    properties = schema["properties"]
    if set(value) - set(properties):
        yield f"{where} has unknown fields"
    for name in schema["required"]:
        if name not in value:
            yield f"{where} lacks {name}"
    for name in properties.keys() & value.keys():
        yield from mismatches(value[name], properties[name], f"{where}.{name}")


def _array_mismatches(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where} is no list"
        return
    if not schema.get("minItems", 0) <= len(value) <= schema["maxItems"]:
        yield f"{where} has {len(value)} items"
    for i, item in enumerate(value[: schema["maxItems"]]):
        yield from mismatches(item, schema["items"], f"{where}[{i}]")
