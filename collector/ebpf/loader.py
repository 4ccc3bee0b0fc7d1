"""Compiles and attaches the eBPF families, hands their descriptors over and exits.

Run by the distribution's /usr/bin/python3, privileged, as a child of the warden:  python3 -I loader.py --fd N
Sends one SEQPACKET message: a JSON manifest, with the descriptors by SCM_RIGHTS in the order the manifest names them.
bcc only compiles: maps, loading and attaching are plain system calls, so neither kernel headers nor a bcc that knows
this kernel are needed. What one family cannot do hurts no other; its reason travels in the manifest.
"""

import contextlib
import errno
import json
import os
import resource
import socket
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if "collector" not in sys.modules:
    # Run as a script by another Python than the daemon's: this folder's siblings, and nothing else of ours or theirs.
    sys.modules["collector"] = types.ModuleType("collector")
    sys.modules["collector"].__path__ = [str(HERE.parent)]

from collector.ebpf import bpfcall, btf, layout, tracefs  # noqa: E402
from collector.ebpf.families import FAMILIES, NUMBERS, ON_DEMAND, Family, Probe, cpu_slots  # noqa: E402
from collector.ebpf.loader_compile import LoadError, check_bcc, compile_family  # noqa: E402

BTF_PATH = "/sys/kernel/btf/vmlinux"
_TASK = (("TASK_PID", "pid"), ("TASK_TGID", "tgid"), ("TASK_COMM", "comm"), ("TASK_LEADER", "group_leader"),
         ("TASK_PARENT", "real_parent"), ("TASK_EXIT_CODE", "exit_code"))


class Kernel:
    """What the loader knows of the running kernel: tracefs, BTF (None without), CPUs."""

    def __init__(self, btf_path: str = BTF_PATH, nodes_path: str = layout.NODES) -> None:
        self.cpus = cpu_slots(_possible_cpus())
        self.nodes = layout.cpu_nodes(nodes_path)
        self.several_nodes = len(set(self.nodes.values())) > 1
        self.hierarchy = layout.hierarchy()
        self.tracefs = tracefs.find_root() or _mount_tracefs()
        self.types: btf.Btf | None = None
        self.no_types = ""
        try:
            self.types = btf.Btf(Path(btf_path).read_bytes())
            self.flags = ["-DHAVE_TASK", *task_flags(self.types), *sock_flags(self.types),
                          *layout.cgroup_flags(self.types, self.hierarchy), *layout.migrate_flags(self.types),
                          *layout.queue_flags(self.types), *layout.reset_flags(self.types)]
        except (OSError, btf.BtfError) as error:
            self.types, self.no_types, self.flags = None, f"no BTF: {error}", []

    def format(self, event: str) -> tracefs.Format | None:
        """The tracepoint's format; None where this kernel has no such event. Raises LoadError without tracefs."""
        if self.tracefs is None:
            raise LoadError(f"{self.no_types or event}; tracefs cannot be mounted either; "
                            "remedy: mount -t tracefs tracefs /sys/kernel/tracing")
        path = self.tracefs / "events" / event.replace(":", "/") / "format"
        try:
            return tracefs.parse_format(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, tracefs.FormatError) as error:
            raise LoadError(f"{path}: {error}") from error


def _possible_cpus() -> int:
    """Highest possible CPU number plus one."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1


def _mount_tracefs() -> Path | None:
    subprocess.run(["mount", "-t", "tracefs", "tracefs", tracefs.ROOTS[0]], check=False, capture_output=True)
    return tracefs.find_root()


def task_flags(known: btf.Btf) -> list[str]:
    """Offsets in task_struct as compiler flags. Raises BtfError."""
    flags = [f"-D{name}={known.offset('task_struct', member)}" for name, member in _TASK]
    try:
        return [*flags, f"-DTASK_STATE={known.offset('task_struct', '__state')}"]
    except btf.BtfError:
        return [*flags, f"-DTASK_STATE={known.offset('task_struct', 'state')}"]  # its name before Linux 5.14


def sock_flags(known: btf.Btf) -> list[str]:
    """Offset of a socket's error; none where it has moved, then why a connection failed stays unknown."""
    try:
        return [f"-DSOCK_ERR={known.offset('sock', 'sk_err')}"]
    except btf.BtfError:
        return []


def switch_flags(known: btf.Btf) -> list[str]:
    """Checks the arguments of sched_switch, which changed over time. Raises BtfError for an order unknown to us."""
    _, arguments = known.tracepoint("sched_switch")
    if arguments[:3] != ("int", "struct *task_struct", "struct *task_struct"):
        raise btf.BtfError(f"sched_switch has arguments {arguments}")
    return ["-DSWITCH_HAS_STATE"] if arguments[3:] == ("int",) else []


