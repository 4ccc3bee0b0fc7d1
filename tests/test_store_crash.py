"""kill -9, damaged logs, damaged files, other processes, full disks: the next start is clean and says what happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pytest

from etio.core.errors import StoreError
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.series import Series
from etio.store import days
from etio.store.store import open_store
from tests.store_rig import config

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NS = 1_000_000_000
NOON = days.start_of("20261120") + 12 * 3600 * NS
SERIES = tuple(Series(f"cpu_{i}_ratio", "ratio") for i in range(50))

CHILD = """
import sys, time, numpy as np
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.series import Series
from etio.store.config import StoreConfig
from etio.store.outbox import OutboxItem
from etio.store.store import open_store
store = open_store(StoreConfig(directory=sys.argv[1], batch_seconds=0.1, min_free_bytes=0, queue_frames=10**6))
series = tuple(Series(f"cpu_{i}_ratio", "ratio") for i in range(50))
start = int(sys.argv[2])
for i in range(10**9):
    store.writer.put_frame(Frame(start + i * 10**9, series, np.full(50, float(i))))
    if i % 50 == 0:
        store.outbox.put(OutboxItem(f"n{i}", "http://x", "{}", i))
        store.writer.put(HostEvent(start + i * 10**9, "oom_kill", f"pid={i}"))
        print(i, flush=True)
    time.sleep(0.001)
