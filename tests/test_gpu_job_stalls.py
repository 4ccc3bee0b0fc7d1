"""Jobs that stop: how long, and that neither a pause nor a job without a rhythm is one."""

import math

import numpy as np
import pytest

from collector.gpu_job_names import Name
from collector.gpu_job_stalls import Stalls
from collector.gpu_job_steps import ARRIVAL, Rank, steps_of
from etio.core.frame import NS


def rank(name, last_s, job="a"):
    """One that began a collective each second, the last one at that moment."""
    one = Rank(Name(job, name, math.nan), 100 + int(name), 1)
    times = np.arange(0.0, last_s + 0.001)
    rows = np.zeros(len(times), ARRIVAL)
    rows["number"], rows["ns"], rows["op"], rows["count"] = np.arange(1, len(times) + 1), times * NS, 1, 4096
    one.take(rows)
    return one


def job(*lasts):
    ranks = [rank(str(i), last) for i, last in enumerate(lasts)]
    steps_of(ranks)
    return ranks


@pytest.mark.parametrize(("now_s", "stopped"), [(41, 0.0), (55, 0.0), (100, 60.0), (400, 360.0)])
def test_a_job_has_stopped_after_twenty_iterations_without_a_collective(now_s, stopped):
    ranks = job(40, 40, 39, 40)
    silent, jobs = Stalls().of({"a": ranks}, now_s * NS)
    assert jobs == {"a": stopped}
    assert [silent[one] for one in ranks] == [now_s - 40, now_s - 40, now_s - 39, now_s - 40]


def test_one_that_goes_on_keeps_the_job_going():
    ranks = job(40, 40)
    ranks[1].take(np.array([(99, 100 * NS, 4096, 0, 1, 0)], ARRIVAL))
    assert Stalls().of({"a": ranks}, 101 * NS)[1] == {"a": 0.0}


def test_a_rank_that_died_leaves_a_job_that_has_stopped():
    stalls, ranks = Stalls(), job(40, 40)
    assert stalls.of({"a": ranks}, 41 * NS)[1] == {"a": 0.0}
    assert stalls.gone({"a": ranks}) == {}
    assert stalls.of({"a": ranks[:1]}, 100 * NS)[1] == {"a": 60.0}
    assert stalls.gone({"a": ranks[:1]}) == {("a", "1"): 101}
    assert stalls.of({}, 101 * NS) == ({}, {})
    assert stalls.of({"a": ranks[:1]}, 102 * NS)[1] == {}, "another job of the same name"


def test_without_iterations_or_peers_nothing_is_said():
    alone = job(40)
    assert Stalls().of({"a": alone}, 400 * NS)[1] == {}
    fresh = [rank("0", 2), rank("1", 2)]
    assert Stalls().of({"a": fresh}, 400 * NS)[1] == {}
