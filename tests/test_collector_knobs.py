"""Knobs: right values on this host and on golden ones, and no way to any other file."""

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import knobs
from collector.knob_cgroup import human_bytes
from collector.knobs import KnobReader, parse_limits, parse_mounts
from etio.core.errors import Broken, NoData
from etio.core.ports import Knobs
from rca.cards.propose import understand

GOLDEN = Path(__file__).parent / "golden"
V1 = KnobReader(GOLDEN / "cgroup-v1-hybrid-6.18")
V2 = KnobReader(GOLDEN / "cgroup-v2-from-documentation")
KINDS = KnobReader(Path("/")).kinds()
STAT = "42 (rt) 1 audio) S 1 " + "0 " * 14 + "-5 1 0 " + "0 " * 18 + "50 1 0 0 0\n"


def fake(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return KnobReader(tmp_path)


# --- values -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "key", "entity", "path", "text", "value"), [
    ("sysctl", "vm.swappiness", "", "/proc/sys/vm/swappiness", "60\n", "60"),
    ("sysctl", "net.ipv4.tcp_rmem", "host", "/proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n",
     "4096\t131072\t6291456"),
    ("block_queue", "scheduler", "device=sda", "/sys/block/sda/queue/scheduler", "none [mq-deadline]\n",
     "none [mq-deadline]"),
    ("block_queue", "nr_requests", "nvme0n1", "/sys/block/nvme0n1/queue/nr_requests", "1023\n", "1023"),
    ("block_queue", "rotational", "cciss!c0d0", "/sys/block/cciss!c0d0/queue/rotational", "1\n", "1"),
    ("thp", "enabled", "", "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n",
     "always [madvise] never"),
    ("cpufreq", "scaling_governor", "", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n",
     "powersave"),
    ("cpufreq", "energy_performance_preference", "cpu=3",
     "/sys/devices/system/cpu/cpu3/cpufreq/energy_performance_preference", "balance_power\n", "balance_power"),
    ("smt", "control", "", "/sys/devices/system/cpu/smt/control", "on\n", "on"),
    ("numa", "online", "", "/sys/devices/system/node/online", "0-1\n", "0-1"),
    ("numa", "balancing", "", "/proc/sys/kernel/numa_balancing", "1\n", "1"),
    ("numa", "distance", "node=1", "/sys/devices/system/node/node1/distance", "21 10\n", "21 10"),
    ("nic", "mtu", "device=eth0.100", "/sys/class/net/eth0.100/mtu", "1500\n", "1500"),
    ("nic", "tx_queue_len", "veth@if3", "/sys/class/net/veth@if3/tx_queue_len", "1000\n", "1000"),
    ("oom_score_adj", "", "pid=42", "/proc/42/oom_score_adj", "-1000\n", "-1000"),
    ("scheduling", "nice", "pid=42", "/proc/42/stat", STAT, "-5"),
    ("scheduling", "policy", "pid=42", "/proc/42/stat", STAT, "fifo (priority 50)"),
    ("irq", "smp_affinity_list", "24", "/proc/irq/24/smp_affinity_list", "0-3\n", "0-3"),
    ("irq", "default_smp_affinity", "", "/proc/irq/default_smp_affinity", "f\n", "f"),
])
def test_value_as_the_kernel_prints_it(tmp_path, kind, key, entity, path, text, value):  # noqa: PLR0917
    assert fake(tmp_path, {path: text}).read(kind, key, entity) == value


def test_scheduling_of_this_process_and_of_one_that_is_no_process(tmp_path):
    real = KnobReader(Path("/"))
    assert real.read("scheduling", "nice", str(os.getpid())) == str(os.getpriority(os.PRIO_PROCESS, 0))
    assert real.read("scheduling", "policy", str(os.getpid())) in ("other", "batch", "idle")
    for text in ("", "42 (x", "42 (x) S 1 2\n", "42 (x) S " + "a " * 40):
        with pytest.raises(Broken):
            fake(tmp_path, {"/proc/42/stat": text}).read("scheduling", "nice", "42")


def test_queues_of_a_nic(tmp_path):
    host = fake(tmp_path, {f"/sys/class/net/eth0/queues/{q}/x": "" for q in ("rx-0", "rx-1", "rx-2", "tx-0")})
    assert (host.read("nic", "rx_queues", "eth0"), host.read("nic", "tx_queues", "eth0")) == (
        "3 receive", "1 transmit")
    assert host.read("nic", "queues", "eth0") == "3 receive, 1 transmit"
    for queue, mask in (("rx-0", "3\n"), ("rx-1", "3\n"), ("rx-2", "3\n")):
        (tmp_path / f"sys/class/net/eth0/queues/{queue}/rps_cpus").write_text(mask)
    assert host.read("nic", "rps_cpus", "eth0") == "3"
    (tmp_path / "sys/class/net/eth0/queues/rx-1/rps_cpus").write_text("0\n")
    assert host.read("nic", "rps_cpus", "eth0") == "rx-0 3, rx-1 0, rx-2 3"
    (tmp_path / "sys/class/net/lo/queues").mkdir(parents=True)
    with pytest.raises(NoData):
        host.read("nic", "rx_queues", "lo")


