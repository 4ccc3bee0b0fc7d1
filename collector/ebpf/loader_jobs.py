"""Finds the functions of NCCL and CUDA in files that processes map, attaches the programs to them, hands over, exits.

Run by the distribution's /usr/bin/python3, privileged, as a child of the warden:  python3 -I loader_jobs.py --fd N
Takes one SEQPACKET message: a JSON request {"files": [[key, path], ...], "sampled": bool}, with the descriptors of the
programs (in the order of job_probes.PROGRAMS) where an earlier run has loaded them; then no compiler is started.
Answers with one: a JSON manifest, with the descriptors by SCM_RIGHTS in the order the manifest names them.
"""

import json
import mmap
import os
import platform
import socket
import sys
import time
import types
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if "collector" not in sys.modules:
    # Run as a script by another Python than the daemon's: this folder's siblings, and nothing else of ours or theirs.
    sys.modules["collector"] = types.ModuleType("collector")
    sys.modules["collector"].__path__ = [str(HERE.parent)]

from collector.ebpf import bpfcall, job_probes  # noqa: E402
from collector.ebpf.elf import Elf, ElfError  # noqa: E402
from collector.ebpf.families import Family  # noqa: E402
from collector.ebpf.loader import explain  # noqa: E402
from collector.ebpf.loader_compile import LoadError, check_bcc, compile_family  # noqa: E402

MAX_REQUEST = 1 << 17
MAX_LINKS = 200
"""Most descriptors of probes in one hand-over (the kernel takes 253 of all kinds)."""
_ARGUMENTS = {
    "x86_64": ("-DAT_ARG2=104", "-DAT_ARG3=96", "-DAT_ARG5=72", "-DAT_ARG6=64", "-DAT_STACK=152", "-DRETURN_BYTES=8"),
    "aarch64": ("-DAT_ARG2=8", "-DAT_ARG3=16", "-DAT_ARG5=32", "-DAT_ARG6=40", "-DAT_STACK=248", "-DRETURN_BYTES=0"),
}
"""Where struct pt_regs (arch/*/include/uapi/asm/ptrace.h) holds arguments and the stack pointer; what a return pops."""

_ENDBR64 = b"\xf3\x0f\x1e\xfa"
Descriptors = list[int]


def load_programs() -> tuple[dict[str, Any], Descriptors]:
    """(entry of the manifest, descriptors: the map, then the programs). Raises LoadError or OSError."""
    flags = _ARGUMENTS.get(platform.machine())
    if flags is None:
        raise LoadError(f"uprobes on {platform.machine()} are not known to etio")
    check_bcc()
    family = Family("gpu_jobs", job_probes.SHARED_BYTES, job_probes.PRIVATE_BYTES, ())
    shared = bpfcall.create_array("etio_gpu_jobs", family.shared, bpfcall.F_MMAPABLE)
    private = bpfcall.create_array("etio_gpu_jobs_p", family.private)
    code = compile_family(family, [
        *flags, f"-DSHARED_BYTES={family.shared}", f"-DPRIVATE_BYTES={family.private}", f"-DSHARED_FD={shared}",
        f"-DPRIVATE_FD={private}"], list(job_probes.PROGRAMS))
    programs = [bpfcall.load_program(f"etio_{name}", code[name], kind=bpfcall.PROG_TYPE_KPROBE)
                for name in job_probes.PROGRAMS]
    bpfcall.freeze(shared)
    os.close(private)  # the programs keep it
    return {"map": 0, "map_bytes": family.shared, "programs": 1}, [shared, *programs]


def past_landing(code: bytes) -> int:
    """Bytes to leave out at the begin of a function, whose first bytes these are.

    A probe on endbr64 costs 12 us, since the kernel has it executed alone; one on the push that follows costs 0.6 us,
    since the kernel knows what that does. Neither registers nor stack have changed in between.
    """
    pushed = code[5:6] if code[4:5] == b"\x41" else code[4:5]
    return 4 if code[:4] == _ENDBR64 and b"\x50" <= pushed <= b"\x57" else 0


