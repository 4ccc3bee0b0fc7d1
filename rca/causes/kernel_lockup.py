"""A CPU does not come back from the kernel, or the kernel met an error of its own."""

from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="kernel_lockup",
    title="lock-up or error of the kernel",
    mechanism="A CPU spins in the kernel (or is not run by its hypervisor) for many seconds, or kernel code failed.",
    source="kernel docs admin-guide/lockup-watchdogs, RCU/stallwarn",
    alerts=("SoftLockup", "KernelOops"),
    tables=(Table(
        needs=((Happened(("soft_lockup",)), Happened(("hard_lockup",)), Happened(("rcu_stall",)),
                Happened(("kernel_oops",))),),
        supports=(Check("cpu_mode_ratio", ">=", 0.1, labels=(("mode", "steal"),)),),
    ),),
    headlines=("The kernel locked up or failed",),
    summary=(
        "A CPU did not leave the kernel for seconds {soft_lockup:ref}.",
        "A CPU did not even answer interrupts {hard_lockup:ref}.",
        "A CPU or task kept the kernel from making progress {rcu_stall:ref}.",
        "Code of the kernel failed {kernel_oops:ref}.",
        "The hypervisor took {cpu_mode_ratio} of the CPU time away {cpu_mode_ratio:ref}: a CPU that does not run looks "
        "locked up from inside.",
    ),
    tell_apart="the call trace that the kernel log shows below the message, and CPU time taken by a hypervisor (steal)",
    hard=True,
    specific=3,
    culprit_needed=False,
)
