"""Each rule of the table on frames that just meet it, just miss it, or lack an input."""

import numpy as np
import pytest

from detectors.hard_rules import DETECTOR, HardRules
from detectors.rule import Condition
from detectors.rules import Config, table
from etio.core.config import parse
from etio.core.errors import Broken, ConfigError
from etio.core.frame import Frame
from etio.core.series import Series, labels

GIB = 2.0**30
SDA, SDB = labels(device="sda"), labels(device="sdb")


def one(alert, **values):
    """Score of `alert` on the host for host-wide series by name."""
    return scores(*((name, (), value) for name, value in values.items())).get(alert, float("nan"))


def scores(*inputs, config=None):
    """Scores by alert key for (name, labels, value) inputs."""
    series = tuple(Series(name, "x", labels=own) for name, own, _ in inputs)
    result = HardRules(config or Config()).step(Frame(1, series, np.array([v for *_, v in inputs])))
    return {s.key: v for s, v in zip(result.series, result.values, strict=True)}


@pytest.mark.parametrize(
    ("alert", "values", "score"),
    [
        ("CpuSaturated", {"cpu_busy_ratio": 1.0, "pressure_cpu_some_ratio": 0.5}, 1 / 0.95),
        ("CpuSaturated", {"cpu_busy_ratio": 1.0, "pressure_cpu_some_ratio": 0.1}, 0.5),
        ("CpuSaturated", {"cpu_busy_ratio": 0.5, "pressure_cpu_some_ratio": 0.9}, 0.5 / 0.95),
        ("CpuSaturated", {"cpu_busy_ratio": 0.95, "cpu_runnable_per_core": 3.0}, 1.0),
        ("CpuSaturated", {"cpu_busy_ratio": 1.0}, np.nan),
        ("CpuFull", {"cpu_busy_ratio": 1.0, "cpu_runnable_per_core": 1.5}, 1 / 0.97),
        ("CpuSaturated", {"cpu_busy_ratio": 1.0, "pressure_cpu_some_ratio": 0.0, "cpu_runnable_per_core": 9}, 0.0),
        ("RunQueueLong", {"cpu_busy_ratio": 1.0, "cpu_runnable_per_core": 4.2}, 1.05),
        ("MemoryPressure", {"pressure_memory_some_ratio": 0.4}, 4.0),
        ("MemoryLow", {"memory_available_ratio": 0.02}, 2.0),
        ("MemoryLow", {"memory_available_ratio": 0.0}, 100.0),
        ("SwapThrashing", {"vm_swap_in_pages_per_second": 9000.0, "vm_swap_out_pages_per_second": 50.0}, 0.1),
        ("PidsExhausted", {"kernel_pids_used_ratio": 0.9}, 1.0),
        ("ForkStorm", {"process_forks_per_second": 800.0, "process_execs_per_second": 780.0,
                       "process_exec_repeats_per_second": 770.0}, 770 / 780 / 0.6),
        ("ForkStorm", {"process_forks_per_second": 800.0, "process_execs_per_second": 500.0,
                       "process_exec_repeats_per_second": 90.0}, 0.3 / (500 / 800)),
        ("ForkStorm", {"process_forks_per_second": 800.0, "process_execs_per_second": 20.0,
                       "process_exec_repeats_per_second": 0.0}, 2.0),
        ("ForkStorm", {"cpu_forks_per_second": 800.0}, 2.0),
        ("ForkStorm", {"process_forks_per_second": np.nan, "cpu_forks_per_second": 800.0}, 2.0),
        ("ConntrackFull", {"conntrack_used_ratio": 0.5}, 0.5 / 0.95),
        ("PacketLoss", {"tcp_retransmit_ratio": 0.06, "tcp_retransmits_per_second": 5.0}, 1.0),
        ("PacketLoss", {"tcp_retransmit_ratio": 0.5, "tcp_retransmits_per_second": 0.5}, 0.1),
        ("PacketLoss", {"net_retransmits_per_second": 8.0, "tcp_segments_sent_per_second": 100.0}, 1.6),
        ("PacketLoss", {"net_retransmits_per_second": 8.0, "tcp_segments_sent_per_second": 80_000.0}, 0.4),
        ("PacketLoss", {"net_retransmits_per_second": 8.0, "tcp_segments_sent_per_second": 2.0}, 0.4),
        ("PacketLoss", {"net_retransmits_per_second": 8.0, "tcp_segments_sent_per_second": 0.0}, 0.4),
    ],
)
def test_host_wide_rule(alert, values, score):
    assert one(alert, **values) == pytest.approx(score, nan_ok=True)


