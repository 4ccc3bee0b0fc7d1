"""The daemon's side of eBPF without a kernel: parsers, histograms and heavy-hitter tables over plain memory."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.ebpf import block, net, oom, tracefs
from collector.ebpf.btf import Btf, BtfError
from collector.ebpf.families import BUCKETS, FAMILIES, HEAVY_SLOTS, HEAVY_TABLE, cpu_slots
from collector.ebpf.heavy import EDGES, HEAVY, HeavyTable, quantiles, text
from collector.ebpf.layout import queued_flags
from collector.ebpf.maps import MappedArray
from etio.core.errors import Broken
from tests.property_rig import outcome

KERNEL_BTF = Path("/sys/kernel/btf/vmlinux")
FORMAT = """name: mark_victim
ID: 609
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:int pid;\toffset:8;\tsize:4;\tsigned:1;
\tfield:__data_loc char[] comm;\toffset:12;\tsize:4;\tsigned:0;
\tfield:char rwbs[10];\toffset:34;\tsize:10;\tsigned:0;

print fmt: "reason: %s", __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 0x3, "NO_SOCKET" })
"""


class Memory:
    """A file of memory that stands in for an array map, and what the reader maps of it."""

    def __init__(self, size: int) -> None:
        self.fd = os.memfd_create("etio-test")
        os.ftruncate(self.fd, size)
        self.mapped = MappedArray(self.fd, size)

    def put(self, offset: int, data: bytes) -> None:
        os.pwrite(self.fd, data, offset)


@pytest.fixture
def memory(request: pytest.FixtureRequest):
    made = Memory(1 << 20)
    yield made
    os.close(made.fd)


def bucket_of(ns: int) -> int:
    """As common.h computes it."""
    v = ns >> 6
    if v < 8:
        return v
    e = v.bit_length() - 1
    return BUCKETS - 1 if v >> 34 else ((e - 2) << 3) + ((v >> (e - 3)) & 7)


@given(st.integers(0, (1 << 40) - 1))
def test_a_latency_lies_within_its_bucket(ns):
    i = bucket_of(ns)
    assert EDGES[i] <= ns / 1e9 < EDGES[i + 1]
    assert ns < 512 or EDGES[i + 1] / EDGES[i] <= 1.125 + 1e-9


@given(st.lists(st.integers(512, 10**10), min_size=1, max_size=300), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_off_by_at_most_an_eighth(latencies, share):
    counts = np.bincount([bucket_of(ns) for ns in latencies], minlength=BUCKETS).astype(np.uint64)
    exact = sorted(latencies)[max(0, int(np.ceil(share * len(latencies))) - 1)] / 1e9
    (found,) = quantiles(counts, (share,))
    assert exact / 1.125 - 1e-12 <= found <= exact * 1.125 + 1e-12


def test_no_latency_has_no_quantile():
    assert np.isnan(quantiles(np.zeros(BUCKETS, dtype=np.uint64), (0.5,))).all()


def heavy(key: int, name: bytes, count: int, amount: int, generation: int = 0) -> bytes:
    return np.array([(key, name, count, amount, 0, 0, generation, 7)], dtype=HEAVY).tobytes()


def test_heavy_hitters_are_counted_since_the_last_look(memory):
    memory.put(64, heavy(11, b"old", 100, 1000))
    table = HeavyTable(memory.mapped, 0)
    memory.put(64, heavy(11, b"old", 103, 1500))
    memory.put(128, heavy(12, b"new", 2, 9000))
    assert [(int(r["key"]), int(r["count"]), int(r["amount"])) for r in table.step()] == [(12, 2, 9000), (11, 3, 500)]
    assert len(table.step()) == 0


def test_a_slot_taken_over_counts_from_its_take_over(memory):
    memory.put(0, heavy(11, b"old", 100, 1000))
    table = HeavyTable(memory.mapped, 0)
    memory.put(0, heavy(13, b"thief", 4, 40, generation=1))
    assert [(int(r["key"]), int(r["count"])) for r in table.step()] == [(13, 4)]
    memory.put(0, heavy(13, b"thief", 150, 2000, generation=3))
    assert [(int(r["key"]), int(r["count"])) for r in table.step()] == [(13, 150)]


def test_names_are_untrusted():
    assert text(b"evil\x1b[31m\n") == "evil?[31m?"
    assert "\x00" not in text(b"\xff\xfe\x00a")


def test_a_map_that_is_too_small_is_broken(memory):
    with pytest.raises(Broken, match="bytes at"):
        memory.mapped.view("<u8", (1 << 20) - 8, 2)
    with pytest.raises(Broken, match="cannot be mapped"):
        MappedArray(memory.fd, 1 << 22)


def test_layouts_agree():
    assert HEAVY.itemsize * HEAVY_SLOTS == HEAVY_TABLE
    assert [cpu_slots(n) for n in (1, 2, 3, 64, 65)] == [1, 2, 4, 64, 128]
    assert all(f.shared_bytes(8) % 8 == 0 for f in FAMILIES)


def oom_entry(root):
    return {"name": "oom", "root": root, "programs": [], "missing": []}


def victim(number: int, pid: int, total: int) -> bytes:
    absent = 2**64 - 1
    return struct.pack("<QQIIII16sQQQQ16x", number, 10**9, pid, 1000, 1, 0, b"hog", total, 77, absent, absent)


def test_oom_victims_become_events_once(memory, tmp_path):
    reader = oom.Reader(memory.mapped, oom_entry(tmp_path), 1)
    assert reader.events(10**18) == []
    memory.put(96, victim(1, 4711, 2048))
    memory.put(64 * 96, struct.pack("<Q", 1))
    (event,) = reader.events(10**18)
    assert (event.kind, event.entity) == ("oom_kill", "pid=4711")
    assert (event.get("comm"), event.get("total_vm_bytes"), event.get("uid")) == ("hog", 2048 * 1024, 1000)
    assert event.get("file_rss_bytes") is None
    assert reader.events(10**18) == []
    assert [a.pid for a in reader.actors()] == [4711]


def test_more_victims_than_the_ring_holds_lose_the_oldest(memory, tmp_path):
    reader = oom.Reader(memory.mapped, oom_entry(tmp_path), 1)
    for number in range(1, 71):
        memory.put(96 * (number % 64), victim(number, 1000 + number, 1))
    memory.put(64 * 96, struct.pack("<Q", 70))
    assert [e.entity for e in reader.events(10**18)] == [f"pid={1000 + n}" for n in range(7, 71)]


def test_a_device_appears_with_its_first_request(memory, tmp_path):
    reader = block.Reader(memory.mapped, {"name": "block", "root": tmp_path, "programs": []}, 1)
    assert reader.read() == []
    links = tmp_path / "sys/dev/block"
    links.mkdir(parents=True)
    (links / "8:16").symlink_to("../../devices/pci/block/sdb")
    slot = HEAVY_TABLE + 5 * block._WORDS * 8
    memory.put(slot, struct.pack("<IIII", 8 << 20 | 16, 0, 0, 0) + struct.pack("<QQQQ", 3, 4096, 1, 1))
    memory.put(slot + 16 + 64 + 8 * bucket_of(10**6), struct.pack("<Q", 1))
    raw = reader.read()
    values = dict(zip([s.key for s in reader.series], raw, strict=True))
    assert values['block_latency_p50_seconds{device="sdb",direction="read"}'] == pytest.approx(1e-3, rel=1 / 8)
    assert values['block_requests_per_second{device="sdb",direction="read"}'] == 3
    assert values['block_errors_per_second{device="sdb",direction="read"}'] == 1
    assert np.isnan(values['block_latency_p50_seconds{device="sdb",direction="write"}'])


def test_peers_read_like_addresses():
    assert net.peer(bytes(10) + b"\xff\xff\x0a\x00\x00\x02", 80) == "10.0.0.2:80"
    assert net.peer(bytes(15) + b"\x01", 443) == "[::1]:443"
    assert net.peer(b"\xfe\x80", 1) == "[fe80::]:1"


def test_benign_drop_reasons_are_no_loss():
    assert not net.LOSS & {"NOT_SPECIFIED", "CONSUMED", "OTHERHOST", "TCP_OLD_ACK", "QUEUE_PURGE", "SOCKET_CLOSE"}


def test_a_tracepoint_format_is_read():
    form = tracefs.parse_format(FORMAT)
    assert form.id == 609
    assert (form.fields["pid"], form.fields["comm"], form.fields["rwbs"]) == ((8, 4), (12, 4), (34, 10))
    assert form.symbols == {2: "NOT_SPECIFIED", 3: "NO_SOCKET"}
    assert "-DAT_mark_victim_pid=8" in tracefs.defines("mark_victim", form)


@given(st.text(max_size=300) | st.builds(lambda a, b: FORMAT[:a] + b + FORMAT[a:],
                                         st.integers(0, len(FORMAT)), st.text(max_size=20)))
def test_any_format_is_read_or_refused(data):
    form = outcome(lambda: tracefs.parse_format(data), tracefs.FormatError, says="tracepoint")
    if form is not None:
        assert str(form.id) in data
        assert all(name in data and offset >= 0 and size >= 0 for name, (offset, size) in form.fields.items())
        assert all(text in data for text in form.symbols.values())


def small_btf() -> bytes:
    """int, and struct task_struct { int state; anonymous union { int pid; } at byte 8; }."""
    names = b"\0int\0task_struct\0state\0pid\0"

    def at(name: bytes) -> int:
        return names.index(b"\0" + name + b"\0") + 1

    def info(kind: int, count: int) -> int:
        return kind << 24 | count

    types = struct.pack("<IIII", at(b"int"), info(1, 0), 4, 32)
    types += struct.pack("<IIIIII", 0, info(5, 1), 4, at(b"pid"), 1, 0)
    types += struct.pack("<III", at(b"task_struct"), info(4, 2), 12)
    types += struct.pack("<IIIIII", at(b"state"), 1, 0, 0, 2, 64)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names


def test_btf_offsets_reach_into_anonymous_unions():
    known = Btf(small_btf())
    assert (known.offset("task_struct", "state"), known.offset("task_struct", "pid")) == (0, 8)
    with pytest.raises(BtfError, match="no member"):
        known.offset("task_struct", "tgid")
    with pytest.raises(BtfError, match="no name"):
        known.tracepoint("sched_switch")


@given(st.binary(max_size=200) | st.builds(
    lambda place, value: small_btf()[:place] + bytes([value]) + small_btf()[place + 1:],
    st.integers(0, len(small_btf()) - 1), st.integers(0, 255)))
def test_any_btf_is_read_or_refused(blob):
    found = outcome(lambda: Btf(blob).offset("task_struct", "pid"), BtfError)
    if found is not None:
        assert 0 <= found < 2**29, "bits of 32 bits, in bytes"
        assert b"task_struct" in blob


@given(st.integers(0, 5_000_000), st.binary(min_size=1, max_size=8))
@settings(max_examples=10, deadline=None)
@pytest.mark.skipif(not KERNEL_BTF.exists(), reason="this kernel has no BTF")
def test_a_damaged_kernel_btf_is_read_or_refused(place, damage):
    blob = KERNEL_BTF.read_bytes()
    harmed = blob[:place] + damage + blob[place + len(damage):]
    found = outcome(lambda: Btf(harmed).offset("task_struct", "pid"), BtfError)
    if found is not None:
        assert 0 <= found < 2**29


@pytest.mark.skipif(not KERNEL_BTF.exists(), reason="this kernel has no BTF")
def test_this_kernels_tracepoints_are_described():
    known = Btf(KERNEL_BTF.read_bytes())
    assert known.tracepoint("sched_wakeup")[1] == ("struct *task_struct",)
    assert known.tracepoint("sched_switch")[1][:3] == ("int", "struct *task_struct", "struct *task_struct")
    assert known.offset("task_struct", "tgid") == known.offset("task_struct", "pid") + 4


@pytest.mark.skipif(not KERNEL_BTF.exists(), reason="this kernel has no BTF")
def test_the_kernels_note_of_a_waiting_task_is_used_where_it_is_kept(tmp_path):
    """/proc/PID/schedstat: time run, time waited, times it came to run; the last is 0 where nobody counts."""
    known, accounts = Btf(KERNEL_BTF.read_bytes()), tmp_path / "schedstat"
    for told, used in (("812 93 7\n", True), ("0 0 0\n", False), ("", False)):
        accounts.write_text(told)
        assert ("-DQUEUED" in queued_flags(known, str(accounts))) == used
    assert queued_flags(known, str(tmp_path / "absent")) == []
    accounts.write_text("812 93 7\n")
    assert queued_flags(Btf(small_btf()), str(accounts)) == []
