"""A whole machine of its own: stock Debian kernel, systemd, cgroup v2, two NUMA nodes, installed as by a user."""

import json
from pathlib import Path

import pytest

from collector.nvme import COLUMNS as NVME
from tests import vm_machine

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_qemu]
MINUTES = 20


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    work = tmp_path_factory.mktemp("vm")
    vm_machine.image(work, Path(__file__).with_name("vm_probe.py"))
    found = vm_machine.boot(work, MINUTES * 60)
    assert "error" not in found, f"{found['error']}\n{found['journal']}"
    return found


def test_it_runs_as_a_service_of_systemd(seen):
    units = seen["look"]["units"]
    assert units["etio"]["ActiveState"] == units["etio-warden"]["ActiveState"] == "active", units
    assert (units["etio"]["Type"], units["etio"]["User"]) == ("notify", "etio")
    assert units["etio"]["NRestarts"] == seen["units_after"]["etio"]["NRestarts"] == "0"
    assert seen["look"]["ready"]
    assert seen["look"]["settled"], seen["look"]["status"]


def test_the_daemon_holds_no_capability(seen):
    held = seen["look"]["daemon"]
    assert int(held["CapEff"], 16) == int(held["CapBnd"], 16) == 0
    assert not held["Uid"].startswith("0")


def test_the_programs_load_on_the_stock_kernel(seen):
    assert seen["look"]["kernel"].startswith({"bookworm": "6.1.", "trixie": "6.12."}.get(vm_machine.SUITE, ""))
    assert seen["look"]["status"]["tier"] == "T1", seen["look"]["status"]["tier_reason"]


def test_no_collector_fails(seen):
    failed = {name: why for name, (state, why) in seen["look"]["collectors"].items() if state == "failed"}
    assert failed == {}


def test_pages_on_the_other_node_are_seen(seen):
    assert len(seen["numa"]["series"]["numa_memory_free_bytes"]) == 2
    assert seen["numa"]["other_node"], seen["numa"]["series"]


def test_memory_on_the_other_node_is_told_of_its_processes(seen):
    assert seen["numa"]["remote_ratio"]
    assert max(seen["numa"]["remote_ratio"]) <= 1.0


def test_the_drives_are_asked_for_their_health(seen):
    drives, health = seen["drives"]["serial"], seen["drives"]["health"]
    well, failing = health[drives["well"]], health[drives["failing"]]
    told = {c.name for c in NVME if c.kind == "gauge"} - {"nvme_spare_ratio", "nvme_spare_threshold_ratio"}
    assert told <= well.keys() & failing.keys()
    assert not any(name.startswith("nvme_spare_") and name.endswith("_ratio") for name in well)  # QEMU: 0 of 0
    assert well["nvme_temperature_celsius"] == 50.0  # QEMU: 323 K
    assert (well["nvme_reliability_warning"], failing["nvme_reliability_warning"]) == (0.0, 1.0)
    assert well["nvme_spare_warning"] == failing["nvme_spare_warning"] == 0.0
    assert seen["drives"]["written"], "16 MiB were written to one"


def test_the_failing_drive_is_named(seen):
    report = seen["drives"]["report"]
    assert report is not None, json.dumps(seen["broken"]["alerts"])[:2000]
    assert f"It is the drive {seen['drives']['serial']['failing']} (QEMU NVMe" in json.dumps(report)


def test_the_unit_that_ran_out_of_memory_is_named(seen):
    report = seen["broken"]["oom"]
    assert report is not None, json.dumps(seen["broken"]["alerts"])[:2000]
    assert "greedy.service" in json.dumps(report)


def test_the_unit_held_back_by_its_quota_is_named(seen):
    report = seen["broken"]["quota"]
    assert report is not None, json.dumps(seen["broken"]["alerts"])[:2000]
    assert "held.service" in json.dumps(report)


def test_restarts_are_those_that_systemd_counts(seen):
    loop = seen["units"]["loop"]
    assert loop is not None, json.dumps(seen["broken"]["alerts"])[:2000]
    assert "it exited with status 3 (Result=exit-code)" in json.dumps(loop)
    assert seen["units"]["before"] <= seen["units"]["counted"] <= seen["units"]["after"]
    assert seen["units"]["before"] >= 3


def test_a_unit_that_failed_is_named_with_how(seen):
    report = seen["units"]["failed"]
    assert report is not None, json.dumps(seen["broken"]["alerts"])[:2000]
    assert "broken.service failed: it was killed by SIGKILL (Result=signal)" in json.dumps(report)
