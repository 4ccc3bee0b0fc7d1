"""I/O limits of control groups, v1 and v2, from written trees: growth over the limit, names of devices, odd lines."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.io_limits import COLLECTOR, IoLimits, parse_pairs, parse_v1_count, parse_v1_limit
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from etio.core.rates import Rates

V2 = "30 25 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n"
V1 = "31 25 0:27 / /sys/fs/cgroup/blkio rw shared:9 - cgroup cgroup rw,blkio\n"


def tree(root, mountinfo, files):
    for name, text in {"proc/self/mountinfo": mountinfo, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "sys/dev/block").mkdir(parents=True, exist_ok=True)
    if not (root / "sys/dev/block/253:0").is_symlink():
        os.symlink("../../devices/virtual/block/vda", root / "sys/dev/block/253:0")


def opened(root):
    one = IoLimits(COLLECTOR.config())
    one.open(root)
    return one


def ratios(one, rates, t):
    reading = one.collect(t * NS)
    return {s.key: round(float(v), 6) for s, v in zip(reading.series, rates.step(t * NS, reading), strict=True)}


def test_share_of_a_limit_v2(tmp_path):
    tree(tmp_path, V2, {
        "sys/fs/cgroup/cgroup.controllers": "cpu io memory\n",
        "sys/fs/cgroup/app/io.max": "253:0 rbps=max wbps=1048576 riops=max wiops=50\n",
        "sys/fs/cgroup/app/io.stat": "253:0 rbytes=5 wbytes=1000 rios=1 wios=10 dbytes=0 dios=0\n",
        "sys/fs/cgroup/free/io.max": "",
        "sys/fs/cgroup/free/io.stat": "253:0 rbytes=5 wbytes=1000 rios=1 wios=10\n",
    })
    one, rates = opened(tmp_path), Rates()
    ratios(one, rates, 2)
    (tmp_path / "sys/fs/cgroup/app/io.stat").write_text("253:0 rbytes=5 wbytes=2098152 rios=1 wios=60\n")
    assert ratios(one, rates, 4) == {
        'cgroup_io_limit_used_ratio{cgroup="/app",device="vda",limit="written bytes"}': 1.0,
        'cgroup_io_limit_used_ratio{cgroup="/app",device="vda",limit="writes"}': 0.5}


def test_share_of_a_limit_v1(tmp_path):
    base = "sys/fs/cgroup/blkio/reports/blkio.throttle."
    tree(tmp_path, V1, {
        base + "write_bps_device": "253:0 1048576\n", base + "read_bps_device": "",
        base + "read_iops_device": "8:0 10\n",
        base + "io_service_bytes": "253:0 Read 7\n253:0 Write 0\n253:0 Total 7\nTotal 7\n",
        base + "io_serviced": "8:0 Read 5\n",
    })
    one, rates = opened(tmp_path), Rates()
    ratios(one, rates, 2)
    (tmp_path / (base + "io_service_bytes")).write_text("253:0 Read 7\n253:0 Write 524288\nTotal 9\n")
    assert ratios(one, rates, 3) == {
        'cgroup_io_limit_used_ratio{cgroup="/reports",device="vda",limit="written bytes"}': 0.5,
        'cgroup_io_limit_used_ratio{cgroup="/reports",device="8:0",limit="reads"}': 0.0}


def test_a_limit_that_is_set_later_is_found_and_one_that_goes_away_is_missing(tmp_path):
    tree(tmp_path, V2, {"sys/fs/cgroup/cgroup.controllers": "io", "sys/fs/cgroup/app/io.max": "",
                        "sys/fs/cgroup/app/io.stat": "253:0 rbytes=9\n"})
    one = opened(tmp_path)
    assert not one.collect(NS).series
    (tmp_path / "sys/fs/cgroup/app/io.max").write_text("253:0 rbps=100\n")
    assert not one.collect(2 * NS).series
    assert one.collect(12 * NS).values.tolist() == [0.09]
    (tmp_path / "sys/fs/cgroup/app/io.max").write_text("")
    reading = one.collect(23 * NS)
    assert len(reading.series) == 1
    assert reading.values[0] != reading.values[0]


def test_no_controller_is_no_data_and_no_proc_is_broken(tmp_path):
    tree(tmp_path, V2, {"sys/fs/cgroup/cgroup.controllers": "cpu memory"})
    with pytest.raises(NoData):
        opened(tmp_path)
    with pytest.raises(Broken):
        opened(tmp_path / "nowhere")


@given(st.binary(max_size=200))
def test_parsers_never_raise_and_never_give_less_than_nothing(raw):
    found = parse_pairs(raw) | parse_v1_limit(raw, "wbps") | parse_v1_count(raw, "io_serviced")
    assert all(value >= 0 for value in found.values())


def test_the_root_group_of_v1_may_have_a_limit_as_well(tmp_path):
    base = "sys/fs/cgroup/blkio/blkio.throttle."
    tree(tmp_path, V1, {base + "write_iops_device": "7:0 8\n", base + "io_serviced": "7:0 Write 16\n"})
    one, rates = opened(tmp_path), Rates()
    ratios(one, rates, 2)
    (tmp_path / (base + "io_serviced")).write_text("7:0 Write 32\n")
    assert ratios(one, rates, 4) == {'cgroup_io_limit_used_ratio{cgroup="/",device="7:0",limit="writes"}': 1.0}
