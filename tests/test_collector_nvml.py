"""The NVML collector against a stand-in whose answers are written from the NVML documentation (no GPU was at hand)."""

import ctypes
import json
import math
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.nvml import COLLECTOR, Config, Nvml, gpu_names
from collector.nvml_fields import EMITS, number
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Catalogue, FrameBuilder

GOLDEN = Path(__file__).parent / "golden" / "nvml-h100-from-documentation" / "answers.json"
T0 = 1_700_000_000 * NS
NAN = float("nan")


class NVMLError(Exception):
    """Same shape as pynvml's: the code is in `value`."""

    def __init__(self, value):
        super().__init__(f"NVML error {value}")
        self.value = value


class FieldValue(SimpleNamespace):
    """One answered field: fieldId, nvmlReturn, valueType, value (a union, here one member)."""


class Fake:
    """Stand-in for the module pynvml. `answers`: per GPU, function name to value, {"error": code} or a list by call."""

    NVMLError = NVMLError

    def __init__(self, gpus, init_error=0):
        self.gpus = gpus
        self.init_error = init_error
        self.calls = Counter()
        self.hang = threading.Event()
        self.hang.set()
        self.queue = []
        self.balance = 0

    def nvmlInit(self):
        if self.init_error:
            raise NVMLError(self.init_error)
        self.balance += 1

    def nvmlShutdown(self):
        self.balance -= 1

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        if "lost_at_start" in self.gpus[index]:
            raise NVMLError(15)
        return index

    def nvmlDeviceGetIndex(self, handle):
        return handle

    def nvmlDeviceGetFieldValues(self, handle, ids):
        told = self.answer("nvmlDeviceGetFieldValues", handle)
        rows = []
        for one in ids:
            entry = told.get(str(one), {"error": 3})
            code = entry.get("error", 0) if isinstance(entry, dict) else 0
            value = SimpleNamespace(ullVal=0 if code else entry, uiVal=0 if code else entry)
            rows.append(FieldValue(fieldId=one, nvmlReturn=code, valueType=3, value=value))
        return rows

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(**p) for p in self.answer("nvmlDeviceGetComputeRunningProcesses", handle)]

    def nvmlEventSetCreate(self):
        return object()

    def nvmlDeviceRegisterEvents(self, handle, types, events):
        self.calls["registered"] += 1

    def nvmlEventSetWait_v2(self, events, timeout):
        assert timeout == 0
        if not self.queue:
            raise NVMLError(10)
        return self.queue.pop(0)

    def answer(self, name, handle, *args):
        self.calls[name] += 1
        self.hang.wait()
        value = self.gpus[handle].get(":".join([name, *map(str, args)]), self.gpus[handle].get(name, {"error": 3}))
        if isinstance(value, dict) and "error" in value:
            raise NVMLError(value["error"])
        return SimpleNamespace(**value) if isinstance(value, dict) and name in PLAIN else value

    def __getattr__(self, name):
        if not name.startswith("nvml"):
            raise AttributeError(name)
        return lambda handle, *args: self.answer(name, handle, *args)


