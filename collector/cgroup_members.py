"""Who is in the control groups that alerts speak of, asked when a report is made.

Reads:  cgroup.procs of these groups and those below them, in each hierarchy of v1
Source: Documentation/admin-guide/cgroup-v1/cgroups.rst

On v1 a process may be in a group by one controller and elsewhere by all others, so its own path does not tell.
"""

from collections.abc import Iterable
from pathlib import Path

from collector.cgroup_files import find_mounts, members_of
from etio.core.errors import Broken, NoData

GROUPS, BELOW, MEMBERS = 16, 64, 512
"""Most groups that are asked for, folders that are looked into for each, and processes that are told of each."""


def members(root: Path, groups: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """For Facts.extra: ("members cgroup=/x", "12 13 14") of each group that has processes. Never raises OSError."""
    try:
        tops = find_mounts(root).v1.values()
    except (NoData, Broken):
        return ()
    found = []
    for group in list(dict.fromkeys(groups))[:GROUPS]:
        if group.startswith("/") and len(group) > 1 and ".." not in group.split("/"):
            pids = {pid for top in set(tops) for some in members_of(top + group, BELOW) for pid in some}
            if pids:
                found.append((f"members cgroup={group}", " ".join(map(str, sorted(pids)[:MEMBERS]))))
    return tuple(found)
