"""A training job on stand-ins for NCCL, a real daemon: the rank that is held back is found and named."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.drills._gpu_job import training
from bench.drills._tools import cgroup
from tests.daemon_rig import Rig, daemon, folder, wait_for

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root, pytest.mark.slow,
              pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")]
ON = "[collector.gpu_jobs]\nenabled = true\nlook_s = 1.0\n"
RANKS = ("RankStraggling",)


@contextmanager
def quota(percent: int) -> Iterator[Path]:
    """A control group that may use so much of one core."""
    us = str(percent * 1000)
    with cgroup("etio-test-slow-rank", "cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": us},
                {"cpu.max": f"{us} 100000"}) as made:
        yield made


def health(rig: Rig) -> dict[str, Any]:
    return next(c for c in rig.status()["collectors"] if c["name"] == "gpu_jobs")


def stragglers(rig: Rig) -> list[dict[str, Any]]:
    """Alerts of slow ranks, oldest first."""
    rows = [a for a in rig.get("/api/v1/alerts?state=all")["alerts"] if a["name"] in RANKS]
    return sorted(rows, key=lambda a: int(a["firing_ns"]))


def steps(rig: Rig) -> int:
    """Seconds for which every rank of the job has told its own time."""
    rows = rig.query("SELECT count(*) FROM samples WHERE key = 'gpu_job_own_seconds{job=\"drill\",rank=\"1\"}'")
    return int(rows[0][0])


def told(rig: Rig) -> dict[str, Any] | None:
    """The newest report of an incident with a slow rank."""
    for row in rig.get("/api/v1/reports?limit=20")["reports"]:
        report = dict(rig.get(f"/api/v1/reports/{row['id']}"))
        if any(one.startswith("RankStraggling") for one in report["alerts"]):
            return report
    return None


def test_a_rank_held_back_by_its_quota_is_found_and_named():
    """Rank 1 computes some 8 of every 55 ms, and then may use 6 of every 100 ms only."""
    with folder() as place, daemon(ON) as rig, quota(6) as group:
        rig.start()
        with training(place, work=30_000_000, sleep_us=45_000) as job:
            wait_for(lambda: steps(rig) >= 10, 120, 0.5)
            (group / "cgroup.procs").write_text(str(job.ranks[1].pid))
            first = wait_for(lambda: stragglers(rig), 90, 0.5)[0]
            assert first["labels"] == {"job": "drill", "rank": "1"}
            assert "longer than" in first["summary"]
            report = wait_for(lambda: told(rig), 60, 0.5)
            assert "slow_rank" in {f["cause"] for f in report["findings"]} or any(
                "slow rank" in line for line in report["follows"]), report
        wait_for(lambda: _gone(rig), 60, 0.5)
        assert "Traceback" not in rig.text()


def _gone(rig: Rig) -> bool:
    """No process is watched any more."""
    rows = rig.query("SELECT value FROM samples WHERE name = 'gpu_job_processes' ORDER BY t DESC LIMIT 1")
    return rows[0][0] == 0.0


def test_switched_off_nothing_is_probed():
    with daemon() as rig:
        rig.start()
        wait_for(lambda: health(rig)["state"] == "nodata", 30)
        assert "enabled = true" in health(rig)["reason"]
