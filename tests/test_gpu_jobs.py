"""GPU jobs without a kernel: symbols in ELF files, names of ranks, iterations from arrivals, the collector's series."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ebpf.job_probes import JOBS, RING, SHARED_BYTES
from collector.gpu_job_names import name_of
from collector.gpu_job_steps import ARRIVAL, Rank, lateness, steps_of
from collector.gpu_jobs import _JOB, COLLECTOR, Config, GpuJobs
from etio.core.errors import Broken, NoData
from etio.core.frame import NS


def arrivals(times_s, blocked_s, codes=((1, 4096),)):
    """Rows in order: one for each time, its code by turns."""
    rows = np.zeros(len(times_s), ARRIVAL)
    rows["number"] = np.arange(1, len(times_s) + 1)
    rows["ns"] = np.round(np.array(times_s) * 1e9)
    rows["blocked_ns"] = np.round(np.array(blocked_s) * 1e9)
    for i in range(len(rows)):
        rows["op"][i], rows["count"][i] = codes[i % len(codes)]
    return rows


def rank(name="0", **env):
    return Rank(name_of({"pid": int(name) + 100, "env": {"RANK": name, "TORCHELASTIC_RUN_ID": "j", **env}}), 100, 1)


def test_iterations_of_a_loop_with_micro_batches():
    """Eight equal reductions, then one of another size, each second; half of the time is spent waiting."""
    codes = [*((1, 1000),) * 8, (1, 7)]
    steps = 20
    times = [i + k / 9 for i in range(steps) for k in range(9)]
    one = rank()
    one.take(arrivals(times, [t / 2 for t in times], codes))
    (step,) = steps_of([one]).values()
    assert step.iterations == steps - 1
    assert (step.seconds, step.own_seconds, step.blocked_ratio) == pytest.approx((1.0, 0.5, 0.5))
    assert np.isnan(step.lateness_seconds)
    assert steps_of([one]) == {}
    one.take(arrivals([20 + k / 9 for k in range(9)], [10.0] * 9, codes))
    assert steps_of([one])[one].iterations == 1


def test_ranks_are_told_at_the_same_iteration_and_the_late_one_is_late():
    first, second, third = ranks = [rank(str(i)) for i in range(3)]
    for i, one in enumerate(ranks):
        late = 0.05 if i == 2 else 0.0
        count = 20 if i == 1 else 21  # the last arrival of one is not there yet
        one.take(arrivals([k + late for k in range(count)], [k * (0.3 - late) for k in range(count)]))
    told = steps_of(ranks)
    assert [told[one].iterations for one in ranks] == [19, 19, 19]
    assert told[third].own_seconds - told[first].own_seconds == pytest.approx(0.05)
    assert told[third].lateness_seconds == pytest.approx(0.05)
    assert told[second].lateness_seconds == pytest.approx(-0.025)


def test_a_rank_that_stopped_does_not_hold_the_others_up():
    going, stopped = rank("0"), rank("1")
    going.take(arrivals(range(60), [0.0] * 60))
    stopped.take(arrivals(range(20), [0.0] * 20))
    assert steps_of([going, stopped])[going].iterations == 59


def test_without_a_loop_there_is_no_iteration():
    one, rng = rank(), np.random.default_rng(1)
    one.take(arrivals(np.cumsum(rng.random(200)), [0.0] * 200, [(1, int(n)) for n in rng.integers(0, 2**40, 200)]))
    assert steps_of([one]) == {}


def test_another_loop_is_found_anew():
    one = rank()
    one.take(arrivals(range(40), [0.0] * 40, [(1, 5), (2, 6)]))
    assert steps_of([one])[one].seconds == pytest.approx(2.0)
    for i in range(12):
        codes = [(1, 8), (2, 9), (3, 10), (3, 11), (3, 12)]
        one.take(arrivals([50 + i * 10 + k for k in range(10)], [0.0] * 10, codes))
    assert steps_of([one])[one].seconds == pytest.approx(5.0)


def test_more_waiting_than_time_is_not_told_as_own_time():
    """Two threads that wait at once."""
    one = rank()
    one.take(arrivals(range(20), [2.0 * k for k in range(20)]))
    step = steps_of([one])[one]
    assert np.isnan(step.own_seconds)
    assert np.isnan(step.blocked_ratio)


TIMES = st.lists(st.integers(0, 10**12), max_size=20)


@given(TIMES, st.lists(TIMES, max_size=4))
def test_lateness_of_anything(own, others):
    late = lateness(np.array(sorted(own), dtype=np.int64), [np.array(sorted(o), dtype=np.int64) for o in others], 1e9)
    assert np.isnan(late) or abs(late) <= 0.5


class Kernel:
    """Stands in for warden and kernel: a map in memory, and processes."""

    def __init__(self):
        self.fd = os.memfd_create("etio-test")
        os.ftruncate(self.fd, (SHARED_BYTES + 4095) & ~4095)
        self.jobs = np.zeros(JOBS, _JOB)
        self.processes, self.ended, self.busy, self.reason, self.sampling = [], 0, False, "", False

    def add(self, pid, start=1, **env):
        self.processes.append({"pid": pid, "start": start, "env": env, "cgroup": "/x", "group": pid, "comm": "train"})

    def arrive(self, place, pid, rows):
        job = self.jobs[place]
        job["tgid"] = pid
        for row in rows:
            job["arrivals"] += 1
            place_of = int(job["arrivals"]) % RING
            job["ring"][place_of] = row
            job["ring"]["number"][place_of] = job["arrivals"]

    def __call__(self):
        os.pwrite(self.fd, self.jobs.tobytes(), 0)
        return {"processes": list(self.processes), "busy": self.busy, "reason": self.reason,
                "sampling": self.sampling}, os.dup(self.fd)

    def end(self):
        self.ended += 1


@pytest.fixture
def kernel():
    made = Kernel()
    yield made
    os.close(made.fd)


@pytest.fixture
def collector(kernel):
    made = GpuJobs(Config(enabled=True))
    made.source, made.release = kernel, kernel.end
    made.open(Path("/"))
    yield made
    made.close()


def values(collector, t=[0]):  # noqa: B006  # time goes on over all tests
    t[0] += 10
    reading = collector.collect(t[0] * NS)
    return {s.key: v for s, v in zip(reading.series, reading.values, strict=True) if not np.isnan(v)}


def test_off_by_default_and_without_a_warden():
    with pytest.raises(NoData, match="enabled = true"):
        COLLECTOR.build(Config()).open(Path("/"))
    with pytest.raises(NoData, match="etio-warden"):
        GpuJobs(Config(enabled=True)).open(Path("/"))
    for bad in ({"look_s": 0.1}, {"max_ranks": 0}, {"max_ranks": 65}):
        with pytest.raises(ValueError, match="look_s"):
            Config(**bad)


def test_a_host_without_gpu_jobs_has_one_number(collector):
    assert values(collector) == {"gpu_job_processes": 0.0, "gpu_job_arrivals_lost_per_second": 0.0}


def test_series_of_two_ranks(collector, kernel):
    for place, (pid, late) in enumerate(((11, 0.0), (12, 0.1))):
        kernel.add(pid, RANK=str(place), LOCAL_RANK=str(place), TORCHELASTIC_RUN_ID="j")
        kernel.arrive(place, pid, arrivals([k + late for k in range(20)], [k * (0.5 - late) for k in range(20)]))
    found = values(collector)
    assert found['gpu_job_own_seconds{job="j",rank="0"}'] == pytest.approx(0.5)
    assert found['gpu_job_own_seconds{job="j",rank="1"}'] == pytest.approx(0.6)
    assert found['gpu_job_arrival_lateness_seconds{job="j",rank="1"}'] == pytest.approx(0.1)
    assert found['gpu_job_process_id{job="j",rank="1"}'] == 12
    assert found['gpu_job_gpu_index{job="j",rank="1"}'] == 1
    assert found['gpu_job_collectives_per_second{job="j",rank="0"}'] == 20
    again = values(collector)
    assert 'gpu_job_own_seconds{job="j",rank="0"}' not in again
    assert again['gpu_job_process_id{job="j",rank="0"}'] == 11


def test_a_rank_that_is_gone_and_comes_back_keeps_its_series(collector, kernel):
    kernel.add(11, RANK="0", TORCHELASTIC_RUN_ID="j")
    kernel.arrive(0, 11, arrivals(range(20), [0.0] * 20))
    first = values(collector)
    kernel.processes.clear()
    assert values(collector) == {"gpu_job_processes": 0.0, "gpu_job_arrivals_lost_per_second": 0.0}
    kernel.add(31, RANK="0", TORCHELASTIC_RUN_ID="j")
    kernel.jobs[0] = np.zeros((), _JOB)
    kernel.arrive(0, 31, arrivals(range(20), [0.0] * 20))
    again = values(collector)
    assert set(again) == set(first)
    assert again['gpu_job_process_id{job="j",rank="0"}'] == 31


def test_two_processes_of_one_name_are_two_series(collector, kernel):
    for place, pid in enumerate((11, 12)):
        kernel.add(pid, RANK="0", TORCHELASTIC_RUN_ID="j")
        kernel.arrive(place, pid, arrivals(range(20), [0.0] * 20))
    found = values(collector)
    assert found['gpu_job_process_id{job="j",rank="0"}'] == 11
    assert found['gpu_job_process_id{job="j",rank="0-pid-12"}'] == 12


def test_overwritten_arrivals_are_counted_and_no_iteration_spans_them(collector, kernel):
    kernel.add(11, RANK="0", TORCHELASTIC_RUN_ID="j")
    kernel.arrive(0, 11, arrivals(range(20), [0.0] * 20))
    values(collector)
    kernel.arrive(0, 11, arrivals(range(20, 20 + RING + 37), [0.0] * (RING + 37)))
    found = values(collector)
    assert found["gpu_job_arrivals_lost_per_second"] == 37 + 1  # the oldest place may be written to just now
    assert found['gpu_job_iteration_seconds{job="j",rank="0"}'] == pytest.approx(1.0)


def test_a_process_without_any_call_has_no_series(collector, kernel):
    kernel.add(11, RANK="0")
    assert values(collector)["gpu_job_processes"] == 1
    assert len(values(collector)) == 2


def test_kernel_launches_have_a_value_only_while_they_are_counted(kernel):
    made, asked = GpuJobs(Config(enabled=True, sample_launches_s=20)), []
    made.source, made.sample = kernel, lambda: asked.append(1)
    kernel.add(11, RANK="0", TORCHELASTIC_RUN_ID="j")
    kernel.arrive(0, 11, arrivals(range(20), [0.0] * 20))
    key = 'gpu_job_kernel_launches_per_second{job="j",rank="0"}'
    assert key not in values(made)
    assert not asked  # nobody was known yet
    kernel.sampling = True
    assert key in values(made)
    assert len(asked) == 1
    kernel.sampling = False
    assert key not in values(made)
    with pytest.raises(ValueError, match="sample_launches_s"):
        Config(sample_launches_s=1.0)


def test_why_there_are_no_probes_is_told(kernel):
    made = GpuJobs(Config(enabled=True))
    made.source = lambda: ({"processes": [], "busy": False, "reason": "bcc is missing"}, -1)
    with pytest.raises(NoData, match="bcc is missing"):
        made.collect(NS)


def test_closing_takes_the_probes_off_whatever_the_warden_says(collector, kernel):
    values(collector)
    collector.close()
    collector.close()
    assert kernel.ended == 1

    def gone():
        raise Broken("warden: it has gone")
    values(collector)
    collector.release = gone
    collector.close()
