"""Memory that is given back: which mappings may be let go, that they come back, and when it is worth it."""

import ctypes
import mmap
import os
import subprocess
import sys
import zlib

import duckdb
import numpy as np
import pytest

from bench import memory
from etio.daemon import thrift
from etio.store.duck import give_back

SMAPS = """\
00400000-006d2000 r-xp 0001f000 fe:00 260811                             /usr/bin/python3.11
Rss:                2764 kB
Anonymous:             0 kB
7f4503600000-7f450441b000 r--p 00000000 fe:00 1                          /opt/a b/_duckdb.so
Rss:                7296 kB
Anonymous:             0 kB
7f450441b000-7f45075d9000 r-xp 00e1b000 fe:00 1                          /opt/a b/_duckdb.so
Anonymous:             0 kB
7f45075d9000-7f4507700000 r--p 03fd9000 fe:00 1                          /opt/a b/_duckdb.so
Anonymous:           700 kB
7f4507700000-7f4507900000 rw-p 04100000 fe:00 1                          /opt/a b/_duckdb.so
Anonymous:             0 kB
7f4507900000-7f4507901000 r-xp 00000000 fe:00 2                          /lib/small.so
Anonymous:             0 kB
7f4508000000-7f4509000000 r--s 00000000 fe:00 3                          /shared.so
Anonymous:             0 kB
7f450a000000-7f450b000000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f450c000000-7f450d000000 r--p 00000000 00:00 0                          [vvar.so]
Anonymous:             0 kB
"""


def test_only_clean_code_and_constants_of_big_libraries_are_let_go():
    found = thrift.clean_libraries(iter(SMAPS.splitlines()))
    assert [hex(one.start) for one in found] == ["0x7f4503600000", "0x7f450441b000"]
    assert found[1].length == 0x7f45075d9000 - 0x7f450441b000


@pytest.mark.parametrize("odd", ["", "\n", "nonsense", "Anonymous:", "7f-80 r-xp", "Anonymous: 0 kB\nRss: 1 kB"])
def test_odd_lines_are_no_mapping(odd):
    assert thrift.clean_libraries(iter(odd.split("\n"))) == ()


def test_libraries_go_on_working_after_they_were_let_go():
    connection = duckdb.connect()
    asked = "select sum(i)::BIGINT from range(1000) t(i)"
    expected = connection.execute(asked).fetchall()
    mappings = thrift.clean_libraries()
    assert any(one.length > 30e6 for one in mappings), "DuckDB's code is among them"
    before = thrift.resident()[1]
    thrift.let_go(mappings)
    assert thrift.resident()[1] < before - 10e6
    assert connection.execute(asked).fetchall() == expected == [(499500,)]
    assert np.linalg.inv(np.eye(50)).sum() == 50
    assert zlib.crc32(b"etio") == zlib.crc32(b"etio")


def test_what_is_used_all_the_time_is_not_given_back_again(monkeypatch):
    sizes = iter([(100, 50), (90, 40), (91, 42), (99, 43), (93, 40), (93, 47)])
    told = []
    monkeypatch.setattr(thrift, "resident", lambda: tuple(v * 2**20 for v in next(sizes)))
    monkeypatch.setattr(thrift, "clean_libraries", lambda: ())
    monkeypatch.setattr(thrift, "let_go", lambda _: told.append("libraries"))
    monkeypatch.setattr(thrift, "trim_heap", lambda: told.append("heap"))
    one, seen = thrift.Thrift(), []
    for _ in range(6):
        one.step()
        seen.append(tuple(told))
        told.clear()
    assert seen == [("libraries", "heap"), (), (), ("heap",), (), ("libraries",)]


def test_after_a_while_it_is_given_back_without_growth(monkeypatch):
    looks, told = [], []
    monkeypatch.setattr(thrift, "resident", lambda: looks.append(0) or (50 * 2**20, 50 * 2**20))
    monkeypatch.setattr(thrift, "clean_libraries", lambda: ())
    monkeypatch.setattr(thrift, "let_go", lambda _: told.append(len(looks)))
    monkeypatch.setattr(thrift, "trim_heap", lambda: None)
    one = thrift.Thrift()
    for _ in range(14):
        one.step()
    assert told == [1, 7, 13]


def test_freed_memory_goes_back_to_the_kernel():
    """In a process of its own: an allocator is tamed for good."""
    code = ("import ctypes, sys; from etio.daemon import thrift; thrift.tame_allocator()\n"
            "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; libc.free.argtypes = [ctypes.c_void_p]\n"
            "held = [libc.malloc(2000) for _ in range(20000)]\n"
            "[ctypes.memset(one, 1, 2000) for one in held]\n"
            "full = thrift.resident()[0]\n"
            "[libc.free(one) for one in held[:-1]]\n"
            "thrift.trim_heap()\n"
            "sys.exit(0 if thrift.resident()[0] < full - 30e6 else f'{full} {thrift.resident()}')")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_store_gives_its_allocators_blocks_back():
    connection = duckdb.connect()
    connection.execute("create table t as select i, random() as v from range(200000) r(i)")
    assert give_back()
    assert connection.execute("select count(*) from t").fetchall() == [(200000,)]


def test_what_the_benchmark_reads_is_this_process():
    held = mmap.mmap(-1, 64 * 2**20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(held)), 1, len(held))
    found = memory.memory((os.getpid(), 2**22 + 1))
    assert found["processes"] == 1
    assert found["anonymous_mb"] > 60
    assert found["pss_mb"] == pytest.approx(found["anonymous_mb"] + found["files_mb"], abs=5)


def test_the_level_is_that_of_the_end():
    rows = [{"s": s, "pss_mb": 100.0 + s / 10} for s in range(0, 1200, 10)]
    rows[-3]["pss_mb"] = 900.0
    assert memory.level(rows, 300.0) == pytest.approx(204.0, abs=2)
