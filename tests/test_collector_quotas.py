"""What the kernel gives out by count: told at a limit with whose it is, and when there is room again; missing parts."""

import ctypes
import os
from math import isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.quotas import COLLECTOR, Quotas, parse_key_users, parse_owners
from etio.core.errors import NoData
from etio.core.frame import NS

SHM = b"       key      shmid perms                  size  cpid  lpid nattch   uid\n"
AIO = "asynchronous I/O requests"


def put(root: Path, **files: str) -> None:
    places = {"aio": "sys/fs/aio-nr", "aio_max": "sys/fs/aio-max-nr", "keys": "key-users", "shm": "sysvipc/shm",
              "shmmni": "sys/kernel/shmmni", "overcommit": "sys/vm/overcommit_memory", "meminfo": "meminfo"}
    for name, text in files.items():
        path = root / "proc" / places[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def opened(root: Path) -> Quotas:
    one = Quotas(COLLECTOR.config())
    one.open(root)
    return one


def look(one: Quotas, t: int = 1):
    reading = one.collect(t * NS)
    values = {s.label("quota"): v for s, v in zip(reading.series, reading.values.tolist(), strict=True)}
    return values, [(e.kind, e.entity) for e in reading.events], reading.events


def test_a_limit_is_told_once_and_its_end(tmp_path):
    put(tmp_path, aio="65000", aio_max="65536")
    one = opened(tmp_path)
    values, told, events = look(one)
    assert values == {AIO: 65000 / 65536}
    assert told == [("quota_exhausted", f"quota={AIO}")]
    assert [events[0].get(k) for k in ("used", "limit", "knob")] == [65000, 65536, "fs.aio-max-nr"]
    assert look(one, 6)[1] == []
    put(tmp_path, aio="60000")
    assert look(one, 11)[1] == []
    put(tmp_path, aio="100")
    assert look(one, 16)[1] == [("quota_released", f"quota={AIO}")]


def test_memory_that_may_be_promised_is_told_only_where_the_kernel_keeps_to_it(tmp_path):
    """In any other mode more is promised than there is on most hosts, and that is fine."""
    put(tmp_path, aio="0", aio_max="65536", overcommit="0\n",
        meminfo="MemTotal:  4194304 kB\nCommitLimit:  2097152 kB\nCommitted_AS:  2076180 kB\n")
    one, name = opened(tmp_path), "MiB of committed memory"
    assert look(one)[:2] == ({AIO: 0.0}, [])
    put(tmp_path, overcommit="2\n")
    values, told, events = look(one, 6)
    assert values[name] == pytest.approx(0.99)
    assert told == [("quota_exhausted", f"quota={name}")]
    assert [events[0].get(k) for k in ("used", "limit", "knob")] == [2027, 2048, "vm.overcommit_ratio"]
    put(tmp_path, overcommit="0\n")
    assert look(one, 11)[1] == [("quota_released", f"quota={name}")], "who takes the limit away ends it as well"
    assert look(one, 16)[1] == []


def test_the_user_nearest_to_its_limit_of_keys_is_told(tmp_path):
    put(tmp_path, keys="    0:     9 8/8 3/1000000 48/25000000\n 1000:   200 200/200 199/200 11604/20000\n")
    values, told, events = look(opened(tmp_path))
    assert values == {"keys": 199 / 200, "bytes of keys": 11604 / 20000}
    assert told == [("quota_exhausted", "quota=keys")]
    assert (events[0].get("uid"), events[0].get("own")) == (1000, 199)


def test_who_made_most_segments_is_told(tmp_path):
    rows = [f"0 {i} 600 4096 {5200 if i % 10 else 7} 0 0 0" for i in range(100)]
    put(tmp_path, shmmni="100", shm=SHM.decode() + "\n".join(rows) + "\n")
    _, told, events = look(opened(tmp_path))
    assert told == [("quota_exhausted", "quota=shared memory segments")]
    assert (events[0].get("pid"), events[0].get("own"), events[0].get("used")) == (5200, 90, 100)


def test_without_any_there_is_no_data_and_one_that_is_missing_spoils_no_other(tmp_path):
    with pytest.raises(NoData):
        opened(tmp_path)
    put(tmp_path, aio="1", aio_max="0", keys="rubbish", shm="a b\n", shmmni="5")
    with pytest.raises(NoData):
        opened(tmp_path)
    put(tmp_path, aio_max="10")
    assert look(opened(tmp_path))[0] == {AIO: 0.1}


def test_a_list_that_was_cut_off_is_not_counted():
    assert parse_owners(SHM + b"0 1 600 4096 77 0 0 0\n0 2 600", b"cpid") is None
    assert parse_owners(SHM + b"0 1 600 4096 77 0 0 0\n", b"cpid") == {77: 1}
    assert parse_owners(b"", b"cpid") is None


@given(st.binary(max_size=300))
def test_parsers_never_raise(raw):
    assert all(len(row) == 5 for row in parse_key_users(raw))
    parse_owners(raw, b"uid")


def test_live_contexts_of_asynchronous_io_are_counted():
    if not Path("/proc/sys/fs/aio-nr").exists() or os.uname().machine != "x86_64":
        pytest.skip("no asynchronous I/O here")
    libc, context = ctypes.CDLL(None, use_errno=True), ctypes.c_ulong(0)
    one = opened(Path("/"))
    before = look(one)[0][AIO]
    if libc.syscall(206, 4096, ctypes.byref(context)) < 0:
        pytest.skip("io_setup is refused here")
    try:
        limit = float(Path("/proc/sys/fs/aio-max-nr").read_text())
        assert look(one)[0][AIO] >= min(before, 4096 / limit) - 1e-9
        assert not isnan(before)
    finally:
        libc.syscall(207, context)
