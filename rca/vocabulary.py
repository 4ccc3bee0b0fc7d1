"""Plain words for each series, where it is read, and which sources count as independent of each other."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """words: what a person calls it. group: independent sources have different groups."""

    words: str
    source: str
    group: str


_SOURCES: tuple[tuple[str, str, str], ...] = (
    # The longest matching prefix of the series name wins.
    ("cpu", "/proc/stat", "stat"),
    ("cpu_run_delay", "/proc/schedstat", "schedstat"),
    ("cpu_load", "/proc/loadavg", "stat"),
    ("memory", "/proc/meminfo", "meminfo"),
    ("vm", "/proc/vmstat", "vmstat"),
    ("pressure", "/proc/pressure (PSI)", "psi"),
    ("disk", "/proc/diskstats", "diskstats"),
    ("filesystem", "statvfs", "statvfs"),
    ("network", "netlink (link statistics)", "link"),
    ("network_backlog", "/proc/net/softnet_stat", "softnet"),
    ("network_time_squeezes", "/proc/net/softnet_stat", "softnet"),
    ("network_qdisc", "netlink (queueing discipline)", "qdisc"),
    ("tcp", "/proc/net/snmp, netstat", "snmp"),
    ("udp", "/proc/net/snmp", "snmp"),
    ("conntrack", "/proc/sys/net/netfilter", "conntrack"),
    ("kernel", "/proc/sys", "sysctl"),
    ("numa", "/sys/devices/system/node", "numa"),
    ("cgroup", "cgroup files", "cgroup"),
    ("cgroup_memory_pressure", "cgroup memory.pressure (PSI)", "cgroup psi"),
    ("gpu", "NVML", "nvml"),
    ("sched", "eBPF sched, histogram", "ebpf sched"),
    ("block", "eBPF block, histogram", "ebpf block"),
    ("net", "eBPF net", "ebpf net"),
    ("net_drops", "eBPF skb:kfree_skb", "ebpf drops"),
    ("reclaim", "eBPF vmscan", "ebpf reclaim"),
    ("process", "eBPF process", "ebpf process"),
    ("task", "process tables, /proc/PID/status", "tasks"),
)

_WORDS = {
    "cpu_busy_ratio": "CPU time in use",
    "cpu_core_busy_ratio": "time in use of one core",
    "cpu_mode_ratio": "CPU time in one mode",
    "cpu_runnable_tasks": "runnable tasks",
    "cpu_runnable_per_core": "runnable tasks per core",
    "cpu_blocked_tasks": "tasks blocked in the kernel",
    "cpu_forks_per_second": "new tasks",
    "cpu_context_switches_per_second": "context switches",
    "cpu_run_delay_seconds_per_second": "waiting for a CPU, all tasks",
    "cpu_load1": "load average (1 min)",
    "memory_available_ratio": "memory still available",
    "memory_available_bytes": "memory still available",
    "memory_anon_bytes": "anonymous memory",
    "memory_swap_used_ratio": "swap in use",
    "memory_swap_used_bytes": "swap in use",
    "vm_major_faults_per_second": "page faults that read from disk",
    "vm_swap_in_pages_per_second": "pages read back from swap",
    "vm_swap_out_pages_per_second": "pages written to swap",
    "vm_direct_scan_pages_per_second": "pages scanned by tasks that had to reclaim themselves",
    "vm_kswapd_scan_pages_per_second": "pages scanned by kswapd",
    "vm_alloc_stalls_per_second": "allocations that had to wait for reclaim",
    "vm_oom_kills_per_second": "OOM kills",
    "vm_workingset_refaults_per_second": "pages read again soon after they were dropped",
    "pressure_cpu_some_ratio": "time in which some task waited for a CPU",
    "pressure_memory_some_ratio": "time in which some task waited for memory",
    "pressure_memory_full_ratio": "time in which all tasks waited for memory",
    "pressure_io_some_ratio": "time in which some task waited for I/O",
    "pressure_io_full_ratio": "time in which all tasks waited for I/O",
    "disk_busy_ratio": "time the disk was busy",
    "disk_queue_length": "requests in the disk's queue",
    "disk_inflight_requests": "requests in flight",
    "disk_read_latency_seconds": "mean read latency",
    "disk_write_latency_seconds": "mean write latency",
    "disk_flush_latency_seconds": "mean flush latency",
    "disk_reads_per_second": "reads",
    "disk_writes_per_second": "writes",
    "disk_read_bytes_per_second": "read throughput",
    "disk_write_bytes_per_second": "write throughput",
    "filesystem_used_ratio": "space in use",
    "filesystem_available_bytes": "space left",
    "filesystem_size_bytes": "size of the file system",
    "filesystem_inodes_used_ratio": "inodes in use",
    "filesystem_readonly": "mounted read-only",
    "network_receive_drops_per_second": "received packets dropped",
    "network_transmit_drops_per_second": "outgoing packets dropped",
    "network_receive_errors_per_second": "receive errors",
    "network_transmit_errors_per_second": "transmit errors",
    "network_link_up": "link up (1) or down (0)",
    "network_carrier_changes_per_second": "carrier changes",
    "network_backlog_drops_per_second": "packets dropped because a CPU's input queue was full",
    "network_qdisc_drops_per_second": "packets dropped by the queueing discipline",
    "tcp_retransmits_per_second": "TCP segments sent again",
    "tcp_retransmit_ratio": "share of TCP segments sent again",
    "tcp_segments_sent_per_second": "TCP segments sent",
    "tcp_syn_retransmits_per_second": "SYN segments sent again",
    "tcp_listen_overflows_per_second": "connections refused by a full accept queue",
    "tcp_listen_drops_per_second": "connection requests dropped",
    "tcp_attempt_fails_per_second": "failed connection attempts",
    "conntrack_used_ratio": "connection tracking table in use",
    "kernel_pids_used_ratio": "process ids in use",
    "cgroup_cpu_throttled_ratio": "scheduling periods in which it was stopped",
    "cgroup_cpu_throttled_seconds_per_second": "time it was stopped",
    "cgroup_cpu_usage_cores": "CPU it used",
    "cgroup_cpu_quota_cores": "CPU it may use",
    "cgroup_memory_used_ratio": "memory in use, of its limit",
    "cgroup_memory_used_bytes": "memory in use",
    "cgroup_memory_failures_per_second": "times it hit its memory limit",
    "cgroup_memory_pressure_some_ratio": "time in which some of its tasks waited for memory",
    "cgroup_oom_kills_per_second": "OOM kills in the group",
    "cgroup_pids_used_ratio": "tasks, of its limit",
    "gpu_throttle_thermal_ratio": "time its clocks were held down by heat",
    "gpu_throttle_power_ratio": "time its clocks were held down by the power limit",
    "gpu_temperature_celsius": "GPU temperature",
    "gpu_sm_clock_hertz": "SM clock",
    "gpu_utilization_ratio": "GPU in use",
    "sched_run_delay_p99_seconds": "slowest 1 % of waits for a CPU",
    "sched_run_delay_seconds_per_second": "waiting for a CPU, all tasks",
    "block_latency_p99_seconds": "slowest 1 % of block requests",
    "block_requests_per_second": "block requests",
    "block_errors_per_second": "block requests that failed",
    "net_retransmits_per_second": "TCP segments sent again, all network namespaces",
    "net_drops_per_second": "packets dropped by the kernel",
    "reclaim_direct_seconds_per_second": "time tasks spent reclaiming memory themselves",
    "reclaim_direct_stalls_per_second": "times tasks had to reclaim memory themselves",
    "reclaim_memcg_seconds_per_second": "time tasks spent reclaiming for their group's limit",
    "reclaim_memcg_stalls_per_second": "times tasks had to reclaim for their group's limit",
    "process_forks_per_second": "new processes and threads",
    "task_stuck_seconds_max": "longest time a task has hung in the kernel",
    "task_uninterruptible": "processes in uninterruptible sleep",
}


def word(name: str) -> Word:
    """Words and source of a series name; the name itself where it has no words."""
    best = ("", "collector", "other")
    for entry in _SOURCES:
        if (name == entry[0] or name.startswith(entry[0] + "_")) and len(entry[0]) > len(best[0]):
            best = entry
    return Word(_WORDS.get(name) or name.replace("_", " "), best[1], best[2])
