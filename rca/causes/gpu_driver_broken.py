"""The driver of the GPUs is there and cannot be used."""

import math

from etio.core.evidence import Evidence
from rca.culprits import fact, named
from rca.scene import Scene
from rca.spec import Blame, CauseSpec, Happened, Outcome, Shown, Table
from rca.units import clean, clock

KINDS = ("gpu_driver_broken", "gpu_api_mismatch")
MISMATCH = "(code 18)"
"""NVML_ERROR_LIB_RM_VERSION_MISMATCH."""


def _driver(scene: Scene, _entity: str) -> Blame:
    return named("kernel", scene, "NVIDIA driver", "The NVIDIA driver of this host", "NVML")


def _mismatch(scene: Scene, _entity: str) -> Outcome:
    """The kernel's part of the driver and the library of programs are of different versions."""
    for event in scene.happened(KINDS, "", ""):
        module, library = (clean(str(event.get(name) or ""), 30) for name in ("module", "library"))
        if event.kind == "gpu_api_mismatch" or MISMATCH in str(event.get("reason")):
            told = (f"{module} in the kernel, {library} in the library of programs" if module and library else
                    "that in the kernel and that of the library differ")
            claim = f"versions of the driver: {told}"
            return Outcome(True, _event(event.t_ns, claim, event.source), "events", "gpu_versions")
    return Outcome(False, fact("no program met another version of the driver", scene, math.nan, "", "host events"),
                   "events", "gpu_versions")


def _bare(scene: Scene, _entity: str) -> Outcome:
    """GPUs on the PCI bus that no driver has taken."""
    for event in scene.happened(KINDS, "", ""):
        if event.get("gpus"):
            claim = f"GPUs without a driver: {clean(str(event.get('gpus')), 120)}"
            return Outcome(True, _event(event.t_ns, claim, "sysfs"), "events", "gpu_bare")
    return Outcome(False, fact("every GPU on the PCI bus has a driver", scene, math.nan, "", "sysfs"), "events",
                   "gpu_bare")


def _event(t_ns: int, claim: str, source: str) -> Evidence:
    return Evidence("", "event", f"{claim} ({clock(t_ns)})", "host", "", (t_ns, t_ns), 1.0, "1", onset_ns=t_ns,
                    source=source or "host events")


_SEEN = (Happened(("gpu_driver_broken",)), Happened(("gpu_api_mismatch",)))

CAUSE = CauseSpec(
    id="gpu_driver_broken",
    title="GPU driver cannot be used",
    mechanism="The driver's kernel module is missing or of another version than the library of programs, mostly after "
              "an update without a restart; GPU programs that start now fail, and those that run go on.",
    source="NVML return codes (LIB_RM_VERSION_MISMATCH); kernel log of the NVIDIA driver (API mismatch)",
    alerts=("GpuDriverBroken", "GpuProgramRefused"),
    tables=(
        Table(needs=((Shown(_mismatch),),), supports=_SEEN,
              headlines=("The GPU driver and its library are of different versions: programs cannot use the GPUs",)),
        Table(needs=((Shown(_bare),),), supports=_SEEN,
              headlines=("No driver has taken the GPUs: no GPU program can start",)),
        Table(needs=((Happened(("gpu_driver_broken",)),),),
              refutes=(Shown(_mismatch), Shown(_bare)), headlines=("The GPU driver cannot be used",)),
    ),
    headlines=("The GPU driver cannot be used",),
    summary=("{gpu_versions:said} {gpu_versions:ref}.",
             "{gpu_bare:said} {gpu_bare:ref}.",
             "NVML cannot be started, and nothing is known of the GPUs until it can {gpu_driver_broken:ref}.",
             "The driver refused a program for it {gpu_api_mismatch:ref}."),
    tell_apart="cat /proc/driver/nvidia/version against the version of libnvidia-ml.so, and what nvidia-smi says",
    hard=True,
    specific=3,
    blame=_driver,
    culprit_needed=False,
)
