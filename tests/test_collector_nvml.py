"""The NVML collector: the real pynvml in the real worker against a library of our own (tests/nvml_double.c).

No GPU was at hand; the answers are written from the NVML documentation.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import nvml
from collector.gpu import binding, fast, fields, gpm, reasons, slow, wire, xids
from collector.gpu.binding import number, pci_address
from collector.gpu.guard import Guard
from collector.gpu.session import Round, Told
from collector.nvml import COLLECTOR, Config, Nvml, gpu_names
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Catalogue, FrameBuilder
from tests import nvml_double
from tests.daemon_rig import wait_for

GOLDEN = Path(__file__).parent / "golden"
HOSTS = tuple(f"nvml-{name}-from-documentation" for name in ("h100x8", "a10", "geforce", "h100-mig"))
H100 = HOSTS[0]
UUID = "GPU-7b8d7ea5-0000-4000-8000-00000000000"
T0 = 1_700_000_000 * NS
NAN = float("nan")


@pytest.fixture
def host(monkeypatch):
    """host(name, count): GPUs, and a collector that is open; all gone at the end."""
    kept = []
    monkeypatch.setattr(nvml, "_library", lambda: None)

    def opened(name=H100, count=1, root="/", **config):
        machine = nvml_double.machine(name, count)
        kept.append((machine, None))
        gpus = machine.__enter__()
        for key, value in gpus.environment.items():
            monkeypatch.setenv(key, value)
        collector = Nvml(Config(**config))
        kept[-1] = (machine, collector)
        collector.open(Path(root))
        return gpus, collector

    yield opened
    for machine, collector in kept:
        if collector is not None:
            collector.close()
        machine.__exit__(None, None, None)


def values(collector, t_ns):
    reading = collector.collect(t_ns)
    assert len(reading.values) == len(reading.series)
    return {s.key.split("{")[0] + s.label("gpu") + "".join(f"|{v}" for k, v in s.labels if k not in ("gpu", "uuid")): v
            for s, v in zip(reading.series, reading.values, strict=True)}


# -- what the answers become ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_becomes_what_the_json_says(host, name):
    _, collector = host(name, count=None, root="/nowhere")
    collector.collect(T0)
    reading = collector.collect(T0 + NS)
    result = {
        "series": {s.key: [s.kind, s.unit, None if math.isnan(v) else v]
                   for s, v in zip(reading.series, reading.values, strict=True) if s.label("gpu") == "0"},
        "others": sum(s.label("gpu") != "0" for s in reading.series),
        "facts": [list(fact) for fact in collector.facts() if fact[0] not in [f"gpu {i}" for i in range(1, 8)]],
    }
    expected = GOLDEN / f"{name}.json"
    if os.environ.get("ETIO_BLESS") == "1":
        rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in result["series"].items())
        facts = ",\n".join(f"  {json.dumps(f)}" for f in result["facts"])
        head = f'{{\n"series": {{\n{rows}\n}},\n"others": {result["others"]},\n'
        expected.write_text(f'{head}"facts": [\n{facts}\n]\n}}\n')
    assert json.loads(json.dumps(result)) == json.loads(expected.read_text())


def test_between_them_the_hosts_show_every_announced_series():
    seen = {key.split("{")[0] for name in HOSTS
            for key in json.loads((GOLDEN / f"{name}.json").read_text())["series"]}
    announced = {one.name: set(one.labels) for one in COLLECTOR.emits}
    assert announced.keys() - seen == {
        "gpu_pages_retired", "gpu_pages_retire_pending",  # before Ampere
        "gpu_processes_far"}  # of the host, below


def test_pages_of_older_gpus_are_told(host):
    gpus, collector = host()
    gpus.set(0, field__29=3, field__30=1, field__31=1)
    found = values(collector, T0)
    assert (found["gpu_pages_retired0|corrected"], found["gpu_pages_retired0|uncorrected"]) == (3, 1)
    assert found["gpu_pages_retire_pending0"] == 1


def test_labels_carry_index_and_uuid(host):
    _, collector = host()
    assert collector.collect(T0).series[0].labels == (("gpu", "0"), ("uuid", f"{UUID}0"))


def test_throttled_time_becomes_a_ratio(host):
    gpus, collector = host()
    builder = FrameBuilder(Catalogue())
    builder.add("nvml", T0, collector.collect(T0), 5 * NS)
    gpus.field(0, 74, 5_250_000_000)
    builder.add("nvml", T0 + NS, collector.collect(T0 + NS), 5 * NS)
    frame = builder.build(T0 + NS)
    at = [s.name for s in frame.series].index("gpu_throttle_power_ratio")
    assert frame.values[at] == pytest.approx(0.25)


def test_reason_bits_become_time_and_stand_in_where_it_is_not_counted(host):
    gpus, collector = host()
    gpus.set(0, field__74=None, field__75=None, field__269=None, field__270=None, field__271=None)
    builder = FrameBuilder(Catalogue())
    for i in range(3):
        gpus.set(0, nvmlDeviceGetCurrentClocksEventReasons=0x4 if i < 2 else 0x40 | 0x8)
        builder.add("nvml", T0 + i * NS, collector.collect(T0 + i * NS), 5 * NS)
    frame = builder.build(T0 + 2 * NS)
    found = {s.name + (s.label("reason") or ""): v for s, v in zip(frame.series, frame.values, strict=True)}
    assert found["gpu_throttle_power_ratio"] == 0.0
    assert found["gpu_throttle_thermal_ratio"] == 1.0
    assert found["gpu_clock_event_ratiohardware"] == 1.0
    assert found["gpu_clock_event_ratiopower_cap"] == 0.0


def test_a_driver_that_has_only_the_new_call_for_the_temperature(host):
    gpus, collector = host()
    gpus.set(0, nvmlDeviceGetTemperature__0={"error": 26}, nvmlDeviceGetTemperatureV__0=64)
    values(collector, T0)
    assert values(collector, T0 + NS)["gpu_temperature_celsius0"] == 64
    assert gpus.calls()[0, "nvmlDeviceGetTemperature:0"] == 1


def test_a_gap_in_counted_time_never_mixes_with_reason_bits(host):
    gpus, collector = host()
    collector.collect(T0)
    gpus.set(0, field__74={"error": 999}, nvmlDeviceGetCurrentClocksEventReasons=0x4)
    assert math.isnan(values(collector, T0 + NS)["gpu_throttle_power_ratio0"])


def test_bytes_come_from_gpm_where_no_field_counts_them(host):
    gpus, collector = host()
    gpus.set(0, field__198=None)
    builder = FrameBuilder(Catalogue())
    for i in range(4):
        builder.add("nvml", T0 + i * NS, collector.collect(T0 + i * NS), 5 * NS)
    frame = builder.build(T0 + 3 * NS)
    at = [s.name for s in frame.series].index("gpu_pcie_receive_bytes_per_second")
    assert frame.values[at] == pytest.approx(900 * 2**20)


def test_a_link_that_worked_and_does_not_is_down_and_one_never_wired_is_not(host):
    gpus, collector = host(slow_s=0.5)
    gpus.set(0, nvmlDeviceGetNvLinkState__17=0)
    assert values(collector, T0)["gpu_nvlink_links_down0"] == 0
    gpus.set(0, nvmlDeviceGetNvLinkState__3=0)
    found = values(collector, T0 + NS)
    assert (found["gpu_nvlink_links_up0"], found["gpu_nvlink_links_down0"]) == (16, 1)


def test_mig_instances_come_and_go(host):
    gpus, collector = host(HOSTS[3], slow_s=0.5)
    assert values(collector, T0)["gpu_mig_instances0"] == 2
    gpus.set(0, nvmlDeviceGetMigDeviceHandleByIndex__2=None)
    found = values(collector, T0 + NS)
    assert found["gpu_mig_instances0"] == 1
    assert math.isnan(found["gpu_mig_memory_used_ratio0|5"])
    gpus.set(0, nvmlDeviceGetMigDeviceHandleByIndex__2=5)
    assert values(collector, T0 + 2 * NS)["gpu_mig_memory_used_ratio0|5"] == 1.0


# -- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [2, 3, 4, 13, 25])
def test_unsupported_is_asked_once_per_gpu(host, code):
    gpus, collector = host(count=2)
    gpus.set(0, nvmlDeviceGetPowerUsage={"error": code})
    for i in range(4):
        found = values(collector, T0 + i * NS)
    assert "gpu_power_watts0" not in found
    assert found["gpu_power_watts1"] == pytest.approx(350.0)
    asked = gpus.calls()
    assert (asked[0, "nvmlDeviceGetPowerUsage"], asked[1, "nvmlDeviceGetPowerUsage"]) == (1, 4)


def test_nothing_that_a_gpu_lacks_is_asked_again(host):
    gpus, collector = host(HOSTS[2], slow_s=0.5)
    for i in range(3):
        collector.collect(T0 + i * NS)
    before = gpus.calls()
    for i in range(3, 6):
        collector.collect(T0 + i * NS)
    again = {name for (_, name), n in gpus.calls().items() if n > before[0, name]}
    lacking = {name for name, value in gpus.gpus[0].items() if value == {"error": 3}}
    assert again
    assert not again & lacking


def test_one_batch_for_everything_that_is_counted(host):
    gpus, collector = host()
    collector.collect(T0)
    collector.collect(T0 + NS)
    assert gpus.calls()[0, "nvmlDeviceGetFieldValues"] == 3  # each second, and one of the slow list


def test_a_field_that_spoils_the_batch_is_found_and_left_out(host):
    gpus, collector = host()
    gpus.set(0, refuses=271)
    values(collector, T0)
    asked = gpus.calls()[0, "nvmlDeviceGetFieldValues"]
    assert values(collector, T0 + NS)["gpu_pcie_replays_per_second0"] == 3
    assert gpus.calls()[0, "nvmlDeviceGetFieldValues"] == asked + 1


@pytest.mark.parametrize("sentinel", [0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 10**12])
def test_sentinels_are_missing_values(host, sentinel):
    gpus, collector = host()
    for name, value in list(gpus.gpus[0].items()):
        plain = isinstance(value, int) and not name.startswith(("nvmlGpm", "nvmlDeviceGetNvLink", "nvmlDeviceGetSupp"))
        if plain and name not in ("nvmlDeviceGetCurrentClocksEventReasons",):
            gpus.gpus[0][name] = sentinel
    gpus.set(0, nvmlDeviceGetUtilizationRates=[sentinel, sentinel], nvmlDeviceGetMemoryInfo=[sentinel] * 3,
             nvmlDeviceGetComputeRunningProcesses_v3=f"7:{0xFFFFFFFFFFFFFFFF}")
    found = values(collector, T0)
    bounded = {k: v for k, v in found.items() if not k.startswith(("gpu_clock_event", "gpu_nvlink_links", "gpu_sm_",
                                                                   "gpu_tensor", "gpu_dram"))}
    counted = {fields.COUNTS[one][0].partition("|")[0] for one in fields.COUNTS}
    if sentinel == 10**12:  # a counter may well have this value, and memory is what it is
        bounded = {k: v for k, v in bounded.items() if not k.split("0")[0].startswith(tuple(counted))
                   and "aggregate" not in k and "memory_used" not in k}
    else:  # where the driver's count is no number, the reasons' bits stand in
        bounded = {k: v for k, v in bounded.items() if not k.startswith("gpu_throttle_")}
    assert bounded == {"gpu_processes0": 1.0}
    assert math.isnan(collector.holders()[0].memory_bytes)


@given(st.one_of(st.integers(), st.floats(), st.none(), st.text(), st.booleans()),
       st.sampled_from([1.0, 1e-3, 0.01, 1e6]), st.sampled_from([1.0, 1e4, math.inf]))
def test_number_is_missing_or_in_range(value, scale, top):
    found = number(value, scale, top)
    assert math.isnan(found) or 0 <= found <= top


@pytest.mark.parametrize(("text", "address"), [
    ("00000000:3B:00.0", "0000:3b:00.0"), ("0000:3b:00", "0000:3b:00.0"), ("00010000:01:00.0", "10000:01:00.0"),
    ("x", "")])
def test_pci_addresses_have_one_form(text, address):
    assert pci_address(text) == address


def test_transient_error_is_a_gap_not_the_end(host):
    gpus, collector = host()
    collector.collect(T0)
    gpus.set(0, nvmlDeviceGetPowerUsage={"error": 999})
    assert math.isnan(values(collector, T0 + NS)["gpu_power_watts0"])
    gpus.set(0, nvmlDeviceGetPowerUsage=300_000)
    assert values(collector, T0 + 2 * NS)["gpu_power_watts0"] == pytest.approx(300.0)


# -- GPUs that are lost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [15, 16])
def test_lost_gpu_is_told_once_and_left_alone(host, code):
    gpus, collector = host(count=2)
    collector.collect(T0)
    gpus.set(1, nvmlDeviceGetFieldValues={"error": code})
    reading = collector.collect(T0 + NS)
    assert [(e.kind, e.entity, e.get("pci")) for e in reading.events] == [
        ("gpu_lost", f"gpu=1,uuid={UUID}1", "0000:2a:00.0")]
    assert reading.events[0].entity == next(s for s in reading.series if s.label("gpu") == "1").entity
    by_gpu = {g: [v for s, v in zip(reading.series, reading.values, strict=True) if s.label("gpu") == g] for g in "01"}
    assert all(math.isnan(v) for v in by_gpu["1"])
    assert not all(math.isnan(v) for v in by_gpu["0"])
    before = gpus.calls()[1, "nvmlDeviceGetFieldValues"]
    for i in range(2, 20):
        assert collector.collect(T0 + i * NS).events == ()
    assert gpus.calls()[1, "nvmlDeviceGetFieldValues"] == before
    assert {h.gpu for h in collector.holders()} == {0}


def test_gpu_that_comes_back_after_a_reset_is_read_again(host):
    gpus, collector = host()
    collector.collect(T0)
    gpus.set(0, nvmlDeviceGetUtilizationRates={"error": 15})
    collector.collect(T0 + NS)
    gpus.set(0, nvmlDeviceGetUtilizationRates=[50, 5])
    assert math.isnan(values(collector, T0 + 2 * NS)["gpu_utilization_ratio0"])
    assert values(collector, T0 + 302 * NS)["gpu_utilization_ratio0"] == 0.5


def test_loss_seen_inside_a_field_value_counts(host):
    gpus, collector = host()
    collector.collect(T0)
    gpus.field(0, 94, {"error": 15})
    assert [e.kind for e in collector.collect(T0 + NS).events] == ["gpu_lost"]


def test_gpu_lost_before_the_start_is_told(monkeypatch):
    with nvml_double.machine(H100, 2) as gpus:
        gpus.set(1, nvmlDeviceGetHandleByIndex_v2={"error": 15})
        for key, value in gpus.environment.items():
            monkeypatch.setenv(key, value)
        guard = Guard(10.0, 10.0, 10.0)
        assert len(guard.open().names) == 1
        assert [(t.index, bool(t.lost)) for t in guard.read(T0).told] == [(1, True), (0, False)]
        assert [(t.index, bool(t.lost)) for t in guard.read(T0 + NS).told] == [(0, False)]
        guard.close()


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
        "gpu_xid", f"gpu=0,uuid={UUID}0", 79, "0000:18:00.0")


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


@pytest.mark.parametrize(("code", "kind"), [(12, NoData), (9, NoData), (18, Broken)])
def test_absent_driver_is_no_fault_but_a_mismatch_is(host, code, kind):
    gpus, collector = host()
    gpus.system["nvmlInitWithFlags"] = {"error": code}
    gpus.write()
    with pytest.raises(kind):
        collector.open(Path("/"))
    assert collector.pids == ()


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


# -- facts ------------------------------------------------------------------------------------------------------------


def devices(root):
    """PCI devices below two host bridges: a GPU, an adapter behind its switch, one on its bridge, one far away."""
    paths = {"0000:18:00.0": "pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:00.0/0000:18:00.0",
             "0000:19:00.0": "pci0000:15/0000:15:01.0/0000:16:00.0/0000:17:01.0/0000:19:00.0",
             "0000:1a:00.0": "pci0000:15/0000:15:02.0/0000:1a:00.0",
             "0000:9a:00.0": "pci0000:95/0000:95:01.0/0000:9a:00.0"}
    (root / "sys/bus/pci/devices").mkdir(parents=True)
    for address, path in paths.items():
        folder = root / "sys/devices" / path
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text("1\n" if "95" in path else "0\n")
        (folder / "local_cpulist").write_text("0-47,96-143\n")
        (root / "sys/bus/pci/devices" / address).symlink_to(folder)
    for name, address in (("mlx5_0", "0000:19:00.0"), ("mlx5_1", "0000:1a:00.0"), ("mlx5_2", "0000:9a:00.0")):
        (root / "sys/class/infiniband" / name).mkdir(parents=True)
        (root / "sys/class/infiniband" / name / "device").symlink_to(root / "sys/bus/pci/devices" / address)
    for node, cpus in ((0, "0-47,96-143"), (1, "48-95")):
        (root / f"sys/devices/system/node/node{node}").mkdir(parents=True)
        (root / f"sys/devices/system/node/node{node}/cpulist").write_text(cpus + "\n")


def test_facts_tell_where_a_gpu_sits_and_who_uses_it_from_which_node(host, tmp_path):
    devices(tmp_path)
    proc = tmp_path / "proc/4711"
    proc.mkdir(parents=True)
    (proc / "comm").write_text("train;er\n")
    (proc / "cgroup").write_text("0::/kubepods/pod1\n")
    (proc / "stat").write_text("4711 (a b) S " + " ".join(["0"] * 35) + " 50 0 0\n")
    _, collector = host(root=tmp_path)
    collector.collect(T0)
    assert values(collector, T0 + NS)["gpu_processes_far0"] == 1
    facts = dict(collector.facts())
    assert facts["gpu driver"] == "570.124.06"
    assert "node: 0; cpus: 0-47,96-143; adapters: mlx5_0 (PCIe switch) mlx5_1 (PCIe host bridge) mlx5_2 (" in facts[
        "gpu 0"]
    assert facts["gpu process gpu=0 pid=4711"] == (
        "comm: train?er; cgroup: /kubepods/pod1; memory: 42000000000 bytes; runs on node: 1; gpu node: 0")


ODD = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                   lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


@given(st.binary(max_size=300)
       | st.tuples(st.sampled_from(["greeting", "xid", "round", "x"]), ODD).map(lambda one: json.dumps(one).encode())
       | st.sampled_from([b'["xid",[1e999]]', b"[" * 100_000, b'["round",[[[0,"u","p",{"x":1e999},""]],null,{}]]']))
def test_a_line_is_understood_or_broken(line):
    with contextlib.suppress(Broken):
        assert isinstance(wire.understand(line), (wire.Greeting, wire.Xid, Round))


SMALL, NAMES = st.integers(0, 2**31 - 1), st.text(max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.builds(
    Round,
    st.lists(st.builds(Told, SMALL, NAMES, NAMES, st.dictionaries(NAMES, NUMBERS), NAMES), max_size=3).map(tuple),
    st.none() | st.lists(st.builds(slow.Holder, SMALL, NAMES, SMALL, NUMBERS, SMALL), max_size=3).map(tuple),
    st.dictionaries(SMALL, st.dictionaries(NAMES, NAMES), max_size=3)), st.lists(NAMES).map(tuple), NAMES, SMALL, SMALL)
def test_whatever_is_told_survives_its_way(one, names, driver, xid, instance):
    assert wire.understand(wire.round_line(one)) == one
    greeting = wire.Greeting(names, driver, driver, "")
    assert wire.understand(wire.greeting_line(greeting)) == greeting
    assert wire.understand(wire.xid_line(3, xid, instance)) == wire.Xid(3, xid, instance)


def test_memory_that_is_not_told_survives_its_way():
    found = wire.understand(wire.round_line(Round((), (slow.Holder(0, "GPU-1", 7, NAN, 3),), {})))
    assert math.isnan(found.holders[0].memory_bytes)


def test_numbers_agree_with_the_real_binding():
    """Numbers are written out, because the module is imported only by the worker."""
    real = pytest.importorskip("pynvml")
    names = {3: "ECC_SBE_VOL_TOTAL", 4: "ECC_DBE_VOL_TOTAL", 5: "ECC_SBE_AGG_TOTAL", 6: "ECC_DBE_AGG_TOTAL",
             29: "RETIRED_SBE", 30: "RETIRED_DBE", 31: "RETIRED_PENDING", 38: "NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL",
             45: "NVLINK_CRC_DATA_ERROR_COUNT_TOTAL", 52: "NVLINK_REPLAY_ERROR_COUNT_TOTAL",
             59: "NVLINK_RECOVERY_ERROR_COUNT_TOTAL", 74: "PERF_POLICY_POWER", 75: "PERF_POLICY_THERMAL",
             82: "MEMORY_TEMP", 94: "PCIE_REPLAY_COUNTER", 138: "NVLINK_THROUGHPUT_DATA_TX",
             139: "NVLINK_THROUGHPUT_DATA_RX", 142: "REMAPPED_COR", 143: "REMAPPED_UNC", 144: "REMAPPED_PENDING",
             145: "REMAPPED_FAILURE", 197: "PCIE_COUNT_TX_BYTES", 198: "PCIE_COUNT_RX_BYTES",
             230: "GET_GPU_RECOVERY_ACTION", 269: "CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN",
             270: "CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", 271: "CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN"}
    assert set(names) == {*fields.FAST_FIELDS, *fields.SELDOM}
    assert {one: getattr(real, f"NVML_FI_DEV_{name}") for one, name in names.items()} == {one: one for one in names}
    bits = ("ApplicationsClocksSetting", "SwPowerCap", "HwSlowdown", "SyncBoost", "SwThermalSlowdown",
            "HwThermalSlowdown", "HwPowerBrakeSlowdown")
    assert list(reasons.BITS.values()) == [getattr(real, f"nvmlClocksEventReason{name}") for name in bits]
    assert set(gpm.RATIOS) == {real.NVML_GPM_METRIC_SM_UTIL, real.NVML_GPM_METRIC_SM_OCCUPANCY,
                               real.NVML_GPM_METRIC_ANY_TENSOR_UTIL, real.NVML_GPM_METRIC_DRAM_BW_UTIL}
    assert list(gpm.FLOWS) == [real.NVML_GPM_METRIC_PCIE_TX_PER_SEC, real.NVML_GPM_METRIC_PCIE_RX_PER_SEC,
                               real.NVML_GPM_METRIC_NVLINK_TOTAL_TX_PER_SEC,
                               real.NVML_GPM_METRIC_NVLINK_TOTAL_RX_PER_SEC]
    assert (fast.SM, fast.MEMORY, fast.CORE, fast.SLOWDOWN) == (
        real.NVML_CLOCK_SM, real.NVML_CLOCK_MEM, real.NVML_TEMPERATURE_GPU, real.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    assert (real.nvmlEventTypeXidCriticalError, real.NVML_NVLINK_MAX_LINKS) == (xids.XID, slow.MAX_LINKS)
    assert binding.TIMEOUT == real.NVML_ERROR_TIMEOUT
    assert {real.NVML_ERROR_GPU_IS_LOST, real.NVML_ERROR_RESET_REQUIRED, real.NVML_ERROR_GPU_NOT_FOUND} == binding.LOST
    assert {real.NVML_ERROR_NOT_SUPPORTED, real.NVML_ERROR_FUNCTION_NOT_FOUND} <= binding.ABSENT
    assert {real.NVML_ERROR_DRIVER_NOT_LOADED, real.NVML_ERROR_LIBRARY_NOT_FOUND} == binding.NO_DRIVER
    union = dict(real.c_nvmlValue_t._fields_)
    assert tuple(union) == binding.VALUE_NAMES
    assert union["ullVal"] is ctypes.c_ulonglong
