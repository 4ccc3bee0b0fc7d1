"""What the programs cost is known, with and without the kernel's account; a family taken off can be loaded again."""

import math
import os
import time
from pathlib import Path

import pytest

from collector.ebpf.families import FAMILIES, NUMBERS
from collector.ebpf.price import FAMILY_OF, NS_OF, Price
from etio.core.status import ProgramCost
from etio.daemon.probes import Probes
from tests.daemon_rig import wait_for
from tests.ebpf_rig import client, ebpf, run, values  # noqa: F401 (fixtures)

SWITCHES = "sched_switches_per_second"


def test_every_program_belongs_to_one_family():
    assert len(FAMILY_OF) == sum(len(family.probes) for family in FAMILIES)
    assert len(set(NUMBERS.values())) == len(FAMILIES)


def test_runs_are_charged_where_the_kernel_does_not_count():
    price = Price()
    price.step({"sched": {"sched_switch": 1000.0}, "oom": {}})
    assert price.seconds == {"sched": 0.0, "oom": 0.0}, "what ran before we looked is not ours to tell"
    price.step({"sched": {"sched_switch": 1_001_000.0}, "oom": {}})
    assert price.seconds["sched"] == pytest.approx(1e6 * NS_OF["sched_switch"] / 1e9)


def test_the_kernels_account_goes_first_where_it_stood_at_both_ends():
    price, runs = Price(), {"sched": {"sched_switch": 0.0}}
    price.step(runs)
    price.step({"sched": {"sched_switch": 1e6}}, [ProgramCost("sched_switch", "", 5.0, 100.0)])
    estimate = price.seconds["sched"]
    assert estimate == pytest.approx(1e6 * NS_OF["sched_switch"] / 1e9), "switched on meanwhile: it lacks a part"
    price.step({"sched": {"sched_switch": 2e6}}, [ProgramCost("sched_switch", "", 9.0, 100.5)])
    assert price.seconds["sched"] == pytest.approx(estimate + 0.5)
    price.step({"sched": {"sched_switch": 2e6}}, [ProgramCost("sched_switch", "", math.nan, math.nan)])
    assert price.seconds["sched"] == pytest.approx(estimate + 0.5)


def test_loaded_again_it_counts_from_nothing():
    price = Price()
    price.step({"sched": {"sched_switch": 5e6}})
    price.step({})
    price.step({"sched": {"sched_switch": 7e6}})
    assert price.seconds["sched"] == 0.0
    price.step({"sched": {"sched_switch": 1e6}})
    assert price.seconds["sched"] == 0.0, "the counter went back"


PING = """
    import os
    ours, theirs = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        ours, theirs = theirs, ours
    else:
        os.write(ours[1], b"x")
    for _ in range(20011):
        os.read(theirs[0], 1)
        os.write(ours[1], b"x")
    if not child:
        os._exit(0)
    os.wait()
"""


class Host:
    """The families of this host, and whether the warden was busy."""

    def __init__(self, client, ebpf, stats):  # noqa: F811
        self.busy: list[bool] = []
        self.probes = Probes(client, ebpf, self.busy.append, stats)
        self.sched = next(part for part in self.probes.parts if part.family == "sched")

    def row(self):
        return next(row for row in self.probes.health() if row.name == "ebpf sched")


@pytest.fixture
def counted(client, ebpf):  # noqa: F811
    """The families while the kernel counts what they cost."""
    stats = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = stats.read_text()
    stats.write_text("1")
    yield Host(client, ebpf, stats)
    stats.write_text(before)


@pytest.mark.needs_bpf
@pytest.mark.needs_root
def test_both_accounts_tell_of_a_storm(counted, client, ebpf, tmp_path):  # noqa: F811
    guessed = Host(client, ebpf, tmp_path / "no such kernel")
    both = (counted, guessed)
    for _ in range(6):  # a processor that the hypervisor takes away in the middle of a run makes that run long
        values(ebpf)
        before = [host.probes.measure() for host in both]
        run(PING)
        values(ebpf)
        real, estimate = (host.probes.measure() - was for host, was in zip(both, before, strict=True))
        print(f"{real * 1e3:.2f} ms by the kernel's account, {estimate * 1e3:.2f} ms by our own")
        assert real > 20_000 * 30e-9
        if real / 10 < estimate < real * 10 and counted.sched.load == max(part.load for part in counted.probes.parts):
            break
    assert real / 10 < estimate < real * 10
    assert counted.sched.load == max(part.load for part in counted.probes.parts)
    assert counted.sched.able


@pytest.mark.needs_bpf
@pytest.mark.needs_root
def test_a_family_is_taken_off_and_loaded_again(counted, client, ebpf):  # noqa: F811
    names = [series.key for series in ebpf.collect(time.time_ns()).series]
    before = os.listdir("/proc/self/fd")
    counted.sched.shed("it was too dear")
    assert len(os.listdir("/proc/self/fd")) < len(before)
    assert math.isnan(values(ebpf)[SWITCHES])
    assert not counted.sched.able
    assert (counted.row().state, counted.row().reason) == ("shed", "it was too dear")
    assert {row.name: row.state for row in counted.probes.health()}["ebpf lock"] == "off", "nobody asked for it"
    attached = {cost.name for cost in client.program_costs()}
    assert "sched_switch" not in attached
    assert "sched_process_fork" in attached
    assert counted.sched.resume()
    wait_for(lambda: values(ebpf)[SWITCHES] > 0 and not counted.busy[-1], 120)
    assert counted.sched.resume(), "no matter"
    wait_for(lambda: counted.busy == [True, False] * 2, 120)
    assert counted.row().state == "on"
    found = [series.key for series in ebpf.collect(time.time_ns()).series]
    assert found[:len(names)] == names
    assert len(found) == len(set(found))
    first = values(ebpf)["sched_voluntary_switches_per_second"]
    run("import time\nfor _ in range(307):\n    time.sleep(0.0005)")
    assert values(ebpf)["sched_voluntary_switches_per_second"] - first >= 0.9 * 307  # some are over before they begin
