"""Readers of connections and interrupts over plain memory: what a kernel need not be asked to show."""

import os
import struct
import time
from math import isnan

import numpy as np
import pytest

from collector.ebpf import connect, irq, net
from collector.ebpf.families import (
    BUCKETS,
    FAMILIES,
    HEAVY_SLOTS,
    HEAVY_TABLE,
    IRQ_CPU_BYTES,
    IRQ_LINES,
    PEER_TABLE,
    REASONS,
)
from collector.ebpf.heavy import HEAVY
from collector.ebpf.maps import MappedArray

SIZES = {f.name: f.shared_bytes(4) for f in FAMILIES}
COUNTS = HEAVY_TABLE + PEER_TABLE + 8 * BUCKETS
RESETS = COUNTS + 2 * 64


class Memory:
    """A file of memory that stands in for an array map."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("etio-test")
        os.ftruncate(self.fd, size)
        self.mapped = MappedArray(self.fd, size)

    def put(self, offset: int, *words: int) -> None:
        os.pwrite(self.fd, struct.pack(f"<{len(words)}Q", *words), offset)

    def put_bytes(self, offset: int, data: bytes) -> None:
        os.pwrite(self.fd, data, offset)


def entry(name, tmp_path, programs=(), symbols=None, offsets=()):
    return {"name": name, "root": tmp_path, "programs": [{"name": p} for p in programs], "missing": [],
            "symbols": symbols or {}, "offsets": list(offsets)}


def values(reader):
    got = reader.read()
    assert len(got) == len(reader.series)
    return dict(zip([s.key for s in reader.series], got, strict=True))


@pytest.fixture
def connections(tmp_path):
    memory = Memory(SIZES["connect"])
    return memory, connect.Reader(memory.mapped, entry("connect", tmp_path, offsets=("SOCK_ERR",)), 4)


def test_connections_decided_and_failed(connections):
    memory, reader = connections
    quiet = values(reader)
    assert all(isnan(quiet[f"net_connect_{n}"]) for n in ("failure_ratio", "latency_p50_seconds"))
    memory.put(COUNTS, 1, 2, 2, 4, 0, 5, 1, 0, 40, 30, 7, 4)
    memory.put(HEAVY_TABLE + PEER_TABLE + 8 * 100, 30)
    now = values(reader)
    assert [now[f'net_connect_failures_per_second{{reason="{r}"}}'] for r in connect.REASONS] == [1, 2, 2, 4, 0, 1]
    assert now["net_close_wait_sockets"] == 3
    assert (now["net_connects_per_second"], now["net_connect_cancels_per_second"]) == (40, 5)
    assert now["net_connect_failure_ratio"] == 0.25
    assert 0 < now["net_connect_latency_p50_seconds"] < now["net_connect_latency_p99_seconds"]
    ratios = [values(reader)["net_connect_failure_ratio"] for _ in range(connect.RECENT_READINGS)]
    assert ratios[:-1] == [0.25] * (connect.RECENT_READINGS - 1)
    assert isnan(ratios[-1])


def failure(key: int, name: bytes, count: int, ns: int, pid: int) -> bytes:
    return np.array([(key, name, count, ns, 0, 0, 0, pid)], dtype=HEAVY).tobytes()


def slot_of(key: int) -> int:
    return ((key * 0x9E3779B97F4A7C15) >> 32) & (HEAVY_SLOTS - 1)


@pytest.mark.parametrize("second", [0, 1])
def test_who_could_not_connect_to_whom(connections, second):
    memory, reader = connections
    key = (0xABCDEF << 16) | 5432
    slot = slot_of(key) ^ second
    memory.put_bytes(64 * slot, failure(key, b"worker", 3, 6 * 10**9, 4711 | 6 << 24))
    memory.put_bytes(HEAVY_TABLE + 16 * slot, bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 2)))
    (actor,) = reader.actors()
    assert (actor.kind, actor.name, actor.pid, actor.peer) == ("connect_failure", "worker", 4711, "10.0.0.2:5432")
    assert (actor.count, actor.amount, actor.unit, actor.reason) == (3, 6.0, "seconds", "no_local_port")
    assert reader.actors() == []


@pytest.mark.parametrize(("aux", "kind", "peer", "port"), [
    (4711, "reset_sent", "10.0.0.2", 8097), (1 << 31 | 4711, "reset_sent", "10.0.0.2:8097", 0),
    (1 << 24, "reset_received", "10.0.0.2", 8097), (1 << 31 | 1 << 24 | 4711, "reset_received", "10.0.0.2:8097", 0)])
def test_who_breaks_connections_off_and_at_whose_end(connections, aux, kind, peer, port):
    memory, reader = connections
    key = (0xABCDEF << 16) | 8097
    memory.put_bytes(RESETS + 64 * slot_of(key), failure(key, b"quoted", 190, 0, aux))
    memory.put_bytes(RESETS + HEAVY_TABLE + 16 * slot_of(key), bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 2)))
    (actor,) = reader.actors()
    assert (actor.kind, actor.name, actor.peer, actor.port, actor.count) == (kind, "quoted", peer, port, 190)
    assert actor.pid == aux & 0xFFFFFF
    assert reader.actors() == []


def test_connections_broken_off_are_counted_by_who_did_it(connections):
    memory, reader = connections
    assert isnan(values(reader)["net_connections_reset_ratio"])
    memory.put(COUNTS + 8 * 12, 190, 7, 3, 394)
    now = values(reader)
    assert now["net_connections_reset_ratio"] == 0.5
    assert [now[f'net_connections_reset_per_second{{direction="{way}"}}'] for way in ("sent", "received")] == [190, 7]
    assert now["net_connections_timed_out_per_second"] == 3


def test_where_a_socket_keeps_its_error_must_be_known_to_tell_who_broke_it_off(tmp_path):
    memory = Memory(SIZES["connect"])
    blind = connect.Reader(memory.mapped, entry("connect", tmp_path), 4)
    assert not [k for k in values(blind) if k.startswith("net_connections_")]


def test_a_peer_whose_slot_was_taken_meanwhile_is_told_by_its_port(connections):
    assert connections[1]._peer((7 << 16) | 443) == "port 443"


@pytest.fixture
def interrupts(tmp_path):
    (tmp_path / "sys/kernel/irq/24").mkdir(parents=True)
    (tmp_path / "sys/kernel/irq/24/actions").write_text("eth0-rx-0\n")
    memory = Memory(SIZES["irq"])
    reader = irq.Reader(memory.mapped, entry("irq", tmp_path, symbols={"softirq_exit": {"3": "NET_RX"}}), 4)
    return memory, reader


def cpu(number: int, word: int = 0) -> int:
    return 8 * IRQ_LINES + number * IRQ_CPU_BYTES + 8 * word


def test_vectors_and_lines_appear_when_they_take_time(interrupts):
    memory, reader = interrupts
    assert [s.key for s in reader.series] == [
        "irq_worst_core_ratio", "irq_mean_core_ratio", "irq_hard_seconds_per_second",
        "irq_ksoftirqd_seconds_per_second"]
    assert isnan(values(reader)["irq_worst_core_ratio"])
    memory.put(cpu(1, 3), 2_000_000)
    memory.put(cpu(1, 32), 500_000, 9, 250_000)
    memory.put(8 * 24, 1_500_000, 900_000)
    found = values(reader)
    assert found['irq_soft_seconds_per_second{vector="net_rx"}'] == 0.002
    assert found['irq_line_seconds_per_second{device="eth0-rx-0",irq="24"}'] == 0.0015
    assert found["irq_hard_seconds_per_second"] == 0.0005
    assert found["irq_ksoftirqd_seconds_per_second"] == 0.00025
    assert len(found) == 6


def test_the_worst_core_is_the_one_that_does_nothing_else(interrupts):
    memory, reader = interrupts
    memory.put(cpu(0, 1), 1)
    memory.put(cpu(1, 1), 1)
    values(reader)
    began = time.monotonic_ns()
    memory.put(cpu(0, 3), 10**15)
    found = values(reader)
    assert found["irq_worst_core_ratio"] == 1.0
    assert found["irq_mean_core_ratio"] == 0.5
    memory.put(cpu(1, 3), 1000)
    again = values(reader)
    assert 0 < again["irq_worst_core_ratio"] <= 1000 / (time.monotonic_ns() - began) * 1e6
    assert again["irq_mean_core_ratio"] == pytest.approx(again["irq_worst_core_ratio"] / 2)


def test_lines_are_limited_and_a_line_without_a_name_has_none(interrupts):
    memory, reader = interrupts
    memory.put(0, *[10**7] * IRQ_LINES)
    lines = [k for k in values(reader) if k.startswith("irq_line")]
    assert len(lines) == irq.MOST_LINES
    assert 'irq_line_seconds_per_second{device="",irq="0"}' in lines


def test_reasons_of_resets_appear_with_their_first_one(tmp_path):
    memory = Memory(SIZES["net"])
    reader = net.Reader(memory.mapped, entry("net", tmp_path, ("tcp_send_reset",), {
        "tcp_send_reset": {"1": "NO_SOCKET", "25": "MAX"}}), 4)
    assert [s.name for s in reader.series] == ["net_resets_sent_per_second"]
    memory.put(2 * HEAVY_TABLE + 8 * REASONS + 64 + 8, 17)
    memory.put(2 * HEAVY_TABLE + 8 * REASONS + 64 + 8 * 60, 3)
    assert values(reader)['net_resets_by_reason_per_second{reason="NO_SOCKET"}'] == 17
    assert len(reader.series) == 2


def test_who_asks_where_nobody_listens_is_told_by_our_port(tmp_path):
    memory = Memory(SIZES["net"])
    reader = net.Reader(memory.mapped, entry("net", tmp_path, ("tcp_send_reset",), {
        "tcp_send_reset": {"1": "NO_SOCKET"}}, ("SKB_TRANSPORT",)), 4)
    memory.put(2 * HEAVY_TABLE + 8 * REASONS + 8, 31, 0, 29)
    found = values(reader)
    assert (found["net_resets_sent_per_second"], found["net_turned_away_per_second"]) == (31, 29)
    address = bytes(10) + b"\xff\xff" + bytes((10, 0, 0, 7))
    for key, aux, count in ((5, 1 << 16 | 8096, 29), (9, 40000, 2)):
        memory.put_bytes(HEAVY_TABLE + 64 * slot_of(key), failure(key, address, count, 0, aux))
    told = {(a.kind, a.name, a.port): a.count for a in reader.actors()}
    assert told == {("turned_away", "10.0.0.7", 8096): 29, ("reset", "10.0.0.7:40000", 0): 2}


@pytest.mark.parametrize(("symbols", "offsets"), [({}, ("SKB_TRANSPORT",)), ({"tcp_send_reset": {"1": "A"}}, ())])
def test_a_kernel_that_gives_no_reason_or_no_layout_has_no_such_count(tmp_path, symbols, offsets):
    memory = Memory(SIZES["net"])
    reader = net.Reader(memory.mapped, entry("net", tmp_path, ("tcp_send_reset",), symbols, offsets), 4)
    assert "net_turned_away_per_second" not in values(reader)
