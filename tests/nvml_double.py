"""A libnvidia-ml.so.1 of our own (tests/nvml_double.c), so that the real pynvml and the real worker talk to "GPUs".

A host is a JSON object: "system" with answers that concern no GPU, "gpu" with those of every GPU, "gpus" with a list of
what is different in each. Values are numbers, lists of numbers, text, {"error": code} or "hang".
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_suffix(".c")
GOLDEN = Path(__file__).parent / "golden"
MIG_BASE = 0x100000


@cache
def library_folder() -> Path:
    """The folder that holds libnvidia-ml.so.1, compiled once for this source."""
    name = hashlib.blake2b(SOURCE.read_bytes(), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"etio-nvml-{os.geteuid()}-{name}"
    target = folder / "libnvidia-ml.so.1"
    if not target.exists():
        if shutil.which("gcc") is None:
            pytest.skip("needs gcc")
        folder.mkdir(mode=0o755, exist_ok=True)
        fresh = folder / f"building-{os.getpid()}"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror",
                        "-Wl,-soname,libnvidia-ml.so.1", "-o", str(fresh), str(SOURCE)], check=True)
        fresh.rename(target)
    return folder


class Machine:
    """GPUs whose answers can be changed at any time."""

    def __init__(self, folder: Path, host: dict[str, Any], count: int | None = None) -> None:
        folder.chmod(0o755)
        self._state, self._log = folder / "nvml", folder / "nvml.log"
        shared = {k: v for k, v in host.get("gpu", {}).items() if not k.startswith("#")}
        apart = host.get("gpus", [{}])
        self.gpus: list[dict[str, Any]] = [dict(shared, **one) for one in (apart if count is None else apart[:count])]
        self.system: dict[str, Any] = dict(host.get("system", {}))
        Path(f"{self._state}.events").touch()
        self._log.touch()
        self._log.chmod(0o666)
        self.write()

    @property
    def environment(self) -> dict[str, str]:
        """For a child that is to see these GPUs."""
        return {"LD_LIBRARY_PATH": str(library_folder()), "NVML_DOUBLE_STATE": str(self._state),
                "NVML_DOUBLE_LOG": str(self._log)}

    def write(self) -> None:
        """Makes the answers true."""
        system = {"nvmlDeviceGetCount_v2": len(self.gpus), **self.system}
        lines = [f"- {name} {_words(value)}" for name, value in system.items()]
        for index, gpu in enumerate(self.gpus):
            lines += [f"{_number(index, name)} {name.rpartition('@')[0] or name} {_words(value)}"
                      for name, value in gpu.items()]
        fresh = self._state.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.rename(self._state)

    def set(self, gpu: int, **answers: Any) -> None:
        """Changes answers of one GPU; None takes one away. A colon is written as two underscores."""
        for name, value in answers.items():
            key = name.replace("__", ":")
            if value is None:
                self.gpus[gpu].pop(key, None)
            else:
                self.gpus[gpu][key] = value
        self.write()

    def field(self, gpu: int, number: int, value: Any) -> None:
        """Changes one field value."""
        self.set(gpu, **{f"field__{number}": value})

    def xid(self, gpu: int, xid: int, kind: int = 0x8) -> None:
        """The driver reports an XID."""
        with open(f"{self._state}.events", "a") as events:
            events.write(f"{gpu} {kind} {xid}\n")

    def calls(self) -> Counter[tuple[int, str]]:
        """How often each call of each GPU was made so far."""
        pairs = (line.split() for line in self._log.read_text().splitlines())
        return Counter((int(gpu), name) for gpu, name in pairs)


def _number(index: int, name: str) -> int:
    """A name may end in @N: the answer of the MIG instance at that place."""
    at = name.rpartition("@")
    return MIG_BASE + index * 16 + int(at[2]) if at[0] else index


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return f"!{value['error']}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def load(name: str) -> dict[str, Any]:
    """A host out of tests/golden."""
    found: dict[str, Any] = json.loads((GOLDEN / name / "answers.json").read_text())
    return found


@contextlib.contextmanager
def machine(host: str | dict[str, Any] = "nvml-h100x8-from-documentation", count: int | None = None
            ) -> Iterator[Machine]:
    """GPUs in a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="etio-nvml-"))
    try:
        yield Machine(folder, load(host) if isinstance(host, str) else host, count)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