class Loading:
    """One family on its way: what it has so far, all given back when a step fails."""

    def __init__(self, family: Family, kernel: Kernel, first: int) -> None:
        """first: position in the hand-over of this family's first descriptor."""
        self.family, self.kernel, self.first = family, kernel, first
        self.descriptors: list[int] = []
        self.programs: list[dict[str, Any]] = []
        self.missing: list[str] = []
        self.symbols: dict[str, dict[str, str]] = {}

    def load(self) -> dict[str, Any]:
        """Compiles, loads and attaches; the family's entry of the manifest, "reason" saying why it is off."""
        size, reason = self._try(self._typed())
        if reason and self._typed():
            self.missing.append(f"BTF-typed tracepoints: {reason}")
            size, reason = self._try([])
        name, known = self.family.name, {flag[2:].split("=")[0] for flag in self.kernel.flags}
        return {"name": name, "number": NUMBERS[name], "reason": reason,
                "map": -1 if reason else self.first, "map_bytes": size,
                "programs": self.programs, "missing": self.missing, "symbols": self.symbols,
                "offsets": [one for one in self.family.offsets if one in known],
                "hierarchy": self.kernel.hierarchy, "nodes": len(set(self.kernel.nodes.values()))}

    def _try(self, typed: list[str]) -> tuple[int, str]:
        """(bytes of the map, "") or (0, why it did not work, with everything given back)."""
        try:
            return self._load(typed), ""
        except (LoadError, OSError, btf.BtfError) as error:
            for fd in self.descriptors:
                os.close(fd)
            self.descriptors, self.programs = [], []
            return 0, explain(error)

    def _load(self, typed: list[str]) -> int:
        name, size = self.family.name, self.family.shared_bytes(self.kernel.cpus)
        shared = bpfcall.create_array(f"etio_{name}", size, bpfcall.F_MMAPABLE)
        self.descriptors.append(shared)
        hidden = [bpfcall.create_array(f"etio_{name}_p", self.family.private)]
        flags = [f"-DCPUS={self.kernel.cpus}", f"-DSHARED_BYTES={size}", f"-DPRIVATE_BYTES={self.family.private}",
                 f"-DSHARED_FD={shared}", f"-DPRIVATE_FD={hidden[0]}"]
        try:
            if self.family.nodes and self.kernel.several_nodes:
                hidden.append(bpfcall.create_array(f"etio_{name}_n", self.kernel.cpus))
                bpfcall.write_array(hidden[1], self._nodes())
                flags.append(f"-DNODES_FD={hidden[1]}")
            self._attach_all(typed, flags)
            bpfcall.freeze(shared)
        finally:
            for fd in hidden:
                os.close(fd)  # the programs keep them
        return size

    def _nodes(self) -> bytes:
        """The NUMA node of each CPU slot, a byte each. (A small map: while one is written, programs miss events.)"""
        return bytes(self.kernel.nodes.get(cpu, 0) & 0xFF for cpu in range(self.kernel.cpus))

    def _attach_all(self, typed: list[str], flags: list[str]) -> None:
        plans = [(probe, None) for probe in self.family.probes
                 if not (probe.queue and "-DQUEUED" in typed)] if typed else self._classic()
        flags = flags + self.kernel.flags + typed
        for probe, form in plans:
            if form is not None:
                flags += [*tracefs.defines(probe.name, form), f"-DHAVE_{probe.name}"]
        code = compile_family(self.family, flags, [probe.name for probe, _ in plans])
        for probe, form in plans:
            try:
                self._attach(probe, form, code[probe.name])
            except OSError as error:
                if not probe.optional:
                    raise
                self.missing.append(f"{probe.event}: {explain(error)}")

    def _typed(self) -> list[str]:
        """Compiler flags of the BTF-typed variant; empty where the classic one is to be used."""
        if self.kernel.types is None or not all(probe.btf for probe in self.family.probes):
            return []
        try:
            return ["-DTYPED", *switch_flags(self.kernel.types), *layout.queued_flags(self.kernel.types)]
        except btf.BtfError:
            return []

    def _classic(self) -> list[tuple[Probe, tracefs.Format | None]]:
        """The probes this kernel has. Raises LoadError when one that is needed, or every one, is missing."""
        plans: list[tuple[Probe, tracefs.Format | None]] = []
        for probe in self.family.probes:
            form = self.kernel.format(probe.event)
            problem = unusable(probe, form)
            if problem and not probe.optional:
                raise LoadError(problem)
            if problem or form is None:
                self.missing.append(problem)
                continue
            plans.append((probe, form))
            if form.symbols:
                self.symbols[probe.name] = {str(number): name for number, name in form.symbols.items()}
        if not plans:
            raise LoadError("; ".join(self.missing))
        return plans

    def _attach(self, probe: Probe, form: tracefs.Format | None, code: bytes) -> None:
        number = 0 if form or self.kernel.types is None else self.kernel.types.tracepoint(probe.name)[0]
        program = bpfcall.load_program(f"etio_{probe.name}", code, number)
        place = self.first + len(self.descriptors)
        try:
            link = bpfcall.attach_classic(program, form.id) if form else bpfcall.attach_raw(program)
        except OSError:
            os.close(program)
            raise
        self.descriptors += [program, link]
        self.programs.append({
            "name": probe.name, "attach": f"{'tracepoint' if form else 'tp_btf'} {probe.event}",
            "id": bpfcall.object_id(program), "program": place, "link": place + 1})