"""


def start_child(directory):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", CHILD, str(directory), str(NOON)], stdout=subprocess.PIPE, env=env,
                            text=True)


def kill_after(child, lines):
    seen = [int(child.stdout.readline()) for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    return max(seen + [int(line) for line in rest.split()])


def frames(count, start=NOON):
    return [Frame(start + i * NS, SERIES, np.full(50, float(i))) for i in range(count)]


def filled(directory, count=300):
    """A folder whose writer was killed: the log still holds everything."""
    store = open_store(config(directory))
    for frame in frames(count):
        store.writer.put_frame(frame)
    store.writer.put(HostEvent(NOON, "oom_kill", "pid=1"))
    assert store.writer.flush(30)
    return store


def copied_as_killed(store, target):
    """What a kill -9 at this moment would leave behind."""
    target.mkdir()
    for path in store.database.directory.iterdir():
        if path.is_file():
            subprocess.run(["cp", str(path), str(target)], check=True)  # another process: our locks stay
    store.close()
    return target


@pytest.mark.parametrize("lines", [10, 30])
def test_kill_9_loses_at_most_the_last_batch(tmp_path, lines):
    child = start_child(tmp_path)
    last = kill_after(child, lines)
    store = open_store(config(tmp_path))
    try:
        window = store.archive.window(0, 2**62)
        assert len(window.t_ns) > last - 250  # a batch of 0.1 s is at most some 100 frames, plus what was under way
        np.testing.assert_array_equal(window.values, np.repeat(np.arange(len(window.t_ns))[:, None], 50, axis=1))
        assert store.database.set_aside.total() == 0
        assert {i.id for i in store.outbox.due(2**62, 10**6)} >= {f"n{i}" for i in range(0, last + 1, 50)}
        assert len(store.archive.events(0, 2**62)) >= last // 50
        store.writer.put_frame(frames(1, NOON + 10**6 * NS)[0])
        assert store.writer.flush()
    finally:
        store.close()


@pytest.mark.parametrize("damage", ["flip", "truncate", "nonsense", "empty"])
def test_a_damaged_log_is_set_aside_and_the_start_is_clean(tmp_path, damage):
    directory = copied_as_killed(filled(tmp_path / "a"), tmp_path / "b")
    wal = days.wal_of(days.path_of(directory, "d20261120"))
    content = bytearray(wal.read_bytes())
    assert len(content) > 1000
    if damage == "flip":
        for at in range(200, len(content), 997):
            content[at] ^= 0x10
    wal.write_bytes({"flip": content, "truncate": content[: len(content) // 2], "nonsense": b"x" * 5000,
                     "empty": b""}[damage])
    store = open_store(config(directory))
    try:
        aside = list(directory.glob("*.wal.corrupt-*"))
        assert len(aside) == store.database.set_aside["wal"]
        if damage == "flip":
            assert len(aside) == 1
        store.archive.window(0, 2**62)
        new = frames(5, NOON + 5000 * NS)
        for frame in new:
            store.writer.put_frame(frame)
        assert store.writer.flush()
        assert store.archive.window(NOON + 5000 * NS, 2**62).t_ns.tolist() == [f.t_ns for f in new]
        assert len(store.archive.events(0, 2**62)) == 1
    finally:
        store.close()


@pytest.mark.parametrize("name", ["etio", "d20261120", "r20261120"])
def test_an_unreadable_file_is_set_aside(tmp_path, name):
    filled(tmp_path).close()
    path = days.path_of(tmp_path, name)
    path.write_bytes(b"\0" * 20_000)
    store = open_store(config(tmp_path))
    try:
        store.archive.window(0, 2**62)
        assert [p.name for p in tmp_path.glob("*.corrupt-*")] == [next(tmp_path.glob(f"{name}.duckdb.corrupt-*")).name]
        assert store.database.set_aside["file"] == 1
        for frame in frames(3, NOON + 9000 * NS):
            store.writer.put_frame(frame)
        assert store.writer.flush()
        assert len(store.archive.window(NOON + 9000 * NS, 2**62).t_ns) == 3
    finally:
        store.close()


def test_random_damage_never_stops_the_start(tmp_path):
    directory = copied_as_killed(filled(tmp_path / "a", 30), tmp_path / "b")
    rng = np.random.default_rng(7)
    originals = {p: p.read_bytes() for p in directory.iterdir()}
    for _ in range(12):
        for path in directory.rglob("*"):
            if path.is_file():
                path.unlink()
        for path, content in originals.items():
            harmed = bytearray(content)
            for at in rng.integers(0, max(len(harmed), 1), 3):
                if harmed:
                    harmed[at] ^= 1 << int(rng.integers(0, 8))
            path.write_bytes(harmed[: int(rng.integers(len(harmed) // 2, len(harmed) + 1))])
        store = open_store(config(directory))
        store.writer.put_frame(frames(1, NOON + 9000 * NS)[0])
        assert store.writer.flush(), store.writer.stats.last_error
        store.archive.window(NOON + 9000 * NS, 2**62)
        store.close()


def test_a_second_process_is_told_who_holds_the_store(tmp_path):
    child = start_child(tmp_path)
    try:
        child.stdout.readline()
        with pytest.raises(StoreError, match=rf"in use by process {child.pid} .*; stop it"):
            open_store(config(tmp_path))
        assert not list(tmp_path.glob("*.corrupt-*"))
    finally:
        child.kill()
        child.communicate()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another"):
        open_store(config(tmp_path / "file" / "store"))
    with pytest.raises(StoreError, match=r"^/proc/etio: .*"):
        open_store(config("/proc/etio"))


def test_samples_stop_below_the_free_space_limit_and_resume(tmp_path, caplog):
    store = open_store(config(tmp_path))
    free = [10**6]
    store.writer._free = lambda _: free[0]
    object.__setattr__(store.writer._config, "min_free_bytes", 10**8)
    try:
        store.writer.put_frame(frames(1)[0])
        assert store.writer.flush()
        assert store.writer.stats.dropped_frames == 1
        assert "MB free" in store.writer.stats.suspended
        free[0] = 10**9
        store.writer.put_frame(frames(2)[1])
        assert store.writer.flush()
        assert store.writer.stats.suspended == ""
        assert len(store.archive.window(0, 2**62).t_ns) == 1
        assert sum("no samples are written" in r.message for r in caplog.records) == 1
    finally:
        store.close()


@pytest.mark.needs_root
def test_a_full_volume_is_survived(tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(volume)], check=True)
    try:
        store = open_store(config(volume / "etio"))
        for frame in frames(20):
            store.writer.put_frame(frame)
        assert store.writer.flush()
        filler = volume / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * 4096)
        except OSError:
            pass
        for frame in frames(2000, NOON + 100 * NS):
            store.writer.put_frame(frame)
        store.writer.flush(3)
        filler.unlink()
        deadline = time.monotonic() + 20
        while not store.writer.flush(2) and time.monotonic() < deadline:
            pass
        assert len(store.archive.window(0, 2**62).t_ns) >= 2000, store.writer.stats
        store.close()
        store = open_store(config(volume / "etio"))
        assert len(store.archive.window(0, 2**62).t_ns) >= 2000
        store.close()
    finally:
        subprocess.run(["umount", "-l", str(volume)], check=True)


@pytest.mark.needs_root
def test_a_full_volume_at_start_is_one_clear_line(tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(volume)], check=True)
    try:
        with pytest.raises(StoreError, match="full"):
            open_store(config(volume / "etio"))
    finally:
        subprocess.run(["umount", "-l", str(volume)], check=True)


@pytest.mark.needs_root
@pytest.mark.parametrize(("setup", "text"), [("ro", "read-only"), ("user", "no permission")])
def test_folders_that_may_not_be_written(tmp_path, setup, text):
    volume = tmp_path / "volume"
    volume.mkdir()
    if setup == "ro":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(volume)], check=True)
    code = ("import os, sys; sys.path.insert(0, sys.argv[2])\nfrom etio.core.errors import StoreError\n"
            "from etio.store.config import StoreConfig\nfrom etio.store.store import open_store\n"
            "if sys.argv[3] == 'user': os.setuid(65534)\n"
            "try: open_store(StoreConfig(directory=sys.argv[1]))\nexcept StoreError as error: print(error)")
    try:
        os.chmod(tmp_path, 0o755)
        done = subprocess.run([sys.executable, "-c", code, str(volume / "etio"), str(ROOT), setup],
                              capture_output=True, text=True, check=True)
        assert text in done.stdout
        assert done.stdout.count("\n") == 1
    finally:
        if setup == "ro":
            subprocess.run(["umount", "-l", str(volume)], check=True)


def test_states_survive_and_are_replaced(tmp_path):
    store = open_store(config(tmp_path))
    try:
        assert store.load_state("robust_z") is None
        store.save_state("robust_z", b"\x00\x01" * 1000)
        store.save_state("robust_z", b"new")
        assert store.load_state("robust_z") == b"new"
        for bad in ("../x", "", ".hidden", "a/b"):
            with pytest.raises(ValueError, match="no name"):
                store.save_state(bad, b"")
    finally:
        store.close()


def test_a_dead_instance_is_opened_again(tmp_path):
    store = open_store(config(tmp_path))
    try:
        store.writer.put_frame(frames(1)[0])
        assert store.writer.flush()
        real, calls = store.writer._day.write, []

        def dying(batch, events):
            calls.append(len(batch))
            if len(calls) == 1:
                raise duckdb.FatalException("database has been invalidated because of a previous fatal error")
            return real(batch, events)

        store.writer._day.write = dying
        for frame in frames(3, NOON + 60 * NS):
            store.writer.put_frame(frame)
        assert not store.writer.flush(0.5)
        assert store.writer.flush(), store.writer.stats.last_error
        assert store.database.generation == 1
        assert len(store.archive.window(0, 2**62).t_ns) == 4
    finally:
        store.close()