def test_rules_without_their_series_do_not_exist():
    assert scores(("gpu_power_watts", labels(gpu="0"), 300.0)) == {}


def test_steal_speaks_of_the_host_and_ignores_other_modes():
    got = scores(("cpu_mode_ratio", labels(mode="user"), 0.9), ("cpu_mode_ratio", labels(mode="steal"), 0.3))
    assert got == {"CpuStealHigh": pytest.approx(1.5)}


@pytest.mark.parametrize(("nice", "met"), [(0.0, True), (0.3, True), (0.98, False)])
def test_cores_that_are_full_of_work_of_low_priority_are_nobodys_trouble(nice, met):
    got = scores(("cpu_busy_ratio", (), 1.0), ("pressure_cpu_some_ratio", (), 0.9), ("cpu_runnable_per_core", (), 5.0),
                 ("cpu_mode_ratio", labels(mode="user"), 1 - nice), ("cpu_mode_ratio", labels(mode="nice"), nice))
    assert {name: got[name] >= 1 for name in ("CpuSaturated", "CpuFull", "RunQueueLong")} == dict.fromkeys(
        ("CpuSaturated", "CpuFull", "RunQueueLong"), met)


def disk(own, busy, queue, latency=0.001):
    return [("disk_busy_ratio", own, busy), ("disk_queue_length", own, queue),
            ("disk_read_latency_seconds", own, latency), ("disk_reads_per_second", own, 100.0),
            ("disk_writes_per_second", own, 0.0)]


def test_disks_are_judged_one_by_one_with_pressure_of_the_host():
    pressure = [("pressure_io_some_ratio", (), 0.6)]
    got = scores(*disk(SDA, 1.0, 8.0), *disk(SDB, 1.0, 1.0, latency=1.0), *pressure)
    assert got['DiskSaturated{device="sda"}'] == pytest.approx(1 / 0.95)
    assert got['DiskSaturated{device="sdb"}'] == pytest.approx(0.25)
    assert got['DiskSlow{device="sda"}'] == pytest.approx(0.004)
    assert got['DiskSlow{device="sdb"}'] == pytest.approx(4.0)


def test_a_drive_that_empties_its_cache_slowly_is_slow_where_somebody_waits_for_it():
    def flushes(latency: float, waits: float) -> float:
        return scores(*disk(SDA, 0.9, 1.0), ("disk_flush_latency_seconds", SDA, latency),
                      ("disk_flushes_per_second", SDA, 3.0),
                      ("pressure_io_some_ratio", (), waits))['DiskSlow{device="sda"}']

    assert [flushes(0.5, 0.5) >= 1, flushes(0.02, 0.5) >= 1, flushes(0.5, 0.01) >= 1] == [True, False, False]


def test_disk_without_pressure_needs_a_longer_queue():
    assert scores(*disk(SDA, 1.0, 6.0))['DiskSaturated{device="sda"}'] == pytest.approx(0.75)


def test_io_is_stalled_only_where_no_disk_makes_progress():
    stuck = [("pressure_io_full_ratio", (), 1.0), ("disk_reads_per_second", SDA, 0.0),
             ("disk_reads_per_second", SDB, np.nan), ("disk_writes_per_second", SDA, 0.0)]
    assert scores(*stuck)["IoStalled"] == pytest.approx(1 / 0.9)
    moving = [*stuck[:2], ("disk_reads_per_second", SDB, 50.0), stuck[3]]
    assert scores(*moving)["IoStalled"] < 0.1
    assert np.isnan(scores(*stuck[:1])["IoStalled"])


