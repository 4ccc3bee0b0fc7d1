"""Which cards are suggested for a finding, in which order, and what they propose: quotas, limits, nothing."""


import pytest

from etio.core.errors import Broken, NoData
from etio.core.evidence import Evidence
from etio.core.facts import Cgroup, CgroupTable, Facts, Socket, SocketTable
from etio.core.report import Culprit
from rca.cards import suggest
from tests.cards_rig import HOST, FixedKnobs, every_entity, finding


def quota_finding(path="/system.slice/web.service"):
    return finding("cgroup_cpu_throttling", f"cgroup={path}", Culprit("cgroup", path, cgroup=path))


def quota_evidence(path="/system.slice/web.service", usage=0.5, throttled=1.2):
    values = {"cgroup_cpu_throttled_seconds_per_second": throttled, "cgroup_cpu_usage_cores": usage}
    return [
        Evidence(f"E{i}", "series", "c", f"cgroup={path}", f'{name}{{cgroup="{path}"}}', value=value)
        for i, (name, value) in enumerate(values.items(), 1)
    ]


def test_quota_is_what_the_group_wanted_and_a_fifth():
    best = suggest(quota_finding(), quota_evidence(), Facts(HOST), FixedKnobs(), 99)[0]
    assert (best.card, best.read_ns) == ("cgroup-cpu-quota", 99)
    assert best.current == "0.50 cores (cpu.cfs_quota_us=50000, cpu.cfs_period_us=100000)"
    assert best.proposed == "2.10 cores"
    assert best.apply.startswith("systemctl set-property --runtime web.service CPUQuota=210%")
    assert best.rollback == "systemctl set-property --runtime web.service CPUQuota=50%"


@pytest.mark.parametrize(
    ("text", "apply", "rollback"),
    [
        ("0.33 cores (cpu.cfs_quota_us=16667, cpu.cfs_period_us=50000)",
         "echo 105000 | tee /sys/fs/cgroup/cpu/jobs/a/cpu.cfs_quota_us",
         "echo 16667 | tee /sys/fs/cgroup/cpu/jobs/a/cpu.cfs_quota_us"),
        ("0.50 cores (cpu.cfs_quota_us=50000)", "echo 210000 | tee /sys/fs/cgroup/cpu/jobs/a/cpu.cfs_quota_us",
         "echo 50000 | tee /sys/fs/cgroup/cpu/jobs/a/cpu.cfs_quota_us"),
        ("0.50 cores (cpu.max=50000 100000)", "echo 210000 100000 | tee /sys/fs/cgroup/jobs/a/cpu.max",
         "echo 50000 100000 | tee /sys/fs/cgroup/jobs/a/cpu.max"),
        ("0.50 cores (cpu.max=10000 20000)", "echo 42000 20000 | tee /sys/fs/cgroup/jobs/a/cpu.max",
         "echo 10000 20000 | tee /sys/fs/cgroup/jobs/a/cpu.max"),
    ],
)  # fmt: skip
def test_a_plain_group_is_written_in_the_words_of_its_version(text, apply, rollback):
    found = suggest(quota_finding("/jobs/a"), quota_evidence("/jobs/a"), Facts(HOST), FixedKnobs(cpu_quota=text), 1)
    assert (found[0].apply, found[0].rollback) == (apply, rollback)


def test_nothing_beyond_the_host_and_nothing_that_is_there_already():
    def cards(knobs, throttled):
        return {s.card: s for s in suggest(quota_finding(), quota_evidence(throttled=throttled), Facts(HOST), knobs, 1)}

    assert cards(FixedKnobs(), 50.0)["cgroup-cpu-quota"].proposed == "8.00 cores"
    assert "cgroup-cpu-quota" not in cards(FixedKnobs(cpu_quota="3.00 cores (cpu.max=300000 100000)"), 1.0)
    assert "cgroup-cpu-quota" not in cards(FixedKnobs(cpu_quota="max (cpu.max=max 100000)"), 1.0)


def test_no_demand_known_no_quota_proposed():
    bare = [Evidence("E1", "series", "c", series_key="cgroup_cpu_throttled_ratio", value=0.4)]
    found = suggest(quota_finding(), bare, Facts(HOST), FixedKnobs(), 1)
    assert "cgroup-cpu-quota" not in [s.card for s in found]


