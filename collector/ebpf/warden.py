"""The resident privileged helper: opens and reads what the daemon may not, by a closed list of typed requests.

Run by the distribution's Python, as root, isolated:
python3 -I warden.py --fd N [--guard yes] | --listen PATH --user NAME

It takes no path, no command and no text from the daemon; it changes nothing of the host but the daemon's own priority,
while that starves (urgency.py; with --fd only if asked to). With --fd it exits when the daemon's end closes; with
--listen (or a socket handed over by systemd) it then waits for the next daemon.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import re
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    # typing, pathlib, subprocess and dataclasses would cost this resident process 4 MB.
    from collections.abc import Sequence
    from typing import Any

    Reply = tuple[dict[str, Any], list[int]]
    Pids = tuple[int, ...]

HERE = os.path.dirname(os.path.realpath(__file__))
if "collector" not in sys.modules:
    # Run as a script by another Python than the daemon's: this folder's siblings, and nothing else of ours or theirs.
    sys.modules["collector"] = type(sys)("collector")
    sys.modules["collector"].__path__ = [os.path.dirname(HERE)]

from collector.ebpf import protocol  # noqa: E402
from collector.ebpf.owners import find_owners  # noqa: E402
from collector.ebpf.procfs import program_cost, read_io, text_of  # noqa: E402
from collector.ebpf.tracked import sample  # noqa: E402
from collector.ebpf.urgency import watch  # noqa: E402
from collector.ebpf.warden_jobs import JobWatch  # noqa: E402
from collector.ebpf.warden_nvme import NvmeWatch  # noqa: E402
from collector.ebpf.watches import find_watchers  # noqa: E402
from collector.ebpf.writers import find_writers  # noqa: E402

LOAD_SECONDS = 180
NICE = -15
_CLONE_NEWNET = 0x40000000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_CAP_VERSION_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91, "riscv64": 91, "loongarch64": 91}
# dac_read_search, sys_ptrace, sys_admin, sys_resource, syslog, perfmon, bpf: what the loader and the reads need;
# sys_nice: see urgency.py
_KEPT_CAPS = (2, 19, 21, 23, 24, 34, 38, 39)
_LAST_CAP = 63
_SMAPS = ("Rss", "Pss", "Anonymous", "Swap", "Shared_Clean", "Private_Dirty")


def raise_priority() -> None:
    """As the daemon that started us and waits for our answers: before ordinary work. Best effort.

    A session of our own is put before the others as well (sched_autogroup, sched(7)).
    """
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        if os.getsid(0) == os.getpid():
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write(str(NICE))
    except OSError:
        return


def give_up_privileges() -> None:
    """Leaves the network and drops every capability that neither the loader nor a read needs. Best effort."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(_CLONE_NEWNET)
    (held,) = re.findall(r"^CapPrm:\s*(\w+)", text_of("/proc/self/status"), re.M)
    kept = int(held, 16) & sum(1 << cap for cap in _KEPT_CAPS)
    for cap in range(_LAST_CAP + 1):
        if not kept >> cap & 1:
            libc.prctl(_PR_CAPBSET_DROP, cap, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAP_VERSION_3, 0))
    sets = ctypes.create_string_buffer(struct.pack("<IIIIII", low, low, 0, high, high, 0))
    libc.syscall(_CAPSET.get(os.uname().machine, -1), header, sets)


