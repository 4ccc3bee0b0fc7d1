"""The kernel log: records, what they mean, who is believed, what is lost, how much is told."""

import os
import socket
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.filesystems import SPACE
from collector.kmsg import COLLECTOR, Config, Kmsg, Limiter
from collector.kmsg_kinds import KINDS, PATTERNS, understand
from collector.kmsg_record import parse_record
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import NS
from tests.golden_rig import check

GOLDEN = Path(__file__).parent / "golden"
HOSTS = ("kmsg-from-documentation", "kmsg-firecracker-6.18")


def records(host):
    """Raw records of a recording: a line, and the lines of its dictionary that begin with a blank."""
    found = []
    for line in (GOLDEN / host / "records").read_bytes().splitlines(keepends=True):
        if line.startswith(b" "):
            found[-1] += line
        else:
            found.append(line)
    return found


class Log:
    """A stand-in for /dev/kmsg with its ways of reading: a record at a time, EAGAIN at the end."""

    def __init__(self):
        self.kernel, self.ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)

    def fd(self):
        return os.dup(self.ours.fileno())

    def say(self, *raw):
        for one in raw:
            self.kernel.send(one)


@pytest.fixture
def log():
    log = Log()
    yield log
    log.kernel.close()
    log.ours.close()


def reader(log, root=Path("/nonexistent"), **config):
    kmsg = Kmsg(Config(**config))
    kmsg.source = log.fd
    kmsg.open(root)
    return kmsg


def read(kmsg, t=None):
    reading = kmsg.collect(t or time.time_ns())
    return {s.key: float(v) for s, v in zip(reading.series, reading.values, strict=True)}, reading.events


def record(sequence, text, prefix=4):
    return f"{prefix},{sequence},1000,-;{text}\n".encode()


def plain(event):
    return [event.kind, event.entity, [list(pair) for pair in event.fields]]


@pytest.mark.parametrize("host", HOSTS)
def test_a_log_means_what_the_json_says(host, log):
    kmsg = reader(log, burst=1000)
    log.say(*records(host))
    check([plain(e) for e in read(kmsg)[1]], GOLDEN / f"{host}.json")


def test_the_logs_show_every_kind():
    seen = set()
    for host in HOSTS:
        seen |= {m.kind for raw in records(host) if (m := understand(parse_record(raw).text))}
    assert seen == set(KINDS)


def test_only_the_kernel_is_believed(log):
    kmsg = reader(log)
    text = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=liar, GPU has fallen off the bus."
    log.say(record(1, text, prefix=8 + 4), record(2, text, prefix=3 * 8 + 4))
    values, events = read(kmsg)
    assert events == ()
    assert sum(values.values()) == 0
    log.say(record(3, text, prefix=4))
    values, events = read(kmsg)
    assert [(e.kind, e.entity, e.get("xid"), e.get("pid")) for e in events] == [("gpu_lost", "gpu=0000:3b:00.0", 79, 1)]
    assert values['kernel_messages_per_second{level="warning"}'] == 1


@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=15)
       | st.sampled_from([p.regex.pattern[:15] for p in PATTERNS])
       | st.sampled_from([parse_record(r).text[:15] for r in records(HOSTS[0])]))
def test_a_task_cannot_forge_a_message_by_its_name(name):
    name = name.encode()[:15].decode("utf-8", "ignore")
    for line in (f"{name}[1]: segfault at 0 ip 0 sp 0 error 4 in x[0+1]", f"{name} (1): drop_caches: 3",
                 f"{name}[1] bad frame in sys_rt_sigreturn"):
        found = understand(line)
        assert found is None or (found.kind == "segfault" and found.entity == "pid=1"), line


def test_a_newline_in_a_message_begins_no_message():
    told = understand(parse_record(b"6,1,1,-;usb 1-1: Product: \\x0aNVRM: Xid (PCI:0000:3b:00): 79\n").text)
    assert told is None


def test_names_are_shown_without_control_characters_or_second_labels():
    told = understand("INFO: task a,pid=1\x1b[31m:77 blocked for more than 120 seconds.")
    assert (told.entity, told.get("comm")) == ("pid=77", "a,pid=1?[31m")
    told = understand("nfs: server a,pid=1 OK")
    assert told.entity == "server=a?pid=1"


