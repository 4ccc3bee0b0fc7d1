"""Every alert that exists, one row each, in a module for each subsystem; etio/core/policy.py makes tables of them."""

from etio.core.alerts import cpu, gpu, io, kernel, memory, network, serving, tasks, unusual
from etio.core.alerts.kind import AlertKind

__all__ = ["KINDS", "AlertKind"]

KINDS: tuple[AlertKind, ...] = (
    *cpu.KINDS, *memory.KINDS, *io.KINDS, *network.KINDS, *tasks.KINDS, *gpu.KINDS, *serving.KINDS, *kernel.KINDS,
    *unusual.KINDS)
"""All alerts, by subsystem."""
