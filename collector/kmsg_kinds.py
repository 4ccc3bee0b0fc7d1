"""What the kernel's messages mean: one pattern for each wording. Pure: text in, kind, entity and fields out.

A message may begin with a name that a user chose: `NAME[PID]: segfault at ...`. Names of tasks have at most 15 bytes,
so each pattern fixes more than the first 15 characters of a message, or what follows them; nobody can forge another
kind by choosing a name (tested).
Source: the printk() calls of the kernel (block/blk-core.c, fs/ext4/super.c, fs/xfs, net/sched/sch_generic.c,
net/netfilter/nf_conntrack_core.c, net/ipv4/tcp_input.c, net/ipv4/tcp.c, net/core/neighbour.c,
kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h, mm/oom_kill.c, mm/memory-failure.c, drivers/edac,
drivers/pci/pcie/aer.c, arch/x86/kernel/cpu/mce, net/sunrpc/clnt.c); docs.nvidia.com/deploy/xid-errors.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from collector.gpu.xid_kinds import event_kind
from etio.core.event import Field

_DEVICE = r"(?P<device>[A-Za-z0-9][\w!.-]{0,30})"
_PCI = r"(?P<pci>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
_NIC = r"(?P<device>[^\s:()]{1,15})"
_FS = r"(?P<device>[^\s():]{1,31})"
_TASK = r"(?P<comm>.{1,64})"
_NUMBERS = frozenset(("pid", "sector", "block", "seconds", "count", "xid", "queue", "cpu", "uid", "bank"))


@dataclass(frozen=True, slots=True)
class Message:
    """What one message means. entity: in the notation of Series.entity. fields: all of the pattern's names."""

    kind: str
    entity: str
    fields: tuple[tuple[str, Field], ...] = ()

    def get(self, name: str) -> Field | None:
        """Value of one field, or None."""
        return next((v for k, v in self.fields if k == name), None)


@dataclass(frozen=True, slots=True)
class Pattern:
    """entity: which group says what it is about, as "label=group"; "" = the host."""

    kind: str
    regex: re.Pattern[str]
    entity: str = ""
    refine: Callable[[Mapping[str, str]], str] | None = None


def _p(kind: str, regex: str, entity: str = "", refine: Callable[[Mapping[str, str]], str] | None = None) -> Pattern:
    return Pattern(kind, re.compile(regex, re.ASCII | re.DOTALL), entity, refine)


def _xid(found: Mapping[str, str]) -> str:
    return event_kind(int(found["xid"]))


def _edac(found: Mapping[str, str]) -> str:
    return "memory_error" if found["type"] == "UE" else "memory_error_corrected"


def _bank(found: Mapping[str, str]) -> str:
    """Bit 61 of the status of a machine-check bank: not corrected by hardware (Intel SDM 3B, 16.3.2.2)."""
    return "machine_check" if int(found["status"], 16) >> 61 & 1 else "machine_check_corrected"


def _apei(found: Mapping[str, str]) -> str:
    return "machine_check_corrected" if found["severity"] == "corrected" else "machine_check"


def _aer(found: Mapping[str, str]) -> str:
    return "pcie_error_corrected" if found["severity"].startswith("Correct") else "pcie_error"


