"""A host whose settings are written down, and findings, for tests of cards."""

from types import MappingProxyType

from etio.core.facts import HostInfo
from etio.core.report import Culprit, Finding

HOST = HostInfo("node-1", cpus=8, memory_bytes=16 * 2**30)


class FixedKnobs:
    """A host whose settings are written down: real values as the knob reader prints them."""

    VALUES = MappingProxyType({
        ("sysctl", "vm.swappiness"): "60", ("sysctl", "vm.page-cluster"): "3",
        ("cgroup", "cpu_quota"): "0.50 cores (cpu.cfs_quota_us=50000, cpu.cfs_period_us=100000)",
        ("cgroup", "memory_limit"): "256.0 MiB (memory.max=268435456)",
        ("cgroup", "pids_limit"): "1024 tasks (pids.max=1024)", ("cgroup", "cpu_weight"): "100 (cpu.weight=100)",
        ("block_queue", "scheduler"): "none [bfq] mq-deadline", ("block_queue", "read_ahead_kb"): "128",
        ("block_queue", "nr_requests"): "64", ("block_queue", "wbt_lat_usec"): "0", ("block_queue", "rq_affinity"): "1",
        ("thp", "defrag"): "[always] defer defer+madvise madvise never", ("cpufreq", "scaling_governor"): "powersave",
        ("filesystem", "available"): "1.0 GiB", ("filesystem", "size"): "512.0 GiB",
        ("filesystem", "reserved"): "512 MiB", ("nic", "mtu"): "1500",
        ("nic", "rx_queues"): "4",
        ("sysctl", "net.ipv4.tcp_syncookies"): "0", ("sysctl", "net.ipv4.tcp_synack_retries"): "5",
        ("sysctl", "net.ipv4.tcp_syn_retries"): "6", ("nic", "operstate"): "down",
        ("sysctl", "net.ipv4.tcp_retries2"): "15",
        ("ulimit", "processes"): "63304 (hard limit 63304)",
        ("oom_score_adj", "oom_score_adj"): "0",
        ("sysctl", "net.ipv4.tcp_congestion_control"): "cubic", ("sysctl", "net.core.rmem_max"): "212992",
        ("sysctl", "net.ipv4.tcp_mtu_probing"): "0", ("sysctl", "vm.dirty_background_ratio"): "10",
        ("sysctl", "net.netfilter.nf_conntrack_tcp_timeout_established"): "432000",
        ("inference", "gpu_memory_utilization"): "0.9 (default)", ("inference", "max_num_seqs"): "64",
        ("inference", "kv_cache_dtype"): "auto (default)", ("inference", "enforce_eager"): "on",
        ("inference", "disable_cuda_graph"): "on", ("inference", "mem_fraction_static"): "0.85",
    })  # fmt: skip

    def __init__(self, **changed):
        self.values = dict(self.VALUES)
        self.asked = []
        self.changed = changed

    def read(self, kind, key, entity=""):
        self.asked.append((kind, key, entity))
        answer = self.changed.get(key.replace(".", "_"), self.values.get((kind, key), "1"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def finding(cause, entity="host", culprit=None):
    return Finding(cause, cause, "CONFIRMED", "why", ("E1",), entity=entity, culprit=culprit)


def every_entity(name="/system.slice/web.service"):
    who = Culprit("process", "web", pid=4711, cgroup=name, unit=name.rsplit("/", 1)[-1])
    return "device=sda,mount=/data,type=ext4", who