def functions(path: str) -> dict[str, int]:
    """Offsets of the watched functions in a file, each place once. Raises OSError or ElfError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as data:
            found = Elf(data).functions(job_probes.PROBES)
            if platform.machine() == "x86_64":
                found = {symbol: at + past_landing(data[at:at + 6]) for symbol, at in found.items()}
    except ValueError as error:  # an empty file cannot be mapped; ElfError is one as well
        raise ElfError(str(error)) from error
    finally:
        os.close(fd)
    return {symbol: at for at, symbol in {at: symbol for symbol, at in found.items()}.items()}


class _Full(Exception):
    """No more descriptors fit into this hand-over; the next run goes on."""


class Attaching:
    """Files on their way to be watched."""

    def __init__(self, programs: dict[str, int], sampled: bool) -> None:
        self._programs, self._sampled = programs, sampled
        self.links: Descriptors = []
        self.files: list[dict[str, Any]] = []

    def attach(self, key: str, path: str) -> None:
        """Attaches to one file; what does not work is told in its entry."""
        entry: dict[str, Any] = {"key": key, "symbols": [], "links": 0, "reason": "", "gone": False,
                                 "full": False, "sampled": False}
        first = len(self.links)
        try:
            found = functions(path)
            entry["sampled"] = not job_probes.SAMPLED.isdisjoint(found)
            for symbol, offset in found.items():
                if (symbol in job_probes.SAMPLED) == self._sampled:
                    self._one(path, symbol, offset)
                    entry["symbols"].append(symbol)
        except (FileNotFoundError, ProcessLookupError):
            entry["gone"] = True  # that process has ended; another one may map the file
        except _Full:
            entry["full"] = True
        except (OSError, ElfError) as error:
            entry["reason"] = explain(error)
        if entry["gone"] or entry["full"] or entry["reason"]:
            for fd in self.links[first:]:
                os.close(fd)
            del self.links[first:]
        entry["links"] = len(self.links) - first
        self.files.append(entry)

    def _one(self, path: str, symbol: str, offset: int) -> None:
        for program, at_return in zip(job_probes.PROBES[symbol], (False, True), strict=True):
            if program:
                if len(self.links) >= MAX_LINKS:
                    raise _Full
                self.links.append(bpfcall.attach_uprobe(self._programs[program], path, offset, at_return))


def work(request: dict[str, Any], given: Descriptors) -> tuple[dict[str, Any], Descriptors]:
    """(manifest, descriptors) of one request. Raises LoadError or OSError where nothing can be done at all."""
    began = time.monotonic()
    loaded: dict[str, Any] = {}
    descriptors: Descriptors = []
    if not given:
        loaded, descriptors = load_programs()
        given = descriptors[1:]
    attaching = Attaching(dict(zip(job_probes.PROGRAMS, given, strict=True)), bool(request["sampled"]))
    for key, path in request["files"]:
        attaching.attach(str(key), str(path))
    return {**loaded, "files": attaching.files, "first_link": len(descriptors), "error": "",
            "seconds": time.monotonic() - began}, [*descriptors, *attaching.links]


def main(arguments: list[str]) -> None:
    """Takes the request, answers, exits. The socket is inherited as --fd N."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    with socket.socket(fileno=int(options["--fd"])) as channel:
        data, given, _, _ = socket.recv_fds(channel, MAX_REQUEST, len(job_probes.PROGRAMS))
        try:
            manifest, descriptors = work(json.loads(data), given)
        except (LoadError, OSError) as error:
            manifest, descriptors = {"error": explain(error), "files": [], "first_link": 0}, []
        socket.send_fds(channel, [json.dumps(manifest).encode()], descriptors)


if __name__ == "__main__":
    main(sys.argv[1:])