@pytest.mark.parametrize(("reader", "key", "path", "value"), [
    (V1, "cpu_quota", "/shop.slice/web.service", "0.50 cores (cpu.cfs_quota_us=50000)"),
    (V1, "cpu_quota", "/shop.slice", "no limit (cpu.cfs_quota_us=-1)"),
    (V1, "memory_limit", "cgroup=/shop.slice/web.service", "32.0 MiB (memory.limit_in_bytes=33554432)"),
    (V1, "memory_limit", "/shop.slice", "no limit (memory.limit_in_bytes=9223372036854771712)"),
    (V1, "pids_limit", "/shop.slice/web.service", "64 tasks (pids.max=64)"),
    (V1, "cpu_weight", "/shop.slice/web.service", "1024 (cpu.shares=1024)"),
    (V2, "cpu_quota", "/system.slice/docker-4f2a.scope", "1.50 cores (cpu.max=150000 100000)"),
    (V2, "cpu_quota", "/system.slice", "no limit (cpu.max=max 100000)"),
    (V2, "memory_limit", "/system.slice/docker-4f2a.scope",
     "200.0 MiB (memory.high=209715200)"),
    (V2, "pids_limit", "/system.slice/nginx.service", "4915 tasks (pids.max=4915)"),
    (V2, "pids_limit", "/system.slice", "no limit (pids.max=max)"),
    (V2, "cpu_weight", "/system.slice", "100 (cpu.weight=100)"),
])
def test_cgroup_limits_in_words(reader, key, path, value):
    assert reader.read("cgroup", key, path) == value


def test_group_that_is_gone_is_no_data():
    for reader in (V1, V2):
        with pytest.raises(NoData, match="no cpu_quota"):
            reader.read("cgroup", "cpu_quota", "/gone")


