"""The NVML collector: the real pynvml in the real worker against a library of our own (tests/nvml_double.c).

No GPU was at hand; the answers are written from the NVML documentation.
"""

# ruff: noqa: F811 (fixtures of nvml_rig)

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.gpu import fields
from collector.gpu.binding import number, pci_address
from collector.gpu.guard import Guard
from collector.nvml import COLLECTOR
from etio.core.builder import Catalogue, FrameBuilder
from etio.core.frame import NS
from tests import nvml_double
from tests.golden_rig import check
from tests.nvml_rig import GOLDEN, H100, HOSTS, T0, UUID, host, values  # noqa: F401 (fixtures)

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
    rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in result["series"].items())
    facts = ",\n".join(f"  {json.dumps(f)}" for f in result["facts"])
    head = f'{{\n"series": {{\n{rows}\n}},\n"others": {result["others"]},\n'
    check(result, GOLDEN / f"{name}.json", f'{head}"facts": [\n{facts}\n]\n}}\n')


def test_between_them_the_hosts_show_every_announced_series():
    seen = {key.split("{")[0] for name in HOSTS
            for key in json.loads((GOLDEN / f"{name}.json").read_text())["series"]}
    announced = {one.name: set(one.labels) for one in COLLECTOR.emits}
    assert announced.keys() - seen == {
        "gpu_pages_retired", "gpu_pages_retire_pending",  # before Ampere
        "gpu_utilization_rhythm_ratio",  # after a minute
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


def test_links_that_never_came_up_are_down_where_most_siblings_have_them(host):
    gpus, collector = host(count=4, slow_s=0.5)
    gpus.set(2, nvmlDeviceGetNvLinkState__3=0, nvmlDeviceGetNvLinkState__4=0)
    collector.collect(T0)
    found = values(collector, T0 + NS)
    assert [found[f"gpu_nvlink_links_down{i}"] for i in range(4)] == [0, 0, 2, 0]


def test_bridges_between_some_of_the_gpus_are_no_fault_of_the_others(host):
    gpus, collector = host(count=4, slow_s=0.5)
    for link in range(18):
        gpus.set(2, **{f"nvmlDeviceGetNvLinkState__{link}": 0})
        gpus.set(3, **{f"nvmlDeviceGetNvLinkState__{link}": 0})
    collector.collect(T0)
    found = values(collector, T0 + NS)
    assert [found[f"gpu_nvlink_links_down{i}"] for i in range(4)] == [0, 0, 0, 0]


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
    assert values(collector, T0 + 301 * NS + NS // 2)["gpu_utilization_ratio0"] == 0.5


def test_a_gpu_that_answers_again_is_told(host):
    gpus, collector = host()
    collector.collect(T0)
    gpus.set(0, nvmlDeviceGetUtilizationRates={"error": 15})
    collector.collect(T0 + NS)
    gpus.set(0, nvmlDeviceGetUtilizationRates=[50, 5])
    assert collector.collect(T0 + 2 * NS).events == ()
    (event,) = collector.collect(T0 + 302 * NS).events
    assert (event.kind, event.entity) == ("gpu_back", f"gpu=0,uuid={UUID}0")


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
