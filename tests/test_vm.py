"""A whole machine of its own: stock Debian 6.1 kernel, systemd, cgroup v2, two NUMA nodes, installed as by a user."""

import json
from pathlib import Path

import pytest

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
    assert seen["look"]["kernel"].startswith("6.1.")
    assert seen["look"]["status"]["tier"] == "T1", seen["look"]["status"]["tier_reason"]


def test_no_collector_fails(seen):
    failed = {name: why for name, (state, why) in seen["look"]["collectors"].items() if state == "failed"}
    assert failed == {}


def test_pages_on_the_other_node_are_seen(seen):
    assert len(seen["numa"]["series"]["numa_memory_free_bytes"]) == 2
    assert seen["numa"]["other_node"], seen["numa"]["series"]


def test_the_unit_that_ran_out_of_memory_is_named(seen):
    report = seen["broken"]["oom"]
    assert report is not None, json.dumps(seen["broken"]["alerts"])[:2000]
    assert "greedy.service" in json.dumps(report)


def test_the_unit_held_back_by_its_quota_is_named(seen):
    report = seen["broken"]["quota"]
    assert report is not None, json.dumps(seen["broken"]["alerts"])[:2000]
    assert "held.service" in json.dumps(report)
