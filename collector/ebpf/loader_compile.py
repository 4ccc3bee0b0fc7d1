"""Compiles one family with bcc: the only use that is made of it.

The programs need no kernel header; stand_in.h takes the place of those that bcc's own prologue names. A bcc that wants
more gets the running kernel's headers, else any others installed: no program depends on what they say.
"""

import atexit
import json
import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path
from typing import IO, NoReturn

from collector.ebpf.families import Family

HERE = Path(__file__).resolve().parent
_SOURCE = "BCC_KERNEL_SOURCE"
IN_MEMORY = ("/run", "/dev/shm")
_OURS = "/virtual/main.c"  # how bcc calls our text; a complaint elsewhere is about its prologue and our stand-ins
_STAND_INS = ("linux/kconfig.h", "linux/types.h", "linux/version.h", "linux/bpf_common.h", "linux/log2.h", "asm/page.h",
              "uapi/linux/bpf.h", "uapi/linux/if_packet.h", "uapi/linux/if_ether.h", "uapi/linux/ptrace.h")
_MOST_WORDS = 300
_KILLED = ": killed, for want of memory; remedy: leave etio 250 MB while it starts"
_ASSERTS = """
_Static_assert(sizeof(struct shared) == SHARED_BYTES, "shared");
_Static_assert(sizeof(struct private) == PRIVATE_BYTES, "private");
"""


class LoadError(Exception):
    """A family, or everything, cannot be used on this host; the text is the reason for people."""


def check_bcc() -> None:
    """Raises LoadError with the remedy where bcc is not installed, or no file can be made."""
    try:
        tempfile.tempdir = _writable()
        os.environ[_SOURCE] = _stand_ins()
    except OSError as error:
        raise LoadError("no folder for the compiler's files (read-only root?); remedy: mount -t tmpfs tmpfs /tmp"
                        ) from error
    try:
        import bcc  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        raise LoadError(f"bcc is missing ({error}); remedy: apt install python3-bpfcc, or dnf install python3-bpfcc"
                        ) from error


def _writable() -> str:
    """The usual folder for temporary files, else one that is in memory on most hosts. Raises OSError without any."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        found = next((one for one in IN_MEMORY if os.access(one, os.W_OK)), "")
        if not found:
            raise
        return found


def compile_family(family: Family, flags: list[str], functions: list[str]) -> dict[str, bytes]:
    """The code of each named C function of a family. Raises LoadError with the compiler's first complaint."""
    source = (HERE / "common.h").read_text() + (HERE / f"{family.name}.bcc.c").read_text() + _ASSERTS
    flags = [*flags, "-Wno-everything"]
    code, words = _compile(source, flags, functions)
    remedy = ""
    if words and _OURS not in words:
        if _use_real_headers():
            code, words = _compile(source, flags, functions)
        elif ".h" in words:  # a header of its own prologue, not a compiler that gave up
            remedy = f"; remedy: this bcc wants the kernel's headers: apt install linux-headers-{os.uname().release}"
    if words:
        raise LoadError(f"{family.name}.bcc.c does not compile: {words[:_MOST_WORDS]}{remedy}")
    return code


def _compile(source: str, flags: list[str], functions: list[str]) -> tuple[dict[str, bytes], str]:
    """The code of each function and "", or none and the compiler's first complaint.

    A process of its own for each family: a compiler that cannot go on ("LLVM ERROR: Cannot select") aborts.
    """
    with tempfile.TemporaryFile() as result, tempfile.TemporaryFile() as complaints:
        child = os.fork()
        if child == 0:
            _compile_and_exit((source, flags, functions), result, complaints.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        result.seek(0)
        complaints.seek(0)
        if status == 0:
            return {name: bytes.fromhex(code) for name, code in json.loads(result.read()).items()}, ""
        lines = complaints.read().decode("utf-8", "replace").split("\n")
    told = next((line for line in lines if "error:" in line.lower()), "")
    return {}, told or f"the compiler ended with status {status}" + _KILLED * (status == -signal.SIGKILL)


def _compile_and_exit(task: tuple[str, list[str], list[str]], result: IO[bytes], complaints: int) -> NoReturn:
    """In the child: writes the functions' code as JSON; bcc and LLVM write what they complain of to descriptor 2."""
    source, flags, functions = task
    status = 1
    try:
        os.dup2(complaints, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        from bcc import BPF

        module = BPF(text=source.encode(), cflags=flags)
        code = {name: module.dump_func(name.encode()).hex() for name in functions}
        result.write(json.dumps(code).encode())
        result.flush()
        status = 0
    except Exception as error:  # noqa: BLE001 (bcc raises bare Exception)
        os.write(2, f"\nerror: {error}\n".encode())
    finally:
        os._exit(status)


def _use_real_headers() -> bool:
    """Makes bcc use installed kernel headers from now on; False where that was tried or there are none."""
    if not Path(os.environ.get(_SOURCE, ""), "include", _STAND_INS[0]).is_symlink():
        return False
    build = Path("/lib/modules", os.uname().release, "build")
    if build.exists() or Path("/sys/kernel/kheaders.tar.xz").exists():
        del os.environ[_SOURCE]
        return True
    merged = _merge_headers()
    if merged:
        os.environ[_SOURCE] = merged
    return bool(merged)


def _private_folder() -> str:
    folder = tempfile.mkdtemp(prefix="etio-headers-")
    atexit.register(shutil.rmtree, folder, True)
    return folder


def _stand_ins() -> str:
    """A private folder in which stand_in.h goes by the name of every header bcc's prologue includes."""
    folder = _private_folder()
    for name in _STAND_INS:
        place = Path(folder, "include", name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(HERE / "stand_in.h")
    return folder


def _merge_headers() -> str:
    """A private folder of links in which Debian's split header packages look like one tree; "" without any."""
    for own in sorted(Path("/usr/src").glob("linux-headers-*"), reverse=True):
        common = Path(str(own).rpartition("-")[0] + "-common")
        if (own / "include/generated").is_dir() and (common / "include/linux").is_dir():
            folder = _private_folder()
            for tree in ("include", *(f"arch/{arch.name}/include" for arch in (own / "arch").iterdir())):
                _link_children((own / tree, common / tree), Path(folder, tree))
            return folder
    return ""


def _link_children(sources: tuple[Path, ...], target: Path) -> None:
    target.mkdir(parents=True)
    for source in sources:
        for child in source.iterdir() if source.is_dir() else ():
            if not (target / child.name).exists():
                (target / child.name).symlink_to(child)
