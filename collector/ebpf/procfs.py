"""Files of /proc that the warden reads for others.

Standard library only, and no import of ours: the warden loads this file.
"""

import re


def text_of(path: str) -> str:
    """A file as text. Raises OSError."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def read_io(pid: int) -> tuple[int, int] | None:
    """(read_bytes, write_bytes) of a process, or None where it is gone."""
    try:
        text = text_of(f"/proc/{pid}/io")
    except OSError:
        return None
    found = dict(re.findall(r"^(read_bytes|write_bytes): (\d+)$", text, re.M))
    return (int(found["read_bytes"]), int(found["write_bytes"])) if len(found) == 2 else None


def program_cost(fd: int) -> tuple[int, int]:
    """(run_time_ns, run_cnt) as the kernel counts them; zeros while kernel.bpf_stats_enabled is 0."""
    found = dict(re.findall(r"^(run_time_ns|run_cnt):\s*(\d+)$", text_of(f"/proc/self/fdinfo/{fd}"), re.M))
    return int(found.get("run_time_ns", 0)), int(found.get("run_cnt", 0))
