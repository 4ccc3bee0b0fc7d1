"""TOML tables to frozen dataclasses, strictly: all unknown keys and ill-typed values are listed, the start stops."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from etio.core.codec import from_plain
from etio.core.errors import Broken, ConfigError

Sections = Mapping[str, type[Any]]


def parse(data: Mapping[str, Any], sections: Sections, file: str) -> dict[str, Any]:
    """One dataclass per section, defaults where the file is silent.

    sections: dotted section name ("store", "collector.disks") to its frozen dataclass.
    Raises ConfigError with every mistake as "file: section.key: what; remedy".
    """
    problems: list[str] = []
    flat = _flatten(data, sections, file, problems)
    result = {}
    for name, cls in sections.items():
        result[name] = _section(name, cls, flat.get(name, {}), file, problems)
    if problems:
        raise ConfigError(problems)
    return result


def _flatten(data: Mapping[str, Any], sections: Sections, file: str, problems: list[str]) -> dict[str, Any]:
    """Tables by their dotted section name; what fits no section becomes a problem."""
    found: dict[str, Any] = {}

    def walk(table: Mapping[str, Any], prefix: str) -> None:
        """prefix: dotted name of the table with a dot at its end, "" for the file itself."""
        for key, value in table.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict) and name in sections:
                own = {k: v for k, v in value.items() if f"{name}.{k}" not in sections}
                found[name] = own
                walk({k: v for k, v in value.items() if k not in own}, f"{name}.")
            elif isinstance(value, dict) and any(s.startswith(f"{name}.") for s in sections):
                walk(value, f"{name}.")
            else:
                problems.append(f"{file}: {name}: unknown{_hint(name, sections)}")

    walk(data, "")
    return found


def _section(name: str, cls: type[Any], table: Mapping[str, Any], file: str, problems: list[str]) -> Any:
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in table.items():
        if key not in hints:
            problems.append(f"{file}: {name}.{key}: unknown key{_hint(key, hints)}")
            continue
        try:
            values[key] = from_plain(hints[key], value, f"{name}.{key}")
        except Broken as error:
            problems.append(f"{file}: {error}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        problems.append(f"{file}: {name}: {error}")
        return None


def _hint(word: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def default_table(sections: Sections) -> dict[str, dict[str, Any]]:
    """The defaults of every section, for `etio check-config` and the documentation."""
    return {name: dataclasses.asdict(cls()) for name, cls in sections.items()}
