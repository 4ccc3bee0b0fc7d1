"""Expectations that are kept as JSON below tests/golden: ETIO_BLESS=1 writes them anew, and the diff is read."""

import json
import os
from pathlib import Path
from typing import Any


def check(found: Any, path: Path, text: str = "") -> None:
    """What was found is what the file says. text: the form in which it is kept, else a line for each row of `found`."""
    found = json.loads(json.dumps(found))
    if os.environ.get("ETIO_BLESS") == "1":
        path.write_text(text or _lines(found))
    assert found == json.loads(path.read_text())


def _lines(found: Any) -> str:
    if isinstance(found, dict):
        return "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()) + "\n}\n"
    return "[\n" + ",\n".join(map(json.dumps, found)) + "\n]\n"
