"""Disks, links and file systems that come, go and fail: what their collectors make of it."""

import os
import subprocess
import threading
import time
from math import isnan
from pathlib import Path

import pytest

from collector import disks, filesystems, links
from etio.core.frame import NS
from etio.core.rates import Rates
from tests.collector_rig import values, write

HEAD = "Inter-|   Receive                |  Transmit\n face |bytes    packets errs\n"


def test_disk_latency_is_time_over_requests(tmp_path):
    line = "   8       0 sda {} 0 {} {} 0 0 0 0 2 {} {}\n   8       1 sda1 1 1 1 1 1 1 1 1 1 1 1\n"
    write(tmp_path, "proc/diskstats", line.format(10, 80, 100, 1000, 2000))
    one, rates = disks.Disks(disks.Config()), Rates()
    one.open(tmp_path)
    rates.step(NS, one.collect(NS))
    write(tmp_path, "proc/diskstats", line.format(30, 480, 500, 1900, 7000))
    reading = one.collect(2 * NS)
    found = dict(zip((s.key for s in reading.series), rates.step(2 * NS, reading), strict=True))
    assert found['disk_read_latency_seconds{device="sda"}'] == pytest.approx(0.020)
    assert isnan(found['disk_write_latency_seconds{device="sda"}'])  # no write, no latency
    assert found['disk_read_bytes_per_second{device="sda"}'] == 400 * 512
    assert found['disk_busy_ratio{device="sda"}'] == pytest.approx(0.9)
    assert found['disk_queue_length{device="sda"}'] == pytest.approx(5.0)
    assert found['disk_inflight_requests{device="sda"}'] == 2
    assert not any("sda1" in key for key in found)


def test_loop_devices_appear_with_their_first_request(tmp_path):
    write(tmp_path, "proc/diskstats", "   7       0 loop0 0 0 0 0 0 0 0 0 0 0 0\n")
    one = disks.Disks(disks.Config())
    one.open(tmp_path)
    assert not one.collect(0).series
    write(tmp_path, "proc/diskstats", "   7       0 loop0 0 0 0 0 1 0 8 0 0 0 0\n")
    assert {s.label("device") for s in one.collect(1).series} == {"loop0"}


class Net:
    """A /proc/net/dev and /sys/class/net that can be changed."""

    def __init__(self, root):
        self.root, self.states = root, {}

    def set(self, name, state, physical=True, traffic=1):
        base = f"sys/class/net/{name}"
        write(self.root, f"{base}/operstate", f"{state}\n")
        write(self.root, f"{base}/flags", "0x1003\n")
        write(self.root, f"{base}/carrier_changes", "1\n")
        if physical:
            write(self.root, f"{base}/device", "")
        self.states[name] = traffic
        self.flush()

    def remove(self, name):
        del self.states[name]
        self.flush()

    def flush(self):
        lines = "".join(f"{n}: {t} 0 0 0 0 0 0 0 {t} 0 0 0 0 0 0 0\n" for n, t in self.states.items())
        write(self.root, "proc/net/dev", HEAD + lines)


@pytest.fixture
def net(tmp_path):
    return Net(tmp_path)


def kinds(one, t):
    return [(e.kind, e.entity, e.t_ns) for e in one.collect(t).events]


def test_a_link_that_goes_down_and_up_is_told_once_each(net):
    net.set("eth0", "up")
    net.set("eth1", "down")
    one = links.Links(links.Config())
    one.open(net.root)
    assert kinds(one, 1) == []
    net.set("eth0", "down")
    assert kinds(one, 2) == [("link_down", "device=eth0", 2)]
    assert kinds(one, 3) == []
    net.set("eth0", "up")
    net.set("eth1", "up")  # never was up, so it was never told to be down
    assert kinds(one, 4) == []
    assert kinds(one, 4 + 10 * NS) == [("link_up", "device=eth0", 4)]  # once it stays up


