"""How a process is scheduled, as a knob. Reads: /proc/PID/stat. Source: proc_pid_stat(5), sched(7)."""

from etio.core.errors import Broken

POLICIES = {"0": "other", "1": "fifo", "2": "rr", "3": "batch", "5": "idle", "6": "deadline", "7": "ext"}
"""Numbers of include/uapi/linux/sched.h."""
SCHEDULING_KEYS = frozenset({"nice", "policy"})
NICE, PRIORITY, POLICY = 16, 37, 38
"""Fields behind the name: nice value, real-time priority, policy."""


def parse_scheduling(raw: bytes, key: str) -> str:
    """The nice value as a number, or the policy with the real-time priority, from /proc/PID/stat.

    Raises Broken where the line is too short or holds no numbers.

    >>> parse_scheduling(b"7 (a b) S " + b"0 " * 15 + b"19 " + b"0 " * 20 + b"50 1 0", "policy")
    'fifo (priority 50)'
    """
    fields = raw.rpartition(b")")[2].decode("ascii", "replace").split()
    try:
        nice, priority = int(fields[NICE]), int(fields[PRIORITY])
        policy = POLICIES.get(fields[POLICY], f"number {fields[POLICY]}")
    except (IndexError, ValueError) as error:
        raise Broken("/proc/PID/stat: no scheduling policy in it") from error
    if key == "nice":
        return str(nice)
    return f"{policy} (priority {priority})" if priority else policy
