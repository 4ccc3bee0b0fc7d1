"""A card on a real control group: the commands it prints do what they say, even for a hostile name, and back again."""

import os
import subprocess
from pathlib import Path

import pytest

from collector.knobs import KnobReader
from etio.core.evidence import Evidence
from etio.core.facts import Facts, HostInfo
from etio.core.report import Culprit, Finding
from rca.cards import suggest

pytestmark = pytest.mark.needs_root
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


@pytest.fixture(params=["plain", "x; touch hacked #", "it's $(touch hacked)"])
def group(request):
    """A group with a quota of half a core; its path below the root of its hierarchy, and its directory."""
    top = V1 if (V1 / "cpu.cfs_quota_us").exists() or (V1 / "cgroup.procs").exists() else V2
    path = top / f"etio-card-{os.getpid()}-{request.param}"
    try:
        path.mkdir()
        quota = path / ("cpu.cfs_quota_us" if top == V1 else "cpu.max")
        quota.write_text("50000" if top == V1 else "50000 100000")
    except OSError as error:
        pytest.skip(f"no cpu controller to write to: {error}")
    yield f"/{path.name}", quota
    path.rmdir()


def test_apply_and_roll_back(group, tmp_path):
    path, quota = group
    before = quota.read_text()
    entity = f"cgroup={path}"
    evidence = [
        Evidence("E1", "series", "c", entity, "cgroup_cpu_usage_cores{}", value=0.5),
        Evidence("E2", "series", "c", entity, "cgroup_cpu_throttled_seconds_per_second{}", value=0.5),
    ]
    finding = Finding("cgroup_cpu_throttling", "t", "CONFIRMED", "w", ("E1", "E2"), entity=entity,
                      culprit=Culprit("cgroup", path, cgroup=path))  # fmt: skip
    one = suggest(finding, evidence, Facts(HostInfo("h", cpus=2)), KnobReader(Path("/")), 1)[0]
    assert one.current.startswith("0.50 cores")
    for command, value in ((one.apply, "120000"), (one.rollback, before.split()[0])):
        subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=10)
        assert quota.read_text().split()[0] == value
    assert quota.read_text() == before
    assert subprocess.run(["sh", "-c", one.verify], capture_output=True, check=True, timeout=10).stdout
    assert list(tmp_path.iterdir()) == []
