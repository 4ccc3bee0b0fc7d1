"""Readings that are made some ticks after they were read: what was read counts, in order, and an error is told."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from collector.ebpf.client import Loaded
from collector.ebpf.collector import EbpfCollector
from collector.ebpf.reader import LateFamily
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec, Deferring
from etio.core.series import Series
from etio.daemon.runner import Late, Runner
from tests.collector_rig import values

HOST = Path(__file__).parent / "golden/debian10-4.19-cgroup1"
SERIES = (Series("read", "1"),)


def copied(tmp_path: Path) -> Path:
    for one in sorted(HOST.rglob("*")):
        if one.is_file():
            to = tmp_path / one.relative_to(HOST)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(one.read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", ["memory", "vmstat", "tcp", "cpu", "disks"])
def test_what_counts_is_what_was_read_and_not_what_the_file_says_later(name, tmp_path):
    spec: CollectorSpec = importlib.import_module(f"collector.{name}").COLLECTOR
    whole, late = (spec.build(spec.config()) for _ in range(2))
    root = copied(tmp_path)
    whole.open(root)
    late.open(root)
    assert isinstance(late, Deferring)
    expected = values(whole.collect(NS))
    made = late.grab(NS)
    for file in (root / "proc").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    found = values(made())
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(list(found.values()), list(expected.values()))


class Counter:
    """A collector that counts its grabs. fails: what the making of each raises."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.grabs = 0
        self.fails = fails

    def open(self, root: Path) -> None:
        """Nothing is opened."""

    def grab(self, t_ns: int):
        self.grabs += 1
        return lambda grabs=self.grabs: self._made(grabs)

    def _made(self, grabs: int) -> Reading:
        if self.fails:
            raise self.fails
        return Reading(SERIES, np.array([float(grabs)]))

    def collect(self, t_ns: int) -> Reading:
        return self.grab(t_ns)()

    def close(self) -> None:
        """Nothing is held."""


def runner_of(collector: Counter) -> Runner:
    spec = CollectorSpec("counter", type(None), Counter, "nothing", ())
    return Runner(spec, collector, Path("/"), 1.0)


def test_a_runner_counts_a_late_reading_when_it_is_made():
    one = runner_of(Counter())
    held = [one.take(t * NS) for t in (1, 2)]
    assert one.state == "off"
    assert [t for t, _ in held] == [NS, 2 * NS]
    assert all(isinstance(late, Late) for _, late in held)
    assert [float(late.made().values[0]) for _, late in held] == [1.0, 2.0]
    assert (one.state, one.health.readings, one.health.series) == ("on", 2, 1)


@pytest.mark.parametrize(("error", "state"), [(Broken("half a line"), "failed"), (NoData("empty"), "nodata")])
def test_what_cannot_be_made_is_told_by_its_runner(error, state):
    one = runner_of(Counter(error))
    _, late = one.take(NS)
    assert late.made() is None
    assert one.state == state
    assert str(error) in one.reason


def test_one_that_hung_while_reading_leaves_its_reading_all_the_same():
    one = runner_of(Counter())
    one.slow = True
    one.leave((NS, Late(lambda: Reading(SERIES, np.array([7.0])))))
    one.leave((2 * NS, Late(lambda: None)))
    one._thread = object()  # it has the thread it hung in
    t_ns, reading = one.take(3 * NS)
    assert (t_ns, float(reading.values[0])) == (NS, 7.0)


class Killing(LateFamily):
    """A family whose counter stands at the tick, and which tells of a kill at tick 3."""

    def __init__(self) -> None:
        super().__init__({"name": "killing"})
        self.series = list(SERIES)
        self.made: list[int] = []
        self.tick = 0

    def grab(self):
        self.tick += 1
        return lambda tick=self.tick: self.made.append(tick) or [float(tick)]

    def events(self, t_ns: int) -> Sequence[HostEvent]:
        return (HostEvent(t_ns, "oom_kill", "pid=7"),) if self.tick == 3 else ()


def test_a_kill_does_not_wait_and_what_was_read_before_it_is_made_first():
    ebpf, family = EbpfCollector(Loaded({"families": [], "cpus": 1}, ())), Killing()
    ebpf._readers, ebpf._places = [family], [[]]
    first, second = ebpf.grab(NS), ebpf.grab(2 * NS)
    assert family.made == []
    third = ebpf.grab(3 * NS)
    assert isinstance(third, Reading)
    assert [event.kind for event in third.events] == ["oom_kill"]
    assert [float(one.values[0]) for one in (first(), second(), third)] == [1.0, 2.0, 3.0]
    fourth = ebpf.grab(4 * NS)
    assert family.made == [1, 2, 3]
    assert float(fourth().values[0]) == 4.0