_GPU = (
    _p("gpu_xid", rf"NVRM: Xid \((?:PCI:)?{_PCI}\): (?P<xid>\d{{1,4}})\b(?:, pid='?(?P<pid>\d{{1,10}}))?"
       r"(?:'?, name=(?P<program>[^,<]{1,64}),)?", "gpu=pci", _xid),
    # The two wordings of the client, with its name or without; lines of one message are joined by line feeds.
    _p("gpu_api_mismatch", r"NVRM: API mismatch: the client\b.{0,120}?\bversion (?P<library>\d[\d.]{1,20}\d).{1,60}?"
       r"\bversion (?P<module>\d[\d.]{1,20}\d)"),
    _p("gpu_lost", rf"NVRM: (?:The NVIDIA )?GPU (?:at (?:PCI:)?)?{_PCI}: GPU has fallen off the bus", "gpu=pci"),
)
_HARDWARE = (
    _p("memory_error", r"EDAC (?P<controller>\w{1,20}): (?P<count>\d{1,9}) (?P<type>CE|UE) .*? on "
       r"(?P<dimm>[^\s(]{1,80})", "controller=controller", _edac),
    _p("memory_error", r"Memory failure: (?P<page>0x[0-9a-f]+): recovery action for (?P<use>[^:]{1,60}): "
       r"(?P<done>\w+)"),
    _p("machine_check", r"mce: \[Hardware Error\]: CPU (?P<cpu>\d{1,5}): Machine Check(?: Exception)?: [0-9a-f]+ "
       r"Bank (?P<bank>\d{1,3}): (?P<status>[0-9a-f]{16})", "cpu=cpu", _bank),
    _p("machine_check", r"\{\d{1,9}\}\[Hardware Error\]: event severity: (?P<severity>corrected|recoverable|fatal)", "",
       _apei),
    _p("pcie_error", rf"\S{{1,32}} {_PCI}: (?:AER: )?PCIe Bus Error: severity="
       r"(?P<severity>Correct\w+|Uncorrect\w+ \((?:Non-)?Fatal\)), type=(?P<layer>[^,]{1,40})", "device=pci", _aer),
    _p("cpu_throttled", r"(?:mce: )?CPU(?P<cpu>\d{1,5}): (?P<place>Core|Package) temperature(?:/speed)? "
       r"(?:is )?above threshold, cpu clock throttled"),
    _p("cpu_throttled", r"thermal thermal_zone(?P<zone>\d{1,4}): .{0,40}critical temperature reached"),
)
_BLOCK = (
    # "operation not supported" only says that a device cannot discard; an empty drive (sr0, fd0) is no fault either.
    _p("block_io_error", r"(?:blk_update_request: |print_req_error: |end_request: )?"
       r"(?P<error>I/O|timeout|critical \w+(?: \w+)?|recoverable transport|protection|reservation conflict) error, "
       rf"dev (?!sr\d|fd\d){_DEVICE}, sector (?P<sector>\d{{1,20}})"
       r"(?: op 0x[0-9a-f]+:\((?P<operation>\w{1,20})\))?", "device=device"),
    _p("block_io_error", rf"Buffer I/O error on dev(?:ice)? (?!sr\d|fd\d){_DEVICE}, logical block (?P<block>\d{{1,20}})"
       r"(?:, (?P<operation>[\w ]{1,40}))?", "device=device"),
    _p("block_device_reset", r"nvme (?P<device>nvme\d{1,4}): (?P<text>controller is down; will reset|"
       r"I/O .{1,60} timeout, \w+|Device not ready; aborting|Removing after probe failure)", "device=device"),
    _p("block_device_reset", r"(?P<device>ata\d{1,4}(?:\.\d{1,2})?): (?P<text>exception Emask 0x[0-9a-f]+ SAct |"
       r"hard resetting link\b)", "device=device"),
)
_FILESYSTEM = (
    _p("filesystem_readonly", rf"(?:EXT[234]-fs|F2FS-fs|FAT-fs) \({_FS}\): "
       r"(?:Remounting filesystem read-only|Filesystem has been set read-only)", "device=device"),
    _p("filesystem_readonly", rf"BTRFS(?: info|: info) \(device {_FS}[^)]{{0,40}}\):? forced readonly",
       "device=device"),
    _p("filesystem_error", rf"EXT[234]-fs error \(device {_FS}[^)]{{0,40}}\): (?P<text>\w+:\d+: .{{0,80}})",
       "device=device"),
    _p("filesystem_error", rf"XFS \({_FS}\): (?P<text>Corruption |Metadata (?:corruption|CRC error) detected|"
       r"metadata I/O error|log I/O error|Internal error |.{0,80}[Ss]hutting down filesystem|"
       r".{0,40}[Ff]ilesystem has been shut down)", "device=device"),
    _p("filesystem_error", rf"BTRFS(?: error| critical|: error) \(device {_FS}[^)]{{0,40}}\):? (?:in )?"
       r"(?P<text>.{1,80})", "device=device"),
    _p("filesystem_error", r"Aborting journal on device (?P<device>dm-\d{1,5}|[^\s():]{1,31}?)(?:-\d{1,9})?\.",
       "device=device"),
    _p("filesystem_error", rf"FAT-fs \({_FS}\): error, (?P<text>.{{1,80}})", "device=device"),
    _p("nfs_not_responding", r"nfs: server (?P<server>\S{1,255}) not responding, (?P<text>still trying|timed out)",
       "server=server"),
    _p("nfs_responding", r"nfs: server (?P<server>\S{1,255}) OK\Z", "server=server"),
    _p("nfs_not_responding", r"CIFS: VFS: \\\\(?P<server>\S{1,255}) has not responded in (?P<seconds>\d{1,9}) seconds",
       "server=server"),
)
_NETWORK = (
    _p("nic_reset", rf"NETDEV WATCHDOG: {_NIC} \((?P<driver>[^)]{{0,32}})\): transmit queue "
       r"(?P<queue>\d{1,5}) timed out", "device=device"),
    _p("nic_reset", rf"(?P<driver>\S{{1,32}}) \S{{1,32}} {_NIC}: NETDEV WATCHDOG: CPU: \d+: "
       r"transmit queue (?P<queue>\d{1,5}) timed out", "device=device"),
    _p("nic_reset", rf"(?P<driver>\S{{1,32}}) {_PCI} {_NIC}: (?P<text>Reset adapter|Detected Hardware Unit Hang|"
       r"initiating reset due to \w+|Adapter resetting|TX timeout detected)", "device=device"),
    _p("nic_link_lost", rf"(?P<driver>\S{{1,32}}) (?:{_PCI} )?{_NIC}:? (?:\S{{1,32}}: \S{{1,32}} )?(?:NIC )?"
       r"[Ll]ink is [Dd]own\b", "device=device"),
)
_SOCKETS = (
    _p("conntrack_table_full", r"nf_conntrack: (?:nf_conntrack: )?table full(?: in netns (?P<netns>\d{1,10}))?, "
       r"dropping packet", "netns=netns"),
    _p("syn_flood_warning", r"TCP: request_sock_TCP(?:v6)?: Possible SYN flooding on port "
       r"(?:\S{1,46}:)?(?P<port>\d{1,5})\. (?P<done>Sending cookies|Dropping request)\.", "port=port"),
    _p("neighbour_overflow", r"(?:neighbour: )?(?P<table>arp_cache|ndisc_cache): neighbor table overflow!"),
    _p("tcp_memory_short", r"TCP: (?P<text>out of memory -- consider tuning tcp_mem|too many orphaned sockets)"),
    _p("time_wait_overflow", r"TCP: time wait bucket table overflow"),
)
_CPU = (
    _p("hung_task", rf"INFO: task {_TASK}:(?P<pid>\d{{1,10}}) blocked (?:in I/O wait )?"
       r"for more than (?P<seconds>\d{1,9}) seconds\.", "pid=pid"),
    _p("soft_lockup", r"(?:NMI |)(?:watchdog: |)BUG: soft lockup - CPU#(?P<cpu>\d{1,5}) stuck for "
       rf"(?P<seconds>\d{{1,9}})s! \[{_TASK}:(?P<pid>\d{{1,10}})\]", "cpu=cpu"),
    _p("hard_lockup", r"(?:NMI )?watchdog: (?:Watchdog detected|CPU\d+: Watchdog detected) hard LOCKUP on cpu "
       r"(?P<cpu>\d{1,5})", "cpu=cpu"),
    _p("rcu_stall", r"(?:rcu: )?INFO: (?P<flavour>rcu_\w{1,20}) "
       r"(?P<text>self-detected stall on CPU|detected (?:expedited )?stalls on CPUs/tasks)"),
    _p("kernel_oops", r"(?P<text>BUG: kernel NULL pointer dereference, address: |BUG: unable to handle (?:page fault|"
       r"kernel \w+)|kernel BUG at \S{1,80}:\d{1,6}!|general protection fault, \w+)"),
)
_TASKS = (
    _p("oom_kill", r"(?:[^:]{1,80}: )?Killed process (?P<pid>\d{1,10}) \((?P<comm>.{0,64})\),? "
       r"total-vm:(?P<total_vm>\d{1,18})kB, anon-rss:(?P<anon_rss>\d{1,18})kB, file-rss:(?P<file_rss>\d{1,18})kB"
       r"(?:, shmem-rss:(?P<shmem_rss>\d{1,18})kB)?(?:, UID:(?P<uid>\d{1,10}))?", "pid=pid"),
    _p("oom_context", r"oom-kill:constraint=\w+,.*?(?:,oom_memcg=(?P<limited>/.*))?,task_memcg=(?P<cgroup>/.*),task=.*,"
       r"pid=(?P<pid>\d{1,10}),uid=\d+\Z", "pid=pid"),
    _p("segfault", rf"{_TASK}\[(?P<pid>\d{{1,10}})\]: segfault at [0-9a-f]+ ip [0-9a-f]+ sp [0-9a-f]+ error [0-9a-f]+"
       r"(?: in (?P<file>[^\[\n]{1,80})\[)?", "pid=pid"),
    _p("segfault", rf"traps: {_TASK}\[(?P<pid>\d{{1,10}})\] (?P<text>general protection fault|trap [a-z ]{{1,40}})"
       r"(?: ip:.*? in (?P<file>[^\[\n]{1,80})\[)?", "pid=pid"),
)
PATTERNS = (*_GPU, *_HARDWARE, *_BLOCK, *_FILESYSTEM, *_NETWORK, *_SOCKETS, *_CPU, *_TASKS)
KINDS = frozenset(p.kind for p in PATTERNS) | {
    "memory_error_corrected", "machine_check_corrected", "pcie_error_corrected", "gpu_program_xid", "gpu_minor_xid"}
_KIB = ("total_vm", "anon_rss", "file_rss", "shmem_rss")


def understand(text: str) -> Message | None:
    """What a message of the kernel means; None for all that is not in the list.

    >>> understand("I/O error, dev sda, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2").entity
    'device=sda'
    """
    for pattern in PATTERNS:
        found = pattern.regex.match(text)
        if found is not None:
            groups = {k: v for k, v in found.groupdict().items() if v is not None}
            label, _, group = pattern.entity.partition("=")
            label = label if group in groups else ""
            entity = f"{label}={_shown(groups[group]).replace(',', '?')}" if label else "host"  # a comma: two labels
            kind = pattern.refine(groups) if pattern.refine else pattern.kind
            return Message(kind, entity, tuple(_fields(groups, group)))
    return None


def _fields(groups: Mapping[str, str], entity: str) -> Iterator[tuple[str, Field]]:
    for name, value in groups.items():
        if name in _KIB:
            yield f"{name}_bytes", int(value) * 1024
        elif name in _NUMBERS:
            if name != entity:
                yield name, int(value)
        elif name != entity:
            yield name, _shown(value)


def _shown(text: str) -> str:
    """Untrusted text to show: no control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)
