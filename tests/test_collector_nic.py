"""Network cards: links that slow down, and counters that drivers name differently. Names are those of the drivers'
documentation and sources; values are invented."""

import struct
import subprocess
from contextlib import suppress
from math import isnan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ethtool import Ethtool, fastest, parse_link_settings, parse_names, parse_values
from collector.keyed import Bulk
from collector.nic import COLLECTOR, Card, Config, Nic, parse_duplex
from collector.nic_names import COLUMNS, items, understood
from etio.core.errors import Broken, NoData
from etio.core.frame import NS

GOLDEN = Path(__file__).parent / "golden"
MLX5 = ["rx_packets", "rx_prio0_pause", "rx_prio3_pause", "rx_prio3_pause_duration", "tx_prio3_pause",
        "rx_pause_ctrl_phy", "tx_pause_storm_error_events", "rx_symbol_err_phy", "rx_pcs_symbol_err_phy",
        "rx_crc_errors_phy", "link_down_events_phy", "rx_ecn_mark", "rx_out_of_buffer", "rx_discards_phy",
        "rx0_ecn_mark", "ch0_events"]
OTHERS = {
    "bnxt_en": {"rx_pfc_ena_frames_pri5": ("pause_received", "5"), "tx_pause_frames": ("pause_sent", "all"),
                "rx_fcs_err_frames": ("crc_errors", ""), "link_down_events": ("link_downs", "")},
    "ice": {"rx_priority_2_xoff.nic": ("pause_received", "2"), "link_xoff_tx.nic": ("pause_sent", "all"),
            "rx_crc_errors.nic": ("crc_errors", ""), "rx_dropped.nic": ("port_discards", "")},
    "i40e": {"port.tx_priority_7_xoff": ("pause_sent", "7"), "port.link_xoff_rx": ("pause_received", "all")},
    "ixgbe": {"rx_pb_1_pxoff": ("pause_received", "1"), "rx_no_dma_resources": ("no_receive_buffer", ""),
              "rx_missed_errors": ("port_discards", "")},
    "ena": {"conntrack_allowance_exceeded": ("allowance_exceeded", "conntrack"),
            "bw_in_allowance_exceeded": ("allowance_exceeded", "bw_in")},
}


def keys(names):
    return {s.key for s in Bulk(items).reading(understood("eth0", names), np.zeros(99)).series}


def test_counters_of_mlx5_are_understood_and_the_rest_passed_over():
    found = {(c.column.name, c.values[1:]): c.place for c in understood("eth0", MLX5)}
    assert found[("network_pause_received_per_second", ("3",))] == 2
    assert found[("network_pause_received_per_second", ("all",))] == 5
    assert found[("network_symbol_errors_per_second", ())] == 7
    assert {c.scale for c in understood("eth0", MLX5) if "paused" in c.column.name} == {1e-6}
    assert len(found) == 12


@pytest.mark.parametrize("driver", OTHERS)
def test_other_drivers_mean_the_same_by_other_names(driver):
    names = ["tx_bytes", *OTHERS[driver]]
    for counter in understood("eth0", names):
        what, more = OTHERS[driver][names[counter.place]]
        assert counter.column.name == f"network_{what}_per_second"
        assert "".join(counter.values[1:]) == more
    assert len(understood("eth0", names)) == len(OTHERS[driver])


def test_every_column_is_announced_and_has_a_counter():
    announced = {e.name for e in COLLECTOR.emits}
    assert {c.name for c in COLUMNS} <= announced
    known = {c.column.name for names in (MLX5, *OTHERS.values()) for c in understood("eth0", list(names))}
    assert {c.name for c in COLUMNS} == known
    assert len(keys(MLX5)) == 12


@pytest.mark.slow
@given(st.lists(st.text(max_size=40), max_size=30))
def test_any_names_are_understood_or_passed_over(names):
    assert len(understood("eth0", names)) <= len(names)


def test_the_fastest_mode_of_a_mask():
    assert fastest((0, 0)) == 0
    assert fastest((1 << 6, 0)) == 0  # "autonegotiation" is no speed
    assert fastest((0, 1 << 5, 1 << 5)) == 400_000  # bits 37 and 69
    assert fastest((1 << 2,)) == 100


def settings_of(words):
    head = struct.pack("=IIBBBBBBBb", 0x4C, 1000, 1, 0, 0, 1, 0, 0, 0, len(words)).ljust(48, b"\0")
    return head + struct.pack(f"={len(words)}I", *words) + bytes(8 * len(words))


def test_structs_of_the_kernel_are_read():
    assert parse_link_settings(settings_of((1 << 5, 1 << 4))) == 100_000
    names = struct.pack("=III", 0x1B, 1, 2) + b"rx_ok".ljust(32, b"\0") + b"odd \xff".ljust(32, b"\0")
    assert parse_names(names) == ["rx_ok", "odd \ufffd"]
    assert parse_values(struct.pack("=IIQQ", 0x1D, 2, 7, 2**64 - 1)) == (7, 2**64 - 1)


U64 = st.integers(0, 2**64 - 1)


