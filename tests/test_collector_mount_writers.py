"""Whose files are open for writing on a file system: a real one, a container's overlay, and mounts that are gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector.ebpf.writers import find_writers
from collector.mount_writers import GONE, mount_writers

MOUNTS = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n22 21 7:3 / /srv/logs rw - ext4 /dev/loop3 rw\n" \
         "23 21 0:50 / /net rw - nfs4 server:/x rw\n"
WRITER = """
import os, sys
kept = [open(sys.argv[1], "wb"), open(sys.argv[2], "rb")]
kept[0].write(b"x" * 300_000)
kept[0].flush()
os.unlink(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def host(tmp_path: Path, mounts: str = MOUNTS) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(mounts)
    return tmp_path


def test_each_mount_is_asked_for_by_its_number(tmp_path: Path) -> None:
    asked = []

    def ask(device: int) -> list[tuple[int, int, int, str]]:
        asked.append((os.major(device), os.minor(device)))
        return [(7, 4096, 1, "/srv/logs/a\nb.log"), (8, 0, 0, "/srv/logs/c")]

    found = mount_writers(host(tmp_path), ["/srv/logs", "/srv/logs", "/old", "/net"], ask)
    assert asked == [(7, 3)], "a server that is away would never answer"
    assert found == (("writers mount=/srv/logs", "7 4096 1 /srv/logs/a?b.log\n8 0 0 /srv/logs/c"),
                     ("writers mount=/old", GONE))


def test_nothing_is_told_where_nobody_may_look(tmp_path: Path) -> None:
    assert mount_writers(host(tmp_path), ["/srv/logs"], lambda device: None) == ()
    assert mount_writers(tmp_path / "none", ["/srv/logs"], lambda device: []) == ()


def test_a_real_file_that_is_deleted_and_still_written(tmp_path: Path) -> None:
    """Read-only files of the same process, and files of other file systems, are none of it."""
    (tmp_path / "other").write_bytes(b"y" * 900_000)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "app.log"), str(tmp_path / "other")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        device = os.stat(tmp_path).st_dev
        own = [row for row in find_writers(device, budget_s=30.0) if row[0] == child.pid]
        elsewhere = find_writers(os.stat("/proc").st_dev, budget_s=30.0)
        child.communicate()
    if not own and device not in mounted():
        pytest.skip("a file system whose number is not that of its mount (btrfs)")
    assert [(size >= 300_000, deleted, path) for _, size, deleted, path in own] == [
        (True, 1, str(tmp_path / "app.log"))]
    assert child.pid not in {row[0] for row in elsewhere}


def mounted() -> set[int]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {os.makedev(*map(int, line.split()[2].split(":"))) for line in lines}


def test_a_container_writes_into_an_overlay(tmp_path: Path) -> None:
    """A process table of our own making: the mount of the file is an overlay that keeps its changes on a disk."""
    (tmp_path / "upper").mkdir()
    (tmp_path / "data").write_bytes(b"z" * 5000)
    process = tmp_path / "proc/77"
    for folder in ("fd", "fdinfo", "ns"):
        (process / folder).mkdir(parents=True)
    (process / "ns/mnt").symlink_to("mnt:[1]")
    (process / "mountinfo").write_text(
        f"40 1 0:45 / / rw - overlay overlay rw,lowerdir=/l,upperdir={tmp_path}/upper,workdir=/w\n"
        "41 1 0:46 / /x rw - overlay overlay rw,lowerdir=/l\nnonsense\n")
    for fd, info in (("3", "pos:\t0\nflags:\t0100001\nmnt_id:\t40\n"), ("4", "pos:\t0\nflags:\t0100001\nmnt_id:\t41\n"),
                     ("5", "pos:\t0\nflags:\t0100000\nmnt_id:\t40\n"), ("6", "flags:\tno\nmnt_id:\t40\n")):
        (process / "fd" / fd).symlink_to(tmp_path / "data")
        (process / "fdinfo" / fd).write_text(info)
    rows = find_writers(os.stat(tmp_path).st_dev, proc=str(tmp_path / "proc"))
    assert [(row[0], row[3]) for row in rows] == [(77, str(tmp_path / "data"))]
