"""Present values of the settings that tuning cards speak of.

Reads: /proc/sys, /sys/block/*/queue, THP, cpufreq, SMT, NUMA, cgroup limits, file systems, network interfaces,
/proc/PID/{limits,oom_score_adj,status,stat,cmdline,environ}, /proc/irq. A closed list of kinds; every key is checked
against a list or a strict pattern and every entity against a strict pattern, so that no request can name a file outside
of these.
Source: Documentation/admin-guide/sysctl/, Documentation/ABI/stable/sysfs-block, admin-guide/mm/transhuge.rst,
admin-guide/pm/cpufreq.rst, cgroup-v1/, cgroup-v2.rst, ABI/testing/sysfs-class-net, core-api/irq/irq-affinity.rst.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from collector.cgroup_files import Mounts, find_mounts, slurp
from collector.files import fault
from collector.inference_flags import environment, setting
from collector.inference_kinds import kind_of_command, split
from collector.knob_cgroup import CGROUP_KEYS, cgroup_knob, human_bytes
from collector.knob_process import SCHEDULING_KEYS, parse_scheduling
from collector.mounts import unescape
from etio.core.errors import Broken, NoData

SIZE = 16384
SYSCTL = re.compile(r"(vm|kernel|net|fs)(\.[a-z0-9_-]+)+", re.ASCII)
SECRET = re.compile(r"(.*[._])?(key|secret)|kernel\.random\..*", re.ASCII)
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.!-]{0,63}", re.ASCII)
INTERFACE = re.compile(r"(?!\.{1,2}$)[^/\s\0]{1,15}")
CGROUP = re.compile(r"(/[^/\0\n]{1,255})+|/")
PID = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)
NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)
REMOTE_TYPES = ("nfs", "cifs", "smb", "ceph", "gluster", "lustre", "9p", "afs", "fuse", "virtiofs")
"""File systems whose statvfs() may hang when the other side is gone."""

QUEUE_KEYS = frozenset({
    "scheduler", "read_ahead_kb", "nr_requests", "rq_affinity", "nomerges", "wbt_lat_usec", "rotational",
    "max_sectors_kb", "max_hw_sectors_kb", "discard_max_bytes", "discard_granularity", "write_cache", "io_poll",
    "io_timeout", "iostats", "add_random", "logical_block_size", "physical_block_size",
})
CPUFREQ_KEYS = frozenset({
    "scaling_governor", "energy_performance_preference", "scaling_min_freq", "scaling_max_freq", "scaling_driver",
    "scaling_available_governors", "cpuinfo_max_freq",
})
NIC_KEYS = {
    "mtu": "mtu", "tx_queue_len": "tx_queue_len", "speed": "speed", "duplex": "duplex", "operstate": "operstate",
    "carrier": "carrier", "gro_flush_timeout": "gro_flush_timeout", "napi_defer_hard_irqs": "napi_defer_hard_irqs",
    "numa_node": "device/numa_node",
}
STEERING = "rps_cpus"
QUEUE_WORDS = {"queues": {"rx-": "receive", "tx-": "transmit"}, "rx_queues": {"rx-": "receive"},
               "tx_queues": {"tx-": "transmit"}}
SMT_KEYS = frozenset({"control", "active"})
THP_KEYS = frozenset({"enabled", "defrag", "shmem_enabled", "use_zero_page"})
NODE_KEYS = frozenset({"cpulist", "distance"})
IRQ_KEYS = frozenset({"smp_affinity_list", "effective_affinity_list"})
LIMITS = {"nofile": b"Max open files", "open_files": b"Max open files", "nproc": b"Max processes",
          "processes": b"Max processes", "memlock": b"Max locked memory", "stack": b"Max stack size",
          "core": b"Max core file size", "as": b"Max address space"}
"""Names of limits.conf(5), and words for two of them."""
FILESYSTEM_KEYS = frozenset({"size", "available", "reserved", "inodes", "options", "type"})


def parse_limits(raw: bytes, name: bytes) -> str:
    """One line of /proc/PID/limits as "soft (hard limit hard)". Raises NoData where the line is missing."""
    for line in raw.split(b"\n"):
        if line.startswith(name):
            words = line[len(name):].decode("ascii", "replace").split()
            if len(words) >= 2:
                return f"{words[0]} (hard limit {words[1]})"
    raise NoData(f"/proc/PID/limits: no line {name.decode()!r}")


def parse_mounts(raw: bytes) -> dict[str, tuple[str, str]]:
    """Mount point to (type, options) from /proc/self/mounts; the last mount on a point counts."""
    rows = (line.split(b" ") for line in raw.split(b"\n"))
    return {os.fsdecode(unescape(row[1])): (os.fsdecode(row[2]), os.fsdecode(row[3])) for row in rows if len(row) >= 4}


class KnobReader:
    """Implements etio.core.ports.Knobs below `root`. Keeps nothing but the place of the cgroup mounts."""

    def __init__(self, root: Path) -> None:
        self._base = str(root).rstrip("/")
        self._mounts: Mounts | None = None
        self._kinds: Mapping[str, Callable[[str, str], str]] = {
            "sysctl": self._sysctl, "block_queue": self._block_queue, "thp": self._thp, "cpufreq": self._cpufreq,
            "smt": self._smt, "numa": self._numa, "cgroup": self._cgroup, "filesystem": self._filesystem,
            "nic": self._nic, "ulimit": self._ulimit, "oom_score_adj": self._oom_score_adj, "irq": self._irq,
            "affinity": self._affinity, "inference": self._inference, "scheduling": self._scheduling,
        }

    def kinds(self) -> tuple[str, ...]:
        """The closed list of kinds."""
        return tuple(self._kinds)

    def read(self, kind: str, key: str, entity: str = "") -> str:
        """The value as the kernel prints it. Raises NoData where this host has no such knob, Broken when unreadable.

        entity: what the kind needs: a block device ("sda"), an interface, a cgroup path, a mount point, a pid, an irq
        or CPU number, a NUMA node number; the form of Series.entity ("device=sda") is understood as well.
        """
        reader = self._kinds.get(kind)
        if reader is None:
            raise NoData(f"{kind[:40]!r} is no kind of knob; known: {', '.join(self._kinds)}")
        return reader(key, _bare(entity))

    def _file(self, path: str) -> str:
        """Content of one file. The callers made `path` of checked parts only."""
        full = f"{self._base}{path}"
        try:
            with open(full, "rb", buffering=0) as file:
                raw = file.read(SIZE) or b""
        except OSError as error:
            raise fault(full, error) from error
        except ValueError as error:  # a zero byte or a lone surrogate in the name
            raise NoData(f"{full!r}: {error}") from error
        return raw.decode("utf-8", "replace").strip()

    def _sysctl(self, key: str, entity: str) -> str:
        _check(key, SYSCTL, "sysctl")
        if SECRET.fullmatch(key):
            raise NoData(f"sysctl {key} is secret or random and is not read")
        return self._file("/proc/sys/" + key.replace(".", "/"))

    def _block_queue(self, key: str, entity: str) -> str:
        _among(key, QUEUE_KEYS, "block_queue")
        return self._file(f"/sys/block/{_check(entity, DEVICE, 'block device')}/queue/{key}")

    def _thp(self, key: str, entity: str) -> str:
        return self._file(f"/sys/kernel/mm/transparent_hugepage/{_among(key, THP_KEYS, 'thp')}")

    def _cpufreq(self, key: str, entity: str) -> str:
        """Of one CPU, or of CPU 0 where none is named."""
        cpu = _check(entity or "0", NUMBER, "CPU number")
        return self._file(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/{_among(key, CPUFREQ_KEYS, 'cpufreq')}")

    def _smt(self, key: str, entity: str) -> str:
        return self._file(f"/sys/devices/system/cpu/smt/{_among(key or 'control', SMT_KEYS, 'smt')}")

    def _numa(self, key: str, entity: str) -> str:
        """"online" (list of nodes), "balancing", or cpulist and distance of one node."""
        if key in ("", "online"):
            return self._file("/sys/devices/system/node/online")
        if key == "balancing":
            return self._file("/proc/sys/kernel/numa_balancing")
        node = _check(entity.removeprefix("node"), NUMBER, "NUMA node")
        return self._file(f"/sys/devices/system/node/node{node}/{_among(key, NODE_KEYS, 'numa')}")

    def _nic(self, key: str, entity: str) -> str:
        device = _check(entity, INTERFACE, "network interface")
        base = f"/sys/class/net/{device}"
        if key in QUEUE_WORDS:
            return self._queues(base, QUEUE_WORDS[key])
        if key == STEERING:
            return self._steering(base)
        _among(key, {**NIC_KEYS, **QUEUE_WORDS, STEERING: ""}, "nic")
        try:
            return self._file(f"{base}/{NIC_KEYS[key]}")
        except Broken as error:  # speed of a link that is down reads as EINVAL
            raise NoData(f"{device}: {key} is not known: {error}") from error

    def _queues(self, base: str, words: Mapping[str, str]) -> str:
        try:
            names = os.listdir(f"{self._base}{base}/queues")
        except OSError as error:
            raise fault(f"{base}/queues", error) from error
        counts = {word: sum(name.startswith(start) for name in names) for start, word in words.items()}
        if 0 in counts.values():  # a kernel without RPS or XPS lists no queues, which says nothing about the card
            raise NoData(f"{base}/queues: the kernel does not list them")
        return ", ".join(f"{count} {word}" for word, count in counts.items())

    def _steering(self, base: str) -> str:
        """CPU masks of receive packet steering: one where all queues have the same, else one each."""
        try:
            names = sorted(n for n in os.listdir(f"{self._base}{base}/queues") if n.startswith("rx-"))[:64]
        except OSError as error:
            raise fault(f"{base}/queues", error) from error
        masks = [self._file(f"{base}/queues/{name}/{STEERING}") for name in names]
        if not masks:
            raise NoData(f"{base}/queues: the kernel does not list them")
        return masks[0] if len(set(masks)) == 1 else ", ".join(f"{n} {m}" for n, m in zip(names, masks, strict=True))

    def _ulimit(self, key: str, entity: str) -> str:
        pid = _check(entity, PID, "pid")
        name = LIMITS[_among(key, LIMITS, "ulimit")]
        return parse_limits(self._file(f"/proc/{pid}/limits").encode(), name)

    def _oom_score_adj(self, key: str, entity: str) -> str:
        return self._file(f"/proc/{_check(entity, PID, 'pid')}/oom_score_adj")

    def _scheduling(self, key: str, entity: str) -> str:
        raw = self._file(f"/proc/{_check(entity, PID, 'pid')}/stat").encode()
        return parse_scheduling(raw, _among(key, SCHEDULING_KEYS, "scheduling"))

    def _inference(self, key: str, entity: str) -> str:
        """Setting of the inference server that a process is; "engine" is its kind."""
        pid = _check(entity, PID, "pid")
        argv = split(self._file(f"/proc/{pid}/cmdline").encode())
        kind = kind_of_command(argv)
        if not kind:
            raise NoData(f"process {pid} is no inference server that etio knows")
        environ = environment(slurp(f"{self._base}/proc/{pid}/environ", 1 << 17) or b"")
        return kind if key == "engine" else setting(kind, key, argv, environ)

    def _affinity(self, key: str, entity: str) -> str:
        """Cores a process may run on, as "[0-3,7]"."""
        _among(key, {"cpus"}, "affinity")
        status = self._file(f"/proc/{_check(entity, PID, 'pid')}/status")
        found = re.search(r"^Cpus_allowed_list:\s*([0-9,-]+)$", status, re.M)
        if found is None:
            raise NoData("/proc/PID/status: no line 'Cpus_allowed_list'")
        return f"[{found[1]}]"

    def _irq(self, key: str, entity: str) -> str:
        """Affinity of one interrupt; "default_smp_affinity" needs no entity."""
        if key == "default_smp_affinity":
            return self._file("/proc/irq/default_smp_affinity")
        _among(key, IRQ_KEYS, "irq")
        return self._file(f"/proc/irq/{_check(entity, NUMBER, 'interrupt number')}/{key}")

    def _filesystem(self, key: str, entity: str) -> str:
        """Of a mount point of this host only; of remote file systems just type and options, for they may hang."""
        _among(key, FILESYSTEM_KEYS, "filesystem")
        mounts = parse_mounts(slurp(f"{self._base}/proc/self/mounts", 1 << 20) or b"")
        if entity not in mounts:
            raise NoData(f"{entity[:100]!r} is no mount point of this host")
        kind, options = mounts[entity]
        if key in ("type", "options"):
            return kind if key == "type" else options
        if kind.startswith(REMOTE_TYPES):
            raise NoData(f"{entity}: {kind} may hang when its server is gone, so it is not asked")
        try:
            return _filesystem_value(os.statvfs(f"{self._base}{entity}"), key)
        except OSError as error:
            raise fault(entity, error) from error

    def _cgroup(self, key: str, entity: str) -> str:
        _among(key, CGROUP_KEYS, "cgroup")
        _check(entity, CGROUP, "cgroup path")
        if any(part in (".", "..") for part in entity.split("/")):
            raise NoData(f"{entity[:100]!r} is no cgroup path")
        if self._mounts is None:
            self._mounts = find_mounts(Path(self._base or "/"))
        path = entity.rstrip("/")
        return cgroup_knob(self._mounts, path, key)


def _bare(entity: str) -> str:
    """The value of an entity such as "device=sda"; labels of several pairs give the one that is asked for most."""
    if entity.startswith("cgroup="):
        return entity.removeprefix("cgroup=")  # its only label, and a path may hold commas
    parts = re.split(r",(?=[a-z_]+=)", entity) if re.match(r"[a-z_]+=", entity) else []
    pairs = {name: value for name, _, value in (part.partition("=") for part in parts)}
    for name in ("mount", "device", "pid", "irq", "cpu", "node"):
        if name in pairs:
            return pairs[name]
    return entity


def _check(text: str, pattern: re.Pattern[str], what: str) -> str:
    """The text when the whole of it fits. Raises NoData otherwise: such a thing cannot exist."""
    if pattern.fullmatch(text) is None or re.search(r"[\ud800-\udc7f\udd00-\udfff]", text):  # no bytes in any name
        raise NoData(f"{text[:100]!r} is no {what}")
    return text


def _among(key: str, known: frozenset[str] | set[str] | Mapping[str, object], kind: str) -> str:
    if key not in known:
        raise NoData(f"{key[:40]!r} is no knob of kind {kind}; known: {', '.join(sorted(known))}")
    return key


def _filesystem_value(told: os.statvfs_result, key: str) -> str:
    if key == "inodes":
        return f"{told.f_files - told.f_ffree} of {told.f_files} in use"
    blocks = {"size": told.f_blocks, "available": told.f_bavail, "reserved": told.f_bfree - told.f_bavail}[key]
    share = 100 * blocks / told.f_blocks if told.f_blocks else math.nan
    text = human_bytes(blocks * told.f_frsize)
    return text if key == "size" or math.isnan(share) else f"{text} ({share:.1f} % of the file system)"
