"""What is told about GPUs in words, how it travels from the worker, and numbers that must be those of NVML."""

# ruff: noqa: F811 (fixtures of nvml_rig)

import contextlib
import ctypes
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.gpu import binding, fast, fields, gpm, reasons, slow, wire, xids
from collector.gpu.session import Round, Told
from etio.core.errors import Broken
from etio.core.frame import NS
from tests.nvml_rig import NAN, T0, host, values  # noqa: F401 (fixtures)

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
