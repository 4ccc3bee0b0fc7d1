"""What a control group may use, as a knob.

Reads:  cpu.cfs_quota_us, cpu.max and such of one group, freezer.state or cgroup.freeze, memory.oom_control
Source: Documentation/admin-guide/cgroup-v1/, cgroup-v2.rst
"""

import math
import os
from collections.abc import Mapping

from collector.cgroup_controllers import controllers
from collector.cgroup_files import Mounts, parse_flat, parse_number, slurp
from etio.core.errors import NoData

CGROUP_KEYS = frozenset({"cpu_quota", "memory_limit", "pids_limit", "cpu_weight", "io_limit", "freezer",
                         "oom_killer"})
IO_LIMITS = ("read_bps_device", "write_bps_device", "read_iops_device", "write_iops_device")


def cgroup_knob(mounts: Mounts, path: str, key: str) -> str:
    """A setting of a group in words, with the file that holds it; key: one of CGROUP_KEYS.

    Raises NoData where the group or its controller is not there.
    """
    special = {"io_limit": _io_limit, "freezer": _freezer, "oom_killer": _oom_killer}
    return special[key](mounts, path) if key in special else _limit(mounts, path, key)


def human_bytes(count: float) -> str:
    """Bytes for people, in binary units; "no limit" for infinity.

    >>> human_bytes(64 * 2**20)
    '64.0 MiB'
    """
    if math.isinf(count):
        return "no limit"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _limit(mounts: Mounts, path: str, key: str) -> str:
    """A limit in words, with the file that holds it. Raises NoData where the group or its controller is not there."""
    found = controllers(mounts)
    told: dict[str, str] = {}

    def read(file: str) -> bytes | None:
        raw = slurp(file)
        if raw is not None:
            told[os.path.basename(file)] = raw.decode("utf-8", "replace").strip()
        return raw

    value, text = math.nan, ""
    if key == "cpu_quota" and found.cpu:
        value = found.cpu.quota(path, read)
        text = "no limit" if math.isinf(value) else f"{value:.2f} cores"
    elif key == "memory_limit" and found.memory:
        value = found.memory.limit(path, read)
        text = human_bytes(value)
    elif key == "pids_limit" and found.pids:
        value = found.pids.limit(path, read)
        text = "no limit" if math.isinf(value) else f"{value:.0f} tasks"
    elif key == "cpu_weight":
        v1 = mounts.v1.get("cpu")
        value = parse_number(read(f"{v1}{path}/cpu.shares" if v1 else f"{mounts.v2}{path}/cpu.weight"))
        text = f"{value:.0f}"
    if math.isnan(value):
        raise NoData(f"cgroup {path or '/'} has no {key}")
    return f"{text} ({_deciding(told, value)})"


def _io_limit(mounts: Mounts, path: str) -> str:
    """I/O limits of a group as its files hold them. Raises NoData where it has none."""
    v1 = mounts.v1.get("blkio")
    files = [f"{v1}{path}/blkio.throttle.{name}" for name in IO_LIMITS] if v1 else [f"{mounts.v2}{path}/io.max"]
    told = [f"{os.path.basename(file)}: {' '.join(raw.decode('ascii', 'replace').split())}"
            for file in files if (raw := slurp(file)) and raw.strip()]
    if not told:
        raise NoData(f"cgroup {path or '/'} has no limit of I/O")
    return "; ".join(told)


def _freezer(mounts: Mounts, path: str) -> str:
    """Whether a group is frozen, with the file that says so. Raises NoData where it cannot be."""
    v1 = mounts.v1.get("freezer")
    name = "freezer.state" if v1 else "cgroup.freeze"
    held = (slurp(f"{v1 or mounts.v2}{path}/{name}", 64) or b"").decode("ascii", "replace").strip()
    if not held:
        raise NoData(f"cgroup {path or '/'} cannot be frozen")
    return f"{'thawed' if held in ('THAWED', '0') else 'frozen'} ({name}={held})"


def _oom_killer(mounts: Mounts, path: str) -> str:
    """Whether the OOM killer of a group is on. Raises NoData where it cannot be switched off."""
    raw = slurp(f"{mounts.v1.get('memory', '')}{path}/memory.oom_control", 256)
    off = parse_flat(raw).get(b"oom_kill_disable")
    if "memory" not in mounts.v1 or off is None:
        raise NoData(f"cgroup {path or '/'} has no switch for its OOM killer")
    return f"{'off' if off else 'on'} (oom_kill_disable={off:.0f})"


def _deciding(told: Mapping[str, str], value: float) -> str:
    """The file that the value comes from: the first read, or of several limits the one in force (memory.high)."""
    exact = [(name, held) for name, held in told.items() if parse_number(held.encode()) == value]
    name, held = (exact or list(told.items()))[0]
    return f"{name}={held}"
