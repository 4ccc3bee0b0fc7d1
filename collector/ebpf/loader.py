"""Compiles and attaches the eBPF families, hands their descriptors over and exits.

Run by the distribution's /usr/bin/python3, privileged, as a child of the warden:  loader.py --fd N
Sends one SEQPACKET message: a JSON manifest, with the descriptors by SCM_RIGHTS in the order the manifest names them.
bcc only compiles: maps, loading and attaching are plain system calls, so that neither kernel headers nor a bcc that
knows this kernel are needed.
"""

import atexit
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BTF_PATH = "/sys/kernel/btf/vmlinux"
_TASK = (("TASK_PID", "pid"), ("TASK_TGID", "tgid"), ("TASK_COMM", "comm"), ("TASK_LEADER", "group_leader"),
         ("TASK_PARENT", "real_parent"))


def _package():
    """Makes this folder importable as a package of its own, whatever the import path is."""
    spec = importlib.util.spec_from_file_location(
        "etio_ebpf", HERE / "__init__.py", submodule_search_locations=[str(HERE)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["etio_ebpf"] = module
    spec.loader.exec_module(module)


_package()
from etio_ebpf import bpfcall, btf, families, tracefs  # noqa: E402


class LoadError(Exception):
    """A family cannot be used on this host; the text is the reason for people."""


class Kernel:
    """What the loader knows of the running kernel: tracefs, BTF, CPUs."""

    def __init__(self):
        self.cpus = families.cpu_slots(_possible_cpus())
        self.tracefs = tracefs.find_root() or _mount_tracefs()
        self.types, self.no_types = _read_btf()

    def format(self, event):
        """The tracepoint's format; None where this kernel has no such event. Raises LoadError without tracefs."""
        if self.tracefs is None:
            raise LoadError("tracefs is not mounted and cannot be; remedy: mount -t tracefs tracefs /sys/kernel/tracing")
        path = self.tracefs / "events" / event.replace(":", "/") / "format"
        try:
            return tracefs.parse_format(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, tracefs.FormatError) as error:
            raise LoadError(f"{path}: {error}") from error


def _possible_cpus():
    """Highest possible CPU number plus one."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1


def _mount_tracefs():
    subprocess.run(["mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing"], check=False, capture_output=True)
    return tracefs.find_root()


def _read_btf():
    try:
        return btf.Btf(Path(BTF_PATH).read_bytes()), ""
    except (OSError, btf.BtfError) as error:
        return None, f"no BTF: {error}"


def task_flags(types):
    """Offsets in task_struct as compiler flags. Raises BtfError."""
    flags = [f"-D{name}={types.offset('task_struct', member)}" for name, member in _TASK]
    try:
        return [*flags, f"-DTASK_STATE={types.offset('task_struct', '__state')}"]
    except btf.BtfError:
        return [*flags, f"-DTASK_STATE={types.offset('task_struct', 'state')}"]


def switch_flags(types):
    """Checks the arguments of sched_switch, which changed over time. Raises BtfError for an order unknown to us."""
    _, arguments = types.tracepoint("sched_switch")
    if arguments[:3] != ("int", "struct *task_struct", "struct *task_struct"):
        raise btf.BtfError(f"sched_switch has arguments {arguments}")
    return ["-DSWITCH_HAS_STATE"] if arguments[3:] == ("int",) else []


def compile_family(family, flags, maps):
    """Functions of a family as bytes of instructions, by name. Raises LoadError."""
    source = (HERE / "common.h").read_text() + (HERE / f"{family.name}.bcc.c").read_text()
    source += "_Static_assert(sizeof(struct shared) == SHARED_BYTES, \"shared\");\n"
    source += "_Static_assert(sizeof(struct private) == PRIVATE_BYTES, \"private\");\n"
    flags = [*flags, f"-DSHARED_FD={maps[0]}", f"-DPRIVATE_FD={maps[1]}", "-Wno-everything"]
    module, words = _compile(source, flags)
    if module is None and (reason := _use_real_headers()):
        raise LoadError(f"{family.name}.bcc.c does not compile: {words}; {reason}")
    if module is None:
        module, words = _compile(source, flags)
    if module is None:
        raise LoadError(f"{family.name}.bcc.c does not compile: {words}")
    return module


def _compile(source, flags):
    """The compiled module, or None and the compiler's first complaint, which bcc writes to file descriptor 2."""
    from bcc import BPF

    kept = os.dup(2)
    with tempfile.TemporaryFile() as complaints:
        os.dup2(complaints.fileno(), 2)
        try:
            return BPF(text=source, cflags=flags), ""
        except Exception as error:  # noqa: BLE001 (bcc raises bare Exception)
            complaints.seek(0)
            lines = complaints.read().decode("utf-8", "replace").splitlines()
            return None, next((line for line in lines if "error:" in line), str(error))
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _use_real_headers():
    """Makes bcc use installed kernel headers instead of our stand-ins; returns why it cannot, "" if it can.

    A bcc whose prologue needs more than the stand-ins hold gets the headers of the running kernel, else any others:
    no program of ours depends on their contents.
    """
    if os.environ.get("BCC_KERNEL_SOURCE") != str(HERE):
        return "with kernel headers neither"
    build = Path("/lib/modules", os.uname().release, "build")
    if build.exists() or Path("/sys/kernel/kheaders.tar.xz").exists():
        del os.environ["BCC_KERNEL_SOURCE"]
        return ""
    merged = _merge_headers()
    if merged is None:
        return "no kernel headers found; remedy: install linux-headers for this kernel"
    os.environ["BCC_KERNEL_SOURCE"] = merged
    return ""


def _merge_headers():
    """A private folder of links in which Debian's split header packages look like one tree; None without any."""
    for own in sorted(Path("/usr/src").glob("linux-headers-*"), reverse=True):
        common = Path(str(own).rpartition("-")[0] + "-common")
        if (own / "include/generated").is_dir() and (common / "include/linux").is_dir():
            folder = tempfile.mkdtemp(prefix="etio-headers-")
            atexit.register(shutil.rmtree, folder, True)
            for source in (common, own):
                subprocess.run(["cp", "-rsn", f"{source}/include", f"{source}/arch", folder], check=False)
            return folder
    return None


class Loader:
    """Loads one family after the other; `descriptors` and `manifest()` grow with each."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.descriptors = []
        self.families = []

    def load(self, family):
        """Adds a family, or the reason why it is off."""
        entry = {"name": family.name, "reason": "", "programs": [], "missing": [], "symbols": {}}
        own = []
        try:
            self._load(family, entry, own)
            self.descriptors += own
        except (LoadError, OSError, btf.BtfError) as error:
            for fd in own:
                os.close(fd)
            entry = {**entry, "reason": str(error), "programs": [], "map": -1}
        self.families.append(entry)

    def _load(self, family, entry, own):
        shared = bpfcall.create_array(f"etio_{family.name}", family.shared_bytes(self.kernel.cpus), bpfcall.F_MMAPABLE)
        private = bpfcall.create_array(f"etio_{family.name}_p", family.private)
        try:
            plans, flags = self._plan(family, entry)
            module = compile_family(family, self._size_flags(family) + flags, (shared, private))
            for probe, form in plans:
                self._attach(probe, form, module, (entry, own))
            entry["map"] = len(self.descriptors) + len(own)
            entry["map_bytes"] = family.shared_bytes(self.kernel.cpus)
            bpfcall.freeze(shared)
            own.append(os.dup(shared))
        finally:
            os.close(shared)
            os.close(private)

    def _size_flags(self, family):
        return [f"-DCPUS={self.kernel.cpus}", f"-DSHARED_BYTES={family.shared_bytes(self.kernel.cpus)}",
                f"-DPRIVATE_BYTES={family.private}"]

    def _plan(self, family, entry):
        """(probe, format or None for BTF-typed) of each probe this kernel has, and the compiler flags."""
        flags, plans = [], []
        types = self.kernel.types
        if types is not None:
            flags += task_flags(types) + ["-DHAVE_TASK"]
        typed = types is not None and any(p.btf for p in family.probes)
        if typed:
            flags += switch_flags(types)
            return [(probe, None) for probe in family.probes], flags
        for probe in family.probes:
            form = self.kernel.format(probe.event)
            problem = _unusable(probe, form)
            if problem and not probe.optional:
                raise LoadError(problem)
            if problem:
                entry["missing"].append(problem)
                continue
            flags += [*tracefs.defines(probe.name, form), f"-DHAVE_{probe.name}"]
            plans.append((probe, form))
            if form.symbols:
                entry["symbols"][probe.name] = {str(key): name for key, name in form.symbols.items()}
        if not plans:
            raise LoadError("; ".join(entry["missing"]))
        return plans, [*flags, "-DCLASSIC"]

    def _attach(self, probe, form, module, into):
        entry, own = into
        code = module.dump_func(probe.name.encode())
        btf_id = 0 if form else self.kernel.types.tracepoint(probe.name)[0]
        program = bpfcall.load_program(f"etio_{probe.name}", code, btf_id)
        own.append(program)
        link = bpfcall.attach_classic(program, form.id) if form else bpfcall.attach_raw(program)
        own.append(link)
        base = len(self.descriptors) + len(own)
        entry["programs"].append({
            "name": probe.name, "attach": f"{'tracepoint' if form else 'tp_btf'} {probe.event}",
            "id": bpfcall.object_id(program), "program": base - 2, "link": base - 1})

    def manifest(self, seconds):
        """What goes with the descriptors."""
        return {"families": self.families, "cpus": self.kernel.cpus, "seconds": seconds,
                "btf": self.kernel.no_types or "yes", "descriptors": len(self.descriptors)}


def _unusable(probe, form):
    """Why the probe cannot be used with this format; "" if it can."""
    if form is None:
        return f"this kernel has no tracepoint {probe.event}"
    for field, size in probe.fields:
        if field not in form.fields:
            return f"tracepoint {probe.event} has no field {field}"
        if size and form.fields[field][1] != size:
            return f"tracepoint {probe.event} field {field} has {form.fields[field][1]} bytes, not {size}"
    return ""


def load_all():
    """(manifest, descriptors) of everything that loads on this host. Raises LoadError when nothing can."""
    began = time.monotonic()
    if os.geteuid() != 0:
        raise LoadError("not root: eBPF programs need CAP_BPF and CAP_PERFMON; remedy: run as root or start etio-warden")
    os.environ["BCC_KERNEL_SOURCE"] = str(HERE)  # include/ here stands in for the kernel's headers
    try:
        import bcc  # noqa: F401
    except ImportError as error:
        raise LoadError(f"bcc is missing ({error}); remedy: apt install python3-bpfcc (dnf install bcc-tools "
                        "python3-bpfcc)") from error
    loader = Loader(Kernel())
    for family in families.FAMILIES:
        loader.load(family)
    return loader.manifest(time.monotonic() - began), loader.descriptors


def main(arguments):
    """Loads, sends, exits. The socket is inherited as --fd N."""
    channel = socket.socket(fileno=int(arguments[arguments.index("--fd") + 1]))
    try:
        manifest, descriptors = load_all()
    except LoadError as error:
        manifest, descriptors = {"error": str(error), "families": [], "descriptors": 0}, []
    socket.send_fds(channel, [json.dumps(manifest).encode()], descriptors)


if __name__ == "__main__":
    main(sys.argv[1:])
