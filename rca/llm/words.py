"""The words a model may use. Whatever else it writes is dropped with its sentence.

A closed vocabulary is the one filter that holds against text nobody foresaw: there is no word here for a command, an
address, a person or an order. Words of a topic (leak, quota, packet) are admitted only where a report speaks of it.
"""

_GRAMMAR = """
a an the this that these those it its they their them which who what when while where there here and or but nor so as
at by for from in into of off on onto to with within without over under above below between among across through
during before after since until then than per about around almost nearly roughly is are was were be been being has
have had having does did do not no none never neither only also both all whole any each every some most many much more
other others same own first second last next too very still already now again however although though because due
therefore thus hence can could may might would will cannot if whether such one several alone together even further
rather well up out
"""
_MEASURE = """
rise rises rose risen rising raised increase increases increased increasing grow grows grew grown growing growth climb
climbs climbed climbing exceed exceeds exceeded exceeding fall falls fell fallen falling decrease decreases decreased
decreasing decline declines declined declining reduced lower higher high low long short large larger largest small
smaller smallest great greater big bigger full heavy heavily severe severely strong strongly excessive elevated unusual
unusually abnormal normal normally usual typical unchanged stable steady steadily constant calm flat slow slower slowly
fast faster busy idle saturated saturation overloaded exhausted near level levels value values range threshold
thresholds alarm baseline average median share part most amount number count rate ratio percent percentage times time
second seconds minute minutes millisecond milliseconds ms us s ns bytes byte kib mib gib tib kb mb gb hz mhz ghz w watts
c celsius degrees period periods interval window moment onset start starts started starting begin begins began begun end
ends ended earlier later simultaneously same shortly immediately suddenly gradually continuously continued continues
remain remains remained remaining stay stays stayed reach reaches reached reaching peak total
"""
_REASON = """
cause causes caused causing lead leads led leading result results resulted resulting follow follows followed following
explain explains explained explaining indicate indicates indicated indicating suggest suggests suggested show shows
showed shown showing confirm confirms confirmed consistent support supports supported evidence measured measurement
observed seen found finding findings reason effect effects consequence origin responsible root likely confirmed
inconclusive known unknown clear clearly main mainly primary together explanation incident problem trouble condition
contributes contributed contributing affects affected affecting means meaning makes made making keeps kept limited
limiting limits held holding forced forces forcing spends spent spending takes took taken taking uses used using usage
use waits waited waiting wait delays delayed delay ruled excluded match matches matched fits fit points pointing comes
came happens happened occurring occurred occurs
"""
_SYSTEM = """
host system kernel machine cpu cpus core cores processor memory disk disks device devices network io i o gpu gpus node
nodes process processes thread threads task tasks workload workloads program service services group groups cgroup
cgroups control unit container filesystem file files system partition mount queue queues queued latency throughput
load loads loaded pressure stall stalls stalled stalling available availability free capacity resource resources demand
work request requests operation operations traffic read reads reading write writes writing written user event events
run running runnable scheduler scheduling context switch switches activity utilization contention bottleneck limit
space page pages cache link links connection connections peer interface temperature clock clocks power series figures
"""
ADMITTED = frozenset(" ".join((_GRAMMAR, _MEASURE, _REASON, _SYSTEM)).split())

