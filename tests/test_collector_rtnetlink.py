"""Raw rtnetlink: the same figures as pyroute2, and never anything but the typed errors."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import rtnetlink
from etio.core.errors import Broken
from tests.property_rig import outcome


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def qdisc(kind: bytes, parent: int, queue: bytes) -> bytes:
    head = struct.pack("=BBHiIII", 0, 0, 0, 7, 0x10000, parent, 2)
    return head + attribute(rtnetlink.TCA_KIND, kind + b"\0") + attribute(
        rtnetlink.TCA_STATS2 | 0x8000, attribute(rtnetlink.TCA_STATS_QUEUE, queue))


QUEUE = struct.pack("=IIIII", 3, 4500, 12, 0, 0)


def test_the_figures_of_a_root_queue():
    assert rtnetlink.parse_queue(qdisc(b"fq_codel", rtnetlink.TC_H_ROOT, QUEUE)) == (7, 4500.0, 12.0)


@pytest.mark.parametrize(("kind", "parent", "queue"), [
    (b"noqueue", rtnetlink.TC_H_ROOT, QUEUE), (b"fq", 0x10001, QUEUE), (b"fq", rtnetlink.TC_H_ROOT, QUEUE[:8])])
def test_what_is_no_root_queue_or_has_no_figures(kind, parent, queue):
    assert rtnetlink.parse_queue(qdisc(kind, parent, queue)) is None


def test_the_same_as_pyroute2():
    pyroute2 = pytest.importorskip("pyroute2")
    try:
        ours = rtnetlink.queues()
    except OSError as error:
        pytest.skip(f"no rtnetlink here: {error}")
    for _ in range(20):  # a device may come or go between the two
        with pyroute2.IPRoute() as route:
            theirs = [m for m in route.get_qdiscs() if m["parent"] == rtnetlink.TC_H_ROOT
                      and m.get_attr("TCA_KIND") != "noqueue"]
        if [q[0] for q in ours] == [m["index"] for m in theirs]:
            break
        ours = rtnetlink.queues()
    assert [q[0] for q in ours] == [m["index"] for m in theirs]
    for (_, _, drops), message in zip(ours, theirs, strict=True):
        told = message.get_attr("TCA_STATS2").get_attr("TCA_STATS_QUEUE")
        assert drops <= float(told["drops"])


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=9)), max_size=5), st.integers(1, 7))
def test_attributes_and_messages_are_read_back_and_a_cut_one_is_told(pairs, cut):
    body = b"".join(attribute(kind | 0x8000, value) for kind, value in pairs)
    assert list(rtnetlink.attributes(body)) == pairs
    sent = [(kind, value.ljust(12, b"x")) for kind, value in pairs]
    raw = b"".join(struct.pack("=IHHII", 16 + len(value), kind, 0, 1, 0) + value for kind, value in sent)
    assert list(rtnetlink.messages(raw)) == sent
    if sent:
        assert list(rtnetlink.attributes(body[:-len(attribute(*pairs[-1]))])) == pairs[:-1]
        with pytest.raises(Broken):
            list(rtnetlink.messages(raw[:-cut]))


@given(st.integers(1, 2**31 - 1), st.sampled_from([0x02, 0x20, 0x40, 0x42]), st.integers(0, 20))
def test_an_entry_with_an_address_that_needs_an_answer(index, state, size):
    address = bytes(range(size))
    body = struct.pack("=BBHiHBB", 2, 0, 0, index, state, 0, 0) + attribute(rtnetlink.NDA_DST, address)
    expected = (index, state, address) if size in (4, 16) and state < 0x40 else None
    assert rtnetlink.parse_neighbour(body) == expected
    assert rtnetlink.parse_neighbour(body[:11]) is None


@given(st.binary(max_size=200))
def test_whatever_comes_nothing_is_read_twice_or_beyond_the_end(data):
    told = list(rtnetlink.attributes(data))
    assert sum(4 + len(value) for _, value in told) <= len(data)
    assert all(value in data and not kind >> 14 for kind, value in told)
    whole = outcome(lambda: list(rtnetlink.messages(data)), Broken, says="a message of")
    if whole is not None:
        assert sum(16 + len(body) for _, body in whole) <= len(data)
        assert whole or len(data) < 16
    queue = rtnetlink.parse_queue(data)
    assert queue is None or (len(data) > 20 and queue[1] >= 0 and queue[2] >= 0)


def test_a_message_that_does_not_fit_is_told():
    with pytest.raises(Broken, match="a message of 99 bytes"):
        list(rtnetlink.messages(struct.pack("=IHHII", 99, 36, 0, 1, 0)))
