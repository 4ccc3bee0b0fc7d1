"""A recorded host made large: any number of cores, disks, control groups and processes in a folder.

The text of each file has the form the kernel gives it (golden trees of the tests); the numbers are made up.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

GOLDEN = Path(os.environ.get("ETIO_SOURCE", Path(__file__).parents[1])) / "tests/golden"
"""In the checkout: scripts/bench runs an installed copy, which has no tests, and says where that came from."""
BASE = GOLDEN / "debian12-6.1-2node"
GROUP = GOLDEN / "cgroup-v2-from-documentation/sys/fs/cgroup/system.slice/nginx.service"
MOUNT = "26 24 0:23 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything a host has."""

    cores: int
    disks: int
    groups: int
    gpus: int
    processes: int

    @property
    def things(self) -> int:
        """All of it."""
        return self.cores + self.disks + self.groups + self.gpus + self.processes


def make(root: Path, size: Size) -> None:
    """Writes the host below `root`, which must not exist."""
    shutil.copytree(BASE, root, symlinks=True)
    proc = root / "proc"
    _cores(proc, size.cores)
    _disks(root, size.disks)
    with (proc / "self/mountinfo").open("a") as file:
        file.write(MOUNT)
    _groups(root / "sys/fs/cgroup", size.groups)
    for i in range(size.processes):
        _process(proc / str(1000 + i), 1000 + i, i % max(size.groups, 1), kernel=i % 3 == 0)
    (proc / "uptime").write_text("90000.00 80000.00\n")


def _cores(proc: Path, cores: int) -> None:
    lines = proc.joinpath("stat").read_text().splitlines()
    rest = [line for line in lines if not line.startswith("cpu")]
    own = [f"cpu{i} {70000 + i} 291 {22149 + i} 8841235 1033 0 2089 0 15 0" for i in range(cores)]
    total = [sum(int(line.split()[k]) for line in own) for k in range(1, 11)]
    proc.joinpath("stat").write_text("\n".join([f"cpu  {' '.join(map(str, total))}", *own, *rest]) + "\n")
    head = " " * 4 + "".join(f"{f'CPU{i}':>11}" for i in range(cores)) + "\n"
    for name in ("softirqs", "interrupts"):
        rows = [head]
        for line in proc.joinpath(name).read_text().splitlines()[1:]:
            words = line.split()
            tail = [w for w in words[1:] if not w.isdigit()]
            counts = [w for w in words[1:] if w.isdigit()] or ["0"]
            many = "".join(f"{counts[i % len(counts)]:>11}" for i in range(cores))
            rows.append(f"{words[0]:>12}{many}  {' '.join(tail)}\n")
        proc.joinpath(name).write_text("".join(rows))
    per_cpu = proc.joinpath("net/softnet_stat").read_text().splitlines(keepends=True)
    proc.joinpath("net/softnet_stat").write_text("".join(per_cpu[i % len(per_cpu)] for i in range(cores)))
    domains = "domain0 ffffffff 0 0 0 0 0 0 0 0\ndomain1 ffffffff 0 0 0 0 0 0 0 0\n"
    proc.joinpath("schedstat").write_text("version 15\ntimestamp 4312345678\n" + "".join(
        f"cpu{i} 0 0 0 0 0 0 50080477284452 1000000000 81828029\n{domains}" for i in range(cores)))


def _disks(root: Path, disks: int) -> None:
    numbers = "4000 10 90000 1500 8000 40 300000 9000 0 7000 10500 0 0 0 0 55 60"
    rows = []
    for i in range(disks):
        rows.append(f" 259 {i} nvme{i}n1 {numbers}\n 259 {i + 1000} nvme{i}n1p1 {numbers}\n")
        for name, file in ((f"nvme{i}n1", "size"), (f"nvme{i}n1p1", "partition")):
            folder = root / "sys/class/block" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text("1\n")
    (root / "proc/diskstats").write_text("".join(rows))


def _groups(top: Path, groups: int) -> None:
    """Half of them have limits; a hundred in each slice."""
    top.mkdir(parents=True)
    (top / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    texts = {f.name: f.read_bytes() for f in GROUP.iterdir()}
    for i in range(groups):
        folder = top / f"part{i // 100}.slice" / f"unit{i}.service"
        folder.mkdir(parents=True)
        for name, text in texts.items():
            free = i % 2 and name in ("cpu.max", "memory.max", "memory.high", "pids.max")
            (folder / name).write_bytes(b"max\n" if free else text)


def _process(folder: Path, pid: int, group: int, kernel: bool) -> None:
    folder.mkdir()
    flags, rss = (0x200040, 0) if kernel else (0x400000, 2500)
    (folder / "stat").write_text(
        f"{pid} (worker {pid % 50}) S 1 {pid} {pid} 0 -1 {flags} 100 0 3 0 {pid} 50 0 0 20 0 1 0 {100 * pid} "
        f"100000000 {rss} 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
    (folder / "schedstat").write_text("5000000 70000 300\n")
    (folder / "cgroup").write_text(f"0::/part{group // 100}.slice/unit{group}.service\n")
    (folder / "cmdline").write_bytes(b"" if kernel else b"/usr/bin/worker\0--serve\0")
