"""The warden's watch over processes that use GPUs: finds them, has their libraries probed, lets go when they are gone.

Part of the warden: standard library only, no import that costs memory. Nothing here waits: a look takes at most LOOKS
processes, and the loader is a child that is asked whether it is done.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import re
import select
import signal
import socket
import sys
import time

from collector.ebpf import job_probes, protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
LOOKS = 64
"""Most processes whose maps are read in one look (about 5 ms): bounds its cost, whatever starts. The newest first."""
SOON_S, LATE_S = 2.0, 60.0
"""A process is looked at again when it is twice as old (a library may be loaded late), but within these bounds."""
LOAD_S = 60.0
WINDOW_S = 3.0
"""So long kernel launches are counted when that is asked for: two readings a second apart fit in."""
RETRY_S = 60.0
MOST_PROCESSES, MOST_FILES, MOST_AT_ONCE = 256, 4096, 192
_TICKS = os.sysconf("SC_CLK_TCK")
_GPU = re.compile(rb"/lib(?:cuda|torch_cuda|[nr]ccl)[-.\w]*(?: \(deleted\))?$|/dev/nvidia\d", re.M)
_CODE = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) r-x\S [0-9a-f]+ (\S+) (\d+) +/(?!dev/)", re.M)


class File:
    """One file with code. links: descriptors of its probes; users: pid to the path by which it maps it; reason: why it
    has no probes; sampled: whether it has a function that is only probed for a while."""

    __slots__ = ("key", "links", "reason", "sampled", "state", "users")

    def __init__(self, key: str) -> None:
        self.key, self.state, self.reason = key, "new", ""
        self.links: list[int] = []
        self.sampled = False
        self.users: dict[int, str] = {}


def _close(descriptors: list[int], closing: list[list[int]]) -> None:
    for fd in descriptors:
        os.close(fd)
    closing.remove(descriptors)


class Seen:
    """One process. start: in clock ticks after boot; files: keys of what it maps, empty where it uses no GPU."""

    __slots__ = ("facts", "files", "next_s", "start")

    def __init__(self, start: int) -> None:
        self.start, self.next_s = start, 0.0
        self.files: tuple[str, ...] = ()
        self.facts: dict[str, Any] = {}


class Child:
    """A loader at work."""

    def __init__(self, files: list[File], sampled: bool, programs: list[int]) -> None:
        self.files, self.sampled, self.until_s = files, sampled, time.monotonic() + LOAD_S
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.set_inheritable(True)
            command = [sys.executable, "-I", os.path.join(HERE, "loader_jobs.py"), "--fd", str(theirs.fileno())]
            self.pid = os.posix_spawn(sys.executable, command, dict(os.environ))
        self.asked = {file.key: next(reversed(file.users)) for file in files if file.users}
        request = {"sampled": sampled, "files": [[f.key, f.users[self.asked[f.key]]] for f in files if f.users]}
        socket.send_fds(self.channel, [json.dumps(request).encode()], programs)

    def answer(self) -> tuple[dict[str, Any], list[int]] | None:
        """Its manifest and descriptors when it is done, None while it works."""
        late = time.monotonic() > self.until_s
        if not late and not select.select([self.channel], [], [], 0)[0]:
            return None
        data, descriptors, _, _ = (b"", [], 0, None) if late else socket.recv_fds(
            self.channel, protocol.MAX_REPLY, protocol.MAX_FDS)
        self.end()
        for fd in descriptors:
            os.set_inheritable(fd, False)
        if not data:
            return {"error": f"the loader did not answer within {LOAD_S:.0f} s" if late else "the loader died",
                    "files": []}, descriptors
        manifest: dict[str, Any] = json.loads(data)
        return manifest, descriptors

    def end(self) -> None:
        """Ends it, however far it is."""
        self.channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class JobWatch:
    """Everything the warden knows of processes that use GPUs, for one daemon."""

    def __init__(self) -> None:
        self._seen: dict[int, Seen] = {}
        self._files: dict[str, File] = {}
        self._child: Child | None = None
        self._map, self._map_bytes = -1, 0
        self.programs: dict[str, int] = {}
        self._reason, self._retry_s, self._waiting = "", 0.0, False
        self._sample = False
        self._window: list[int] = []
        self._window_until_s = 0.0
        self._closing: list[list[int]] = []

    def look(self) -> tuple[dict[str, Any], list[int]]:
        """One look: the answer to a request "jobs", with the descriptor of the map, which stays ours."""
        self._forget_gone()
        self._detach_unused()  # first: the number of a file that is gone may be that of a new one
        self._look_around()
        if self._child is not None and (answer := self._child.answer()) is not None:
            child, self._child = self._child, None
            self._take(child, *answer)
        if self._window and time.monotonic() > self._window_until_s:
            self._detach(self._window)
            self._window = []
        if self._child is None:
            self._start()
        probes = sum(len(file.links) for file in self._files.values())
        busy = self._child is not None or self._waiting or bool(self._closing)
        return {"processes": self._processes(), "busy": busy, "probes": probes,
                "reason": self._reason, "map_bytes": self._map_bytes, "sampling": bool(self._window),
                "unprobed": self._unprobed()}, [self._map] if self._map >= 0 else []

    def sample(self) -> None:
        """From the next looks on, kernel launches are counted for WINDOW_S."""
        self._sample = True

    def close(self) -> None:
        """Detaches everything."""
        if self._child is not None:
            self._child.end()
        for links in (self._window, *(file.links for file in self._files.values())):
            self._detach(links)
        for fd in (*self.programs.values(), *([self._map] if self._map >= 0 else [])):
            os.close(fd)
        self.__init__()  # type: ignore[misc]  # as new, for the next daemon

    def _forget_gone(self) -> None:
        now = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        for pid in self._seen.keys() - now:
            self._drop(pid)
        for pid in now - self._seen.keys():
            self._seen[pid] = Seen(-1)

    def _drop(self, pid: int) -> None:
        for key in self._seen.pop(pid).files:
            if file := self._files.get(key):
                file.users.pop(pid, None)

    def _look_around(self) -> None:
        now = time.monotonic()
        due = sorted((seen.next_s, -pid) for pid, seen in self._seen.items() if seen.next_s <= now)
        self._waiting = any(next_s == 0.0 for next_s, _ in due[LOOKS:])
        for _, pid in ((next_s, -minus) for next_s, minus in due[:LOOKS]):
            try:
                self._look_at(pid, now)
            except (OSError, ValueError, IndexError):
                self._drop(pid)  # it is gone

    def _look_at(self, pid: int, now: float) -> None:
        with open(f"/proc/{pid}/stat", "rb") as file:
            start = int(file.read().rpartition(b")")[2].split()[19])
        if self._seen[pid].start not in (-1, start):
            self._drop(pid)
            self._seen[pid] = Seen(start)
        seen = self._seen[pid]
        seen.start = start
        seen.next_s = now + min(max(time.clock_gettime(time.CLOCK_BOOTTIME) - start / _TICKS, SOON_S), LATE_S)
        with open(f"/proc/{pid}/maps", "rb") as file:
            maps = file.read()
        if _GPU.search(maps):
            self._note(pid, seen, maps)

    def _note(self, pid: int, seen: Seen, maps: bytes) -> None:
        """Takes in the code that a process with a GPU library maps."""
        if not seen.files and sum(bool(s.files) for s in self._seen.values()) >= MOST_PROCESSES:
            return
        ranges = {f"{d.decode()}:{i.decode()}": f"{int(a, 16):x}-{int(b, 16):x}"
                  for a, b, d, i in _CODE.findall(maps)}
        for key, where in ranges.items():
            file = self._files.get(key)
            if file is None and len(self._files) < MOST_FILES:
                file = self._files[key] = File(key)
            if file is not None:
                file.users[pid] = f"/proc/{pid}/map_files/{where}"
        for key in set(seen.files) - ranges.keys():  # it executed another program
            self._files[key].users.pop(pid, None)
        seen.files = tuple(key for key in ranges if key in self._files)
        seen.facts = _facts(pid)

    def _detach_unused(self) -> None:
        busy = {id(file) for file in self._child.files} if self._child else set()
        for key in [k for k, f in self._files.items() if not f.users and id(f) not in busy]:
            self._detach(self._files.pop(key).links)

    def _detach(self, links: list[int]) -> None:
        """Takes probes off, which takes the kernel a tenth of a second each: in a thread of its own."""
        if links:
            self._closing.append(links)
            _thread.start_new_thread(_close, (links, self._closing))

    def _start(self) -> None:
        new = [file for file in self._files.values() if file.state == "new"][:MOST_AT_ONCE]
        if time.monotonic() < self._retry_s or self._closing:
            return  # a file probed anew while its old probes are still there would be counted twice
        if new:
            self._child = Child(new, False, list(self.programs.values()))
        elif self._sample and not self._window:
            self._sample = False
            if files := [file for file in self._files.values() if file.sampled and file.users]:
                self._child = Child(files, True, list(self.programs.values()))

    def _take(self, child: Child, manifest: dict[str, Any], descriptors: list[int]) -> None:
        """Takes what a loader hands over."""
        self._reason = str(manifest["error"])
        if self._reason:
            self._retry_s = time.monotonic() + RETRY_S
            return
        if "map" in manifest:
            first = manifest["programs"]
            self._map, self._map_bytes = descriptors[manifest["map"]], int(manifest["map_bytes"])
            self.programs = dict(zip(job_probes.PROGRAMS, descriptors[first:], strict=False))
        if child.sampled:
            self._window, self._window_until_s = descriptors, time.monotonic() + WINDOW_S
            return
        links = iter(descriptors[manifest["first_link"]:])
        by_key = {file.key: file for file in child.files}
        for entry in manifest["files"]:
            file = by_key[entry["key"]]
            file.links = [next(links) for _ in range(entry["links"])]
            file.sampled, file.reason = bool(entry["sampled"]), str(entry["reason"])
            file.state = "new" if entry["gone"] or entry["full"] else "done"
            if entry["gone"]:
                file.users.pop(child.asked[file.key], None)

    def _processes(self) -> list[dict[str, Any]]:
        """Those of which a probed file is mapped."""
        return [{"pid": pid, "start": seen.start, **seen.facts} for pid, seen in self._seen.items()
                if any(self._files[key].links for key in seen.files if key in self._files)]

    def _unprobed(self) -> list[str]:
        """Why files have no probes, each reason once."""
        return sorted({f.reason for f in self._files.values() if f.reason})[:8]


def _facts(pid: int) -> dict[str, Any]:
    """The variables of job_probes.ENVIRONMENT, parent, process group, control group; what cannot be read stays out."""
    found: dict[str, Any] = {"env": {}, "cgroup": "", "ppid": 0, "group": 0, "comm": ""}
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = (entry.partition(b"=") for entry in file.read(1 << 17).split(b"\0"))
            found["env"] = {name.decode(): value.decode("utf-8", "replace")[:64] for name, _, value in pairs
                            if name.decode("ascii", "replace") in job_probes.ENVIRONMENT}
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as text:
            found["cgroup"] = max((line.rstrip("\n").split(":", 2)[2] for line in text), key=len, default="")[:200]
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as text:
            head, _, tail = text.read().rpartition(")")
            found["comm"] = head.partition("(")[2][:16]
            found["ppid"], found["group"] = (int(word) for word in tail.split()[1:3])
    except (OSError, ValueError, IndexError):
        return found
    return found
