"""Frames that are held back while nothing is wrong: none is lost, none differs, none is overtaken by an event."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etio.core.builder import Catalogue, FrameBuilder
from etio.core.engine import Engine
from etio.core.event import FrameReady, HostEvent, Tick
from etio.core.frame import NS, Reading
from etio.core.policy import EngineConfig
from etio.core.series import Series
from etio.daemon import live
from etio.daemon.bursts import Bursts
from etio.daemon.loop import Hands, Loop
from etio.daemon.sdnotify import Notifier

SERIES = (Series("forks", "1/s", "counter"), Series("load", "1"))


def reading(forks, load):
    return Reading(SERIES, np.array([forks, load], dtype=float))


def told(most, hurry=lambda: False):
    posted = []
    bursts = Bursts(FrameBuilder(Catalogue()), posted.append, most, hurry)
    return bursts, posted


def ticks(bursts, count, first=1):
    for t in range(first, first + count):
        bursts.add("cpu", t * NS, reading(10 * t, t), 2 * NS)
        bursts.cut(t * NS)


def times(posted):
    return [one.frame.t_ns // NS if isinstance(one, FrameReady) else one.kind for one in posted]


def test_quiet_ticks_come_in_threes():
    bursts, posted = told(3)
    ticks(bursts, 2)
    assert posted == []
    ticks(bursts, 5, first=3)
    assert times(posted) == [1, 2, 3, 4, 5, 6]
    bursts.close()
    assert times(posted) == [1, 2, 3, 4, 5, 6, 7]


def test_who_waits_gets_each_frame_and_those_that_were_held():
    wanted = []
    bursts, posted = told(3, lambda: bool(wanted))
    ticks(bursts, 1)
    wanted.append(True)
    ticks(bursts, 2, first=2)
    assert times(posted) == [1, 2, 3]


def test_an_event_comes_behind_the_frames_before_it_and_its_own_frame_at_once():
    bursts, posted = told(5)
    ticks(bursts, 2)
    bursts.add("cpu", 3 * NS, reading(30, 3), 2 * NS)
    bursts.tell(HostEvent(3 * NS, "oom_kill", "pid=7", (), "kmsg"))
    assert times(posted) == [1, 2, "oom_kill"]
    bursts.cut(3 * NS)
    ticks(bursts, 1, first=4)
    assert times(posted) == [1, 2, "oom_kill", 3]


def test_readings_that_share_a_growing_list_keep_their_own_part_of_it():
    bursts, posted = told(2)
    series = [SERIES[1]]
    bursts.add("gpu", NS, Reading(series, np.array([1.0])), 2 * NS)
    bursts.cut(NS)
    series.append(Series("power", "watts"))
    bursts.add("gpu", 2 * NS, Reading(series, np.array([2.0, 90.0])), 2 * NS)
    bursts.cut(2 * NS)
    assert [one.frame.values.tolist() for one in posted] == [[1.0], [2.0, 90.0]]


WORK = st.lists(st.sampled_from(["add", "drop", "cut", "tell"]), max_size=40)


@given(WORK, st.integers(2, 6))
def test_frames_are_the_same_however_many_are_held(work, most):
    one, many = ([], told(1)), ([], told(most))
    for _, (bursts, _) in (one, many):
        t = 0
        for what in work:
            if what == "add":
                bursts.add("cpu", t * NS + 1, reading(t * t, t), 2 * NS)
            elif what == "drop":
                bursts.drop("cpu")
            elif what == "tell":
                bursts.tell(Tick(t * NS))
            else:
                t += 1
                bursts.cut(t * NS)
        bursts.close()
    plain = [[(e.frame.t_ns, e.frame.series, e.frame.values) for e in posted if isinstance(e, FrameReady)]
             for _, (_, posted) in (one, many)]
    assert len(plain[0]) == len(plain[1])
    for (t_ns, series, values), (held_ns, held_series, held_values) in zip(*plain, strict=True):
        assert (t_ns, series) == (held_ns, held_series)
        np.testing.assert_array_equal(values, held_values)


def test_who_asks_for_the_newest_values_is_somebody_who_watches(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    view = live.LiveView(10, lambda: None)
    assert not view.watched()
    view.latest()
    now[0] += live.WATCHED_S - 0.1
    assert view.watched()
    now[0] += 0.2
    assert not view.watched()


def test_frames_that_come_after_the_stop_are_worked_off():
    kept = []
    hands = Hands(lambda event: kept.append(event.frame.t_ns), *[lambda action: None] * 5)
    loop = Loop(Engine(EngineConfig(), ()), hands, Notifier())
    bursts = Bursts(FrameBuilder(Catalogue()), loop.post, 3, lambda: False)
    loop.stop()
    ticks(bursts, 2)
    loop.run()
    assert kept == []
    bursts.close()
    loop.rest()
    assert kept == [NS, 2 * NS]
