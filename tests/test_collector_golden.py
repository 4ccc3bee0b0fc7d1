"""Every /proc and /sys collector on every recorded or written host: exactly the series and raw values of the JSON.

ETIO_BLESS=1 rewrites the expectations.
"""

import json
import math
import os
import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import (
    buddy,
    conntrack,
    cpu,
    disks,
    filesystems,
    interrupts,
    limits,
    links,
    memory,
    neighbours,
    netlink,
    numa,
    pressure,
    schedstat,
    softirqs,
    softnet,
    tcp,
    vmstat,
    zones,
)
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from etio.core.rates import Rates
from tests.golden_rig import check

GOLDEN = Path(__file__).parent / "golden"
HOSTS = ("firecracker-6.18", "debian12-6.1-2node", "el9-5.14-psi-off", "debian10-4.19-cgroup1", "odd")
MODULES = (
    buddy, conntrack, cpu, disks, filesystems, interrupts, limits, links, memory, neighbours, netlink, numa, pressure,
    schedstat, softirqs, softnet, tcp, vmstat, zones,
)
FIELDS = ("f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")


def statvfs_of(host):
    answers = json.loads((GOLDEN / f"{host}.statvfs.json").read_text())
    prefix = os.fsencode(GOLDEN / host)

    def statvfs(path):
        point = path.removeprefix(prefix).decode("utf-8", "replace")
        if point not in answers:
            raise FileNotFoundError(2, "No such file or directory")
        return SimpleNamespace(**dict(zip(FIELDS, answers[point], strict=True)))

    return statvfs


def build(module, host):
    if module is filesystems:
        return filesystems.Filesystems(filesystems.Config(), statvfs_of(host))
    return module.COLLECTOR.build(module.COLLECTOR.config())


def plain(x):
    return None if math.isnan(x) else x


def read_all(module, host):
    """What a collector makes of a host, as plain values; paths relative to the host."""
    collector = build(module, host)
    try:
        collector.open(GOLDEN / host)
        reading = collector.collect(NS)
    except (NoData, Broken) as error:
        return {type(error).__name__: str(error).replace(str(GOLDEN / host), "")}
    finally:
        collector.close()
        collector.close()
    weights = reading.weights
    rows = {}
    for i, series in enumerate(reading.series):
        row = [series.kind, series.unit, plain(float(reading.values[i]))]
        if series.kind == "mean":
            row.append(plain(float(weights[i])))
        assert series.key not in rows
        rows[series.key] = row
    events = [f"{e.kind} {e.entity} {e.fields}".replace(str(GOLDEN / host), "") for e in reading.events]
    return {"series": rows, "events": events}


def dumps(result):
    head, *rest = (json.dumps({k: v})[1:-1] for k, v in result.items() if k != "series")
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in result.get("series", {}).items()]
    body = '"series": {\n' + ",\n".join(lines) + "\n}" if "series" in result else None
    return "{\n" + ",\n".join(filter(None, [body, head, *rest])) + "\n}\n"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.COLLECTOR.name)
@pytest.mark.parametrize("host", HOSTS)
def test_the_collector_makes_of_the_host_what_the_json_says(host, module):
    result = read_all(module, host)
    check(result, GOLDEN / f"{host}.{module.COLLECTOR.name}.json", dumps(result))


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.COLLECTOR.name)
def test_every_series_is_announced_with_its_unit_and_labels(module):
    announced = module.COLLECTOR.emits
    for host in HOSTS:
        collector = build(module, host)
        try:
            collector.open(GOLDEN / host)
            series = collector.collect(NS).series
        except (NoData, Broken):
            continue
        for s in series:
            assert re.fullmatch(r"[a-z][a-z0-9_]*", s.name), s
            assert "__" not in s.name
            labels = {k for k, _ in s.labels}
            fitting = [e for e in announced if e.unit == s.unit and fnmatchcase(s.name, e.name)]
            assert any(set(e.labels) == labels for e in fitting), s


def test_no_name_is_used_by_two_collectors_or_with_two_sets_of_labels():
    owners = {}
    for host in HOSTS:
        for module in MODULES:
            for key in read_all(module, host).get("series", {}):
                name, _, labels = key.partition("{")
                owners.setdefault(name, set()).add((module.COLLECTOR.name, tuple(re.findall(r'(\w+)="', labels))))
    assert {n: o for n, o in owners.items() if len(o) > 1} == {}


def test_the_recorded_host_gives_hundreds_of_series():
    found = [len(read_all(m, "firecracker-6.18").get("series", {})) for m in MODULES]
    assert sum(found) >= 850


def test_between_them_the_hosts_show_every_announced_series_of_these_files():
    seen = set()
    for host in HOSTS:
        for module in MODULES:
            seen |= {key.split("{")[0] for key in read_all(module, host).get("series", {})}
    announced = {e.name for m in MODULES for e in m.COLLECTOR.emits}
    unseen = {a for a in announced if not any(fnmatchcase(s, a) for s in seen)}
    assert unseen == {"network_qdisc_backlog_bytes", "network_qdisc_drops_per_second"}  # live hosts only


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A copy of a host that a test may damage."""
    root = tmp_path_factory.mktemp("damaged") / "host"
    shutil.copytree(GOLDEN / "debian10-4.19-cgroup1", root)
    return root


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_one_damaged_file_costs_only_the_collectors_that_read_it(damaged, data):
    path = data.draw(st.sampled_from(sorted(p for p in damaged.rglob("*") if p.is_file())))
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content)))
    junk = data.draw(st.binary(max_size=12) | st.sampled_from([b"\n", b" 1e999 ", b" " + b"9" * 400 + b" "]))
    try:
        path.write_bytes(content[:at] + junk + content[at + data.draw(st.integers(0, 40)):])
        readers = [m for m in MODULES if not reads_well(m, damaged)]
    finally:
        path.write_bytes(content)
    assert len(readers) <= len(SILENT) + 1


SILENT = {numa, pressure}
"""Collectors that have no data on that host to begin with."""


def reads_well(module, root):
    collector, rates = build(module, "debian10-4.19-cgroup1"), Rates()
    try:
        collector.open(root)
        for t in (1, 2):
            rates.step(t * NS, collector.collect(t * NS))
    except (NoData, Broken):
        return False
    finally:
        collector.close()
    return True


def test_rates_of_a_host_that_moved_are_what_the_kernel_counted(tmp_path):
    stat = "cpu  {} 0 0 {} 0 0 0 0 0 0\ncpu0 {} 0 0 {} 0 0 0 0 0 0\nintr 5 1\nctxt {}\nprocesses 1\nprocs_running 3\n"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/loadavg").write_text("0.5 0 0 1/2 3\n")
    (tmp_path / "proc/stat").write_text(stat.format(100, 900, 100, 900, 1000))
    collector, rates = build(cpu, ""), Rates()
    collector.open(tmp_path)
    rates.step(NS, collector.collect(NS))
    (tmp_path / "proc/stat").write_text(stat.format(175, 925, 175, 925, 1500))
    reading = collector.collect(3 * NS)
    values = dict(zip((s.key for s in reading.series), rates.step(3 * NS, reading), strict=True))
    assert values["cpu_busy_ratio"] == 0.75
    assert values['cpu_mode_ratio{mode="idle"}'] == 0.25
    assert values['cpu_core_busy_ratio{cpu="0"}'] == 0.75
    assert values["cpu_context_switches_per_second"] == 250
    assert values["cpu_runnable_tasks"] == 3
    assert values["cpu_load1"] == 0.5
    assert values['cpu_core_mode_ratio{cpu="0",mode="user"}'] == 0.75