def filesystem(kind, used, free):
    own = labels(device="/dev/sda1", mount="/", type=kind)
    return [("filesystem_used_ratio", own, used), ("filesystem_available_bytes", own, free)]


@pytest.mark.parametrize(
    ("kind", "used", "free", "full"),
    [("ext4", 0.96, 1 * GIB, True), ("ext4", 0.96, 400 * GIB, False), ("ext4", 0.995, 40 * GIB, True),
     ("ext4", 0.5, 1 * GIB, False)],
)
def test_filesystem_full(kind, used, free, full):
    (score,) = scores(*filesystem(kind, used, free)).values()
    assert (score >= 1) == full


def test_read_only_images_are_always_full_and_never_told():
    assert scores(*filesystem("squashfs", 1.0, 0.0)) == {}


def test_cgroups_join_by_label_and_pids_speak_of_both():
    a, b = labels(cgroup="/a"), labels(cgroup="/b")
    name, lost = "cgroup_cpu_throttled_ratio", "cgroup_cpu_throttled_seconds_per_second"
    got = scores((name, a, 0.5), (name, b, 0.5), (lost, b, 0.2), ("cgroup_pids_used_ratio", b, 0.95),
                 ("kernel_pids_used_ratio", (), 0.09))
    assert np.isnan(got['CgroupCpuThrottled{cgroup="/a"}'])
    assert got['CgroupCpuThrottled{cgroup="/b"}'] == pytest.approx(2.0)
    assert got['PidsExhausted{cgroup="/b"}'] == pytest.approx(1.0)
    assert got["PidsExhausted"] == pytest.approx(0.1)


def test_one_bulk_writer_may_sleep_all_the_time_but_not_several():
    name = "dirty_throttle_seconds_per_second"
    assert scores((name, (), 0.98))["WritersHeldBack"] < 1
    assert scores((name, (), 2.2))["WritersHeldBack"] == pytest.approx(2.0)


def test_outputs_keep_their_places_while_the_catalogue_grows():
    detector = HardRules(Config())
    series = (Series("conntrack_used_ratio", "ratio"),)
    detector.step(Frame(1, series, np.array([0.95])))
    series += (Series("cpu_busy_ratio", "ratio"), Series("pressure_cpu_some_ratio", "ratio"), Series("x", "1"))
    second = detector.step(Frame(2, series, np.array([0.95, 1.0, 0.2, 0.0])))
    assert [s.name for s in second.series] == ["ConntrackFull", "CpuSaturated", "CpuFull"]
    series += (Series("unrelated", "1"),)
    third = detector.step(Frame(3, series, np.array([0.95, 1.0, 0.2, 0.0, 5.0])))
    assert third.values == pytest.approx(second.values, nan_ok=True)


def test_thresholds_come_from_the_configuration_and_typos_are_refused():
    section = {"detectors": {"hard_rules": {"conntrack_used_ratio": 0.5}}}
    config = parse(section, {"detectors.hard_rules": DETECTOR.config}, "etio.toml")["detectors.hard_rules"]
    assert scores(("conntrack_used_ratio", (), 0.5), config=config) == {"ConntrackFull": pytest.approx(1.0)}
    section = {"detectors": {"hard_rules": {"contrack_used_ratio": 0.5, "cpu_steal_ratio": "x"}}}
    with pytest.raises(ConfigError, match="did you mean 'conntrack_used_ratio'"):
        parse(section, {"detectors.hard_rules": DETECTOR.config}, "etio.toml")
    with pytest.raises(ValueError, match="cpu_steal_ratio: must be positive"):
        Config(cpu_steal_ratio=0.0)


def test_every_rule_says_why_and_whence():
    for rule in table(Config()):
        assert rule.why
        assert rule.source
        assert all(isinstance(c, Condition) and c.threshold > 0 for c in rule.conditions)