def test_a_virtual_device_that_goes_down_to_vanish_is_no_event(net):
    net.set("veth1", "up", physical=False)
    net.set("veth2", "up", physical=False)
    one = links.Links(links.Config())
    one.open(net.root)
    one.collect(1)
    net.set("veth1", "lowerlayerdown", physical=False)
    net.set("veth2", "lowerlayerdown", physical=False)
    assert kinds(one, 2) == []
    net.remove("veth1")
    assert kinds(one, 3) == []
    assert kinds(one, 4) == [("link_down", "device=veth2", 2)]  # still there, so it is one
    net.remove("veth2")
    assert kinds(one, 5) == [("link_removed", "device=veth2", 5)]


def test_an_idle_virtual_device_is_not_followed_and_the_number_of_them_is_bounded(net):
    net.set("dummy0", "down", physical=False, traffic=0)
    for i in range(5):
        net.set(f"veth{i}", "up", physical=False)
    net.set("eth0", "down", traffic=0)
    one = links.Links(links.Config(max_virtual=3))
    one.open(net.root)
    found = {s.label("device") for s in one.collect(1).series}
    assert found == {"veth0", "veth1", "veth2", "eth0"}


def mountinfo(*lines):
    return "".join(f"1 1 {dev} / {point} rw - {kind} {dev} {opts}\n" for dev, point, kind, opts in lines)


def test_a_fresh_mount_and_a_remount_are_seen_by_the_next_reading(tmp_path):
    (tmp_path / "data").mkdir()
    write(tmp_path, "proc/self/mountinfo", mountinfo(("8:1", "/", "ext4", "rw")))
    one = filesystems.Filesystems(filesystems.Config())
    one.open(tmp_path)
    assert {s.label("mount") for s in one.collect(1).series} == {"/"}
    write(tmp_path, "proc/self/mountinfo", mountinfo(("8:1", "/", "ext4", "rw"), ("7:0", "/data", "ext4", "rw")))
    assert {s.label("mount") for s in one.collect(2).series} == {"/", "/data"}
    write(tmp_path, "proc/self/mountinfo", mountinfo(("8:1", "/", "ext4", "rw"), ("7:0", "/data", "ext4", "ro")))
    reading = one.collect(3)
    assert [(e.kind, e.entity) for e in reading.events] == [("filesystem_readonly", "device=7:0,mount=/data,type=ext4")]
    assert values(reading)['filesystem_readonly{device="7:0",mount="/data",type="ext4"}'] == 1
    assert filesystems.COLLECTOR.period_s < 3


@pytest.mark.slow
def test_a_dead_file_server_costs_only_its_own_series(tmp_path):
    write(tmp_path, "proc/self/mountinfo", mountinfo(("0:50", "/mnt/nfs", "nfs4", "rw"), ("8:1", "/", "ext4", "rw")))
    alive = threading.Event()
    asked = []

    def statvfs(path):
        if path.endswith(b"nfs"):
            asked.append(path)
            alive.wait(20)
        return os.statvfs("/")

    one = filesystems.Filesystems(filesystems.Config(deadline_s=1.0), statvfs)
    one.open(tmp_path)
    first = one.collect(1)
    assert {s.label("mount") for s in first.series} == {"/"}
    assert [e.kind for e in first.events] == ["collector_failed"]
    started = time.monotonic()
    second = one.collect(2)
    assert time.monotonic() - started < 0.8  # one that kept us waiting is not waited for again
    assert second.events == ()
    assert len(asked) == 1
    alive.set()
    deadline = time.monotonic() + 10
    while len({s.label("mount") for s in one.collect(3).series}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {s.label("mount") for s in one.collect(4).series} == {"/", "/mnt/nfs"}


def test_numbers_of_a_file_system_are_those_of_df():
    one = filesystems.Filesystems(filesystems.Config())
    one.open(Path("/"))
    reading = one.collect(0)
    pairs = zip(reading.series, reading.values, strict=True)
    found = {s.label("mount"): float(v) for s, v in pairs if s.name == "filesystem_used_ratio"}
    out = subprocess.run(["df", "--output=target,pcent", "/"], check=True, capture_output=True, text=True).stdout
    mount, percent = out.splitlines()[1].split()
    assert found[mount] * 100 == pytest.approx(float(percent.rstrip("%")), abs=1.1)
