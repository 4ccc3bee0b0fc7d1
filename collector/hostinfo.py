"""What the host is: name, kernel, distribution, processors, memory, NUMA nodes, boot time, virtual or not.

Reads: /etc/os-release, /proc/sys/kernel/{hostname,osrelease}, /proc/stat, /proc/meminfo, /proc/cpuinfo,
/sys/devices/system/{cpu,node}, /sys/class/dmi/id, /sys/hypervisor/type.
Gives: etio.core.facts.HostInfo. What cannot be read stays at its "unknown" value; nothing here raises.
Source: os-release(5), proc(5), Documentation/ABI/testing/sysfs-devices-system-cpu.
"""

import math
import re
from pathlib import Path

from collector.cgroup_files import slurp
from etio.core.facts import HostInfo

VIRTUAL_DMI = ("qemu", "kvm", "vmware", "virtualbox", "innotek", "xen", "bochs", "amazon ec2", "google compute engine",
               "virtual machine", "openstack", "parallels", "bhyve", "hvm domu", "firecracker", "cloud hypervisor",
               "alibaba cloud ecs", "apache cloudstack")
"""Parts of DMI vendor and product names that only virtual machines carry ("Virtual Machine" is Hyper-V)."""
NS = 1_000_000_000


def parse_os_release(raw: bytes) -> str:
    """PRETTY_NAME of os-release(5), "" where it has none."""
    for line in raw.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "PRETTY_NAME":
            return value.strip().strip("\"'")[:100]
    return ""


def parse_cpu_list(raw: bytes) -> int:
    """How many a kernel list such as ``0-3,8,10-11`` names; 0 for what is no such list.

    >>> parse_cpu_list(b"0-3,8,10-11")
    7
    """
    text = raw.decode("ascii", "replace").strip()
    if not re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", text, re.ASCII):
        return 0
    total = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        total += max(0, int(last or first) - int(first) + 1)
    return total


def parse_boot_ns(raw: bytes) -> int:
    """Wall-clock nanoseconds of the boot from the btime line of /proc/stat; 0 where it is missing."""
    found = re.search(rb"^btime (\d{1,12})$", raw, re.MULTILINE)
    return int(found.group(1)) * NS if found else 0


def parse_memory(raw: bytes) -> float:
    """Bytes of the MemTotal line of /proc/meminfo; NaN where it is missing."""
    found = re.search(rb"^MemTotal:\s+(\d{1,16}) kB$", raw, re.MULTILINE)
    return int(found.group(1)) * 1024.0 if found else math.nan


def host_info(root: Path, gpus: tuple[str, ...] = ()) -> HostInfo:
    """The host below `root`. gpus: their names, which only the NVML collector knows."""
    base = str(root).rstrip("/")

    def read(path: str) -> bytes:
        return slurp(f"{base}{path}", 1 << 20) or b""

    stat = read("/proc/stat")
    return HostInfo(
        name=_line(read("/proc/sys/kernel/hostname")),
        kernel=_line(read("/proc/sys/kernel/osrelease")),
        os=parse_os_release(read("/etc/os-release") or read("/usr/lib/os-release")),
        cpus=parse_cpu_list(read("/sys/devices/system/cpu/online")) or len(re.findall(rb"(?m)^cpu\d+ ", stat)),
        numa_nodes=parse_cpu_list(read("/sys/devices/system/node/online")),
        memory_bytes=parse_memory(read("/proc/meminfo")),
        gpus=gpus,
        boot_ns=parse_boot_ns(stat),
        virtual=_virtual(read("/proc/cpuinfo"), read("/sys/hypervisor/type"),
                         read("/sys/class/dmi/id/sys_vendor") + b" " + read("/sys/class/dmi/id/product_name")),
    )


def _line(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace").strip().split("\n")[0][:100]
    return "".join(c if c.isprintable() else "\ufffd" for c in text)  # shown on terminals: no escape sequences


def _virtual(cpuinfo: bytes, hypervisor: bytes, dmi: bytes) -> bool:
    """True on a virtual machine: the CPU says so (x86), or Xen, or the board's maker."""
    flags = re.search(rb"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE)
    names = dmi.decode("utf-8", "replace").lower()
    return bool(flags) or bool(hypervisor.strip()) or any(word in names for word in VIRTUAL_DMI)
