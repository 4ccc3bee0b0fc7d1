"""The benchmarks of the price: hosts made large, and how ratios are summed up."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import overhead, scale, scale_host, slowdown, twin
from bench.scale_host import Size, make
from collector.cgroups import CgroupReader
from collector.processes import ProcessReader
from etio.core.frame import NS


def test_a_host_made_large_is_read_whole(tmp_path):
    size = Size(cores=32, disks=5, groups=130, gpus=2, processes=40)
    make(tmp_path / "root", size)
    readings, costs, periods = scale.read_all(tmp_path / "root")
    names = [s.key for s in readings["cpu"].series]
    assert sum(n.startswith("cpu_core_busy_ratio") for n in names) == 32
    assert sum(s.name == "disk_busy_ratio" for s in readings["disks"].series) == 5
    assert set(costs) == set(periods)
    groups = dict(zip((s.name for s in readings["cgroups"].series), readings["cgroups"].values, strict=False))
    assert groups["cgroup_groups"] == 132, "two slices"
    assert groups["cgroup_groups_left_out"] > 0, "what the cap left out is told"
    assert len(CgroupReader(tmp_path / "root").read(NS).cgroups) == 132
    assert len(ProcessReader(tmp_path / "root").read(NS).processes) == 40


def test_growth_is_the_exponent():
    hosts = {"8": {"things": 10, "total_ms": 2.0}, "64": {"things": 50, "total_ms": 9.0},
             "256": {"things": 1000, "total_ms": 200.0}}
    assert scale.growth(hosts) == {"total_ms": 1.0}


def test_one_disturbed_pair_moves_no_median():
    found = slowdown.summary([1.01, 1.01, 1.02, 9.0, 1.0])
    assert found == {"median_ratio": 1.01, "pairs": 5, "spread": 0.005}
    assert slowdown.summary([1.1])["spread"] == 0.0


def test_work_that_fails_is_left_out_with_its_reason():
    with pytest.raises(Exception, match="false"):
        slowdown.run("false")


def test_the_ratio_counts_the_kernel_side():
    row = {"cpu_percent": 0.4, "kernel_cpu_percent": 0.1, "series": 1000}
    result = {"etio": row, "netdata": {**row, "cpu_percent": 0.9, "series": 500}}
    overhead._ratios(result)
    assert result["cpu_ratio_per_1000_series"] == {"netdata": 0.25}


def test_the_twin_run_tells_what_is_more():
    pairs = [(twin.Side(2.0, 1.0, 400_000), twin.Side(2.0 + more, 1.01, 500_000)) for more in (0.05, 0.06, 0.9)]
    found = twin.summary(pairs)
    assert (found["pairs"], found["machine"]["seconds"], found["machine"]["ns_per_switch"]) == (3, 0.06, 120.0)
    assert (found["work"]["without_seconds"], found["work"]["seconds"]) == (1.0, 0.01)
    assert twin.summary(pairs[:1])["machine"]["spread_seconds"] == 0.0


def test_system_time_is_that_of_the_kernel():
    assert twin.machine_system("cpu  100 20 300 4000 5 60 7 8 0 0\ncpu0 1 1 1") == 3.67
    assert twin.machine_system() > 0
    assert twin.tree_system(0) == 0.0
    assert twin.tree_system(1) >= 0.0


def test_an_installed_copy_finds_the_hosts_in_the_checkout(tmp_path):
    """scripts/bench runs the benchmarks from the environment it keeps, which has no tests in it."""
    shutil.copytree(Path(scale_host.__file__).parent, tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from bench.scale_host import BASE, GROUP; print(BASE.is_dir() and GROUP.is_dir())"
    source = str(Path(__file__).parents[1])
    for told, found in (({"ETIO_SOURCE": source}, "True"), ({}, "False")):
        printed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True,
                                 env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), **told}).stdout
        assert printed.strip() == found
    assert "ETIO_SOURCE=$here" in Path(source, "scripts/bench").read_text()