PLAIN = {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo"}


def answers(**changes):
    """One GPU as the documentation describes its answers, with changes."""
    return json.loads(GOLDEN.read_text())["gpu"] | changes


def opened(*gpus, **config):
    fake = Fake(list(gpus))
    collector = Nvml(Config(**config), fake)
    collector.open(Path("/"))
    return fake, collector


def values(collector, t_ns):
    reading = collector.collect(t_ns)
    assert len(reading.values) == len(reading.series)
    return {s.key.split("{")[0] + s.label("gpu"): v for s, v in zip(reading.series, reading.values, strict=True)}


def test_units_of_every_series_match_the_documented_answers():
    _, collector = opened(answers())
    found = values(collector, T0)
    expected = json.loads(GOLDEN.read_text())["raw"]
    assert found == {f"{name}0": pytest.approx(value) for name, value in expected.items()}
    assert set(expected) == {one.name for one in EMITS}


def test_labels_carry_index_and_uuid():
    _, collector = opened(answers())
    series = collector.collect(T0).series[0]
    assert series.labels == (("gpu", "0"), ("uuid", "GPU-7b8d7ea5-0000-4000-8000-000000000000"))


def test_throttled_time_becomes_a_ratio():
    fake, collector = opened(answers())
    builder = FrameBuilder(Catalogue())
    builder.add("nvml", T0, collector.collect(T0), 5 * NS)
    fake.gpus[0]["nvmlDeviceGetFieldValues"]["74"] += 250_000_000
    builder.add("nvml", T0 + NS, collector.collect(T0 + NS), 5 * NS)
    frame = builder.build(T0 + NS)
    at = [s.name for s in frame.series].index("gpu_throttle_power_ratio")
    assert frame.values[at] == pytest.approx(0.25)


def test_reason_bits_stand_in_where_time_is_not_counted():
    fake, collector = opened(answers(nvmlDeviceGetFieldValues={}, nvmlDeviceGetCurrentClocksEventReasons=0x4))
    builder = FrameBuilder(Catalogue())
    for i in range(3):
        fake.gpus[0]["nvmlDeviceGetCurrentClocksEventReasons"] = 0x4 if i < 2 else 0x40
        builder.add("nvml", T0 + i * NS, collector.collect(T0 + i * NS), 5 * NS)
    frame = builder.build(T0 + 2 * NS)
    found = {s.name: v for s, v in zip(frame.series, frame.values, strict=True)}
    assert found["gpu_throttle_power_ratio"] == 0.0
    assert found["gpu_throttle_thermal_ratio"] == 1.0


def test_old_driver_answers_by_the_old_name():
    gpu = answers(nvmlDeviceGetFieldValues={}, nvmlDeviceGetCurrentClocksEventReasons={"error": 13},
                  nvmlDeviceGetCurrentClocksThrottleReasons=0)
    fake, collector = opened(gpu)
    assert values(collector, T0)["gpu_throttle_power_ratio0"] == 0.0
    collector.collect(T0 + NS)
    assert fake.calls["nvmlDeviceGetCurrentClocksEventReasons"] == 1


def test_a_gap_in_counted_time_never_mixes_with_reason_bits():
    fake, collector = opened(answers(nvmlDeviceGetCurrentClocksEventReasons=0x4))
    collector.collect(T0)
    fake.gpus[0]["nvmlDeviceGetFieldValues"]["74"] = {"error": 999}
    assert math.isnan(values(collector, T0 + NS)["gpu_throttle_power_ratio0"])
    assert fake.calls["nvmlDeviceGetCurrentClocksEventReasons"] == 0


@pytest.mark.parametrize("code", [3, 4, 13, 25])
def test_unsupported_is_asked_once_per_gpu(code):
    fake, collector = opened(answers(nvmlDeviceGetPowerUsage={"error": code}), answers())
    for i in range(4):
        found = values(collector, T0 + i * NS)
    assert "gpu_power_watts0" not in found
    assert found["gpu_power_watts1"] == pytest.approx(350.0)
    assert fake.calls["nvmlDeviceGetPowerUsage"] == 1 + 4


def test_unsupported_fields_are_left_out_of_the_batch():
    asked = []
    fake, collector = opened(answers(nvmlDeviceGetFieldValues={"94": 7}))
    batch = fake.nvmlDeviceGetFieldValues
    fake.nvmlDeviceGetFieldValues = lambda handle, ids: asked.append(list(ids)) or batch(handle, ids)
    collector.collect(T0)
    collector.collect(T0 + NS)
    assert len(asked[0]) == 8
    assert asked[1] == [94]


@pytest.mark.parametrize("sentinel", [0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, -1, None, NAN, 10**12])
def test_sentinels_are_missing_values(sentinel):
    changes = {
        "nvmlDeviceGetPowerUsage": sentinel, "nvmlDeviceGetTemperature": sentinel,
        "nvmlDeviceGetClockInfo": sentinel, "nvmlDeviceGetEnforcedPowerLimit": sentinel,
        "nvmlDeviceGetCurrPcieLinkWidth": sentinel, "nvmlDeviceGetCurrPcieLinkGeneration": sentinel,
        "nvmlDeviceGetUtilizationRates": {"gpu": sentinel, "memory": sentinel},
    }
    gpu = {k: v for k, v in answers().items() if not k.startswith("nvmlDeviceGetClockInfo:")} | changes
    _, collector = opened(gpu)
    assert {k for k in values(collector, T0)} == {
        "gpu_memory_used_bytes0", "gpu_memory_used_ratio0", "gpu_processes0", "gpu_ecc_corrected_per_second0",
        "gpu_ecc_uncorrected_per_second0", "gpu_pcie_replays_per_second0", "gpu_throttle_power_ratio0",
        "gpu_throttle_thermal_ratio0", "gpu_throttle_brake_ratio0",
    }


@given(st.one_of(st.integers(), st.floats(), st.none(), st.text(), st.booleans()),
       st.sampled_from([1.0, 1e-3, 0.01, 1e6]), st.sampled_from([1.0, 1e4, math.inf]))
def test_number_is_missing_or_in_range(value, scale, top):
    found = number(value, scale, top)
    assert math.isnan(found) or 0 <= found <= top


def test_transient_error_is_a_gap_not_the_end():
    fake, collector = opened(answers())
    collector.collect(T0)
    power = fake.gpus[0]["nvmlDeviceGetPowerUsage"]
    fake.gpus[0]["nvmlDeviceGetPowerUsage"] = {"error": 999}
    assert math.isnan(values(collector, T0 + NS)["gpu_power_watts0"])
    fake.gpus[0]["nvmlDeviceGetPowerUsage"] = power
    assert values(collector, T0 + 2 * NS)["gpu_power_watts0"] == pytest.approx(350.0)


@pytest.mark.parametrize("code", [15, 16])
def test_lost_gpu_is_told_once_and_left_alone(code):
    fake, collector = opened(answers(), answers())
    collector.collect(T0)
    fake.gpus[1]["nvmlDeviceGetUtilizationRates"] = {"error": code}
    reading = collector.collect(T0 + NS)
    assert [(e.kind, e.entity) for e in reading.events] == [
        ("gpu_lost", "gpu=1,uuid=GPU-7b8d7ea5-0000-4000-8000-000000000000")]
    assert reading.events[0].entity == next(s for s in reading.series if s.label("gpu") == "1").entity
    by_gpu = {g: [v for s, v in zip(reading.series, reading.values, strict=True) if s.label("gpu") == g] for g in "01"}
    assert all(math.isnan(v) for v in by_gpu["1"])
    assert not any(math.isnan(v) for v in by_gpu["0"])
    before = fake.calls["nvmlDeviceGetUtilizationRates"]
    for i in range(2, 100):
        assert collector.collect(T0 + i * NS).events == ()
    assert fake.calls["nvmlDeviceGetUtilizationRates"] == before + 98
    assert {p.gpu for p in collector.processes()} == {0}


def test_gpu_that_comes_back_after_a_reset_is_read_again():
    fake, collector = opened(answers())
    collector.collect(T0)
    fake.gpus[0]["nvmlDeviceGetUtilizationRates"] = {"error": 15}
    collector.collect(T0 + NS)
    fake.gpus[0]["nvmlDeviceGetUtilizationRates"] = {"gpu": 50, "memory": 5}
    assert math.isnan(values(collector, T0 + 2 * NS)["gpu_utilization_ratio0"])
    assert values(collector, T0 + 302 * NS)["gpu_utilization_ratio0"] == 0.5


def test_loss_seen_inside_a_field_value_counts():
    fake, collector = opened(answers())
    collector.collect(T0)
    fake.gpus[0]["nvmlDeviceGetFieldValues"]["94"] = {"error": 15}
    assert [e.kind for e in collector.collect(T0 + NS).events] == ["gpu_lost"]


def test_gpu_lost_before_the_start_is_told():
    _, collector = opened(answers(), {"lost_at_start": True})
    assert [(e.kind, e.entity) for e in collector.collect(T0).events] == [("gpu_lost", "gpu=1")]
    assert collector.collect(T0 + NS).events == ()


def test_xid_events_are_drained():
    fake, collector = opened(answers(nvmlDeviceGetSupportedEventTypes=0x8 | 0x1), answers())
    fake.queue = [SimpleNamespace(device=0, eventType=0x8, eventData=79),
                  SimpleNamespace(device=0, eventType=0x1, eventData=0)]
    events = collector.collect(T0).events
    assert [(e.kind, e.get("xid"), e.entity[:5]) for e in events] == [("gpu_xid", 79, "gpu=0")]
    assert collector.collect(T0 + NS).events == ()


def test_processes_are_facts_and_memory_may_be_unknown():
    gpu = answers(nvmlDeviceGetComputeRunningProcesses=[
        {"pid": 41, "usedGpuMemory": 2**30}, {"pid": 42, "usedGpuMemory": None}])
    _, collector = opened(gpu)
    assert values(collector, T0)["gpu_processes0"] == 2
    first, second = collector.processes()
    assert (first.gpu, first.pid, first.memory_bytes) == (0, 41, 2**30)
    assert math.isnan(second.memory_bytes)


def test_slow_values_are_held_between_slow_readings():
    fake, collector = opened(answers(), slow_s=10.0)
    for i in range(20):
        found = values(collector, T0 + i * NS)
    assert found["gpu_power_limit_watts0"] == 700.0
    assert fake.calls["nvmlDeviceGetEnforcedPowerLimit"] == 2


def test_hanging_call_can_be_abandoned():
    """A lost GPU may block a call for ever: close() and a second collect() must still come back at once."""
    fake, collector = opened(answers())
    fake.hang.clear()
    worker = threading.Thread(target=collector.collect, args=(T0,), daemon=True)
    worker.start()
    while not fake.calls:
        time.sleep(0.001)
    started = time.monotonic()
    with pytest.raises(Broken, match="hangs"):
        collector.collect(T0 + NS)
    collector.close()
    assert time.monotonic() - started < 0.5
    assert fake.balance == 1
    fake.hang.set()
    worker.join(5)
    collector.close()
    assert fake.balance == 0


@pytest.mark.parametrize(("code", "kind"), [(12, NoData), (9, NoData), (18, Broken)])
def test_absent_driver_is_no_fault_but_a_mismatch_is(code, kind):
    with pytest.raises(kind):
        Nvml(Config(), Fake([], init_error=code)).open(Path("/"))


def test_no_gpu_is_no_data_and_gives_nvml_back():
    fake = Fake([])
    with pytest.raises(NoData):
        Nvml(Config(), fake).open(Path("/"))
    assert fake.balance == 0


def test_names():
    fake = Fake([answers(), answers(nvmlDeviceGetName=b"NVIDIA L4")])
    assert gpu_names(fake) == ("NVIDIA H100 80GB HBM3", "NVIDIA L4")
    assert fake.balance == 0


def test_real_module_on_this_host():
    """With the real pynvml: either GPUs are found, or their absence is NoData."""
    pynvml = pytest.importorskip("pynvml")
    collector = COLLECTOR.build(COLLECTOR.config())
    try:
        collector.open(Path("/"))
    except NoData:
        with pytest.raises(NoData):
            gpu_names()
        return
    assert len(collector.collect(time.time_ns()).series) > 0
    collector.close()
    assert pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER == 94


def test_numbers_agree_with_the_real_binding():
    """Field, event and error numbers are written out in the collector, which imports pynvml only when opened."""
    pynvml = pytest.importorskip("pynvml")
    from collector import nvml_fields as ours
    assert ours.FI_ECC_CORRECTED == pynvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL
    assert ours.FI_ECC_UNCORRECTED == pynvml.NVML_FI_DEV_ECC_DBE_VOL_TOTAL
    assert ours.FI_POWER_CAP == pynvml.NVML_FI_DEV_PERF_POLICY_POWER
    assert ours.FI_THERMAL == pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL
    assert ours.FI_SW_THERMAL == pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN
    assert ours.FI_HW_THERMAL == pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN
    assert ours.FI_BRAKE == pynvml.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN
    assert pynvml.nvmlEventTypeXidCriticalError == ours.XID_EVENT
    assert {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED} <= ours.LOST
    assert {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND} <= ours.ABSENT
    assert {pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND} == ours.NO_DRIVER
    union = {name: kind for name, kind in pynvml.c_nvmlValue_t._fields_}
    assert set(ours.VALUE_NAMES) == set(union)
    assert ours.VALUE_NAMES[pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG] == "ullVal"
    assert union["ullVal"] is ctypes.c_ulonglong
