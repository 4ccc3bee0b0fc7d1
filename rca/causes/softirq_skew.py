"""One core does all the interrupt work while others idle."""

from rca.network_culprits import busiest_device
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="softirq_skew",
    title="one core busy with interrupts",
    mechanism="The interrupts of a device all go to one core, which can do no more while others have nothing to do.",
    source="kernel docs networking/scaling (RSS, RPS), core-api/irq/irq-affinity",
    alerts=("SoftirqSaturated",),
    tables=(Table(
        label="cpu",
        needs=((Check("cpu_core_softirq_ratio", ">=", 0.70),), (Check("cpu_busy_ratio", "<=", 0.85),)),
        supports=(
            Check("irq_worst_core_ratio", ">=", 0.70, factor=2.0),
            Check("irq_ksoftirqd_seconds_per_second", ">=", 0.20, factor=2.0),
            Check("irq_soft_seconds_per_second", ">=", 0.50, factor=2.0, labels=(("vector", "net_rx"),)),
            Check("network_receive_packets_per_second", ">=", 1000.0, factor=2.0),
            Check("network_transmit_packets_per_second", ">=", 1000.0, factor=2.0),
            Check("network_time_squeezes_per_second", ">=", 5.0, factor=3.0),
            Check("network_backlog_drops_per_second", ">=", 1.0, factor=3.0),
            Check("interrupt_busiest_cpu_ratio", ">=", 0.90),
        ),
        refutes=(Check("cpu_busy_ratio", ">=", 0.90, why="no other core is idle: the host as a whole is busy"),),
    ),),
    headlines=("Core {entity} does nothing but serve interrupts of {who}", "Core {entity} does nothing but interrupts"),
    summary=(
        "Core {entity} spends {cpu_core_softirq_ratio} of its time in soft interrupts {cpu_core_softirq_ratio:seen}, "
        "while the host as a whole uses {cpu_busy_ratio} {cpu_busy_ratio:ref}.",
        "Receiving packets alone takes {irq_soft_seconds_per_second} {irq_soft_seconds_per_second:ref}.",
        "The kernel has to put work off to ksoftirqd {irq_ksoftirqd_seconds_per_second:ref}.",
        "{claim} {blame:ref}.",
        "Packets are dropped because the queue of a core is full: {network_backlog_drops_per_second} "
        "{network_backlog_drops_per_second:ref}.",
    ),
    tell_apart="mpstat -P ALL shows %soft of each core; /proc/interrupts shows which core serves which queue",
    explains=("packet_loss",),
    specific=2,
    blame=busiest_device,
    culprit_needed=False,
)