def test_contraindicated_when_the_host_has_no_idle_core():
    full = [*quota_evidence(), Evidence("E3", "series", "c", series_key="cpu_busy_ratio", value=0.99)]
    found = suggest(quota_finding(), full, Facts(HOST), FixedKnobs(), 1)
    assert found
    assert "cgroup-cpu-quota" not in [s.card for s in found]


def test_a_knob_that_cannot_be_read_is_said_so_and_ranked_last():
    swap = [Evidence("E1", "series", "c", series_key="vm_swap_in_pages_per_second", value=900.0)]
    found = suggest(finding("swap_thrashing"), swap, Facts(HOST), FixedKnobs(vm_swappiness=Broken("unreadable")), 1)
    assert found[-1].card == "vm-swappiness"
    assert (found[-1].current, found[-1].read_ns, found[-1].proposed) == ("", 0, "10")
    assert "unreadable" in found[-1].current_note
    assert found[-1].rollback.startswith("# nothing was read")
    gone = FixedKnobs(cpu_quota=NoData("no such group"))
    found = suggest(quota_finding("/jobs/a"), quota_evidence("/jobs/a"), Facts(HOST), gone, 1)
    assert "no such group" in found[0].current_note
    assert found[0].rollback.startswith("# nothing was read")


def test_a_group_that_is_gone_is_judged_by_the_last_table():
    table = CgroupTable(5, (Cgroup("/jobs/a", pids_limit=100.0, memory_limit_bytes=float("inf")),))
    who, gone = Culprit("process", "web", pid=4711, cgroup="/jobs/a"), FixedKnobs(pids_limit=NoData("gone"))
    facts = Facts(HOST, cgroups=(table,))
    one = suggest(finding("pids_exhausted", "cgroup=/jobs/a", who), (), facts, gone, 1)[0]
    assert (one.card, one.current, one.read_ns, one.proposed) == ("cgroup-pids-raise", "", 0, "200")
    assert "gone" in one.current_note
    assert one.rollback == "echo 100 | tee /sys/fs/cgroup/pids/jobs/a/pids.max"


def test_a_group_whose_name_cannot_be_shown_is_not_called_gone():
    gone = FixedKnobs(cpu_quota=NoData("no such group"))
    one = suggest(quota_finding("/jobs/a?"), quota_evidence("/jobs/a?"), Facts(HOST), gone, 1)[0]
    assert "cannot be shown" in one.current_note
    assert "not there any more" not in one.current_note


@pytest.mark.parametrize(("unit", "command"), [
    ("jobs.service", "systemctl restart jobs.service"), ("user.slice", "kill -s TERM 4711"),
    ("session-1.scope", "kill -s TERM 4711")])
def test_only_services_are_restarted(unit, command):
    who = Culprit("process", "web", pid=4711, cgroup=f"/x/{unit}", unit=unit)
    assert any(s.apply.startswith(command) for s in suggest(finding("zombies", "pid=4711", who), (), Facts(HOST),
                                                            FixedKnobs(), 1))
    leak = suggest(finding("memory_leak", culprit=who), (), Facts(HOST), FixedKnobs(), 1)
    assert any("systemctl restart" in s.apply for s in leak) == unit.endswith(".service")


def test_a_task_limit_is_written_where_this_host_has_it():
    class V1(FixedKnobs):
        def read(self, kind, key, entity=""):
            if (key, entity) == ("cpu_quota", "/"):
                return "no limit (cpu.cfs_quota_us=-1)"
            return super().read(kind, key, entity)

    who = Culprit("cgroup", "/jobs/a", cgroup="/jobs/a")
    for gone in ({}, {"pids_limit": NoData("gone")}):
        table = CgroupTable(5, (Cgroup("/jobs/a", pids_limit=100.0),))
        facts = Facts(HOST, cgroups=(table,))
        one = suggest(finding("pids_exhausted", "cgroup=/jobs/a", who), (), facts, V1(**gone), 1)[0]
        assert one.apply.endswith("| tee /sys/fs/cgroup/pids/jobs/a/pids.max")


