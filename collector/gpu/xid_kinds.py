"""Whose mistake an XID is: that of a program, or a fault of the GPU or its driver.

Source: NVIDIA Xid catalog (docs.nvidia.com/deploy/xid-errors): those whose remedy is to restart the program.
"""

OF_PROGRAMS = frozenset({8, 13, 31, 32, 43, 45, 69})


def event_kind(xid: int) -> str:
    """Kind of host event: a program's mistake warns, a fault of the GPU is critical."""
    return "gpu_program_xid" if xid in OF_PROGRAMS else "gpu_xid"