TOPICS: dict[str, str] = {
    "cpu_saturation": "saturation saturates hog",
    "cgroup_cpu_throttling": "quota quotas throttled throttling throttle throttles bandwidth budget stopped",
    "runqueue_contention": "runqueue oversubscribed oversubscription competing competition compete",
    "cpu_steal": "steal stolen hypervisor neighbour neighbor virtual guest",
    "memory_pressure": "reclaim reclaimed reclaiming allocation allocations direct compaction faults fault major minor",
    "memory_leak": "leak leaks leaking leaked grows never returns resident anonymous",
    "oom_kill": "oom kill kills killed killer victim killing",
    "swap_thrashing": "swap swapped swapping swaps thrash thrashing thrashes faults fault",
    "disk_saturation": "saturates bandwidth block storage direct",
    "dirty_throttling": "dirty writer writers throttled throttles throttling sleep sleeps slept back limit "
    "writeback",
    "disk_full": "filled fills filling full used inodes",
    "disk_filling": "filled fills filling full grows growing left inodes pace soon",
    "exhaustion_ahead": "exhausted exhaustion left pace soon used runs running grows growing",
    "io_stall": "hung blocked stuck uninterruptible completes completed",
    "packet_loss": "packet packets loss lost losing lose drop drops dropped dropping retransmit retransmits "
    "retransmitted retransmission retransmissions tcp udp segments rule",
    "link_down": "down carrier lost loss cable",
    "connect_failures": "connect connects connecting connection connections answer answers answered unanswered refused "
    "refuses peer unreachable abandoned syn tcp timed waits wait",
    "slow_flush": "flush flushes flushed fsync commit commits durable cache disk drive slow",
    "file_lock_pile": "lock locks locked flock fcntl held holds holder waits waiting blocked blocks",
    "connection_stalled": "stalled stalls stuck confirmed confirms unconfirmed silent peer mtu hole gone retries retry",
    "softirq_skew": "softirq soft interrupt interrupts core cores ksoftirqd queue queues serve serves packets packet",
    "link_degraded": "speed slower duplex half negotiated degraded cable lane",
    "rdma_link_errors": "rdma infiniband symbol errors error wire cable transceiver port recover down lost",
    "rdma_congestion": "rdma roce congestion congested marks notifications sequence order retransmit packets packet "
    "lost switch pause",
    "listen_overflow": "listen listener accept backlog overflow overflows overflowed syn tcp dropped drops",
    "conntrack_full": "conntrack tracking tracked table entries",
    "close_wait_leak": "close closes closed closing leak leaks leaked forgets sockets descriptor descriptors wait",
    "syn_flood": "flood floods flooded flooding syn cookies cookie half-open forged requests handshake attack",
    "tcp_memory_short": "tcp memory sockets buffers orphans orphaned pages pressure",
    "dns_unanswered": "dns name names lookup lookups resolver server answer answers answered unanswered silent",
    "namespace_losses": "namespace namespaces container containers pod inside lost loses losing drops dropped",
    "neighbour_table_full": "neighbour neighbours arp table threshold scan scans hosts addresses",
    "fork_storm": "fork forks forked forking storm exec execs exits spawn spawns spawned spawning created creating",
    "pids_exhausted": "pid pids identifiers exhausted exhaustion",
    "gpu_xid": "xid driver error errors hardware",
    "gpu_lost": "xid driver error fallen off bus lost answers",
    "gpu_firmware_hang": "xid driver error errors firmware answer answers hangs reset",
    "gpu_application_error": "xid driver error errors program fault faults failed failure kernel",
    "gpu_ecc_errors": "ecc memory error errors corrected uncorrected row rows xid driver",
    "gpu_ecc_contained": "ecc memory error contained ended program row xid driver",
    "gpu_unrepairable": "row rows remap remapping failed repair repaired replace replaced spare",
    "gpu_errors_corrected": "corrected errors error ecc many xid driver",
    "gpu_recovery": "recovery reset restart driver asks drain",
    "gpu_driver_broken": "driver version versions library module loaded mismatch refused update updated",
    "serving_long_prompts": "prompt prompts longer tokens first token prefill",
    "serving_long_answers": "answer answers longer tokens decode asked",
    "serving_front_busy": "front tokens text http core engine slowly api",
    "model_on_cpu": "model part partly fits fit processor memory resident",
    "job_stalled": "job rank ranks stopped hang hangs collective wait waits come",
    "gpu_mig_empty": "mig instance instances split empty",
    "gpu_row_remap": "row rows remap remapping repair repaired reset replaced spare",
    "gpu_nvlink_errors": "nvlink error errors down replay replays recovery",
    "gpu_power_brake": "brake supply throttled throttling slowdown slowed",
    "gpu_power_cap": "cap capped throttled throttling watts watt",
    "gpu_clocks_low": "locked setting set application",
    "gpu_pcie_degraded": "pcie lane lanes width generation degraded bus",
    "gpu_memory_full": "allocation allocations used up out",
    "gpu_data_starvation": "starved starvation data input loader loading feed fed",
    "numa_remote_memory": "numa remote local placement placed bind bound away",
    "gpu_unresponsive": "driver answer answers answered hangs hang call calls",
    "gpu_straggler": "straggler sibling siblings pace behind",
    "nvme_failing": "drive spare block blocks media error errors unreliable reliability failing "
    "fails replace damaged",
    "nvme_hot": "drive hot heat temperature throttled throttling slowed cooling",
    "nvme_worn": "drive worn wear endurance used lifetime",
    "gpu_thermal_throttling": "thermal throttled throttling throttle hot heat cooling slowdown",
}  # fmt: skip
"""Words that belong to one cause."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


RISING = _set("""
rise rises rose risen rising raised increase increases increased increasing grow grows grew grown growing growth climb
climbs climbed climbing exceed exceeds exceeded exceeding higher larger greater bigger above
""")
FALLING = _set("""
fall falls fell fallen falling decrease decreases decreased decreasing decline declines declined declining reduced lower
smaller below
""")
HIGH = _set("""
high full heavy heavily severe severely strong strongly excessive elevated unusual unusually abnormal saturated
overloaded exhausted long large big great busy slow slower
""")
LOW = _set("low idle short small fast faster")
STILL = _set("normal normally usual typical unchanged stable steady steadily constant calm flat")
NEGATION = _set("not no none never neither nor without cannot ruled excluded")
CAUSAL = _set("""
because cause causes caused causing lead leads led leading result results resulted resulting due therefore thus hence
consequence follow follows followed following before after then forced forces forcing root origin reason responsible
""")


def topic_words(causes: tuple[str, ...]) -> frozenset[str]:
    """Words that these causes bring along: their own names and their topics'."""
    return frozenset(word for cause in causes for word in (*cause.split("_"), *TOPICS.get(cause, "").split()))
