"""Where memory lies is looked at when something is wrong, and only then: a real daemon on a host of two nodes."""

import os

import pytest

from tests import daemon_rig as rigs

pytestmark = pytest.mark.slow
GIB = 2**30
CONFIG = """
[daemon]
ebpf = "off"
root = "{root}"
"""


def add_process(root, pid, comm, cpu, maps):
    base = root / f"proc/{pid}"
    (base / f"task/{pid}").mkdir(parents=True)
    stat = f"{pid} ({comm}) {' '.join(['S', '1', *['0'] * 9, '500', '100', *['0'] * 23, str(cpu), '0'])}\n"
    maps_text = "".join(f"7f{n}0 default anon=1 N{n}={size // 4096} kernelpagesize_kB=4\n" for n, size in maps.items())
    for name, text in {
        "stat": stat, f"task/{pid}/stat": stat, "comm": comm + "\n", "cgroup": "0::/db.service\n",
        "statm": f"1 {8 * GIB // os.sysconf('SC_PAGE_SIZE')} 0 0 0 0 0\n",
        "numa_maps": maps_text,
    }.items():
        (base / name).write_text(text)


def remote_memory(rig):
    lines = rig.raw("/metrics")[1].splitlines()
    return [float(line.split()[1]) for line in lines if line.startswith("etio_numa_remote_memory_ratio")]


def test_placement_is_read_while_an_alert_fires():
    with rigs.folder() as folder:
        host = rigs.FakeHost(folder)
        for node, cpus in ((0, "0-63"), (1, "64-127")):
            (host.root / f"sys/devices/system/node/node{node}/cpulist").write_text(cpus + "\n")
        add_process(host.root, 4200, "database", 100, {0: 6 * GIB, 1: 2 * GIB})
        with rigs.daemon(CONFIG.format(root=host.root)) as rig:
            rig.start()
            state = {c["name"]: c["state"] for c in rig.status()["collectors"]}
            assert state["numa_placement"] in ("on", "off"), state
            assert remote_memory(rig) == []
            host.exhaust("files")
            assert rigs.wait_for(lambda: remote_memory(rig), 60) == [pytest.approx(0.75)]
