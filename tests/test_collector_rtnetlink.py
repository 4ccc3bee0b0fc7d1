"""Raw rtnetlink: the same figures as pyroute2, and never anything but the typed errors."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import rtnetlink
from etio.core.errors import Broken


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
    with pyroute2.IPRoute() as route:
        theirs = [m for m in route.get_qdiscs() if m["parent"] == rtnetlink.TC_H_ROOT
                  and m.get_attr("TCA_KIND") != "noqueue"]
    assert [q[0] for q in ours] == [m["index"] for m in theirs]
    for (_, _, drops), message in zip(ours, theirs, strict=True):
        told = message.get_attr("TCA_STATS2").get_attr("TCA_STATS_QUEUE")
        assert drops <= float(told["drops"])


@given(st.binary(max_size=200))
def test_nothing_but_the_typed_error(data):
    with contextlib.suppress(Broken):
        list(rtnetlink.messages(data))
    list(rtnetlink.attributes(data))
    rtnetlink.parse_queue(data)


def test_a_message_that_does_not_fit_is_told():
    with pytest.raises(Broken, match="a message of 99 bytes"):
        list(rtnetlink.messages(struct.pack("=IHHII", 99, 36, 0, 1, 0)))