def test_foreign_state_is_broken():
    with pytest.raises(Broken):
        HardRules(Config()).restore({"keys": []}, ())


def test_a_page_cache_flush_does_not_saturate_a_disk_but_direct_io_does():
    shared = {"disk_busy_ratio": 1.0, "disk_queue_length": 60.0, "pressure_io_some_ratio": 0.1}
    device = labels(device="sda")

    def score(writeback: float) -> float:
        series = (*(Series(n, "1", labels=device if n.startswith("disk") else ()) for n in shared),
                  Series("memory_writeback_bytes", "bytes"))
        scores = HardRules(Config()).step(Frame(1, series, np.array([*shared.values(), writeback])))
        return float(scores.values[[s.name for s in scores.series].index("DiskSaturated")])

    assert score(writeback=500e6) < 1.0
    assert score(writeback=0.0) >= 1.0


GPU = labels(gpu="1", uuid="GPU-b")


@pytest.mark.parametrize(("alert", "values", "met"), [
    ("GpuPowerCapped", {"gpu_throttle_power_ratio": 0.9, "gpu_power_limit_ratio": 0.7}, True),
    ("GpuPowerCapped", {"gpu_throttle_power_ratio": 0.9, "gpu_power_limit_ratio": 1.0}, False),
    ("GpuPowerCapped", {"gpu_throttle_power_ratio": 0.1, "gpu_power_limit_ratio": 0.7}, False),
    ("GpuPowerBrake", {"gpu_throttle_brake_ratio": 0.3}, True),
    ("GpuPowerBrake", {"gpu_throttle_thermal_ratio": 0.0, "gpu_clock_event_ratio|hardware": 0.9}, True),
    ("GpuPowerBrake", {"gpu_throttle_thermal_ratio": 0.9, "gpu_clock_event_ratio|hardware": 0.9}, False),
    ("GpuClocksLow", {"gpu_utilization_ratio": 0.9, "gpu_sm_clock_ratio": 0.4, "gpu_clock_event_ratio|setting": 1.0},
     True),
    ("GpuClocksLow", {"gpu_utilization_ratio": 0.9, "gpu_sm_clock_ratio": 0.9, "gpu_clock_event_ratio|setting": 1.0},
     False),
    ("GpuPcieDegraded", {"gpu_utilization_ratio": 0.9, "gpu_pcie_link_width_ratio": 0.5}, True),
    ("GpuPcieDegraded", {"gpu_utilization_ratio": 0.0, "gpu_pcie_link_generation_ratio": 0.25}, False),
    ("GpuNvlinkDown", {"gpu_nvlink_links_down": 1.0}, True),
    ("GpuNvlinkErrors", {"gpu_nvlink_errors_per_second|replay": 1.0}, True),
    ("GpuNvlinkErrors", {"gpu_nvlink_errors_per_second|data_checksum": 20.0}, False),
    ("GpuRowRemapPending", {"gpu_rows_remap_pending": 1.0}, True),
    ("GpuRowRemapFailed", {"gpu_rows_remap_failed": 0.0}, False),
    ("GpuMemoryFull", {"gpu_memory_used_ratio": 0.995}, True),
    ("GpuMemoryFull", {"gpu_memory_used_ratio": 0.92}, False),
    ("GpuStarved", {"gpu_utilization_ratio": 0.2, "gpu_memory_used_ratio": 0.6, "!pressure_io_some_ratio": 0.7}, True),
    ("ModelPartlyOnCpu", {"inference_gpu_resident_ratio": 0.75}, True),
    ("ModelPartlyOnCpu", {"inference_gpu_resident_ratio": 1.0}, False),
    ("ModelPartlyOnCpu", {"inference_gpu_resident_ratio": 0.0}, False),
    ("JobStalled", {"gpu_job_stalled_seconds": 320.0}, True),
    ("JobStalled", {"gpu_job_stalled_seconds": 60.0}, False),
    ("GpuStarved", {"gpu_utilization_ratio": 0.98, "gpu_utilization_rhythm_ratio": 0.25, "gpu_memory_used_ratio": 0.6,
                    "!pressure_io_some_ratio": 0.7}, True),
    ("GpuStarved", {"gpu_utilization_ratio": 0.0, "gpu_memory_used_ratio": 0.6, "!pressure_io_some_ratio": 0.7}, False),
    ("GpuStarved", {"gpu_utilization_ratio": 0.2, "gpu_memory_used_ratio": 0.6, "!pressure_io_some_ratio": 0.1}, False),
])
def test_rules_on_gpus(alert, values, met):
    inputs = []
    for name, value in values.items():
        base, _, own = name.lstrip("!").partition("|")
        kind = "reason" if "clock_event" in base else "type"
        inputs.append((base, () if name[0] == "!" else tuple(sorted((*GPU, *(((kind, own),) if own else ())))), value))
    (score,) = [v for k, v in scores(*inputs).items() if k == f'{alert}{{gpu="1",uuid="GPU-b"}}']
    assert bool(score >= 1.0) is met


