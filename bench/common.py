"""What every benchmark's command line shares."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.signals import held

STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


@contextlib.contextmanager
def bpf_stats(on: bool = True) -> Iterator[None]:
    """Lets the kernel count the run time of eBPF programs, or not, as long as it lasts."""
    try:
        old = STATS.read_text()
        STATS.write_text(f"{on:d}")
    except OSError:
        yield
        return
    try:
        yield
    finally:
        STATS.write_text(old)


def parser(text: str) -> argparse.ArgumentParser:
    """A parser that knows --json FILE."""
    one = argparse.ArgumentParser(description=text)
    one.add_argument("--json", type=Path, metavar="FILE", help="also write the result as JSON")
    return one


def from_caller(path: str | Path) -> Path:
    """A path as the caller of scripts/bench meant it: relative to the folder the caller was in."""
    return Path(os.environ.get("ETIO_CALLER", ".")) / path


def write(path: Path | None, result: Any) -> None:
    """Writes the result where the caller asked, relative to the caller's folder; in full or not at all."""
    if path is None:
        return
    target = from_caller(path)
    with held():
        target.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written: {target}", flush=True)


def countdown(what: str, seconds: float, step_s: float = 1.0) -> None:
    """Waits, and says how long it still takes: in one line that changes, or each half minute where nobody sees it."""
    shown, until = sys.stdout.isatty(), time.monotonic() + seconds
    said = float("inf")
    while (left := until - time.monotonic()) > 0:
        if shown:
            print(f"\r{what}: {left:3.0f} s ", end="", flush=True)
        elif said - left >= 30:
            said = left
            print(f"{what}: {left:.0f} s", flush=True)
        time.sleep(min(left, step_s))
    if shown:
        print(f"\r{what}: done   ", flush=True)
