"""Limits of processes and of the users they run as: what a program may have, and which of a user's programs has least.

Reads:  /proc/PID/limits
Source: getrlimit(2): RLIMIT_NOFILE, RLIMIT_NPROC; proc_pid_limits(5)
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from collector.cgroup_files import slurp
from collector.table import NAN
from etio.core.facts import Process

MANY = 48
"""With fewer open files than this a process is far from any limit that is in use."""
PROGRAMS = 4
"""So many programs of a user are asked for their limits, those with most tasks."""
OWN_SHARE = 0.25
"""Share of its limit that a program must have in tasks of its own for that limit to be what holds the user back."""
_LIMIT = re.compile(rb"^(Max open files|Max processes)\s+(\d{1,20}|unlimited)\s", re.MULTILINE)


def parse_limits(raw: bytes) -> tuple[float, float]:
    """(open files, tasks of the user) that a process may have, soft limits; NaN where missing, inf = unlimited."""
    found = {name: float("inf") if value == b"unlimited" else float(value) for name, value in _LIMIT.findall(raw)}
    return found.get(b"Max open files", NAN), found.get(b"Max processes", NAN)


def limits_of(proc: str, pid: int) -> tuple[float, float]:
    """As parse_limits(), of a process now."""
    return parse_limits(slurp(f"{proc}/{pid}/limits", 4096) or b"")


@dataclass(slots=True)
class Program:
    """What a user runs under one name. head: the process of it with most threads."""

    head: Process
    tasks: int = 0


def add(programs: dict[str, Program], one: Process) -> None:
    """Counts a process in with the others of its name."""
    known = programs.setdefault(one.comm, Program(one))
    known.tasks += one.threads
    if one.threads > known.head.threads:
        known.head = one


def tightest(proc: str, programs: Iterable[Program]) -> tuple[Program, float] | None:
    """(program, limit) that may have least of those of a user: the services of one user differ in their limits.

    A program that has few tasks itself is no measure: a service that needs none more may be forbidden to start any.
    """
    found: list[tuple[float, Program]] = []
    for one in sorted(programs, key=lambda p: -p.tasks)[:PROGRAMS]:
        _, most = limits_of(proc, one.head.pid)
        if most > 0 and (not found or one.tasks >= max(OWN_SHARE * most, MANY / 2)):
            found.append((most, one))
    most, program = min(found, key=lambda pair: pair[0], default=(NAN, None))
    return None if program is None else (program, most)
