"""Libraries mapped page by page: less of them is there, they work as before; refused, nothing changes."""

import subprocess
import sys
from pathlib import Path

import pytest

from etio.daemon import pagewise
from etio.daemon.pagewise import Pagewise

SCRIPT = """
import duckdb
from etio.daemon import thrift
from etio.daemon.pagewise import Pagewise

connection = duckdb.connect()
def ask():
    return connection.execute("select sum(i)::BIGINT from range(1000) t(i)").fetchall()

first, sizes, pages = ask(), [], Pagewise()
for registered in (False, True):
    mappings = thrift.clean_libraries()
    if registered:
        assert pages.add((one.start, one.length) for one in mappings) == len(mappings)
        assert pages.add((one.start, one.length) for one in mappings) == 0
    thrift.let_go(mappings)
    before = thrift.resident()[1]
    assert ask() == first == [(499500,)]
    sizes.append(thrift.resident()[1] - before)
print(*sizes)
"""


@pytest.mark.skipif(not Pagewise().works, reason="this kernel does not watch files asynchronously, or does not let us")
def test_a_query_brings_back_less_than_half_of_what_it_did():
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120,
                         cwd=Path(pagewise.__file__).parents[2])
    assert run.returncode == 0, run.stderr
    around, alone = map(int, run.stdout.split())
    assert 0 < alone < around / 2


def test_where_it_is_refused_nothing_is_registered(monkeypatch):
    monkeypatch.setattr(pagewise, "NUMBERS", {})
    one = Pagewise()
    assert not one.works
    assert one.add([(4096, 4096)]) == 0


def test_what_the_kernel_does_not_watch_is_passed_over():
    one = Pagewise()
    one.add([(4096, 4096), (0, 0)])
    assert one.add([(4096, 4096)]) == 0


def test_the_descriptor_is_closed_with_its_owner():
    one = Pagewise()
    if not one.works:
        pytest.skip("nothing was opened")
    fd = one._fd
    assert Path(f"/proc/self/fd/{fd}").readlink().name.endswith("[userfaultfd]")
    del one
    assert not Path(f"/proc/self/fd/{fd}").is_symlink()
