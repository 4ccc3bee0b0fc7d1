"""`etio doctor`: what can be seen on this host, what cannot, why, and what would help."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

Row = dict[str, str]
ANSWERS = re.compile(r"^\S+ at \S+://\S+ \(")
"""How a model that answers is told: name, endpoint, protocol."""


def examine(status: dict[str, Any]) -> list[Row]:
    """One row per part: part, state ("good", "absent", "bad"), what, remedy. status: of the daemon, or its error."""
    return [*_daemon(status), *_kernel(), *_collectors(status)]


def _row(part: str, state: str, what: str, remedy: str = "") -> Row:
    return {"part": part, "state": state, "what": what, "remedy": remedy}


def _told(text: str, remedy: str = "") -> tuple[str, str]:
    """(reason, remedy) of a reason in which whoever found it may have named the remedy too."""
    what, _, named = text.partition("; remedy: ")
    return what, remedy or named


def _ebpf(status: dict[str, Any]) -> Row:
    if status["tier"] == "T1":
        return _row("eBPF", "good", status["tier_reason"] or "programs attached")
    what, remedy = _told(status["tier_reason"])
    return _row("eBPF", "absent", what, remedy or "start as root, with python3-bpfcc and kernel headers installed")


def _daemon(status: dict[str, Any]) -> list[Row]:
    if "error" in status:
        return [_row("daemon", "bad", status["error"], "scripts/run, or systemctl start etio")]
    return [
        _row("daemon", "good" if status["ready"] else "bad", "; ".join(status["reasons"]) or "delivers frames"),
        _ebpf(status),
        _row("model", "good" if ANSWERS.search(status["model"]) else "absent", status["model"],
             "optional: start Ollama on this host; reports are complete without it"),
    ]


def _kernel() -> list[Row]:
    rows = [_row("kernel", "good", platform.release())]
    psi = Path("/proc/pressure/cpu").exists()
    rows.append(_row("pressure stall information", "good" if psi else "absent", "/proc/pressure",
                     "" if psi else "boot with psi=1"))
    btf = Path("/sys/kernel/btf/vmlinux").exists()
    rows.append(_row("BTF", "good" if btf else "absent", "/sys/kernel/btf/vmlinux",
                     "" if btf else "a kernel with CONFIG_DEBUG_INFO_BTF; classic tracepoints still work"))
    bcc = shutil.which("python3", path="/usr/bin") is not None and subprocess.run(
        ["/usr/bin/python3", "-c", "import bcc"], capture_output=True, check=False).returncode == 0
    rows.append(_row("bcc", "good" if bcc else "absent", "/usr/bin/python3 -c 'import bcc'",
                     "" if bcc else "apt install python3-bpfcc"))
    headers = next((str(p) for p in _header_folders() if p.exists()), "")
    rows.append(_row("kernel headers", "good" if headers else "absent", headers or "none found",
                     "" if headers else "apt install linux-headers-$(uname -r), or linux-headers-generic"))
    return rows


def _header_folders() -> list[Path]:
    release = os.uname().release
    return [Path(f"/lib/modules/{release}/build"), Path("/sys/kernel/kheaders.tar.xz"),
            *sorted(Path("/usr/src").glob("linux-headers-*"))]


def _collectors(status: dict[str, Any]) -> list[Row]:
    rows = []
    for one in status.get("collectors", ()):
        state = {"on": "good", "nodata": "absent", "off": "absent"}.get(one["state"], "bad")
        what, remedy = _told(one["reason"] or f"{one['series']} series", one["remedy"])
        rows.append(_row(f"collector {one['name']}", state, what, remedy))
    return rows
