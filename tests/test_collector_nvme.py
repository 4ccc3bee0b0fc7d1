"""NVMe health logs: each value from its place, drives that do not answer, and a warden that no drive holds up."""

import json
import math
import os
import struct
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ebpf import protocol, warden_nvme
from collector.nvme import COLLECTOR, COLUMNS, Config, Nvme, parse_health
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from etio.core.rates import Rates

GOLDEN = Path(__file__).parent / "golden"
LOGS = GOLDEN / "nvme-from-documentation"
U8, U16, U32, U128 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 128))


def log_of(name):
    return (LOGS / f"{name}.hex").read_text().replace("\n", "")


@pytest.fixture
def host(tmp_path):
    """A host with two controllers."""
    for name in ("nvme0", "nvme1"):
        folder = tmp_path / "sys/class/nvme" / name
        folder.mkdir(parents=True)
        (folder / "model").write_text(f"Example {name} 3.8T                  \n")
        (folder / "firmware_rev").write_text("1.0.2   \n")
    return tmp_path


def drives(root, *readings):
    """A collector whose warden gives these answers, one after the other."""
    answers = iter(readings)
    one = Nvme(Config())
    one.source = lambda: next(answers)
    one.open(root)
    return one


def values(reading):
    return {s.key: float(v) for s, v in zip(reading.series, reading.values, strict=True) if not math.isnan(v)}


@pytest.mark.parametrize("name", ["server", "dying", "virtual"])
def test_the_logs_of_the_documentation(host, name):
    found = drives(host, [("nvme0", log_of(name), "")]).collect(NS)
    expected = json.loads((GOLDEN / "nvme-from-documentation.json").read_text())[name]
    told = {s.name: None if math.isnan(v) else float(v) for s, v in zip(found.series, found.values, strict=True)}
    assert told == expected
    assert {s.labels for s in found.series} == {(("device", "nvme0"),)}


@given(head=st.tuples(U8, U16, U8 | st.just(0), U8 | st.just(0), U8), counters=st.lists(U128, min_size=10, max_size=10),
       minutes=st.tuples(U32, U32), throttled=st.tuples(U32, U32), rest=st.binary(min_size=512, max_size=512))
def test_every_value_comes_from_its_place(head, counters, minutes, throttled, rest):
    log = bytearray(rest)
    struct.pack_into("<BHBBB", log, 0, *head)
    critical, kelvin, spare, threshold, wear = head
    for at, count in zip(range(32, 192, 16), counters, strict=True):
        struct.pack_into("<QQ", log, at, count % 2**64, count >> 64)
    struct.pack_into("<II", log, 192, *minutes)
    struct.pack_into("<II", log, 224, *throttled)
    found = parse_health(bytes(log))
    read, written, _, _, _, _, hours, unsafe, media, entries = counters
    assert found.temperature_warning == bool(critical & 2)
    assert found.reliability_warning == bool(critical & 4)
    assert found.readonly_warning == bool(critical & 8)
    assert found.backup_warning == bool(critical & 16)
    assert found.memory_region_warning == bool(critical & 32)
    assert found.spare_warning == (bool(critical & 1) or (spare < threshold <= 100))
    assert found.wear_ratio == wear / 100
    for percent, told in ((spare, found.spare_ratio), (threshold, found.spare_threshold_ratio)):
        missing = percent > 100 or spare == threshold == 0
        assert math.isnan(told) if missing else told == percent / 100
    if 173 < kelvin < 523:
        assert found.temperature_celsius == kelvin - 273
    else:
        assert math.isnan(found.temperature_celsius)
    assert (found.read_bytes, found.written_bytes) == (float(read) * 512e3, float(written) * 512e3)
    assert (found.powered_seconds, found.unsafe_shutdowns) == (float(hours) * 3600, float(unsafe))
    assert found.media_errors == found.media_errors_total == float(media)
    assert found.error_log_entries == float(entries)
    assert (found.warning_seconds, found.critical_seconds) == (60 * minutes[0], 60 * minutes[1])
    assert found.throttled_seconds == sum(throttled)


@given(st.binary(max_size=600).filter(lambda raw: len(raw) != 512))
def test_a_log_of_another_length_is_broken(raw):
    with pytest.raises(Broken, match=f"{len(raw)} bytes"):
        parse_health(raw)


@given(st.lists(st.tuples(st.sampled_from(["nvme0", "nvme1"]), st.text(max_size=20) | st.just(log_of("server")),
                          st.text(max_size=20)), max_size=3))
def test_any_answer_is_a_reading_or_a_typed_error(rows):
    one = Nvme(Config())
    one.source = lambda: rows
    try:
        found = one.collect(NS)
    except (NoData, Broken):
        return
    assert len(found.series) in (0, len(COLUMNS), 2 * len(COLUMNS))


def test_every_series_is_announced(host):
    found = drives(host, [("nvme0", log_of("server"), "")]).collect(NS)
    assert {(s.name, s.unit) for s in found.series} == {(e.name, e.unit) for e in COLLECTOR.emits}


def test_counters_become_rates(host):
    log = bytearray.fromhex(log_of("server"))
    later = bytearray(log)
    struct.pack_into("<Q", later, 48, struct.unpack_from("<Q", log, 48)[0] + 60)
    struct.pack_into("<Q", later, 160, 3)
    one, rates = drives(host, [("nvme0", log.hex(), "")], [("nvme0", later.hex(), "")]), Rates()
    rates.step(NS, one.collect(NS))
    reading = one.collect(61 * NS)
    found = dict(zip((s.name for s in reading.series), rates.step(61 * NS, reading), strict=True))
    assert found["nvme_written_bytes_per_second"] == 512_000
    assert found["nvme_media_errors_per_second"] == 0.05
    assert found["nvme_media_errors"] == 3


