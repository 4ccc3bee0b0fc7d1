"""Which file a loop device is."""

from pathlib import Path

from collector.loops import MOST, backing_files


def loop(root: Path, name: str, file: bytes | None) -> None:
    folder = root / "sys/block" / name / "loop"
    folder.mkdir(parents=True)
    if file is not None:
        (folder / "backing_file").write_bytes(file)


def test_files_of_the_devices_in_use(tmp_path: Path) -> None:
    loop(tmp_path, "loop0", b"/srv/a file.img\n")
    loop(tmp_path, "loop1", None)
    loop(tmp_path, "loop2", b"/srv/\xff.img (deleted)\n")
    loop(tmp_path, "loop3", b"\n")
    loop(tmp_path, "sda", b"/no\n")
    assert backing_files(tmp_path) == (
        ("loop device=loop0", "/srv/a file.img"), ("loop device=loop2", "/srv/\N{REPLACEMENT CHARACTER}.img (deleted)"))


def test_a_host_without_loops_or_with_hundreds(tmp_path: Path) -> None:
    assert backing_files(tmp_path) == ()
    for number in range(MOST + 20):
        loop(tmp_path, f"loop{number}", b"/x\n")
    assert len(backing_files(tmp_path)) == MOST
