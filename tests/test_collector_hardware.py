"""Hardware sensors and error counters: what a server shows, what a virtual machine does not, what is absurd."""

import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.hardware import COLLECTOR, COLUMNS, Config, Hardware, aer_total, below, celsius, is_live, scaled
from etio.core.errors import NoData
from etio.core.frame import NS
from etio.core.rates import Rates
from tests.golden_rig import check

GOLDEN = Path(__file__).parent / "golden"
SERVER = GOLDEN / "hwmon-server-from-documentation"


def read(root, **config):
    hardware = Hardware(Config(**config))
    hardware.open(root)
    reading = hardware.collect(NS)
    hardware.close()
    return {s.key: [s.kind, s.unit, None if math.isnan(v) else float(v)]
            for s, v in zip(reading.series, reading.values, strict=True)}


def test_the_server_shows_what_the_json_says():
    check(read(SERVER), GOLDEN / "hwmon-server-from-documentation.hardware.json")


def test_every_series_is_announced_with_its_labels():
    announced = {e.name: (e.unit, set(e.labels)) for e in COLLECTOR.emits}
    hardware = Hardware(Config())
    hardware.open(SERVER)
    series = hardware.collect(NS).series
    assert {s.name for s in series} == {c.name for c in COLUMNS}
    assert all(announced[s.name] == (s.unit, {k for k, _ in s.labels}) for s in series)


def test_threads_of_one_core_and_cores_of_one_package_are_counted_once():
    found = read(SERVER)
    assert found['hardware_cpu_throttles_per_second{part="core"}'][2] == 5 + 2 + 0
    assert found['hardware_cpu_throttles_per_second{part="package"}'][2] == 9 + 3


def test_a_sensor_that_is_not_wired_or_garbled_is_missing_not_cold():
    found = read(SERVER)
    assert found['hardware_temperature_celsius{chip="nct6798",sensor="temp7"}'][2] is None
    assert found['hardware_temperature_celsius{chip="nct6798",sensor="temp8"}'][2] is None
    assert found["hardware_cpu_frequency_hertz"][2] == 2.7e9
    assert found["hardware_cpu_frequency_ratio"][2] == 0.75


def test_what_vanishes_is_missing_and_what_appears_is_found_again(tmp_path):
    root = tmp_path / "host"
    shutil.copytree(SERVER, root)
    hardware = Hardware(Config())
    hardware.open(root)
    key = ("hardware_fan_revolutions_per_second", "fan1")
    fan = root / "sys/class/hwmon/hwmon2/fan1_input"

    def now():
        reading = hardware.collect(NS)
        return next(v for s, v in zip(reading.series, reading.values, strict=True)
                    if (s.name, s.label("sensor")) == key)

    assert now() == 21
    fan.unlink()
    assert math.isnan(now())
    fan.write_text("600\n")
    assert now() == 10


def test_power_is_the_growth_of_energy(tmp_path):
    root, rates = tmp_path / "host", Rates()
    shutil.copytree(SERVER, root)
    hardware = Hardware(Config())
    hardware.open(root)
    rates.step(NS, hardware.collect(NS))
    (root / "sys/class/powercap/intel-rapl:0:0/energy_uj").write_text("105000000\n")
    reading = hardware.collect(6 * NS)
    watts = dict(zip((s.key for s in reading.series), rates.step(6 * NS, reading), strict=True))
    assert watts['hardware_power_watts{domain="dram (intel-rapl:0:0)"}'] == 20.0


def test_limits_hold():
    assert sum("hardware_temperature_c" in k or "fan" in k for k in read(SERVER, sensors=2)) <= 2
    assert read(SERVER, policies=1)["hardware_cpu_frequency_hertz"][2] == 1.8e9
    assert "hardware_cpu_frequency_hertz" not in read(SERVER, policies=0)
    assert not any("pcie" in k for k in read(SERVER, pci_devices=0))
    with pytest.raises(ValueError, match="at least 0"):
        Config(sensors=-1)


def test_a_virtual_machine_has_none(tmp_path):
    with pytest.raises(NoData, match="usual in virtual machines"):
        Hardware(Config()).open(tmp_path)


def test_this_host_reads_or_says_why_not():
    hardware = COLLECTOR.build(COLLECTOR.config())
    try:
        hardware.open(Path("/"))
    except NoData:
        return
    assert len(hardware.collect(NS).series) > 0


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_missing(raw):
    for make in (scaled(0.001), below(100.0), celsius, aer_total, is_live):
        assert isinstance(make(raw), float)
    assert math.isnan(celsius(raw)) or -100 < celsius(raw) < 250