@pytest.mark.parametrize(("alert", "name", "value", "met"), [
    ("NvmeFailing", "nvme_spare_warning", 1.0, True),
    ("NvmeFailing", "nvme_reliability_warning", 1.0, True),
    ("NvmeFailing", "nvme_readonly_warning", 1.0, True),
    ("NvmeFailing", "nvme_backup_warning", 1.0, True),
    ("NvmeFailing", "nvme_readonly_warning", 0.0, False),
    ("NvmeMediaErrors", "nvme_media_errors_per_second", 1 / 60, True),
    ("NvmeMediaErrors", "nvme_media_errors_per_second", 0.0, False),
    ("NvmeHot", "nvme_temperature_warning", 1.0, True),
    ("NvmeHot", "nvme_throttled_ratio", 0.5, True),
    ("NvmeHot", "nvme_throttled_ratio", 0.01, False),
])
def test_rules_on_drives(alert, name, value, met):
    score = scores((name, labels(device="nvme0"), value))[f'{alert}{{device="nvme0"}}']
    assert bool(score >= 1.0) is met


def test_a_group_that_reads_what_does_not_fit_its_limit():
    """By its own pages that come back: those of another group are none of its business."""
    search, logs = labels(cgroup="/search"), labels(cgroup="/logs")
    inputs = [("cgroup_memory_failures_per_second", search, 20.0),
              ("cgroup_memory_refaults_per_second", search, 3000.0),
              ("cgroup_memory_failures_per_second", logs, 900.0), ("cgroup_memory_refaults_per_second", logs, 0.0),
              ("cgroup_memory_used_ratio", logs, 0.9), ("cgroup_memory_used_ratio", search, 0.1),
              ("vm_workingset_refaults_per_second", (), 30000.0)]
    found = scores(*inputs, ("pressure_io_some_ratio", (), 0.9))
    assert found['CgroupMemoryPressure{cgroup="/search"}'] >= 1.0
    assert found['CgroupMemoryPressure{cgroup="/logs"}'] == 0.0
    calm = scores(*inputs, ("pressure_io_some_ratio", (), 0.1))
    assert calm['CgroupMemoryPressure{cgroup="/search"}'] < 1.0, "nobody waits for it"


def test_a_group_whose_own_pages_are_not_counted_is_judged_by_those_of_the_host():
    old = labels(cgroup="/old")
    found = scores(("cgroup_memory_failures_per_second", old, 900.0), ("cgroup_memory_used_ratio", old, 0.9),
                   ("vm_workingset_refaults_per_second", (), 1000.0))
    assert found['CgroupMemoryPressure{cgroup="/old"}'] == pytest.approx(0.9 / 0.5)


def test_a_group_out_of_memory_whose_killer_is_off():
    own = labels(cgroup="/batch")
    for waiting, score in ((1.0, 2.0), (0.0, 0.0)):
        assert scores(("cgroup_memory_oom_waiting", own, waiting))['CgroupOutOfMemory{cgroup="/batch"}'] == score
