"""A program that hides its file uses the CPU."""

from rca.exhausted import stranger
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="unknown_program",
    title="hidden program that computes",
    mechanism="A program whose file was deleted, lies in shared memory or exists in memory only computes for a while; "
    "services do not run like that, miners and intruders do.",
    source="proc_pid_exe(5), memfd_create(2); MITRE ATT&CK T1620, T1070.004",
    alerts=("BehaviourSuspect",),
    tables=(Table(
        label="pid",
        needs=((Happened(("behaviour_suspect",)),),),
        supports=(Check("cpu_busy_ratio", ">=", 0.3, factor=1.5), Happened(("behaviour_new",))),
    ),),
    headlines=("{who} computes and hides its file",),
    summary=("{claim} {blame:ref}.", "{cpu_busy_ratio} of the CPU time is in use {cpu_busy_ratio:seen}."),
    tell_apart="who started it (ps -o ppid,user,lstart), and what /proc/PID/exe and its connections are",
    explains=("cpu_saturation", "runqueue_contention"),
    hard=True,
    specific=3,
    blame=stranger,
    culprit_needed=False,
)
