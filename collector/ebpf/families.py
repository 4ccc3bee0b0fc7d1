"""What each eBPF family consists of: shared by the loader (the distribution's Python) and the readers (the daemon's).

Standard library only, and no import of ours: both sides load this file.
"""

from dataclasses import dataclass

BUCKETS = 256
HEAVY_SLOTS = 512
HEAVY_BYTES = 64
CPU_BYTES = 128 + 2 * 8 * BUCKETS
DEVICES = 64
BLOCK_WAYS = 4
DEVICE_BYTES = 16 + BLOCK_WAYS * (64 + 8 * BUCKETS) + 2 * 8 * BUCKETS
REASONS = 512
RESET_REASONS = 64
VICTIMS = 64
MEMORY_NODES = 64
MIGRATE_REASONS = 16
LOCK_KINDS = 64
LOCK_CPU_BYTES = 64 + 2 * 8 * LOCK_KINDS
VICTIM_BYTES = 96
HEAVY_TABLE = HEAVY_SLOTS * HEAVY_BYTES
PEER_TABLE = HEAVY_SLOTS * 16
DEVICE_TABLE = HEAVY_SLOTS * 24
QUEUE_REASONS = ("QDISC_DROP", "QDISC_OVERLIMIT", "FQ_BAND_LIMIT", "FQ_FLOW_LIMIT")
"""Why a queueing discipline drops what it has no room for. QDISC_CONGESTED is none: so CoDel tells TCP to slow down."""
IRQ_VECTORS = 16
IRQ_LINES = 1024
IRQ_CPU_BYTES = 8 * (2 * IRQ_VECTORS + 8)


@dataclass(frozen=True)
class Probe:
    """One program on one tracepoint.

    event: "category:name"; the C function has the event's name.
    fields: (name, bytes; 0 = any) that the program reads of the classic event and cannot do without; checked
        against tracefs.
    optional: the family goes on without it. btf: attach BTF-typed (raw) where the kernel has BTF, else classic.
    queue: needed only where the kernel does not keep itself since when a task waits for a core.
    ns: what a run costs, about, where the kernel does not count it (kernel.bpf_stats_enabled = 0).
    """

    event: str
    fields: tuple[tuple[str, int], ...] = ()
    optional: bool = False
    btf: bool = False
    queue: bool = False
    ns: int = 120

    @property
    def name(self) -> str:
        """Name of the event, and of the C function."""
        return self.event.split(":")[1]


@dataclass(frozen=True)
class Family:
    """One <name>.bcc.c: sizes in bytes of its two maps (`shared_cpu`: more for each CPU slot) and its programs.

    nodes: whether it reads the map in which the loader of a host with several NUMA nodes writes that of each CPU slot.
    on_demand: loaded only where it is asked for by name. optional: may be taken off while etio is over its budget.
    offsets: compiler flags of the kernel's own layout without which a part of it cannot be told; the readers are told
        which of them there are.
    """

    name: str
    shared: int
    private: int
    probes: tuple[Probe, ...]
    shared_cpu: int = 0
    nodes: bool = False
    on_demand: bool = False
    optional: bool = True
    offsets: tuple[str, ...] = ()

    def shared_bytes(self, cpus: int) -> int:
        """Size of the map the daemon reads, for that many CPU slots."""
        return self.shared + cpus * self.shared_cpu


def cpu_slots(possible: int) -> int:
    """CPU slots in the per-CPU arrays: a power of two, so that a mask bounds the index."""
    return 1 << max(0, possible - 1).bit_length()


