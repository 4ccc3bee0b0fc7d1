"""Webhooks wait in the outbox until they have arrived."""

import dataclasses

import pytest

from etio.store.config import StoreConfig
from etio.store.outbox import OutboxItem
from etio.store.store import open_store


@pytest.fixture
def directory(tmp_path):
    return StoreConfig(directory=str(tmp_path), min_free_bytes=0)


def item(n, **changes):
    return dataclasses.replace(OutboxItem(f"id-{n}", "http://127.0.0.1:9093/x?a='b'", '{"a": "ü\\n"}', n), **changes)


def test_items_wait_are_tried_again_and_leave(directory):
    store = open_store(directory)
    box = store.outbox
    box.put(item(2))
    box.put(item(1))
    box.put(item(3, next_ns=1000))
    assert list(box.due(999)) == [item(1), item(2)]
    assert list(box.due(1000, limit=1)) == [item(1)]
    box.failed("id-1", 2000, "connection refused")
    assert list(box.due(1999)) == [item(2), item(3, next_ns=1000)]
    assert box.due(2000)[0] == item(1, tries=1, next_ns=2000, last_error="connection refused")
    box.delivered("id-2")
    assert box.pending() == 2
    store.close()
    store = open_store(directory)
    assert [i.id for i in store.outbox.due(2**62)] == ["id-1", "id-3"]
    store.close()


def test_putting_twice_keeps_one(directory):
    store = open_store(directory)
    store.outbox.put(item(1))
    store.outbox.put(item(1, body='{"newer": true}'))
    assert [i.body for i in store.outbox.due(10)] == ['{"newer": true}']
    store.outbox.delivered("never there")
    store.outbox.failed("never there", 1)
    assert store.outbox.pending() == 1
    store.close()
