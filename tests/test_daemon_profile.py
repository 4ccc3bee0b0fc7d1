"""The lean profile: no river, less room, the same collectors and rules."""

import pytest

from etio.core.errors import ConfigError
from etio.daemon.config import from_table
from etio.daemon.profile import COMPACT_MB, STORE_MB
from tests import daemon_rig as rigs

LEAN = """
[daemon]
profile = "lean"
ebpf = "off"
"""


def test_lean_leaves_out_what_needs_river_and_nothing_else():
    full, lean = from_table({}, "x"), from_table({"daemon": {"profile": "lean"}}, "x")
    assert set(full.detectors) - set(lean.detectors) == {"drift"}
    assert set(lean.collectors) == set(full.collectors)
    assert lean.store.memory_limit_mb == STORE_MB < full.store.memory_limit_mb
    assert lean.store.compact_memory_mb == COMPACT_MB < full.store.compact_memory_mb
    assert lean.daemon.memory_minutes < full.daemon.memory_minutes


def test_what_the_file_asks_for_is_never_raised():
    table = {"daemon": {"profile": "lean", "memory_minutes": 2.0}, "store": {"memory_limit_mb": 16}}
    lean = from_table(table, "x")
    assert (lean.daemon.memory_minutes, lean.store.memory_limit_mb) == (2.0, 16)


def test_another_profile_is_refused():
    with pytest.raises(ConfigError, match="profile = 'tiny'"):
        from_table({"daemon": {"profile": "tiny"}}, "x")


@pytest.mark.slow
def test_the_lean_daemon_never_loads_river():
    with rigs.daemon(LEAN) as rig:
        rig.start()
        rigs.wait_for(lambda: rig.status()["frames"] > 3, 60)
        with open(f"/proc/{rig.pid}/maps") as maps:
            assert "river" not in maps.read()
