"""A link that comes and goes is told once, with what is known of it; one that fails once or twice is no such link."""

import itertools
import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import links
from collector.link_flaps import LEAST, WINDOW_S, Flaps
from collector.table import NAN
from etio.core.frame import NS

HEADINGS = "Inter-|   Receive    |  Transmit\n face |bytes    packets errs drop fifo frame ...\n"


class Net:
    """A /proc/net/dev and a /sys/class/net with one device."""

    def __init__(self, root: Path, name: str = "eth0", physical: bool = True) -> None:
        self.root, self.name, self.folder = root, name, root / "sys/class/net" / name
        self.folder.mkdir(parents=True)
        (root / "proc/net").mkdir(parents=True)
        if physical:
            (self.folder / "device").mkdir()
        self.changes = 1
        self.put(True)

    def put(self, up: bool, changes: int = 0, flags: int = 0x1003, unsent: int = 0) -> None:
        self.changes += changes
        files = {"operstate": "up" if up else "down", "carrier_changes": self.changes, "flags": hex(flags),
                 "ifindex": 7, "iflink": 7}
        for name, value in files.items():
            (self.folder / name).write_text(f"{value}\n")
        line = f"{self.name}: 9000 90 0 0 0 0 0 0 8000 80 0 {unsent} 0 0 0 0\n"
        (self.root / "proc/net/dev").write_text(HEADINGS + line)

    def collector(self) -> links.Links:
        one = links.Links(links.Config())
        one.open(self.root)
        one.collect(0)
        return one