def explain(error: Exception) -> str:
    """The reason for people, with the remedy where it is known."""
    if not isinstance(error, OSError):
        return str(error)
    text = error.strerror or str(error)
    if error.errno == errno.EPERM:
        text += "; remedy: give the warden CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN (in a container: --privileged)"
    return text


def unusable(probe: Probe, form: tracefs.Format | None) -> str:
    """Why the probe cannot be used with this format; "" if it can."""
    if form is None:
        return f"this kernel has no tracepoint {probe.event}"
    for field, size in probe.fields:
        if field not in form.fields:
            return f"tracepoint {probe.event} has no field {field}"
        if size and form.fields[field][1] != size:
            return f"tracepoint {probe.event} field {field} has {form.fields[field][1]} bytes, not {size}"
    return ""


def load_all(kernel: Kernel, wanted: Sequence[Family]) -> tuple[dict[str, Any], list[int]]:
    """(manifest, descriptors) of everything of these families that loads on this host."""
    began = time.monotonic()
    with contextlib.suppress(OSError, ValueError):  # maps count as locked memory before Linux 5.11
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    descriptors: list[int] = []
    entries = []
    for family in wanted:
        loading = Loading(family, kernel, len(descriptors))
        entries.append(loading.load())
        descriptors += loading.descriptors
    return {"families": entries, "cpus": kernel.cpus, "seconds": time.monotonic() - began,
            "btf": kernel.no_types or "yes", "descriptors": len(descriptors)}, descriptors


def demanded(numbers: str) -> tuple[str, ...]:
    """Names of families that are off otherwise, by their places ("1,2"); unknown ones are left out."""
    wanted = numbers.split(",")
    return tuple(name for place, name in enumerate(ON_DEMAND, 1) if str(place) in wanted)


def chosen(options: dict[str, str]) -> list[Family]:
    """The families to load: that of --number, those of --only, else all but those that are off, and those of --with."""
    extra, only = demanded(options.get("--with", "")), options.get("--only", "")
    if number := options.get("--number", ""):
        return [f for f in FAMILIES if str(NUMBERS[f.name]) == number]
    if only:
        return [f for f in FAMILIES if f.name in only.split(",")]
    return [f for f in FAMILIES if not f.on_demand or f.name in extra]


def main(arguments: list[str]) -> None:
    """Loads, sends, exits. The socket is inherited as --fd N; --with 1,2 adds these of ON_DEMAND; --number N loads this
    one of NUMBERS alone.

    For tests: --btf PATH and --nodes PATH replace the kernel's own BTF and list of NUMA nodes, --only A,B names
    the families.
    """
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    descriptors: list[int] = []
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))  # unlike the warden, it has time
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):  # a compiler needs more memory than all the rest: better it than the daemon
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        if os.geteuid() != 0:
            raise LoadError("not root: eBPF programs need CAP_BPF and CAP_PERFMON; remedy: start etio as root")
        check_bcc()
        kernel = Kernel(options.get("--btf", BTF_PATH), options.get("--nodes", layout.NODES))
        manifest, descriptors = load_all(kernel, chosen(options))
    except (LoadError, OSError) as error:
        manifest = {"error": explain(error), "families": [], "descriptors": 0}
    with socket.socket(fileno=int(options["--fd"])) as channel:
        socket.send_fds(channel, [json.dumps(manifest).encode()], descriptors)


if __name__ == "__main__":
    main(sys.argv[1:])