def test_limits_of_a_process():
    reader: Knobs = KnobReader(Path("/"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert reader.read("ulimit", "open_files", f"pid={os.getpid()}") == f"{soft} (hard limit {hard})"
    assert "hard limit" in reader.read("ulimit", "nproc", str(os.getpid()))
    with pytest.raises(NoData):
        reader.read("ulimit", "open_files", "4194999")


@pytest.mark.skipif(all(one.split()[4] != "/" for one in Path("/proc/self/mountinfo").read_text().splitlines()),
                    reason="the root of a chroot is no mount point")
def test_file_system_of_this_host():
    reader = KnobReader(Path("/"))
    told = os.statvfs("/")
    assert reader.read("filesystem", "size", "device=/dev/sda,mount=/,type=ext4") == human_bytes(
        told.f_blocks * told.f_frsize)
    assert reader.read("filesystem", "available", "/").endswith(" % of the file system)")
    with pytest.raises(NoData, match="no mount point"):
        reader.read("filesystem", "size", "/etc")


def test_numbers_of_a_file_system():
    """f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail, f_flag, f_namemax."""
    told = os.statvfs_result((4096, 1024, 2000, 500, 400, 100, 30, 30, 0, 255))
    assert knobs._filesystem_value(told, "size") == "2.0 MiB"
    assert knobs._filesystem_value(told, "available") == "400.0 KiB (20.0 % of the file system)"
    assert knobs._filesystem_value(told, "reserved") == "100.0 KiB (5.0 % of the file system)"
    assert knobs._filesystem_value(told, "inodes") == "70 of 100 in use"
    assert knobs._filesystem_value(os.statvfs_result([0] * 10), "available") == "0 B"


def test_whether_a_group_is_frozen_is_told_with_the_file_that_says_so(tmp_path):
    v2 = fake(tmp_path / "2", {"/proc/self/mountinfo": "1 2 0:9 / /cg rw - cgroup2 none rw\n",
                               "/cg/a/cgroup.freeze": "1\n", "/cg/b/cgroup.freeze": "0\n"})
    v1 = fake(tmp_path / "1", {"/proc/self/mountinfo": "1 2 0:9 / /cg rw - cgroup none rw,freezer\n",
                               "/cg/a/freezer.state": "FROZEN\n", "/cg/b/freezer.state": "THAWED\n"})
    told = [reader.read("cgroup", "freezer", path) for reader in (v1, v2) for path in ("/a", "/b")]
    assert told == ["frozen (freezer.state=FROZEN)", "thawed (freezer.state=THAWED)", "frozen (cgroup.freeze=1)",
                    "thawed (cgroup.freeze=0)"]
    assert [understand(text).version for text in told] == [1, 1, 2, 2]
    for reader in (v1, v2):
        with pytest.raises(NoData, match="/c cannot be frozen"):
            reader.read("cgroup", "freezer", "/c")


def test_limits_of_io_are_told_as_the_files_hold_them(tmp_path):
    v2 = fake(tmp_path / "2", {"/proc/self/mountinfo": "1 2 0:9 / /cg rw - cgroup2 none rw\n",
                               "/cg/a/io.max": "8:0 rbps=1048576 wbps=max\n", "/cg/b/io.max": "\n"})
    assert v2.read("cgroup", "io_limit", "/a") == "io.max: 8:0 rbps=1048576 wbps=max"
    v1 = fake(tmp_path / "1", {"/proc/self/mountinfo": "1 2 0:9 / /cg rw - cgroup none rw,blkio\n",
                               "/cg/a/blkio.throttle.write_bps_device": "8:0 7\n", "/cg/b/x": "",
                               "/cg/a/blkio.throttle.read_bps_device": "8:0 5\n8:16 6\n"})
    told = v1.read("cgroup", "io_limit", "/a")
    assert sorted(told.split("; ")) == ["blkio.throttle.read_bps_device: 8:0 5 8:16 6",
                                        "blkio.throttle.write_bps_device: 8:0 7"]
    for reader in (v1, v2):
        with pytest.raises(NoData, match="/b has no limit of I/O"):
            reader.read("cgroup", "io_limit", "/b")


def test_settings_of_an_inference_server(tmp_path):
    host = fake(tmp_path, {"/proc/42/cmdline": "ollama\0serve\0", "/proc/42/environ": "OLLAMA_NUM_PARALLEL=4\0X=1\0",
                           "/proc/43/cmdline": "bash\0"})
    assert host.read("inference", "engine", "pid=42") == "ollama"
    assert host.read("inference", "num_parallel", "42") == "4"
    with pytest.raises(NoData, match="43 is no inference server"):
        host.read("inference", "engine", "43")


def test_remote_file_systems_are_not_asked(tmp_path):
    host = fake(tmp_path, {"/proc/self/mounts": "srv:/x /data\\040set nfs4 rw,hard 0 0\n"})
    assert host.read("filesystem", "type", "/data set") == "nfs4"
    with pytest.raises(NoData, match="may hang"):
        host.read("filesystem", "size", "/data set")


def test_real_host_answers():
    reader = KnobReader(Path("/"))
    assert reader.read("sysctl", "vm.swappiness") == Path("/proc/sys/vm/swappiness").read_text().strip()
    assert int(reader.read("nic", "mtu", "lo")) > 0
    assert reader.read("oom_score_adj", "", str(os.getpid())) == Path("/proc/self/oom_score_adj").read_text().strip()


# --- what must never be read ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("key", [
    "vm", "vm.", ".vm", "vm..swappiness", "vm.swappiness.", "vm/swappiness", "vm.Swappiness", "vm.swappiness\n",
    "dev.cdrom.info", "abi.vsyscall32", "vm.../../passwd", "../vm.swappiness", "vm.\x00", "ⅴm.swappiness",
])
def test_ill_formed_sysctl(key):
    with pytest.raises(NoData, match="is no sysctl"):
        KnobReader(Path("/")).read("sysctl", key)


@pytest.mark.parametrize("key", ["net.ipv4.tcp_fastopen_key", "net.ipv6.conf.all.stable_secret",
                                 "kernel.random.uuid"])
def test_secrets_stay_closed(tmp_path, key):
    host = fake(tmp_path, {"/proc/sys/" + key.replace(".", "/"): "secret"})
    with pytest.raises(NoData, match="secret"):
        host.read("sysctl", key)


