"""Finds inference servers: which ports of this host are listened on, and which processes look like a server.

Reads: listening sockets (collector.listeners), /proc/PID/cmdline of every process when these have changed, and of few:
environ (where allowed), fd (where the command line names no port).
Source: proc(5).
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from collector.cgroup_files import slurp
from collector.inference_flags import environment, given, port_of
from collector.inference_kinds import KINDS, MAYBE, kind_of_command, split
from collector.listeners import Listening, listeners

CMDLINE = 16384
MOST_FDS = 4096
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was found. name: kind and port, the same after a restart. flags: as given, never a secret.

    start: when its process began (ticks after boot), as the kernel prints it; "" where no process is known.
    """

    name: str
    kind: str
    url: str
    pid: int = 0
    comm: str = ""
    start: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)


class Finder:
    """Looks when asked; scans processes only when the listening sockets changed, or a known server is gone."""

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._inodes: frozenset[int] = frozenset()
        self._servers: dict[str, Server] = {}
        self.starting: dict[str, tuple[int, str]] = {}
        """Name to process (id, start) of what looks like a server and did not listen yet at the last scan."""

    def look(self, closely: bool = False) -> dict[str, Server]:
        """Every server there is now, by name. closely: look at the processes in any case, for those that start."""
        listening = listeners(self._proc)
        inodes = frozenset(s.inode for s in listening)
        gone = any(not self._same(s) for s in self._servers.values())
        if inodes != self._inodes or gone or closely:
            self._servers = self._scan(listening)
            self._inodes = inodes
        return self._servers

    def alive(self, server: Server) -> bool:
        """Whether its process is there still."""
        return self._same(server)

    def _same(self, server: Server) -> bool:
        """By its start, not its command line: servers give themselves other titles."""
        return bool(server.start) and self._start(server.pid) == server.start

    def _start(self, pid: int) -> str:
        fields = (slurp(f"{self._proc}/{pid}/stat", 1024) or b"").rpartition(b")")[2].split()
        return fields[19].decode("ascii", "replace") if len(fields) > 19 else ""

    def _scan(self, listening: Iterable[Listening]) -> dict[str, Server]:
        ports = {s.port: s for s in sorted(listening, key=lambda s: s.host != "127.0.0.1", reverse=True)}
        found = {n: s for n, s in self._servers.items() if self._same(s) and int(n.rpartition(":")[2]) in ports}
        self.starting = {}
        for pid in sorted(int(n) for n in os.listdir(self._proc) if n.isdigit()):
            raw = slurp(f"{self._proc}/{pid}/cmdline", CMDLINE) or b""
            if any(word in raw for word in MAYBE):
                server = self._server(pid, split(raw), ports)
                if server is not None:
                    found.setdefault(server.name, server)  # workers with the same command line come later
        return found

    def _server(self, pid: int, argv: list[str], ports: Mapping[int, Listening]) -> Server | None:
        kind = kind_of_command(argv)
        if not kind:
            return None
        environ = environment(slurp(f"{self._proc}/{pid}/environ", 1 << 17) or b"")
        port = port_of(kind, argv, environ) or KINDS[kind].port
        at = ports.get(port) or self._by_socket(pid, ports)
        if at is None:
            self.starting.setdefault(f"{kind}:{port}", (pid, self._start(pid)))
            return None
        comm = (slurp(f"{self._proc}/{pid}/comm", 64) or b"").decode("utf-8", "replace").strip()
        url = f"http://{at.host}:{at.port}"
        return Server(f"{kind}:{at.port}", kind, url, pid, comm, self._start(pid), given(kind, argv, environ))

    def _by_socket(self, pid: int, ports: Mapping[int, Listening]) -> Listening | None:
        """The listening socket that the process holds; None where it holds none, or may not be looked at."""
        mine = {s.inode: s for s in ports.values()}
        try:
            names = os.listdir(f"{self._proc}/{pid}/fd")[:MOST_FDS]
            links = [os.readlink(f"{self._proc}/{pid}/fd/{n}") for n in names]
        except OSError:
            return None
        inodes = [int(m[1]) for link in links if (m := _SOCKET.fullmatch(link))]
        return next((mine[i] for i in inodes if i in mine), None)
