"""RDMA ports: three devices written from kernel documentation; links that fail, slow down, come back and are pulled."""

import shutil
from contextlib import suppress
from math import isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.rdma import COLLECTOR, COLUMNS, COUNTERS, Config, Rdma, parse_count, parse_rate, parse_state
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from etio.core.rates import Rates
from tests.golden_rig import check

GOLDEN = Path(__file__).parent / "golden"
HOST = GOLDEN / "rdma-from-documentation"
PORT = "sys/class/infiniband/mlx5_0/ports/1"


def read(root, **config):
    rdma = Rdma(Config(**config))
    rdma.open(root)
    reading = rdma.collect(NS)
    rdma.close()
    return {s.key: [s.kind, s.unit, float(v)] for s, v in zip(reading.series, reading.values, strict=True)}


def test_the_ports_show_what_the_json_says():
    check(read(HOST), GOLDEN / "rdma-from-documentation.rdma.json")


def test_every_series_is_announced_and_every_announced_one_is_shown():
    rdma = Rdma(Config())
    rdma.open(HOST)
    series = rdma.collect(NS).series
    announced = {e.name: (e.unit, set(e.labels)) for e in COLLECTOR.emits}
    assert {s.name for s in series} == {c.name for c in COLUMNS}
    assert all(announced[s.name] == (s.unit, {k for k, _ in s.labels}) for s in series)


def test_bytes_are_counted_in_words_of_four_and_what_is_not_counted_is_missing():
    found = read(HOST)
    assert found['rdma_receive_bytes_per_second{device="mlx5_0",port="1"}'][2] == 4 * 48123456789012
    assert found['rdma_link_speed_bytes_per_second{device="mlx5_0",port="1"}'][2] == 50e9
    assert found['rdma_link_up{device="mlx5_2",port="1"}'][2] == 0.0
    for name in ("rdma_symbol_errors_per_second", "rdma_link_speed_bytes_per_second"):
        assert f'{name}{{device="mlx5_2",port="1"}}' not in found


def test_the_same_counter_under_another_name_is_the_same_series():
    found = read(HOST)
    assert found['rdma_cnp_handled_per_second{device="bnxt_re0",port="1"}'][2] == 6
    assert found['rdma_out_of_sequence_per_second{device="bnxt_re0",port="1"}'][2] == 8


def test_more_ports_than_allowed_are_left_out():
    assert {k.split('device="')[1].split('"')[0] for k in read(HOST, max_ports=1)} == {"bnxt_re0"}


def test_without_rdma_there_is_no_data(tmp_path):
    with pytest.raises(NoData, match="infiniband"):
        Rdma(Config()).open(tmp_path)
    (tmp_path / "sys/class/infiniband/odd").mkdir(parents=True)
    with pytest.raises(NoData, match="no RDMA device"):
        Rdma(Config()).open(tmp_path)


@pytest.fixture
def host(tmp_path):
    root = tmp_path / "host"
    shutil.copytree(HOST, root)
    rdma = Rdma(Config())
    rdma.open(root)
    rdma.collect(NS)
    yield root, rdma
    rdma.close()


def told(rdma, t=2):
    return [(e.kind, e.entity, dict(e.fields)) for e in rdma.collect(t * NS).events]


def test_a_link_that_goes_down_and_comes_back_slower_is_told(host):
    root, rdma = host
    assert told(rdma) == []
    (root / PORT / "state").write_text("1: DOWN\n")
    (root / PORT / "phys_state").write_text("2: Polling\n")
    ((kind, entity, fields),) = told(rdma)
    assert (kind, entity) == ("rdma_link_down", "device=mlx5_0,port=1")
    assert fields == {"link_layer": "InfiniBand", "state": "1", "physical_state": "2", "best_mbit": 400_000}
    assert told(rdma) == []
    (root / PORT / "state").write_text("4: ACTIVE\n")
    (root / PORT / "rate").write_text("200 Gb/sec (2X NDR)\n")
    assert [(k, f["speed_mbit"]) for k, _, f in told(rdma)] == [("rdma_link_up", 200_000), ("link_degraded", 200_000)]
    (root / PORT / "rate").write_text("400 Gb/sec (4X NDR)\n")
    assert [k for k, _, _ in told(rdma)] == ["link_restored"]


def test_a_state_that_cannot_be_read_is_no_event_and_no_value(host):
    root, rdma = host
    (root / PORT / "state").write_text("")
    reading = rdma.collect(2 * NS)
    assert reading.events == ()
    values = dict(zip((s.key for s in reading.series), reading.values, strict=True))
    assert isnan(values['rdma_link_up{device="mlx5_0",port="1"}'])


def test_a_device_that_is_pulled_ends_its_alerts_and_one_that_comes_is_met(host):
    root, rdma = host
    (root / PORT / "state").write_text("1: DOWN\n")
    (root / "sys/class/infiniband/mlx5_1/ports/1/rate").write_text("10 Gb/sec (4X SDR)\n")
    assert {k for k, _, _ in told(rdma)} == {"rdma_link_down", "link_degraded"}
    for device in ("mlx5_0", "mlx5_1"):
        (root / "sys/class/infiniband" / device).rename(root / device)
    assert {(k, e) for k, e, _ in told(rdma)} == {("rdma_link_up", "device=mlx5_0,port=1"),
                                                  ("link_restored", "device=mlx5_1,port=1")}
    (root / "mlx5_0").rename(root / "sys/class/infiniband/mlx5_0")
    assert told(rdma) == []


def test_rates_are_those_of_the_counters(host):
    root, rdma = host
    rates = Rates()
    rates.step(2 * NS, rdma.collect(2 * NS))
    (root / PORT / "counters/symbol_error").write_text(f"{7 + 35}\n")
    reading = rdma.collect(7 * NS)
    values = dict(zip((s.key for s in reading.series), rates.step(7 * NS, reading), strict=True))
    assert values['rdma_symbol_errors_per_second{device="mlx5_0",port="1"}'] == 7.0
    assert values['rdma_link_up{device="mlx5_0",port="1"}'] == 1.0


@given(st.binary(max_size=40) | st.text("0123456789 :.Gb/sec(4XN)-einfNA", max_size=40).map(str.encode))
def test_any_bytes_are_a_number_or_missing(data):
    with suppress(NoData, Broken):
        assert isinstance(parse_state(data), int)
        for value in (parse_rate(data), parse_count(data)):
            assert isnan(value) or 0 <= value < 2.0**64


def test_words_where_a_number_belongs_are_missing():
    assert isnan(parse_count(b"N/A (no PMA)\n"))
    assert isnan(parse_count(b"-1"))
    assert isnan(parse_rate(b"unknown"))
    assert parse_rate(b"2.5 Gb/sec (1X SDR)\n") == 2.5e9 / 8
    assert parse_state(b"ACTIVE") == 0
    assert len({column.name for column, _ in COUNTERS.values()}) == len(COUNTERS)