def test_one_that_does_not_answer_is_missing_and_told(host):
    one = drives(host, [("nvme0", log_of("server"), ""), ("nvme1", "", "does not answer")],
                 [("nvme0", "", "does not answer"), ("nvme1", log_of("dying"), "")])
    first = values(one.collect(NS))
    assert {key.split('"')[1] for key in first} == {"nvme0"}
    assert dict(one.facts())["nvme device=nvme1"] == "Example nvme1 3.8T 1.0.2; does not answer"
    second = values(one.collect(61 * NS))
    assert {key.split('"')[1] for key in second} == {"nvme1"}
    told = dict(one.facts())["nvme device=nvme1"]
    assert "104% of its endurance used" in told
    assert "3,584.0 TB written" in told


def test_none_that_answers_is_broken_and_none_that_could_is_no_data(host):
    one = drives(host, [("nvme0", "", "does not answer"), ("nvme1", "", "the controller refuses: NVMe status 0x4002")],
                 [("nvme1", "", "the controller refuses: NVMe status 0x4002")])
    with pytest.raises(Broken, match="nvme0: does not answer"):
        one.collect(NS)
    with pytest.raises(NoData, match="0x4002"):
        one.collect(NS)


def test_wear_is_told_once_for_each_twentieth(host):
    rows = []
    for wear in (89, 90, 91, 94, 95, 99, 100):
        log = bytearray.fromhex(log_of("server"))
        log[5] = wear
        rows.append([("nvme0", log.hex(), "")])
    one = drives(host, *rows)
    told = [[(e.kind, e.entity, e.get("wear_ratio")) for e in one.collect(NS).events] for _ in rows]
    kind = ("nvme_worn", "device=nvme0")
    assert told == [[], [(*kind, 0.9)], [], [], [(*kind, 0.95)], [], [(*kind, 1.0)]]


def test_a_busy_warden_is_asked_again_later(host):
    one = drives(host, None, [("nvme0", log_of("server"), "")])
    assert values(one.collect(NS)) == {}
    assert values(one.collect(61 * NS))['nvme_spare_ratio{device="nvme0"}'] == 1.0


def test_no_drive_and_no_warden_say_so(host, tmp_path):
    with pytest.raises(NoData, match="no NVMe controller"):
        drives(tmp_path / "elsewhere")
    with pytest.raises(NoData, match="remedy: start as root"):
        Nvme(Config()).open(host)


def test_the_command_asks_for_the_health_log_and_nothing_else():
    assert protocol.decode(b'{"do": "nvme"}') == protocol.Request("nvme")
    with pytest.raises(protocol.Refused):
        protocol.decode(b'{"do": "nvme", "device": "/dev/nvme0"}')
    made = warden_nvme.command(0x1122334455667788, 512)
    assert len(made) == 72 == warden_nvme._ADMIN_COMMAND >> 16 & 0x3FFF
    assert (made[0], struct.unpack_from("<I", made, 4)[0]) == (2, 0xFFFFFFFF)
    assert struct.unpack_from("<Q", made, 24)[0] == 0x1122334455667788
    assert struct.unpack_from("<I", made, 36)[0] == 512
    assert struct.unpack_from("<I", made, 40)[0] == 0x007F0002
    assert not any(made[44:])


def test_only_what_the_kernel_lists_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(warden_nvme, "CLASS", str(tmp_path))
    for name in ("nvme10", "nvme9", "nvme-subsys0", "nvme0n1", "..nvme1", "nvme"):
        (tmp_path / name).mkdir()
    assert warden_nvme.controllers() == ["nvme9", "nvme10"]
    (tmp_path / "nvme9/dev").write_text("240:9\n")
    with pytest.raises(OSError, match="nvme9"):
        warden_nvme.read_log("nvme9")


def test_a_node_that_is_another_device_is_not_asked(tmp_path, monkeypatch):
    (tmp_path / "nvme0").mkdir()
    (tmp_path / "nvme0/dev").write_text("240:0\n")
    monkeypatch.setattr(warden_nvme, "CLASS", str(tmp_path))
    monkeypatch.setattr(warden_nvme.os, "open", lambda path, flags, real=os.open: real("/dev/null", flags))
    with pytest.raises(OSError, match="not the controller of that name"):
        warden_nvme.read_log("nvme0")


def test_controllers_that_hang_hold_nobody_up(monkeypatch):
    release, asked = threading.Event(), []

    def read(name):
        asked.append(name)
        if name != "nvme3":
            release.wait(30)
        return bytes(512)

    monkeypatch.setattr(warden_nvme, "read_log", read)
    monkeypatch.setattr(warden_nvme, "ALONE_S", 0.05)
    monkeypatch.setattr(warden_nvme, "controllers", lambda: [f"nvme{i}" for i in range(8)])
    watch = warden_nvme.NvmeWatch()
    first = {name: why or len(log) for name, log, why in watch.look()}
    assert first["nvme3"] == 1024
    assert first["nvme0"] == "does not answer"
    assert first["nvme7"].startswith("not asked")
    assert len(asked) == warden_nvme.HANGING + 1
    second = {name: why for name, _, why in watch.look()}
    assert second["nvme0"] == "has not answered yet"
    assert len(asked) == warden_nvme.HANGING + 1
    release.set()
    until = time.monotonic() + 20
    while time.monotonic() < until and any(why for _, _, why in watch.look()):
        time.sleep(0.02)
    assert all(len(log) == 1024 for _, log, _ in watch.look())