@given(st.binary(max_size=200) | st.builds(lambda a, b: a + b";" + b, st.from_regex(rb"[0-9,\-c]{0,30}"), st.binary()))
def test_any_bytes_are_a_record_or_broken(raw):
    try:
        found = parse_record(raw)
    except Broken:
        return
    assert 0 <= found.level <= 7
    understand(found.text)


@given(st.text(max_size=80), st.sampled_from([parse_record(r).text for r in records(HOSTS[0])]), st.integers(0, 80))
def test_no_damaged_message_raises(junk, text, at):
    told = understand(text[:at] + junk + text[at + len(junk):])
    assert told is None or told.kind in KINDS


@given(st.integers(0, 1000), st.integers(0, 2**40), st.binary(max_size=60))
def test_a_record_reads_back_as_it_was_written(prefix, sequence, text):
    escaped = b"".join(b"\\x%02x" % c if c < 32 or c > 126 or c == 92 else bytes([c]) for c in text)
    found = parse_record(b"%d,%d,5,-;%s\n K=v\n" % (prefix, sequence, escaped))
    assert (found.level, found.facility, found.sequence) == (prefix & 7, prefix >> 3, sequence)
    assert found.text == text.decode("utf-8", "replace")
    assert found.fields == (("K", "v"),)


def test_what_was_overwritten_is_counted_as_lost(log):
    kmsg = reader(log)
    log.say(record(5, "a"), record(6, "b"), record(16, "c"), b"no record")
    assert read(kmsg)[0]["kernel_messages_lost_per_second"] == 10
    assert read(kmsg)[0]["kernel_messages_lost_per_second"] == 10


def test_opened_again_it_goes_on_where_it_was(log):
    kmsg = reader(log)
    text = "Buffer I/O error on dev sdb1, logical block 77, async page read"
    log.say(record(5, text))
    assert len(read(kmsg)[1]) == 1
    kmsg.close()
    kmsg.close()
    kmsg.open(Path("/"))
    log.say(record(4, text), record(5, text), record(6, text))
    assert [e.entity for e in read(kmsg)[1]] == ["device=sdb1"]


def test_a_flood_is_told_in_part_and_the_rest_counted(log):
    kmsg = reader(log, records=40, burst=3, refill_s=10.0)
    text = "I/O error, dev sda, sector {} op 0x1:(WRITE)"
    log.say(*(record(n, text.format(n)) for n in range(60)))
    t = time.time_ns()
    assert [len(read(kmsg, t)[1]) for _ in range(3)] == [3, 0, 0]  # 40 records in the first, 20 in the second
    assert kmsg.collect(t).values[4] == 60  # warnings
    log.say(record(60, "I/O error, dev sdb, sector 1"))
    later = HostEvent(t + 30 * NS, "block_io_error", "device=sdb")
    assert kmsg._limiter.pass_on(later).get("not_told") == 57


@given(st.lists(st.integers(0, 20), max_size=50))
def test_the_limiter_never_tells_more_than_its_rate(pauses):
    limiter, t, told = Limiter(burst=3, refill_s=5.0), 0, []
    for pause in pauses:
        t += pause * NS
        if limiter.pass_on(HostEvent(t, "segfault", "pid=1")):
            told.append(t)
    assert all(b - a >= 0 for a, b in pairwise(told))
    assert len(told) <= 3 + t / NS / 5


def test_oom_kills_are_left_to_ebpf_where_it_runs(log):
    kmsg = reader(log)
    kill = "Memory cgroup out of memory: Killed process 7 (x) total-vm:8kB, anon-rss:4kB, file-rss:0kB"
    context = ("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,"
               "task_memcg=/a/b,task=x,pid=7,uid=0")
    kmsg.oom_here = lambda: False
    log.say(record(1, kill))
    assert read(kmsg)[1] == ()
    kmsg.oom_here = lambda: True
    log.say(record(2, context), record(3, kill))
    (event,) = read(kmsg)[1]
    assert plain(event) == ["oom_kill", "pid=7", [["comm", "x"], ["total_vm_bytes", 8192], ["anon_rss_bytes", 4096],
                                                  ["file_rss_bytes", 0], ["limited", "/a"], ["cgroup", "/a/b"]]]
    whole = context.replace("CONSTRAINT_MEMCG", "CONSTRAINT_NONE").replace("oom_memcg=/a", "global_oom")
    log.say(record(4, whole), record(5, kill))
    assert plain(read(kmsg)[1][0])[2][-1] == ["cgroup", "/a/b"], "no limit but that of the host was met"


