"""The loader, the warden and their descriptors: what is loaded, who may read it, when it goes, why it is not there."""

# ruff: noqa: F811 (fixtures of ebpf_rig)



import mmap
import os
import shutil
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from collector.ebpf import bpfcall, loader
from collector.ebpf.client import SYSTEM_PYTHON, Loaded, WardenClient, spawn_warden
from collector.ebpf.collector import EbpfCollector
from etio.core.errors import NoData
from tests.daemon_rig import wait_for
from tests.ebpf_rig import check_sched, client, ebpf, run, run_loader, values  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root]
_PROG_GET_FD_BY_ID = 13


def test_a_user_without_any_privilege_reads_but_cannot_write(ebpf, client):
    loaded = client.load()
    entry = loaded.manifest["families"][0]
    fd = loaded.descriptors[entry["map"]]
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            own = EbpfCollector(loaded)
            own.open(Path("/"))
            first = values(own)["sched_switches_per_second"]
            time.sleep(0.05)
            assert values(own)["sched_switches_per_second"] > first
            with pytest.raises(PermissionError):
                mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    loaded.close()


def _loaded(program: int) -> bool:
    try:
        os.close(bpfcall._bpf(_PROG_GET_FD_BY_ID, struct.pack("<I", program), "look for it")[0])
    except FileNotFoundError:
        return False
    return True


def test_programs_go_with_the_descriptors():
    channel, pid = spawn_warden()
    with WardenClient(channel) as one:
        loaded = one.load()
        made = EbpfCollector(loaded)
        made.open(Path("/"))
        programs = [p["id"] for f in loaded.manifest["families"] for p in f["programs"]]
        assert len(programs) >= 15
        assert all(map(_loaded, programs))
        made.close()
    os.waitpid(pid, 0)
    wait_for(lambda: not any(map(_loaded, programs)), 60)


def test_costs_are_told_while_the_kernel_counts_them(client):
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    kept = switch.read_text()
    loaded = client.load()
    try:
        switch.write_text("1")
        run("import os\nfor _ in range(53):\n    os.fork() or os._exit(0)\n    os.wait()")
        costs = {c.name: c for c in client.program_costs()}
    finally:
        switch.write_text(kept)
        loaded.close()
    assert costs["sched_switch"].attach == "tp_btf sched:sched_switch"
    assert costs["sched_process_fork"].run_count >= 53
    assert 10e-9 < costs["sched_process_fork"].run_seconds / costs["sched_process_fork"].run_count < 0.1
    assert np.isnan(costs["mark_victim"].run_seconds)


def test_one_family_can_be_shed(client):
    loaded = client.load()
    made = EbpfCollector(loaded)
    made.open(Path("/"))
    try:
        programs = {f["name"]: [p["id"] for p in f["programs"]] for f in loaded.manifest["families"]}
        series = len(made.collect(0).series)
        gone = {s.name for reader in made._readers if reader.name == "net" for s in reader.series}
        made.drop("net", "over budget")
        reading = made.collect(1)
        assert len(reading.series) >= series
        assert all(np.isnan(v) == (s.name in gone) for s, v in zip(reading.series, reading.values, strict=True)
                   if s.kind == "counter")
        assert made.tier() == ("T1", "net: over budget")
        assert all(map(_loaded, programs["sched"]))
    finally:
        made.close()


def test_without_bcc_the_reason_and_the_remedy_are_told():
    manifest, descriptors = run_loader(python=(sys.executable,))
    assert "bcc is missing" in str(manifest["error"])
    assert "apt install python3-bpfcc" in str(manifest["error"])
    assert descriptors == ()


def test_root_without_capabilities_is_told_which_ones_are_missing():
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", SYSTEM_PYTHON)
    manifest, descriptors = run_loader(python=powerless)
    assert descriptors == ()
    with pytest.raises(NoData, match="CAP_BPF") as caught:
        EbpfCollector(Loaded(manifest, ())).open(Path("/"))
    assert str(caught.value).count("remedy") == 1, "one reason of all families is told once"


def test_a_family_that_does_not_compile_hurts_no_other(tmp_path):
    shutil.copytree(Path(loader.__file__).parent, tmp_path / "ebpf")
    (tmp_path / "ebpf/block.bcc.c").write_text("this is no C")
    (tmp_path / "ebpf/connect.bcc.c").write_text("#pragma clang __debug llvm_fatal_error\n")
    (tmp_path / "ebpf/process.bcc.c").write_text(
        (tmp_path / "ebpf/process.bcc.c").read_text().replace("u64 now = bpf_ktime_get_ns();", "u64 now = *(u64 *)8;"))
    manifest, descriptors = run_loader(script=str(tmp_path / "ebpf/loader.py"))
    for fd in descriptors:
        os.close(fd)
    reasons = {f["name"]: f["reason"] for f in manifest["families"]}
    assert "does not compile" in reasons["block"]
    assert "error:" in reasons["block"]
    assert "LLVM ERROR" in reasons["connect"], "a compiler that aborts"
    assert "load etio_sched_process_exec" in reasons["process"]
    assert "invalid mem access" in reasons["process"]
    assert not any(reason for name, reason in reasons.items() if name not in ("block", "connect", "process"))


def test_without_btf_the_classic_tracepoints_count_the_same():
    manifest, descriptors = run_loader("--btf", "/nonexistent")
    assert "no BTF" in str(manifest["btf"])
    made = EbpfCollector(Loaded(manifest, descriptors))
    made.open(Path("/"))
    try:
        assert made.tier() == ("T1", "")
        assert {p["attach"].split()[0] for f in manifest["families"] for p in f["programs"]} == {"tracepoint"}
        check_sched(made)
    finally:
        made.close()


def test_a_bcc_that_wants_headers_is_told_where_there_are_none(tmp_path):
    """The stand-ins are not enough, and this host has no headers."""
    shutil.copytree(Path(loader.__file__).parent, tmp_path / "ebpf")
    broken = tmp_path / "ebpf/stand_in.h"
    broken.write_text(broken.read_text() + "#include <linux/nowhere.h>\n")
    hidden = (tmp_path / "ebpf/loader_compile.py").read_text().replace('"/usr/src"', '"/nonexistent"')
    hidden = hidden.replace('Path("/lib/modules", os.uname().release, "build")', 'Path("/nonexistent")')
    (tmp_path / "ebpf/loader_compile.py").write_text(hidden.replace("/sys/kernel/kheaders.tar.xz", "/nonexistent"))
    manifest, descriptors = run_loader("--only", "oom", script=str(tmp_path / "ebpf/loader.py"))
    assert descriptors == ()
    reason = str(manifest["families"][0]["reason"])
    assert "nowhere.h" in reason
    assert "apt install linux-headers-" in reason
