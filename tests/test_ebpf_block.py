"""Block programs: queue and device time, sizes, flushes and discards, of a loop device of our own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ebpf_rig import actors, client, ebpf, run, sh, values  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """Name of a loop device of 8 MiB."""
    image = tmp_path / "disk.img"
    image.write_bytes(os.urandom(8 << 20))
    device = sh("losetup", "--find", "--show", str(image))
    try:
        yield os.path.basename(device)
    finally:
        sh("losetup", "--detach", device)


def series(device: str, what: str, direction: str) -> str:
    return f'block_{what}{{device="{device}",direction="{direction}"}}'


DIRECT = """
    import mmap, os, sys
    fd = os.open(sys.argv[1], os.O_RDWR | os.O_DIRECT)
    size = int(sys.argv[3])
    page = mmap.mmap(-1, size)
    for i in range(int(sys.argv[2])):
        os.pwritev(fd, [page], size * i)
"""


def test_83_writes_of_16_kib_have_a_size_and_both_times(ebpf, loop):  # noqa: F811
    run(DIRECT, f"/dev/{loop}", "1", "4096")
    before = values(ebpf)
    run(DIRECT, f"/dev/{loop}", "83", "16384")
    after = values(ebpf)
    for what, grown in (("requests_per_second", 83), ("bytes_per_second", 83 * 16384), ("requeues_per_second", 0)):
        key = series(loop, what, "write")
        assert after[key] - before[key] == grown
    assert after[series(loop, "request_size_bytes", "write")] == 16384
    keys = [series(loop, f"{what}_requests", "write") for what in ("inflight", "queued")]
    device, queue = (after[key] - before[key] for key in keys)
    assert 83e-6 < device < 30
    assert 0 <= queue < 30
    p50, p99 = (after[series(loop, f"queue_{q}_seconds", "write")] for q in ("p50", "p99"))
    assert 0 <= p50 <= p99 < 5


@pytest.mark.parametrize(("scheduler", "queued"), [("mq-deadline", True), ("none", False)])
def test_what_a_scheduler_holds_back_shows_as_queue_time(ebpf, loop, scheduler, queued):  # noqa: F811
    choice = Path(f"/sys/block/{loop}/queue/scheduler")
    if scheduler not in choice.read_text():
        pytest.skip(f"no I/O scheduler {scheduler} here")
    choice.write_text(scheduler)
    run(DIRECT, f"/dev/{loop}", "1", "4096")
    before = values(ebpf)
    run(DIRECT, f"/dev/{loop}", "61", "4096")
    after = values(ebpf)
    key = series(loop, "queued_requests", "write")
    assert (after[key] - before[key] > 61 * 100e-9) == queued


FLUSH = """
    import os, sys
    fd = os.open(sys.argv[1], os.O_RDWR)
    for _ in range(31):
        os.fsync(fd)
"""
DISCARD = """
    import fcntl, os, struct, sys
    fd = os.open(sys.argv[1], os.O_RDWR)
    for i in range(29):
        fcntl.ioctl(fd, 0x1277, struct.pack("<QQ", 65536 * i, 65536))
"""


@pytest.mark.parametrize(("code", "direction", "count"), [(FLUSH, "flush", 31), (DISCARD, "discard", 29)])
def test_31_flushes_and_29_discards_are_directions_of_their_own(ebpf, loop, code, direction, count):  # noqa: F811
    before = values(ebpf)
    run(code, f"/dev/{loop}")
    after = values(ebpf)
    key = series(loop, "requests_per_second", direction)
    assert after[key] - before.get(key, 0) == count
    assert 0 < after[series(loop, "latency_p50_seconds", direction)] < 5
    key = series(loop, "requests_per_second", "write")  # somebody may read what is on the new device, nobody writes
    assert after[key] - before.get(key, 0) == 0
