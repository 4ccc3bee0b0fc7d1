"""Shared rules of the tests: what a test needs, and when a skip is a failure.

ETIO_REQUIRE=bpf,root,chromium,alertmanager,qemu turns the skip of a test that needs one of these into a failure,
so that continuous integration cannot go green by skipping.
"""

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "etio-hypothesis"))


# A busy host makes any example slow. The examples are the same in each run: what is found by looking further, with
# --hypothesis-profile=explore, is found by somebody who looks. scripts/check tries a quarter of them.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("explore"), derandomize=True)
settings.register_profile("quick", settings.get_profile("same"), max_examples=25)
settings.load_profile("same")


@cache
def _has_bcc() -> bool:
    python = Path("/usr/bin/python3")
    if os.geteuid() != 0 or not python.exists():
        return False
    return subprocess.run([str(python), "-c", "import bcc"], capture_output=True, check=False).returncode == 0


PROBES = {
    "root": lambda: os.geteuid() == 0,
    "bpf": _has_bcc,
    "chromium": lambda: shutil.which("chromium") is not None and shutil.which("chromedriver") is not None,
    "alertmanager": lambda: shutil.which("prometheus-alertmanager") is not None,
    "qemu": lambda: shutil.which("qemu-system-x86_64") is not None and shutil.which("debootstrap") is not None,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    required = set(filter(None, os.environ.get("ETIO_REQUIRE", "").split(",")))
    for name, present in PROBES.items():
        if item.get_closest_marker(f"needs_{name}") is None or present():
            continue
        if name in required:
            pytest.fail(f"ETIO_REQUIRE names {name}, but it is not here")
        pytest.skip(f"needs {name}")
