"""A clock that is set back by an hour blinds nobody for an hour: what rests is due at once."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from etio.core.due import is_due
from etio.core.facts import HostInfo, ProcessTable
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series
from etio.daemon.budget import Budget
from etio.daemon.facts import FactKeeper
from etio.daemon.runner import Runner
from etio.daemon.shedding import Shedding

T = 1_800_000_000 * NS
HOUR = 3600 * NS


class Reads:
    """A collector that notes when it is read."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def open(self, root: Path) -> None:
        """Nothing is opened."""

    def collect(self, t_ns: int) -> Reading:
        self.times.append(t_ns)
        return Reading((Series("x", "1"),), np.array([1.0]))

    def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize(("t", "due"), [(0, True), (89, True), (90, False), (99, False), (100, True), (1000, True)])
def test_what_is_to_rest_longer_than_it_may_is_due(t, due):
    assert is_due(t, 100, 10) == due


def test_collectors_are_read_at_once_and_then_by_their_period():
    reads = Reads()
    runner = Runner(CollectorSpec("reads", object, None, "", ()), reads, Path("/"), 5.0)
    for t in (T, T + NS, T - HOUR, T - HOUR + NS, T - HOUR + 5 * NS):
        runner.take(t)
    assert reads.times == [T, T - HOUR, T - HOUR + 5 * NS]


def test_a_thread_of_its_own_does_not_sleep_for_the_hour():
    reads = Reads()
    runner = Runner(CollectorSpec("reads", object, None, "", (), slow=True), reads, Path("/"), 0.2)
    runner.due_ns, runner.pause_ns = time.time_ns() + HOUR, NS // 10
    thread = threading.Thread(target=runner.serve, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not reads.times and time.monotonic() < deadline:
        time.sleep(0.01)
    runner.stop()
    thread.join(30)
    assert reads.times


def test_tables_are_made_anew_and_those_of_a_time_to_come_are_forgotten():
    keeper = FactKeeper(HostInfo("web1", "6.1", "Debian", 2, 1, 1e9))
    keeper.add("processes", lambda t_ns: ProcessTable(t_ns, ()))
    for t in (T, T + 60 * NS, T - HOUR, T - HOUR + NS):
        keeper.tick(t)
    assert [table.t_ns for table in keeper.facts(T - HOUR).processes] == [T - HOUR]


def test_the_budget_goes_on_being_measured():
    measured: list[int] = []
    shedding = Shedding(Budget(5.0), [], 60.0, lambda: measured.append(1))
    for t in (T, T + NS, T - HOUR, T - HOUR + NS):
        shedding.tick(t)
    assert len(measured) == 2