@given(st.integers(1, 8), st.dictionaries(st.from_regex(r"[a-z_]{1,31}", fullmatch=True), U64, max_size=6))
def test_counters_and_modes_are_read_back_and_a_cut_answer_is_broken(words, counters):
    speeds = {10: 1 << 1, 100: 1 << 3, 1000: 1 << 5, 10_000: 1 << 12}
    for speed, mask in speeds.items():
        told = settings_of((mask, *[0] * (words - 1)))
        assert parse_link_settings(told[:48 + 4 * words]) == speed
        with pytest.raises(Broken):
            parse_link_settings(told[:48 + 4 * words - 1])
    names = struct.pack("=III", 0x1B, 1, len(counters)) + b"".join(n.encode().ljust(32, b"\0") for n in counters)
    values = struct.pack(f"=II{len(counters)}Q", 0x1D, len(counters), *counters.values())
    assert parse_names(names + b"more") == list(counters)
    assert parse_values(values + b"more") == tuple(counters.values())
    for parser, data in ((parse_names, names), (parse_values, values)):
        with pytest.raises(Broken):
            parser(data[:-1])


@given(st.binary(max_size=120))
def test_any_bytes_raise_only_typed_errors(data):
    for parser in (parse_link_settings, parse_names, parse_values):
        with suppress(NoData, Broken):
            parser(data)
    assert parse_duplex(data) in (0.0, 1.0) or isnan(parse_duplex(data))


def write(root, **files):
    folder = root / "sys/class/net/eth0"
    (folder / "device").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)


@pytest.fixture
def nic(tmp_path):
    write(tmp_path, speed="25000\n", duplex="full\n")
    made = Nic(Config())
    made.open(tmp_path)
    assert made.collect(NS).events == ()
    yield made
    made.close()


def told(nic):
    return [(e.kind, e.entity, dict(e.fields)) for e in nic.collect(2 * NS).events]


def test_a_link_that_comes_up_slower_is_told_once_and_so_is_its_recovery(nic, tmp_path):
    write(tmp_path, speed="-1\n", duplex="unknown\n")
    assert told(nic) == []
    write(tmp_path, speed="10000\n", duplex="full\n")
    assert told(nic) == [("link_degraded", "device=eth0", {"speed_mbit": 10_000, "best_mbit": 25_000})]
    assert told(nic) == []
    write(tmp_path, speed="25000\n")
    assert [kind for kind, _, _ in told(nic)] == ["link_restored"]
    write(tmp_path, speed="100000\n")
    assert told(nic) == []


def test_half_duplex_is_told_with_its_series(nic, tmp_path):
    write(tmp_path, duplex="half\n")
    reading = nic.collect(NS)
    (event,) = reading.events
    assert (event.kind, event.get("duplex")) == ("link_degraded", "half")
    values = dict(zip((s.key for s in reading.series), reading.values, strict=True))
    assert values == {'network_link_full_duplex{device="eth0"}': 0.0}


def test_a_degraded_card_that_is_pulled_ends_its_alert(nic, tmp_path):
    write(tmp_path, speed="1000\n")
    assert [kind for kind, _, _ in told(nic)] == ["link_degraded"]
    (tmp_path / "sys/class/net/eth0").rename(tmp_path / "gone")
    assert told(nic) == [("link_restored", "device=eth0", {"removed": 1})]


def test_devices_without_hardware_and_hosts_without_files_say_nothing(tmp_path):
    nic = Nic(Config())
    nic.open(GOLDEN / "debian12-6.1-2node")
    assert nic.collect(NS).series == ()
    with pytest.raises(NoData):
        Nic(Config()).open(tmp_path)


@given(st.lists(st.tuples(st.sampled_from([float("nan"), 1.0, 2.0, 3.0]), st.sampled_from([float("nan"), 0.0, 1.0]))))
def test_whatever_a_link_does_degraded_and_restored_alternate(looks):
    card = Card("eth0")
    kinds = [kind for speed, duplex in looks if (kind := card.judge(speed, duplex))]
    assert kinds == ["link_degraded", "link_restored"] * (len(kinds) // 2) + ["link_degraded"] * (len(kinds) % 2)


@pytest.mark.needs_root
def test_veth_and_loopback_are_asked_and_answer_or_say_no_data():
    name = "etio-eth0"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", "etio-eth1"], check=True)
    try:
        with Ethtool() as ethtool:
            assert ethtool.supported(name) == 0
            names, values = ethtool.names(name), ethtool.values(name)
            assert len(names) == len(values) > 0
            assert "peer_ifindex" in names
            assert values[names.index("peer_ifindex")] > 0
            for question in (ethtool.supported, ethtool.names, ethtool.values):
                with pytest.raises(NoData):
                    question("lo")
                with pytest.raises(NoData, match="No such device"):
                    question("etio-none")
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def test_this_hosts_cards_are_read_or_it_has_none():
    nic = Nic(Config())
    nic.open(Path("/"))
    try:
        for _ in range(2):
            reading = nic.collect(NS)
        assert len(reading.series) == len(reading.values)
    finally:
        nic.close()
        nic.close()
