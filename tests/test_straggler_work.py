"""Operations to own-compute times."""

import numpy as np

from detectors.straggler_work import Member, Operations, own_compute

MEMBERS = (Member(0), Member(1), Member(2))


def operations(rows):
    """rows: (member, step, kind, seconds)."""
    return Operations(np.array([r[0] for r in rows], dtype=np.intp), np.array([r[1] for r in rows], dtype=np.int64),
                      np.array([r[2] for r in rows], dtype=object), np.array([r[3] for r in rows], dtype=float))


def full(member, step=0, forward=1.0, backward=2.0, batches=4):
    kinds = (("forward-compute", forward), ("backward-compute", backward))
    return [(member, step, kind, seconds) for kind, seconds in kinds for _ in range(batches)]


def test_waiting_is_not_counted():
    rows = [r for m in range(3) for r in full(m)]
    waiting = [(1, 0, "grads-reduce-scatter", 50.0), (1, 0, "forward-recv", 9.0)]
    assert own_compute(MEMBERS, operations(rows + waiting)).seconds.tolist() == [[3.0, 3.0, 3.0]]


def test_fewer_micro_batches_are_no_faster_rank():
    rows = full(0) + full(1, batches=2) + full(2, batches=8)
    assert own_compute(MEMBERS, operations(rows)).seconds.tolist() == [[3.0, 3.0, 3.0]]


def test_part_of_a_record_is_unknown():
    rows = full(0) + full(1)[:4] + full(2)
    work = own_compute(MEMBERS, operations(rows))
    np.testing.assert_array_equal(work.seconds, [[3.0, np.nan, 3.0]])


def test_missing_rank_and_broken_durations_are_unknown():
    rows = [*full(0), (1, 0, "forward-compute", np.nan), (1, 0, "backward-compute", -1.0), *full(0, step=7)]
    work = own_compute(MEMBERS, operations(rows))
    assert work.steps.tolist() == [0, 7]
    np.testing.assert_array_equal(work.seconds, [[3.0, np.nan, np.nan]] * 2)


def test_no_compute_at_all_is_unknown():
    work = own_compute(MEMBERS, operations([(0, 3, "forward-send", 1.0)]))
    assert np.isnan(work.seconds).all()
    assert work.seconds.shape == (1, 3)