_SCHED = Family(
    "sched", 5 * HEAVY_TABLE, 8 * 262_144,
    (
        Probe("sched:sched_wakeup", (("pid", 4),), btf=True, queue=True, ns=35),
        Probe("sched:sched_wakeup_new", (("pid", 4),), btf=True, queue=True, ns=60),
        Probe("sched:sched_switch", (("prev_pid", 4), ("prev_state", 8), ("next_pid", 4), ("next_comm", 16)), btf=True,
              ns=60),
        Probe("sched:sched_migrate_task", (("pid", 4), ("orig_cpu", 4), ("dest_cpu", 4)), btf=True, ns=60),
    ),
    shared_cpu=CPU_BYTES,
    nodes=True,
)
_BLOCK = Family(
    "block", HEAVY_TABLE + DEVICES * DEVICE_BYTES + 64, 24 * 16_384 + 17 * 4096,
    (
        Probe("block:block_bio_queue", (("dev", 4), ("nr_sector", 4), ("rwbs", 0))),
        Probe("block:block_rq_insert", (("dev", 4), ("sector", 8), ("rwbs", 0)), optional=True),
        Probe("block:block_rq_requeue", (("dev", 4), ("rwbs", 0)), optional=True),
        Probe("block:block_rq_issue", (("dev", 4), ("sector", 8), ("rwbs", 0))),
        Probe("block:block_rq_complete", (("dev", 4), ("sector", 8), ("nr_sector", 4), ("error", 4), ("rwbs", 0))),
    ),
)
_NET = Family(
    "net", 2 * HEAVY_TABLE + 8 * REASONS + 64 + 8 * RESET_REASONS + HEAVY_TABLE + DEVICE_TABLE, 8,
    (
        Probe("tcp:tcp_retransmit_skb", (("dport", 2), ("daddr_v6", 16)), optional=True),
        Probe("tcp:tcp_send_reset", optional=True),
        Probe("tcp:tcp_receive_reset", (("dport", 2), ("daddr_v6", 16)), optional=True),
        Probe("skb:kfree_skb", (("reason", 4),), optional=True, ns=60),
    ),
    offsets=("SKB_TRANSPORT",),
)
_CONNECT = Family(
    "connect", 2 * (HEAVY_TABLE + PEER_TABLE + 64) + 8 * BUCKETS, 40 * 8192,
    (
        Probe("sock:inet_sock_set_state", (("skaddr", 8), ("oldstate", 4), ("newstate", 4), ("sport", 2), ("dport", 2),
                                           ("protocol", 2), ("daddr_v6", 16))),
    ),
    offsets=("SOCK_ERR",),
)
_IRQ = Family(
    "irq", 8 * IRQ_LINES, 8,
    (
        Probe("irq:softirq_entry", btf=True, ns=45),
        Probe("irq:softirq_exit", (("vec", 4),), btf=True, ns=80),
        Probe("irq:irq_handler_entry", btf=True, ns=45),
        Probe("irq:irq_handler_exit", (("irq", 4),), btf=True, ns=60),
    ),
    shared_cpu=IRQ_CPU_BYTES,
)
_RECLAIM = Family(
    "reclaim", 2 * HEAVY_TABLE + 64, 16 * 4096,
    (
        Probe("vmscan:mm_vmscan_direct_reclaim_begin"),
        Probe("vmscan:mm_vmscan_direct_reclaim_end"),
        Probe("vmscan:mm_vmscan_memcg_reclaim_begin", optional=True),
        Probe("vmscan:mm_vmscan_memcg_reclaim_end", optional=True),
    ),
)
_MEMORY = Family(
    "memory", 3 * HEAVY_TABLE + 64 + 32 * MEMORY_NODES + 16 * MIGRATE_REASONS, 16 * 1024,
    (
        Probe("writeback:balance_dirty_pages", (("pause", 8),), optional=True),
        Probe("compaction:mm_compaction_begin", optional=True, ns=250),
        Probe("compaction:mm_compaction_end", optional=True, ns=1000),
        Probe("vmscan:mm_vmscan_kswapd_wake", (("nid", 4),), optional=True),
        Probe("vmscan:mm_vmscan_kswapd_sleep", (("nid", 4),), optional=True),
        Probe("migrate:mm_migrate_pages", (("succeeded", 8), ("failed", 8), ("reason", 4)), optional=True, ns=50),
    ),
)
_OOM = Family("oom", VICTIMS * VICTIM_BYTES + 64, 8, (Probe("oom:mark_victim", (("pid", 4),)),),
              optional=False)
_PROCESS = Family(
    "process", 3 * HEAVY_TABLE + 64 + 8 * 256, 8 * 262_144,
    (
        Probe("sched:sched_process_fork", (("child_pid", 4),), ns=600),
        Probe("sched:sched_process_exec", ns=700),
        Probe("sched:sched_process_exit", ns=300),
    ),
)
_LOCK = Family(
    "lock", HEAVY_TABLE, 24 * 4096,
    (
        Probe("lock:contention_begin", (("lock_addr", 8), ("flags", 4))),
        Probe("lock:contention_end", (("lock_addr", 8),)),
    ),
    shared_cpu=LOCK_CPU_BYTES,
    on_demand=True,
)
FAMILIES: tuple[Family, ...] = (_SCHED, _BLOCK, _NET, _RECLAIM, _MEMORY, _OOM, _PROCESS, _CONNECT, _IRQ, _LOCK)
NUMBERS = {family.name: number for number, family in enumerate(FAMILIES, 1)}
"""By which the daemon asks for one family: it sends no text."""
ON_DEMAND = tuple(family.name for family in FAMILIES if family.on_demand)