class Session:
    """One daemon's connection: answers requests, keeps the programs' descriptors for their costs."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.programs: dict[str, tuple[int, str]] = {}
        self.families: dict[int, list[str]] = {}
        """Programs of each family, by its number."""
        self.jobs = JobWatch()
        self.drives = NvmeWatch()
        self.refused = 0

    def serve(self) -> None:
        """Answers until the daemon's end closes."""
        try:
            while data := self.channel.recv(protocol.MAX_REQUEST + 1):
                try:
                    self._answer(protocol.decode(data))
                except protocol.Refused as error:
                    self.refused += 1
                    self._send({"error": f"refused: {error}", "refused": self.refused})
        finally:
            self.jobs.close()
            self._forget()

    def _answer(self, request: protocol.Request) -> None:
        try:
            reply, descriptors = getattr(self, f"_do_{request.do}")(*[request.pids] if request.pids else [])
        except (OSError, ValueError) as error:
            reply, descriptors = {"error": f"{request.do}: {error}"}, []
        try:
            self._send(reply, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)

    def _send(self, reply: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """One answer, with copies of the descriptors."""
        socket.send_fds(self.channel, [json.dumps(reply).encode()], list(descriptors))

    def _forget(self) -> None:
        for number in list(self.families):
            self._unload(number)

    def _unload(self, number: int) -> None:
        for name in self.families.pop(number, ()):
            os.close(self.programs.pop(name)[0])

    def _keep(self, manifest: dict[str, Any], descriptors: list[int]) -> None:
        """Program descriptors stay here as well, for their costs."""
        for family in manifest["families"]:
            self._unload(family["number"])
            self.families[family["number"]] = [one["name"] for one in family["programs"]]
            for one in family["programs"]:
                self.programs[one["name"]] = (os.dup(descriptors[one["program"]]), one["attach"])

    def _do_ping(self) -> Reply:
        return {"pid": os.getpid(), "refused": self.refused}, []

    def _do_io(self, pids: Pids = ()) -> Reply:
        found = [[pid, *numbers] for pid in pids if (numbers := read_io(pid))]
        return {"io": found}, []

    def _do_socket_owners(self, inodes: Pids = ()) -> Reply:
        return {"owners": list(find_owners(set(inodes)).items())}, []

    def _do_open_kmsg(self) -> Reply:
        return {"kmsg": 0}, [os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)]

    def _do_stack(self, pids: Pids) -> Reply:
        lines = text_of(f"/proc/{pids[0]}/stack").splitlines()
        return {"stack": [line.split()[-1].partition("+")[0] for line in lines if line.strip()][:64]}, []

    def _do_exe(self, pids: Pids) -> Reply:
        return {"exe": os.readlink(f"/proc/{pids[0]}/exe")[:4096]}, []

    def _do_numa_maps(self, pids: Pids) -> Reply:
        text = text_of(f"/proc/{pids[0]}/numa_maps")
        pages: dict[str, int] = {}
        for node, count in re.findall(r"\bN(\d+)=(\d+)", text):
            pages[node] = pages.get(node, 0) + int(count)
        return {"pages": pages}, []

    def _do_netns(self, pids: Pids) -> Reply:
        """Number of the network namespace of a process."""
        return {"netns": os.stat(f"/proc/{pids[0]}/ns/net").st_ino}, []

    def _do_tracked(self, pids: Pids) -> Reply:
        """A sample of the connections tracked in the network namespace of a process."""
        return {"tracked": sample(f"/proc/{pids[0]}/net/nf_conntrack")}, []

    def _do_smaps(self, pids: Pids) -> Reply:
        text = text_of(f"/proc/{pids[0]}/smaps_rollup")
        found = re.findall(r"^(\w+):\s+(\d+) kB$", text, re.M)
        return {"bytes": {key: int(kb) * 1024 for key, kb in found if key in _SMAPS}}, []

    def _do_nvme(self) -> Reply:
        """Health logs of the NVMe controllers that the kernel lists."""
        return {"nvme": self.drives.look()}, []

    def _do_inotify(self) -> Reply:
        """Processes that watch files, whether these are all, and the CPU time it took to look."""
        before = time.thread_time()
        rows, whole = find_watchers()
        return {"inotify": rows, "whole": whole, "seconds": time.thread_time() - before}, []

    def _do_writers(self, devices: Pids) -> Reply:
        """Files open for writing on a file system, with whose they are."""
        return {"writers": find_writers(devices[0])}, []

    def _do_program_costs(self) -> Reply:
        held = {**self.programs, **{name: (fd, "uprobe") for name, fd in self.jobs.programs.items()}}
        return {"programs": [[name, *program_cost(fd), attach] for name, (fd, attach) in held.items()]}, []

    def _do_jobs(self) -> Reply:
        """Processes that use GPUs, their libraries being probed; with the map of what they do."""
        reply, descriptors = self.jobs.look()
        return reply, [os.dup(fd) for fd in descriptors]

    def _do_jobs_sample(self) -> Reply:
        """Kernel launches are counted for a short while."""
        self.jobs.sample()
        return {}, []

    def _do_jobs_end(self) -> Reply:
        """No library is probed any more."""
        self.jobs.close()
        return {}, []

    def _do_load(self, families: Pids = ()) -> Reply:
        """Runs the loader; its manifest and descriptors go on to the daemon.

        families: numbers of those that are off otherwise.
        """
        self._forget()
        manifest, descriptors = run_loader("--with", families)
        self._keep(manifest, descriptors)
        return manifest, descriptors

    def _do_load_family(self, families: Pids) -> Reply:
        """The same for one family, which was taken off before."""
        manifest, descriptors = run_loader("--number", families)
        self._keep(manifest, descriptors)
        return manifest, descriptors

    def _do_unload_family(self, families: Pids) -> Reply:
        """The daemon has taken a family off: nothing of it stays here."""
        self._unload(families[0])
        return {}, []