def kinds(one: links.Links, t: float) -> list[tuple[str, int]]:
    return [(e.kind, e.t_ns // NS) for e in one.collect(int(t * NS)).events]


def test_a_link_that_comes_and_goes_is_told_once_and_again_when_it_has_settled(tmp_path):
    net = Net(tmp_path)
    one, told = net.collector(), []
    for t in range(1, 60):
        net.put(t % 6 < 4, int(t % 6 in (0, 4)), unsent=t)
        for event in one.collect(t * NS).events:
            told.append((event.kind, t))
            if event.kind == "link_flapping":
                fields = dict(event.fields)
    assert told == [("link_down", 4), ("link_up", 18), ("link_flapping", 18)]
    assert fields == {"changes": 6, "seconds": 14, "down_ratio": 0.4, "switched_off_ratio": 0.0, "unsent_packets": 14}
    last = 58
    net.put(True)
    assert [kinds(one, t) for t in range(60, last + 60)] == [[]] * 58
    assert kinds(one, last + 60) == [("link_settled", last + 60)]
    assert kinds(one, last + 61) == []


def test_a_link_that_settles_down_is_told_to_be_down(tmp_path):
    net = Net(tmp_path)
    one = net.collector()
    for t in range(1, 20):
        net.put(bool(t % 2), 1)
        one.collect(t * NS)
    net.put(False, 1)
    found = list(itertools.chain(*(kinds(one, t) for t in range(20, 120))))
    assert found == [("link_settled", 80), ("link_down", 80)]
    net.put(True, 1)
    assert kinds(one, 120) == kinds(one, 125) == []
    assert kinds(one, 130) == [("link_up", 120)]


def test_a_device_that_goes_away_while_it_flaps_comes_to_an_end(tmp_path):
    net = Net(tmp_path)
    one = net.collector()
    for t in range(1, 20):
        net.put(bool(t % 2), 1)
        one.collect(t * NS)
    (tmp_path / "proc/net/dev").write_text(HEADINGS)
    assert [kind for kind, _ in kinds(one, 20)] == ["link_settled"]


@pytest.mark.parametrize("apart_s", [60, 90])
def test_a_link_that_fails_now_and_then_has_its_own_alert_each_time(tmp_path, apart_s):
    net = Net(tmp_path)
    one, found = net.collector(), []
    for t in range(10, 5 * apart_s):
        net.put(t % apart_s >= 5, int(t % apart_s in (0, 5)))
        found += [kind for kind, _ in kinds(one, t)]
    assert found == ["link_down", "link_up"] * 4


def test_a_bridge_whose_last_container_stops_again_and_again_is_no_fault(tmp_path):
    net = Net(tmp_path, "docker0", physical=False)
    (net.folder / "bridge").mkdir()
    one, found = net.collector(), []
    for t in range(1, 100):
        net.put(t % 10 < 5, int(t % 5 == 0))
        found += kinds(one, t)
    assert found == []


def test_who_switches_it_what_it_stands_on_and_what_it_is_part_of_are_told(tmp_path):
    net = Net(tmp_path, "veth3", physical=False)
    (net.folder / "master").symlink_to("../br0")
    one, fields = net.collector(), {}
    for t in range(1, 20):
        net.put(bool(t % 2), 1, flags=0x1003 if t % 2 else 0x1002)
        (net.folder / "iflink").write_text("12\n")
        for event in one.collect(t * NS).events:
            fields |= dict(event.fields)
    assert fields["switched_off_ratio"] == 1.0
    assert (fields["part_of"], fields["other_end"]) == ("br0", 12)
    (net.folder / "lower_eth1").mkdir()
    flaps = Flaps(net.folder)
    for t in range(9):
        flaps.see(t * NS, float(t % 2), float(t), 0.0)
    assert flaps.active
    assert dict(flaps.told())["stands_on"] == "eth1"
    assert "other_end" not in dict(flaps.told())


def test_without_a_count_of_changes_those_that_are_seen_count(tmp_path):
    flaps = Flaps(tmp_path)
    turns = [flaps.see(t * NS, float(t // 3 % 2 == 0), NAN, NAN) for t in range(40)]
    assert turns.count("begins") == 1
    assert turns.index("begins") == 18
    assert dict(flaps.told())["unsent_packets"] == -1


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3), st.booleans()), max_size=60))
def test_it_flaps_only_with_enough_changes_in_the_window_and_always_ends(looks):
    flaps, t, count, changed = Flaps(Path("/nonexistent")), 0, 0, []
    for seconds, grown, up in [*looks, (300, 0, True), (300, 0, True)]:
        t, count = t + seconds, count + grown
        changed += [(t, grown)] if changed or grown else []
        was = flaps.active
        turn = flaps.see(t * NS, float(up), float(count), 0.0)
        assert flaps.active == (turn == "begins" or (was and turn != "ends"))
        if turn == "begins":
            assert up
            assert sum(n for at, n in changed if t - at <= WINDOW_S) >= LEAST
            assert flaps.told()
    assert not flaps.active


@pytest.mark.needs_root
def test_a_real_link_whose_other_end_comes_and_goes():
    near, far = f"etio{os.getpid()}f", f"etio{os.getpid()}g"
    subprocess.run(["ip", "link", "add", near, "type", "veth", "peer", "name", far], check=True)
    try:
        for device in (near, far):
            subprocess.run(["ip", "link", "set", device, "up"], check=True)
        state = Path(f"/sys/class/net/{near}/operstate")
        one, told, t = links.Links(links.Config()), [], 1
        one.open(Path("/"))
        for turn in ("up", "down") * 4 + ("up",):
            subprocess.run(["ip", "link", "set", far, turn], check=True)
            until = time.monotonic() + 30
            while state.read_text().strip() != ("up" if turn == "up" else "lowerlayerdown"):
                assert time.monotonic() < until
                time.sleep(0.01)
            t += 1
            told += [e for e in one.collect(t * NS).events if near in e.entity]
        assert [e.kind for e in told] == ["link_flapping"]
        assert told[0].get("switched_off_ratio") == 0.0
        assert told[0].get("other_end") == int(Path(f"/sys/class/net/{far}/ifindex").read_text())
        one.close()
    finally:
        subprocess.run(["ip", "link", "del", near], check=False)
