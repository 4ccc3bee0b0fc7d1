"""What every benchmark's command line shares."""

import argparse
import json
import os
from pathlib import Path
from typing import Any


def parser(text: str) -> argparse.ArgumentParser:
    """A parser that knows --json FILE."""
    one = argparse.ArgumentParser(description=text)
    one.add_argument("--json", type=Path, metavar="FILE", help="also write the result as JSON")
    return one


def from_caller(path: str | Path) -> Path:
    """A path as the caller of scripts/bench meant it: relative to the folder the caller was in."""
    return Path(os.environ.get("ETIO_CALLER", ".")) / path


def write(path: Path | None, result: Any) -> None:
    """Writes the result where the caller asked, relative to the caller's folder."""
    if path is None:
        return
    target = from_caller(path)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {target}")