def test_a_knob_that_this_host_does_not_have_is_not_suggested():
    swap = [Evidence("E1", "series", "c", series_key="vm_swap_in_pages_per_second", value=900.0)]
    found = suggest(finding("swap_thrashing"), swap, Facts(HOST), FixedKnobs(vm_swappiness=NoData("no such file")), 1)
    assert "vm-swappiness" not in [s.card for s in found]


def test_host_wide_cards_stay_away_from_a_group_and_the_journal_from_other_disks():
    who = Culprit("process", "web", pid=4711, cgroup="/jobs/a")
    found = suggest(finding("pids_exhausted", "cgroup=/jobs/a", who), (), Facts(HOST), FixedKnobs(), 1)
    assert [s.card for s in found] == ["cgroup-pids-raise", "pids-who"]
    for mount, there in (("/", True), ("/var/log", True), ("/data", False)):
        found = suggest(finding("disk_full", f"mount={mount}"), (), Facts(HOST), FixedKnobs(), 1)
        assert ("disk-journal-vacuum" in [s.card for s in found]) == there


def test_most_four_and_ranked():
    entity, who = every_entity()
    writes = [Evidence("E1", "series", "c", series_key="disk_writes_per_second", value=900.0)]
    found = suggest(finding("disk_saturation", entity, who), writes, Facts(HOST), FixedKnobs(), 1)
    assert [s.card for s in found] == ["io-idle-class", "io-limit-group", "block-wbt", "block-scheduler"]
    assert suggest(finding("unheard_of"), (), Facts(HOST), FixedKnobs(), 1) == ()


def test_the_unit_form_is_only_for_the_unit_itself():
    inner = "/system.slice/docker.service/job"
    found = suggest(quota_finding(inner), quota_evidence(inner), Facts(HOST), FixedKnobs(), 1)
    assert "systemctl" not in found[0].apply


def test_evidence_of_another_group_is_not_used():
    others = quota_evidence("/jobs/other", usage=7.0)
    found = suggest(quota_finding("/jobs/a"), others, Facts(HOST), FixedKnobs(), 1)
    assert "cgroup-cpu-quota" not in [s.card for s in found]
    found = suggest(quota_finding("/jobs/a"), [*others, *quota_evidence("/jobs/a")], Facts(HOST), FixedKnobs(), 1)
    assert found[0].proposed == "2.10 cores"


def queue_cards(limit, somaxconn="4096"):
    """Cards suggested for a listener whose queue is full at this limit, in order."""
    listener = Socket("127.0.0.1:9300", state="listen", pid=4711, waiting=limit + 1, limit=limit)
    facts = Facts(HOST, sockets=(SocketTable(1, (listener,)),))
    evidence = [Evidence("E1", "series", "c", series_key="tcp_listen_drops_per_second", value=9.0)]
    return [s.card for s in suggest(finding("listen_overflow"), evidence, facts, FixedKnobs(
        net_core_somaxconn=somaxconn, net_ipv4_tcp_abort_on_overflow="0"), 1)]


def test_the_queue_limit_that_binds_is_raised_and_not_the_other():
    assert queue_cards(1) == ["listen-accept", "listen-backlog"]
    assert queue_cards(4096) == ["listen-accept", "net-somaxconn"]
    assert "listen-backlog" not in queue_cards(1, Broken("cannot be read"))
    bare = suggest(finding("listen_overflow"), [], Facts(HOST), FixedKnobs(net_core_somaxconn="4096"), 1)
    assert [s.card for s in bare][:1] == ["listen-accept"]
    assert "net-somaxconn" in [s.card for s in bare]
    assert "listen-backlog" not in [s.card for s in bare]


@pytest.mark.parametrize(("cause", "key", "held"), [
    ("tcp_memory_short", "net_ipv4_tcp_mem", "2000 3000 4000"),
    ("ports_exhausted", "net_ipv4_ip_local_port_range", "40000\t40999"),
])
def test_a_setting_of_several_numbers_is_put_back_as_a_whole(cause, key, held):
    facts = Facts(HOST)
    found = [s for s in suggest(finding(cause), [], facts, FixedKnobs(**{key: held}), 1) if s.current]
    (one,) = [s for s in found if key.rpartition("_")[2] in s.rollback]
    assert f"echo '{' '.join(held.split())}' | tee" in one.rollback