@pytest.fixture(scope="module")
def cage(tmp_path_factory):
    """A root that holds one knob of each kind, with the word STOLEN in every file that must stay out of reach."""
    top = tmp_path_factory.mktemp("cage")
    root = top / "root"
    good = ["proc/sys/vm/swappiness", "sys/block/sda/queue/scheduler", "sys/kernel/mm/transparent_hugepage/enabled",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "sys/devices/system/cpu/smt/control",
            "sys/devices/system/node/online", "sys/class/net/eth0/mtu", "proc/7/oom_score_adj",
            "proc/irq/4/smp_affinity_list", "sys/fs/cgroup/a/pids.max"]
    bad = ["proc/passwd", "proc/7/environ", "proc/7/mem", "etc/shadow", "sys/block/sda/secret", "shadow", "mtu",
           "sys/fs/pids.max", "sys/pids.max", "proc/oom_score_adj", "proc/sys/dev/word"]
    bad += [f"{place}/{key}" for place in ("sys/queue", "sys/block/queue", "sys/block/sda/sda/queue") for key in
            knobs.QUEUE_KEYS]
    bad += [f"{place}/{file}" for place in ("sys/class", "sys", "sys/class/net") for file in knobs.NIC_KEYS.values()]
    bad += [f"{place}/{file}" for place in ("proc", "etc", "", "proc/7/task") for file in ("limits", *knobs.IRQ_KEYS)]
    fake(root, dict.fromkeys(bad, "STOLEN"))
    fake(root, dict.fromkeys([b for b in bad if b.endswith("limits")], "Max open files STOLEN STOLEN"))
    fake(root, dict.fromkeys([b for b in bad if b.endswith("pids.max")], "666"))
    fake(root, dict.fromkeys(good, "1"))
    fake(root, {"proc/self/mountinfo": "26 24 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
                "sys/fs/cgroup/cgroup.controllers": "pids\n", "proc/self/mounts": "x / ext4 rw 0 0\n"})
    fake(top, {"pids.max": "666", "shadow": "STOLEN", "etc/shadow": "STOLEN"})
    return KnobReader(root)


PARTS = ["..", ".", "/", "//", "\0", "\n", "%2e", "vm", "kernel", "sda", "eth0", "7", "a", "queue", "scheduler", "etc",
         "shadow", "passwd", "environ", "mem", "secret", "mtu", "pids.max", "mount=", "device=", "cgroup=", ",", "self",
         "\udcff", "\ud800", "oom_score_adj", " "]
KEYS = {
    "sysctl": ["vm.swappiness", "dev.word", "dev/word", "../passwd"], "block_queue": [*knobs.QUEUE_KEYS],
    "thp": [*knobs.THP_KEYS], "cpufreq": [*knobs.CPUFREQ_KEYS], "smt": [*knobs.SMT_KEYS], "irq": [*knobs.IRQ_KEYS],
    "numa": ["online", "balancing", *knobs.NODE_KEYS], "cgroup": ["pids_limit"], "nic": [*knobs.NIC_KEYS, "rx_queues"],
    "filesystem": [*knobs.FILESYSTEM_KEYS], "ulimit": [*knobs.LIMITS], "oom_score_adj": [""],
    "affinity": ["cpus"], "scheduling": ["nice", "policy"], "inference": ["engine", "model", "num_parallel", "api_key"],
}
TEXT = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
ENTITIES = st.one_of(TEXT, st.sampled_from(["", ".", "..", "/..", "/../..", "../..", "sda/sda", "7/task", "../../etc"]))
REQUESTS = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(st.just(kind), st.one_of(st.sampled_from(sorted(KEYS[kind])), TEXT), ENTITIES))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(REQUESTS)
def test_nothing_outside_is_ever_read(cage, request_):
    try:
        value = cage.read(*request_)
    except (NoData, Broken):
        return
    assert "STOLEN" not in value
    assert "666" not in value


def test_the_cage_itself_would_show_a_hole(cage):
    """The property above is worth something only if a path that is let through does read the planted word."""
    assert cage._file("/sys/block/../../etc/shadow") == "STOLEN"
    assert cage.read("cgroup", "pids_limit", "/a") == "1 tasks (pids.max=1)"
    assert cage.read("oom_score_adj", "", "7") == "1"


@given(st.text(max_size=30), TEXT)
def test_unknown_kinds(kind, key):
    if kind not in KINDS:
        with pytest.raises(NoData, match="kind of knob"):
            KnobReader(Path("/")).read(kind, key)


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda rest: b"x\nMax open files" + rest))
def test_a_limit_has_two_words_or_is_no_data(data):
    lines = [line for line in data.split(b"\n") if line.startswith(b"Max open files")]
    words = next((found for line in lines if len(found := line[14:].decode("ascii", "replace").split()) >= 2), None)
    if words is None:
        with pytest.raises(NoData, match="Max open files"):
            parse_limits(data, b"Max open files")
    else:
        assert parse_limits(data, b"Max open files") == f"{words[0]} (hard limit {words[1]})"


@given(st.binary(max_size=300) | st.lists(st.binary(max_size=6), max_size=8).map(b" ".join))
def test_a_mount_has_at_least_four_words(data):
    long_enough = [line for line in data.split(b"\n") if line.count(b" ") >= 3]
    found = parse_mounts(data)
    assert len(found) <= len(long_enough)
    assert bool(found) == bool(long_enough)
