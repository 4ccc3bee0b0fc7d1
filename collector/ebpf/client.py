"""The daemon's end of the warden's socket, and how `etio run` starts a warden while it is still root."""

import json
import os
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from collector.ebpf import protocol
from collector.ebpf.families import NUMBERS, ON_DEMAND
from etio.core.errors import Broken, NoData
from etio.core.status import ProgramCost

SYSTEM_PYTHON = "/usr/bin/python3"
_WARDEN = Path(__file__).with_name("warden.py")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOAD_SECONDS = 195.0
_ASK_SECONDS = 5.0


@dataclass(slots=True)
class Loaded:
    """What the loader handed over: its manifest (plain JSON values) and the descriptors it names by position."""

    manifest: dict[str, Any]
    descriptors: tuple[int, ...]
    _closed: set[int] = field(default_factory=set)

    def release(self, places: Iterable[int]) -> None:
        """Gives some descriptors back, by position; those given back before are left alone."""
        for place in set(places) - self._closed:
            self._closed.add(place)
            os.close(self.descriptors[place])

    def close(self) -> None:
        """Gives everything back: the programs go with it. May be called twice."""
        self.release(range(len(self.descriptors)))


def spawn_warden(guarded: bool = False) -> tuple[socket.socket, int]:
    """Starts a warden as root: (our end of its socket, its pid). It exits when our end closes; the caller
    then waits for its pid. guarded: it puts us, and our children, before others while we starve (urgency.py).

    Raises NoData when we are not root, or without the distribution's Python.
    """
    if os.geteuid() != 0:
        raise NoData("not root: no eBPF; remedy: start as root, or install the units (etio-warden)")
    if not os.access(SYSTEM_PYTHON, os.X_OK):
        raise NoData(f"no {SYSTEM_PYTHON}: no eBPF; remedy: apt install python3 python3-bpfcc")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        theirs.set_inheritable(True)
        command = [SYSTEM_PYTHON, "-I", str(_WARDEN), "--fd", str(theirs.fileno())]
        command += ["--guard", "yes"] if guarded else []
        pid = os.posix_spawn(SYSTEM_PYTHON, command, {"PATH": _PATH, "LANG": "C"}, setsid=True,
                             file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)])
    return ours, pid


