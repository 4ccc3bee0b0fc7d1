"""Who has to act on an XID, and how soon: the author of a program, nobody at once, or whoever services the machine.

Source: NVIDIA Xid catalog (docs.nvidia.com/deploy/xid-errors): the immediate action that it names for each number.
"""

OF_PROGRAMS = frozenset({8, 13, 31, 32, 43, 45, 69})
"""Remedy: restart the program."""
MINOR = frozenset({63, 92, 94, 121})
"""The GPU works on: a repair at its next reset, corrected errors, an error that ended one program and no other."""
LOST = 79


def event_kind(xid: int) -> str:
    """Kind of host event: what a program did and what can wait warns, a fault of the GPU is critical."""
    if xid == LOST:
        return "gpu_lost"
    return "gpu_program_xid" if xid in OF_PROGRAMS else "gpu_minor_xid" if xid in MINOR else "gpu_xid"
