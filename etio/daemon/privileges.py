"""From root to nobody in particular: what the daemon keeps after the warden is started is nothing."""

import ctypes
import logging
import os
import pwd
import re
import resource
import stat
from pathlib import Path

from etio.core.errors import EtioError

log = logging.getLogger(__name__)

PR_SET_NO_NEW_PRIVS = 38
FALLBACK_USER = "nobody"
_OURS = re.compile(r"(etio|[dr]\d{8})\.\S+|state|tmp|lost\+found|\.probe-\d+")
"""What lies in a state folder of ours."""
NICE = -15
"""The daemon must be able to explain a host that is overloaded; what it may use at most is small and bounded."""
FILES = 4096
"""Open files: one for each process of a large host."""


AUTOGROUP = Path("/proc/self/autogroup")


def raise_priority() -> None:
    """Asks for CPU time before ordinary work; harmless where it is not allowed.

    Where the kernel makes a group of each session (sched_autogroup, sched(7)), a nice value counts within the session
    only: against the others counts that of the group, which we ask for where the session is ours.
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        if os.getsid(0) == os.getpid():
            AUTOGROUP.write_text(str(NICE))
    except FileNotFoundError:
        return  # a kernel without such groups
    except OSError as error:
        log.info("not allowed to raise our priority (%s); reports may be late on an overloaded host", error.strerror)


def raise_files(wanted: int = FILES) -> None:
    """Allows as many open files as the hard limit does, up to `wanted`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def account(name: str) -> pwd.struct_passwd:
    """The account to run as: `name`, else the fallback user. Raises EtioError where neither exists."""
    for candidate in (name, FALLBACK_USER):
        try:
            return pwd.getpwnam(candidate)
        except KeyError:
            continue
    raise EtioError(f"neither user {name!r} nor {FALLBACK_USER!r} exists; create one: useradd --system {name}")


def give(path: Path, owner: pwd.struct_passwd) -> None:
    """Makes a state folder, and all in it, belong to the account. Raises EtioError for a folder with other contents.

    The account may have put links there in order to be given what they point to, so only regular files with no second
    name change hands, each through a descriptor that does not follow links.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o750)
    foreign = sorted(p.name for p in path.iterdir() if not _OURS.fullmatch(p.name))
    if foreign and path.stat().st_uid != owner.pw_uid:
        raise EtioError(f"{path}: holds {foreign[0]!r}, which is not etio's; choose an empty folder for the state "
                        f"(store.directory, or --state)")
    for _, _, files, folder in os.fwalk(path):
        if os.fstat(folder).st_uid != owner.pw_uid:
            os.fchown(folder, owner.pw_uid, owner.pw_gid)
        for name in files:
            _give_file(name, folder, owner)


def _give_file(name: str, folder: int, owner: pwd.struct_passwd) -> None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return  # a link, a socket, or gone meanwhile: nothing of ours
    try:
        info = os.fstat(fd)
        if stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and info.st_uid != owner.pw_uid:
            os.fchown(fd, owner.pw_uid, owner.pw_gid)
    finally:
        os.close(fd)


def drop(owner: pwd.struct_passwd) -> None:
    """Gives up root for good: groups, ids, and the right to gain anything by exec. Raises EtioError if it did not work.

    Going from uid 0 to another clears the permitted and effective capability sets (capabilities(7)).
    """
    os.setgroups([])
    os.setresgid(owner.pw_gid, owner.pw_gid, owner.pw_gid)
    os.setresuid(owner.pw_uid, owner.pw_uid, owner.pw_uid)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.environ["HOME"] = "/nonexistent"
    if capabilities() != 0 or os.getuid() == 0:
        raise EtioError("could not drop privileges; refusing to serve HTTP with them")


def capabilities() -> int:
    """The effective capability set of this process as a bit mask; 0 = none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def readable_after_drop(owner: pwd.struct_passwd, path: Path) -> str:
    """"" when the account can read `path`, else the first folder on the way that keeps it out."""
    for part in (*reversed(path.resolve().parents), path.resolve()):
        info = part.stat()
        mode = info.st_mode
        if info.st_uid == owner.pw_uid:
            allowed = mode & 0o500 == 0o500 if part.is_dir() else mode & 0o400
        else:
            allowed = mode & 0o001 if part.is_dir() else mode & 0o004
        if not allowed:
            return str(part)
    return ""
