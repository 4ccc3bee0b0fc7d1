"""Which job and rank a process is, from the variables that launchers set (torchrun, Slurm, Open MPI, PMI), else from
its process group; a part of the collector gpu_jobs. Untrusted text: only ever shown, escaped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
LOCAL_RANKS = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
_SHOWN = 48


@dataclass(frozen=True, slots=True)
class Name:
    """job and rank as labels; rank is "pid-N" where no launcher said. gpu: index on the host, NaN where unknown."""

    job: str
    rank: str
    gpu: float = float("nan")


def name_of(process: Mapping[str, Any]) -> Name:
    """The name of one process as the warden describes it: {"pid", "env", "group", "comm", "cgroup"}.

    >>> name_of({"pid": 7, "env": {"SLURM_JOB_ID": "42", "RANK": "3", "LOCAL_RANK": "1"}})
    Name(job='slurm-42', rank='3', gpu=1.0)
    >>> name_of({"pid": 7, "env": {}, "group": 5, "comm": "train"})
    Name(job='train-5', rank='pid-7', gpu=nan)
    """
    env = process.get("env") or {}
    rank = next((env[key] for key in RANKS if str(env.get(key, "")).isdecimal()), "")
    return Name(_job(env, process), rank.lstrip("0")[:9] or ("0" if rank else f"pid-{process['pid']}"), _gpu(env))


def _job(env: Mapping[str, str], process: Mapping[str, Any]) -> str:
    run = env.get("TORCHELASTIC_RUN_ID", "")
    if slurm := env.get("SLURM_JOB_ID"):
        step = env.get("SLURM_STEP_ID", "0")
        return _plain(f"slurm-{slurm}" + (f".{step}" if step.isdecimal() and step != "0" else ""))
    if run and run != "none":
        return _plain(run)
    if namespace := env.get("PMIX_NAMESPACE"):
        return _plain(namespace)
    if env.get("MASTER_ADDR") and env.get("MASTER_PORT"):
        return _plain(f"{env['MASTER_ADDR']}:{env['MASTER_PORT']}")
    return _plain(f"{process.get('comm') or 'job'}-{process.get('group') or process['pid']}")


def _gpu(env: Mapping[str, str]) -> float:
    """Index of its GPU, where the launcher leaves no doubt."""
    local = next((int(env[key][:9]) for key in LOCAL_RANKS if env.get(key, "").isdecimal()), None)
    if "CUDA_VISIBLE_DEVICES" not in env:
        return float("nan") if local is None else float(local)
    visible = env["CUDA_VISIBLE_DEVICES"].split(",")
    place = 0 if len(visible) == 1 else local
    if place is None or place >= len(visible) or not visible[place].strip().isdecimal():
        return float("nan")  # UUIDs and MIG names are no index
    return float(int(visible[place].strip()[:6]))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:_SHOWN]
