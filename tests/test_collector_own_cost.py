"""What etio costs, as series."""

import math
from pathlib import Path

import pytest

from collector.own_cost import Account, Config, OwnCost
from etio.core.errors import NoData


def test_the_daemons_account_becomes_series_and_a_collector_that_is_off_is_missing():
    one = OwnCost(Config())
    accounts = iter([Account(0.008, math.nan, {"cpu": 1e-4, "tcp": 3e-4}), Account(0.009, 1.2e8, {"cpu": 2e-4})])
    one.source = lambda: next(accounts)
    one.open(Path("/"))
    first, second = one.collect(1), one.collect(2)
    assert [s.key for s in second.series] == ["etio_cpu_cores", "etio_memory_pss_bytes", *(
        f'etio_collector_cpu_cores{{collector="{name}"}}' for name in ("cpu", "tcp"))]
    assert first.values.tolist() == pytest.approx([0.008, math.nan, 1e-4, 3e-4], nan_ok=True)
    assert second.values.tolist() == pytest.approx([0.009, 1.2e8, 2e-4, math.nan], nan_ok=True)


def test_outside_of_the_daemon_there_is_nothing_to_tell():
    with pytest.raises(NoData):
        OwnCost(Config()).open(Path("/"))