def run_loader(option: str, families: Pids = ()) -> Reply:
    """(manifest, descriptors) of one run of the loader; a manifest with "error" when it failed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            theirs.set_inheritable(True)
            command = [sys.executable, "-I", os.path.join(HERE, "loader.py"), "--fd", str(theirs.fileno())]
            command += [option, ",".join(map(str, families))] if families else []
            child = os.posix_spawn(sys.executable, command, dict(os.environ), setsid=True)
        ready, _, _ = select.select([ours], [], [], LOAD_SECONDS)
        data, descriptors, _, _ = (socket.recv_fds(ours, protocol.MAX_REPLY, protocol.MAX_FDS) if ready
                                   else (b"", [], 0, None))
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    for fd in descriptors:
        os.set_inheritable(fd, False)
    if not data:
        return {"error": _how_it_ended(status), "families": []}, []
    manifest: dict[str, Any] = json.loads(data)
    return manifest, descriptors


def _how_it_ended(status: int) -> str:
    """Why the loader sent nothing, for people. status: as of waitpid()."""
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        return (f"the eBPF loader was killed, for want of memory or after {LOAD_SECONDS:g} s; "
                f"remedy: leave etio 250 MB while it starts")
    return f"the eBPF loader ended with status {code}"


def _listen(path: str, user: str) -> socket.socket:
    """The socket to accept daemons on: systemd's, or one of our own that only `user` may open."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return socket.socket(fileno=3)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o600)
    os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    listener.listen(1)
    return listener


def _serve_all(listener: socket.socket, allowed: set[int]) -> None:
    """Serves one daemon after the other; anybody but `allowed` uids is turned away."""
    while True:
        channel, _ = listener.accept()
        with channel:
            if _peer(channel)[1] in allowed:
                _serve(channel, guarded=True)


def _peer(channel: socket.socket) -> tuple[int, int]:
    """(pid, user) at the other end, when it was opened."""
    pid, uid, _ = struct.unpack("iII", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def _serve(channel: socket.socket, guarded: bool) -> None:
    watcher = watch(_peer(channel)[0]) if guarded else 0
    try:
        Session(channel).serve()
    except (BrokenPipeError, ConnectionResetError):
        return  # the daemon died in the middle of an answer
    finally:
        if watcher:
            os.kill(watcher, signal.SIGKILL)
            os.waitpid(watcher, 0)


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    if "--fd" in options:
        channel = socket.socket(fileno=int(options["--fd"]))
        raise_priority()
        give_up_privileges()
        _serve(channel, "--guard" in options)
        return
    user = options.get("--user", "etio")
    listener = _listen(options.get("--listen", "/run/etio/warden.sock"), user)
    allowed = {0, pwd.getpwnam(user).pw_uid}
    give_up_privileges()
    _serve_all(listener, allowed)


if __name__ == "__main__":
    main(sys.argv[1:])