def test_a_broken_file_system_is_called_as_the_other_collector_calls_it(log, tmp_path):
    for path, text in (("sys/class/block/dm-0/dev", "253:0\n"), ("proc/self/mountinfo",
                       "20 1 253:0 / /srv/my\\040data rw - ext4 /dev/mapper/vg-data rw\n")):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    kmsg = reader(log, tmp_path)
    log.say(record(1, "EXT4-fs (dm-0): Remounting filesystem read-only"))
    assert read(kmsg)[1][0].entity == SPACE[0].series("/dev/mapper/vg-data", "/srv/my data", "ext4").entity
    log.say(record(2, "EXT4-fs (sdz): Remounting filesystem read-only"))
    assert read(kmsg)[1][0].entity == "device=sdz"


def test_a_gpu_is_named_with_its_uuid_where_the_driver_tells_it(log, tmp_path):
    folder = tmp_path / "proc/driver/nvidia/gpus/0000:3b:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t X\nGPU UUID:   \t GPU-12ab\n")
    kmsg = reader(log, tmp_path)
    log.say(record(1, "NVRM: Xid (PCI:0000:3B:00): 13, Graphics Exception"))
    assert read(kmsg)[1][0].entity == "gpu=0000:3b:00.0,uuid=GPU-12ab"


def test_a_descriptor_that_comes_later_is_waited_for(log):
    given = [-1, -1, log.fd()]
    kmsg = Kmsg(Config())
    kmsg.source = lambda: given.pop(0)
    kmsg.open(Path("/"))
    assert read(kmsg)[1] == ()
    log.say(record(1, "nfs: server a not responding, still trying"))
    assert [e.entity for e in read(kmsg)[1]] == ["server=a"]
    kmsg.close()


def test_without_a_way_in_there_is_no_data(tmp_path):
    with pytest.raises(NoData):
        Kmsg(Config()).open(tmp_path)
    for wrong in ({"records": 0}, {"burst": 0}, {"refill_s": 0.0}):
        with pytest.raises(ValueError, match="at least"):
            Config(**wrong)
    assert COLLECTOR.build(COLLECTOR.config()).oom_here()


@pytest.mark.needs_root
def test_a_lie_written_to_the_real_log_is_seen_and_not_believed():
    """The kernel marks what user space writes; only records from the start on are read."""
    kmsg = Kmsg(Config(records=4096))
    kmsg.open(Path("/"))
    t, before = time.time_ns(), kmsg._last
    with open("/dev/kmsg", "wb", buffering=0) as out:
        out.write(b"<4>NVRM: Xid (PCI:0000:3b:00): 79, pid=1, name=liar, written by a test\n")
    seen = []
    understood = parse_record

    def spy(raw):
        seen.append(understood(raw))
        return seen[-1]

    import collector.kmsg as module
    module.parse_record, kept = spy, module.parse_record
    try:
        reading = kmsg.collect(t)
    finally:
        module.parse_record = kept
        kmsg.close()
    lies = [r for r in seen if "name=liar, written by a test" in r.text]
    assert [r.from_kernel for r in lies] == [False]
    assert lies[0].facility == 1
    assert lies[0].sequence > before
    assert [e for e in reading.events if e.kind == "gpu_xid"] == []
    now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) / 1000
    assert abs(lies[0].microseconds - now_us) < 60e6


def test_a_gpu_that_nvml_knows_is_called_as_its_series_are(log, tmp_path):
    kmsg = reader(log, tmp_path)
    kmsg.gpu_entity = {"0000:3b:00.0": "gpu=1,uuid=GPU-b"}.get
    log.say(record(1, "NVRM: Xid (PCI:0000:3B:00): 79, GPU has fallen off the bus."))
    (event,) = read(kmsg)[1]
    assert (event.entity, event.get("xid"), event.get("pci")) == ("gpu=1,uuid=GPU-b", 79, "0000:3b:00.0")
    assert kmsg.told_xid("0000:3b:00.0", 79, event.t_ns + 9 * NS)
    assert not kmsg.told_xid("0000:3b:00.0", 79, event.t_ns + 11 * NS)
    assert not kmsg.told_xid("0000:3b:00.0", 31, event.t_ns)
    assert not kmsg.told_xid("0000:af:00.0", 79, event.t_ns)
