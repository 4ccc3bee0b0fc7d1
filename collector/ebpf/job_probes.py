"""Which functions of NCCL and CUDA are watched, by which program: shared by the warden, its loader and the reader.

Standard library only, and no import of ours: all three load this file.
"""

JOBS = 64
RING = 1024
ARRIVAL_BYTES = 40
JOB_BYTES = 128 + RING * ARRIVAL_BYTES
SHARED_BYTES = JOBS * JOB_BYTES + 64
PRIVATE_BYTES = 32 * 16_384
OPERATIONS = {1: "all_reduce", 2: "all_gather", 3: "reduce_scatter", 4: "broadcast", 5: "reduce", 6: "send", 7: "recv"}
"""Codes of `op` in gpu_jobs.bcc.c, by name of the program."""

COLLECTIVES = {
    "ncclAllReduce": "all_reduce", "ncclAllGather": "all_gather", "ncclReduceScatter": "reduce_scatter",
    "ncclBroadcast": "broadcast", "ncclReduce": "reduce", "ncclSend": "send", "ncclRecv": "recv",
}
"""ncclBcast is not among them: it calls ncclBroadcast."""
WAITS = ("ncclGroupEnd", "cudaStreamSynchronize", "cudaStreamSynchronize_ptsz", "cudaDeviceSynchronize",
         "cudaEventSynchronize", "cuStreamSynchronize", "cuStreamSynchronize_ptsz", "cuCtxSynchronize",
         "cuEventSynchronize")
LAUNCHES = ("cudaGraphLaunch", "cudaGraphLaunch_ptsz", "cuGraphLaunch", "cuGraphLaunch_ptsz")
SAMPLED = frozenset(("cuLaunchKernel", "cuLaunchKernelEx", "cuLaunchKernel_ptsz", "cuLaunchKernelEx_ptsz"))
"""Called ten thousand times a second: attached for short windows only, on demand."""

PROBES: dict[str, tuple[str, str]] = {
    **{symbol: (program, "wait_return") for symbol, program in COLLECTIVES.items()},
    **dict.fromkeys(WAITS, ("wait_entry", "wait_return")),
    **dict.fromkeys(LAUNCHES, ("graph_launch", "")),
    **dict.fromkeys(sorted(SAMPLED), ("kernel_launch", "")),
}
"""Symbol: (program at its entry, program at its return or "")."""
PROGRAMS: tuple[str, ...] = tuple(dict.fromkeys(name for pair in PROBES.values() for name in pair if name))

ENVIRONMENT = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "CUDA_VISIBLE_DEVICES",
    "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "PMIX_NAMESPACE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE",
)
"""The only variables of a process that leave the warden."""