def connect_warden(path: str) -> socket.socket:
    """Connects to a warden that listens. Raises NoData where none does."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(_ASK_SECONDS)
    try:
        channel.connect(path)
    except OSError as error:
        channel.close()
        raise NoData(f"no warden at {path} ({error.strerror}): no eBPF; remedy: systemctl start etio-warden") from error
    return channel


class WardenClient:
    """Asks the warden, from any thread. Every method raises NoData when there is nothing, and Broken when no answer
    comes in time: it then hangs up for good, lest a late answer be taken for that of the next question.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()

    def __enter__(self) -> "WardenClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hangs up; a warden that we started exits."""
        self._channel.close()

    def ping(self) -> int:
        """Pid of the warden."""
        return int(self._ask("ping")["pid"])

    def load(self, demanded: Sequence[str] = ()) -> Loaded:
        """Compiles, attaches and takes over all programs. Raises NoData with reason and remedy when none can be.

        demanded: names of families that are off otherwise.
        """
        return self._load(protocol.Request("load", tuple(ON_DEMAND.index(name) + 1 for name in demanded)))

    def load_family(self, name: str) -> Loaded:
        """The same for one family that was taken off. Raises NoData."""
        return self._load(protocol.Request("load_family", (NUMBERS[name],)))

    def unload_family(self, name: str) -> None:
        """Has the warden let go of a family whose descriptors were closed here."""
        self._ask("unload_family", (NUMBERS[name],))

    def _load(self, request: protocol.Request) -> Loaded:
        manifest, descriptors = self._exchange(request, _LOAD_SECONDS)
        if "error" in manifest:
            raise NoData(f"eBPF: {manifest['error']}")
        if len(descriptors) != manifest.get("descriptors"):
            Loaded(manifest, tuple(descriptors)).close()
            raise Broken(f"the loader announced {manifest.get('descriptors')} descriptors, {len(descriptors)} came")
        return Loaded(manifest, tuple(descriptors))

    def kmsg(self) -> int:
        """Descriptor of /dev/kmsg, non-blocking, read-only; the caller closes it. Raises NoData or Broken."""
        reply, descriptors = self._exchange(protocol.Request("open_kmsg"), _ASK_SECONDS)
        if "error" in reply:
            raise NoData(f"{reply['error']}; remedy: give the warden CAP_SYSLOG and /dev/kmsg (in a container: "
                         f"--privileged)")
        if len(descriptors) != 1:
            raise Broken(f"the warden sent {len(descriptors)} descriptors for /dev/kmsg")
        return descriptors[0]

    def io(self, pids: Sequence[int]) -> dict[int, tuple[int, int]]:
        """(read_bytes, write_bytes) of at most 64 processes, by pid; those that are gone are left out."""
        reply = self._ask("io", pids[:protocol.MAX_PIDS])
        return {int(pid): (int(read), int(written)) for pid, read, written in reply["io"]}

    def socket_owners(self, inodes: Sequence[int]) -> dict[int, int]:
        """Pid of the process that holds each of at most 64 sockets, by inode; those not found are left out."""
        owners = self._ask("socket_owners", inodes[:protocol.MAX_PIDS])["owners"]
        return {int(inode): int(pid) for inode, pid in owners}

    def stack(self, pid: int) -> tuple[str, ...]:
        """Kernel functions a task is in, innermost first; empty while it runs in user space."""
        return tuple(str(one) for one in self._ask("stack", [pid])["stack"])

    def exe(self, pid: int) -> str:
        """Path of the file a process runs, as the kernel tells it."""
        return str(self._ask("exe", [pid])["exe"])

    def numa_maps(self, pid: int) -> dict[int, int]:
        """Pages of a process on each NUMA node."""
        return {int(node): int(pages) for node, pages in self._ask("numa_maps", [pid])["pages"].items()}

    def smaps(self, pid: int) -> dict[str, int]:
        """Bytes of a process by the kernel's names: Rss, Pss, Anonymous, Swap ..."""
        return {str(name): int(size) for name, size in self._ask("smaps", [pid])["bytes"].items()}

    def netns(self, pid: int) -> int:
        """Number of the network namespace of a process, as lsns(8) shows it."""
        return int(self._ask("netns", [pid])["netns"])

    def tracked(self, pid: int) -> dict[str, Any]:
        """A sample of the connections tracked in the network namespace of a process, see tracked.sample()."""
        return dict(self._ask("tracked", [pid])["tracked"])

    def jobs(self) -> tuple[dict[str, Any], int]:
        """Processes that use GPUs, as warden_jobs describes them, and the descriptor of the map of what they do, which
        the caller closes; -1 until there is one. Raises NoData where the warden cannot have one, with its reason."""
        reply, descriptors = self._exchange(protocol.Request("jobs"), _ASK_SECONDS)
        if "error" in reply:
            raise NoData(str(reply["error"]))
        return reply, descriptors[0] if descriptors else -1

    def sample_jobs(self) -> None:
        """Has kernel launches counted for a few seconds."""
        self._ask("jobs_sample")

    def end_jobs(self) -> None:
        """Has all probes in libraries of GPU jobs taken off."""
        self._ask("jobs_end")

    def nvme(self) -> list[tuple[str, str, str]]:
        """(controller, health log in hexadecimal, "") of each NVMe controller; (controller, "", why there is none)."""
        return [(str(name), str(log), str(reason)) for name, log, reason in self._ask("nvme")["nvme"]]

    def inotify(self) -> tuple[list[tuple[int, int, int, int]], bool, float]:
        """((pid, uid, inotify instances, watches) of each process that has any, whether these are all, CPU seconds it
        took to look)."""
        reply = self._ask("inotify")
        rows = [(int(pid), int(uid), int(n), int(watches)) for pid, uid, n, watches in reply["inotify"]]
        return rows, bool(reply["whole"]), float(reply["seconds"])

    def writers(self, device: int) -> list[tuple[int, int, int, str]]:
        """(pid, bytes, 1 = deleted, path) of the largest files open for writing on the file system of this number."""
        rows = self._ask("writers", [device])["writers"]
        return [(int(pid), int(size), int(deleted), str(path)) for pid, size, deleted, path in rows]

    def program_costs(self) -> tuple[ProgramCost, ...]:
        """Runs and seconds of each program; NaN where the kernel does not count (kernel.bpf_stats_enabled = 0)."""
        rows = self._ask("program_costs")["programs"]
        return tuple(ProgramCost(str(name), str(attach), float(count), run_ns / 1e9) if count
                     else ProgramCost(str(name), str(attach)) for name, run_ns, count, attach in rows)

    def _ask(self, do: str, pids: Sequence[int] = ()) -> dict[str, Any]:
        reply, descriptors = self._exchange(protocol.Request(do, tuple(pids)), _ASK_SECONDS)
        for fd in descriptors:
            os.close(fd)
        if "error" in reply:
            raise NoData(str(reply["error"]))
        return reply

    def _exchange(self, request: protocol.Request, seconds: float) -> tuple[dict[str, Any], list[int]]:
        with self._lock:
            try:
                self._channel.settimeout(seconds)
                self._channel.send(protocol.encode(request))
            except OSError as error:
                raise Broken(f"warden: {error}; remedy: restart etio") from error
            return self._receive()

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._channel, protocol.MAX_REPLY, protocol.MAX_FDS)
        except OSError as error:
            self._channel.close()
            raise Broken(f"warden: {error}; remedy: restart etio") from error
        for fd in descriptors:
            os.set_inheritable(fd, False)
        if not data:
            raise Broken("warden: it has gone; eBPF series end here; remedy: restart etio")
        try:
            reply = json.loads(data)
        except ValueError as error:
            raise Broken(f"warden: answer is no JSON: {error}") from error
        if not isinstance(reply, dict):
            raise Broken("warden: answer is no object")
        return reply, descriptors
