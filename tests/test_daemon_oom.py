"""An OOM kill has two witnesses: eBPF is at once, the kernel log knows the group of a victim that is gone."""

from etio.core.event import CollectorFailed, HostEvent
from etio.daemon.oom import Victims

SEEN = HostEvent(7, "oom_kill", "pid=408", (("comm", "stress-ng-vm"),), "eBPF oom:mark_victim")
LOG = (("comm", "cut short"), ("anon_rss_bytes", 96_000_000), ("cgroup", "/system.slice/greedy.service"))
WHOLE = (("comm", "stress-ng-vm"), *LOG[1:])


def test_a_victim_that_the_log_knows_already_is_told_whole():
    (told,) = Victims(lambda pid: LOG if pid == 408 else ()).take(SEEN)
    assert (told.t_ns, told.entity, told.source) == (7, "pid=408", SEEN.source)
    assert told.fields == WHOLE


def test_one_whose_group_is_not_known_waits_for_the_log():
    said = {}
    victims = Victims(lambda pid: said.get(pid, ()))
    assert victims.take(SEEN) == ()
    assert victims.overdue() == ()
    said[408] = LOG
    assert [v.fields for v in victims.overdue()] == [WHOLE]
    assert victims.overdue() == ()


def test_the_root_group_is_where_a_process_is_that_has_ended_and_not_where_it_was():
    dying = HostEvent(7, "oom_kill", "pid=408", (("comm", "stress-ng-vm"), ("cgroup", "/")), SEEN.source)
    (told,) = Victims(lambda pid: LOG if pid == 408 else ()).take(dying)
    assert told.fields == WHOLE
    late = Victims(lambda _: ())
    assert late.take(dying) == ()
    assert [*late.overdue(), *late.overdue()] == [dying]


def test_what_the_log_tells_later_of_a_victim_is_there_for_the_report():
    placed = HostEvent(7, "oom_kill", "pid=408", (("comm", "stress-ng-vm"), ("cgroup", "/pod/box")), SEEN.source)
    said = {}
    victims = Victims(lambda pid: said.get(pid, ()))
    assert victims.take(placed) == (placed,)
    said[408] = (("limited", "/pod"), ("cgroup", "/pod/box"))
    assert victims.completed(placed).fields == (*placed.fields, ("limited", "/pod"))
    other = HostEvent(7, "link_down", "device=eth0")
    assert victims.completed(other) == other


def test_but_not_for_ever():
    victims = Victims(lambda _: ())
    assert victims.take(SEEN) == ()
    assert [*victims.overdue(), *victims.overdue(), *victims.overdue()] == [SEEN]


def test_where_there_is_no_log_nothing_waits():
    assert Victims().take(SEEN) == (SEEN,)


def test_a_group_of_its_own_and_other_events_pass():
    known = HostEvent(7, "oom_kill", "pid=408", (("cgroup", "/a"),))
    other = CollectorFailed(7, "cpu", "gone")
    victims = Victims(lambda _: ())
    assert (victims.take(known), victims.take(other)) == ((known,), (other,))
