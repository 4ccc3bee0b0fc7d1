"""Compiles one family with bcc: the only use that is made of it.

The programs need no kernel header; stand_in.h takes the place of those that bcc's own prologue names. A bcc that wants
more gets the running kernel's headers, else any others installed: no program depends on what they say.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from collector.ebpf.families import Family

HERE = Path(__file__).resolve().parent
_SOURCE = "BCC_KERNEL_SOURCE"
IN_MEMORY = ("/run", "/dev/shm")
_OURS = "/virtual/main.c"  # how bcc calls our text; a complaint elsewhere is about its prologue and our stand-ins
_STAND_INS = ("linux/kconfig.h", "linux/types.h", "linux/version.h", "linux/bpf_common.h", "linux/log2.h", "asm/page.h",
              "uapi/linux/bpf.h", "uapi/linux/if_packet.h", "uapi/linux/if_ether.h", "uapi/linux/ptrace.h")
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


def compile_family(family: Family, flags: list[str]) -> Any:
    """The compiled bcc module of a family. Raises LoadError with the compiler's first complaint."""
    source = (HERE / "common.h").read_text() + (HERE / f"{family.name}.bcc.c").read_text() + _ASSERTS
    module, words = _compile(source, [*flags, "-Wno-everything"])
    if module is None and _OURS not in words and _use_real_headers():
        module, words = _compile(source, [*flags, "-Wno-everything"])
    if module is None:
        raise LoadError(f"{family.name}.bcc.c does not compile: {words}")
    return module


def _compile(source: str, flags: list[str]) -> tuple[Any, str]:
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
