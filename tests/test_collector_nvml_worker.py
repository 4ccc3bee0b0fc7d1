"""The process that talks to NVML: XIDs it tells of, calls that hang, how it starts and ends."""

# ruff: noqa: F811 (fixtures of nvml_rig)

import contextlib
import math
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from collector.nvml import COLLECTOR, gpu_names
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from tests.daemon_rig import wait_for
from tests.nvml_rig import H100, T0, UUID, host, values  # noqa: F401 (fixtures)

pytestmark = pytest.mark.slow

# -- XIDs -------------------------------------------------------------------------------------------------------------


def xid_events(collector, start_ns):
    """The next events that come, asked each (made-up) tenth of a second."""
    ticks = iter(range(10_000))
    return wait_for(lambda: collector.collect(start_ns + next(ticks) * NS // 10).events, pause=0.01)


def test_xids_come_from_their_own_thread(host):
    gpus, collector = host()
    collector.collect(T0)
    gpus.xid(0, 0, kind=0x1)
    gpus.xid(0, 79)
    (event,) = xid_events(collector, T0 + NS)
    assert (event.kind, event.entity, event.get("xid"), event.get("pci")) == (
        "gpu_lost", f"gpu=0,uuid={UUID}0", 79, "0000:18:00.0")


def test_an_xid_that_the_kernel_log_told_is_told_once(host):
    gpus, collector = host()
    asked = []
    collector.told_by_kernel = lambda pci, xid, t_ns: asked.append((pci, xid)) or xid == 31
    collector.collect(T0)
    gpus.xid(0, 31)
    gpus.xid(0, 94)
    (event,) = xid_events(collector, T0 + NS)
    assert event.get("xid") == 94
    assert asked == [("0000:18:00.0", 31), ("0000:18:00.0", 94)]


def test_a_program_is_told_from_a_fault_and_a_flood_is_counted(host):
    gpus, collector = host()
    collector.collect(T0)
    for _ in range(50):
        gpus.xid(0, 31)
    gpus.xid(0, 48)
    kinds, ticks = [], iter(range(1000))

    def fault_told():
        kinds.extend(e.kind for e in collector.collect(T0 + NS + next(ticks) * NS // 100).events)
        return "gpu_xid" in kinds

    wait_for(fault_told, pause=0.01)
    assert 10 <= kinds.count("gpu_program_xid") < 20
    assert kinds.count("gpu_xid") == 1


def test_the_kernel_log_names_a_gpu_as_its_series_do(host):
    _, collector = host(count=2)
    collector.collect(T0)
    assert collector.entity_of("0000:2A:00") == f"gpu=1,uuid={UUID}1"
    assert collector.entity_of("0000:77:00") == ""


# -- calls that hang, a worker that dies ------------------------------------------------------------------------------


def test_a_hanging_call_is_given_up_named_and_tried_again(host):
    gpus, collector = host(count=2, deadline_s=1.0)
    collector.collect(T0)
    (first,) = collector.pids
    gpus.set(1, nvmlDeviceGetPowerUsage="hang")
    started = time.monotonic()
    reading = collector.collect(T0 + NS)
    assert [(e.kind, e.get("call")) for e in reading.events] == [
        ("gpu_unresponsive", "nvmlDeviceGetPowerUsage of GPU 1")]
    assert all(math.isnan(v) for v in reading.values)
    with pytest.raises(Broken, match=r"no answer within 1 s from nvmlDeviceGetPowerUsage of GPU 1"):
        collector.collect(T0 + 2 * NS)
    collector.close()
    assert time.monotonic() - started < 15
    assert not Path(f"/proc/{first}").exists()
    gpus.set(1, nvmlDeviceGetPowerUsage=1000)
    collector.open(Path("/"))
    reading = collector.collect(T0 + 3 * NS)
    assert [e.kind for e in reading.events] == ["gpu_responsive"]
    assert values(collector, T0 + 4 * NS)["gpu_power_watts1"] == 1.0


def test_a_start_that_hangs_is_told_by_the_first_reading_and_once(host):
    gpus, collector = host(start_s=3.0)
    collector.close()
    gpus.system["nvmlInitWithFlags"] = "hang"
    gpus.write()
    collector.open(Path("/"))
    assert [e.get("call") for e in collector.collect(T0).events] == ["nvmlInit"]
    with pytest.raises(Broken, match="nvmlInit"):
        collector.collect(T0 + NS)
    with pytest.raises(Broken, match="nvmlInit"):
        collector.open(Path("/"))


def test_what_was_told_before_the_hang_is_not_lost(host):
    gpus, collector = host(deadline_s=1.5)
    collector.collect(T0)
    collector.told_by_kernel = lambda *_: False
    gpus.set(0, nvmlDeviceGetPowerUsage="hang")
    gpus.xid(0, 79)
    reading = collector.collect(T0 + NS)
    assert [e.get("xid") for e in reading.events] == [79, None]
    assert all(math.isnan(v) for v in reading.values)
    with pytest.raises(Broken, match="nvmlDeviceGetPowerUsage"):
        collector.collect(T0 + 2 * NS)


def test_a_start_that_hangs_is_given_up(host):
    gpus, _ = host()
    gpus.system["nvmlInitWithFlags"] = "hang"
    gpus.write()
    with pytest.raises(Broken, match="nvmlInit"):
        gpu_names(seconds=3.0)


def test_a_worker_that_dies_is_told_with_the_call_it_died_in(host):
    _, collector = host()
    collector.collect(T0)
    os.kill(collector.pids[0], signal.SIGSEGV)
    with pytest.raises(Broken, match="signal 11"):
        collector.collect(T0 + NS)
    collector.close()
    collector.open(Path("/"))
    assert values(collector, T0 + 2 * NS)["gpu_power_watts0"] == 350.0


def test_the_worker_ends_with_its_input(host):
    _, collector = host()
    (pid,) = collector.pids
    collector._guard._process.popen.stdin.close()
    wait_for(lambda: collector._guard._process.popen.poll() is not None)
    assert not Path(f"/proc/{pid}/exe").exists()


def test_a_daemon_with_many_open_files_may_have_gpus(host):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200:
        pytest.skip("this account may not open so many files")
    with open("/dev/null") as null, contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.callback(os.close, os.dup(null.fileno()))
        _, collector = host()
        assert values(collector, T0)["gpu_power_watts0"] == 350.0


def test_no_second_worker_while_the_first_cannot_be_ended(host):
    _, collector = host()

    class Immortal:
        pid = 4711

        def poll(self):
            return None

    collector._guard._given_up.append(Immortal())
    with pytest.raises(Broken, match="process 4711 hangs in the driver"):
        collector.open(Path("/"))
    assert collector.pids == (4711,)


# -- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [12, 9])
def test_an_absent_driver_is_no_fault(host, tmp_path, code):
    gpus, collector = host(root=tmp_path)
    gpus.system["nvmlInitWithFlags"] = {"error": code}
    gpus.write()
    with pytest.raises(NoData):
        collector.open(tmp_path)
    assert collector.pids == ()


def test_a_driver_of_another_version_than_its_library_is_told_once_and_until_it_works(host, tmp_path):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Tue Mar  5 22:42:15 UTC 2024\n")
    gpus, collector = host(root=tmp_path)
    gpus.system["nvmlInitWithFlags"] = {"error": 18}
    gpus.write()
    collector.open(tmp_path)
    (event,) = collector.collect(T0).events
    assert (event.kind, event.entity, event.get("module")) == ("gpu_driver_broken", "host", "535.161.08")
    assert "code 18" in str(event.get("reason"))
    with pytest.raises(Broken, match="code 18"):
        collector.collect(T0 + NS)
    with pytest.raises(Broken, match="code 18"):
        collector.open(tmp_path)
    assert collector.pids == ()
    del gpus.system["nvmlInitWithFlags"]
    gpus.write()
    collector.open(tmp_path)
    assert [e.kind for e in collector.collect(T0 + 9 * NS).events] == ["gpu_driver_works"]


@pytest.mark.parametrize(("driver", "told"), [("", True), ("vfio-pci", False)])
def test_gpus_that_no_driver_has_taken_are_told_and_those_of_a_guest_are_not(host, tmp_path, driver, told):
    gpus, collector = host(root=tmp_path)
    device = tmp_path / "sys/bus/pci/devices/0000:18:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    if driver:
        (device / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    gpus.system["nvmlInitWithFlags"] = {"error": 9}
    gpus.write()
    if told:
        collector.open(tmp_path)
        (event,) = collector.collect(T0).events
        assert (event.kind, event.get("gpus")) == ("gpu_driver_broken", "0000:18:00.0")
    with pytest.raises(NoData, match="no NVIDIA driver"):
        collector.open(tmp_path)


def test_no_gpu_is_no_data(host):
    gpus, collector = host()
    gpus.system["nvmlDeviceGetCount_v2"] = 0
    gpus.write()
    with pytest.raises(NoData, match="no NVIDIA GPU"):
        collector.open(Path("/"))


def test_names(host):
    gpus, _ = host(count=2)
    gpus.set(1, nvmlDeviceGetName="NVIDIA L4")
    assert gpu_names() == ("NVIDIA H100 80GB HBM3", "NVIDIA L4")


def test_on_this_host_there_are_gpus_or_no_data():
    collector = COLLECTOR.build(COLLECTOR.config())
    try:
        collector.open(Path("/"))
    except NoData:
        with pytest.raises(NoData):
            gpu_names()
        return
    assert len(collector.collect(time.time_ns()).series) > 0
    collector.close()
