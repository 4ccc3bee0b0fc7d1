"""An incident that lasts is looked at again: another culprit is told, the same one is not."""

from dataclasses import replace

import numpy as np

from etio.core.again import AGAIN_S, GONE_S, JOINED_S, TOLD, Again
from etio.core.alert import Incident
from etio.core.event import FrameReady, HostEvent, Notify, ReportFailed, ReportReady, StartRca, Write
from etio.core.frame import NS, Frame
from etio.core.report import Culprit, Finding, Report
from etio.core.series import Series, labels
from tests.test_core_engine import BUSY, CPU, DAY_NS, DISK, Rig, report

LINK = HostEvent(DAY_NS, "link_down", "device=eth0")


def said(incident_id: str, name: str, pid: int, verdict: str) -> Report:
    finding = Finding("cpu_saturation", f"{name} keeps all CPUs busy", verdict, "", (),  # type: ignore[arg-type]
                      culprit=Culprit("process", name, pid, "/billing"))
    return replace(report(incident_id), findings=(finding,), verdict=verdict)  # type: ignore[arg-type]


class Office:
    """An engine whose reports come at once and name whoever is at work."""

    def __init__(self, *series) -> None:
        self.rig, self.who, self.pid, self.verdict = Rig(*series or (CPU,)), "first", 7, "CONFIRMED"
        self.asked: list[int] = []
        self.told: list[str] = []
        self.kept: list[str] = []
        self.fails = False

    def run(self, seconds: int, *scores: float) -> "Office":
        for _ in range(seconds):
            self._carry_out(self.rig.run(1, *scores or (1.5,)))
        return self

    def ended(self, pid: int) -> None:
        event = HostEvent(self.rig.t, "culprit_ended", f"pid={pid}", (("comm", "x"),))
        assert self.rig.engine.step(event) == [Write(event)]

    def _carry_out(self, actions: list[object]) -> None:
        for action in actions:
            if isinstance(action, StartRca):
                self.asked.append((self.rig.t - DAY_NS) // NS)
                found = said(action.incident.id, self.who, self.pid, self.verdict)
                answer = (ReportFailed(self.rig.t, action.incident.id, "no") if self.fails else
                          ReportReady(self.rig.t, found))
                self._carry_out(self.rig.engine.step(answer))
            elif isinstance(action, Notify) and action.report:
                self.told.append(action.report.findings[0].culprit.name)
            elif isinstance(action, Write) and isinstance(action.item, Report):
                self.kept.append(action.item.findings[0].culprit.name)


def test_what_lasts_with_the_same_culprit_is_looked_at_ever_more_seldom_and_told_once():
    office = Office().run(3600)
    waits = [b - a for a, b in zip(office.asked, office.asked[1:], strict=False)]
    assert waits == [AGAIN_S * 2**n for n in range(len(waits))]
    assert len(waits) == 6
    assert office.told == office.kept == ["first"]


def test_another_culprit_under_the_same_alert_is_told():
    office = Office().run(20)
    office.who, office.pid = "second", 8
    office.run(30)
    assert office.told == office.kept == ["first", "second"]
    assert office.run(300).told == ["first", "second"]


def test_the_end_of_the_culprit_leads_to_a_look_soon():
    office = Office().run(200)
    before = len(office.asked)
    office.who = "second"
    office.ended(8)  # somebody else
    office.ended(7)
    office.run(int(GONE_S) + 2)
    assert office.told == ["first", "second"]
    assert len(office.asked) == before + 1


def test_a_culprit_that_ends_and_comes_back_does_not_keep_etio_busy():
    office = Office().run(20)
    for _ in range(100):
        office.ended(office.pid)
        office.pid += 1
        office.run(10)
    assert office.told == ["first"]
    assert len(office.asked) < 12
    assert set(office.kept) == {"first"}  # under its new number


def test_culprits_that_take_turns_are_told_a_few_times_only():
    office = Office().run(20)
    for number in range(40):
        office.ended(office.pid)
        office.who, office.pid = f"job{number}", 100 + number
        office.run(60)
    assert len(office.told) == 1 + TOLD
    assert len(office.kept) > len(office.told)


def test_a_look_that_finds_less_than_was_known_is_not_told():
    office = Office().run(20)
    office.who, office.verdict = "second", "LIKELY"
    office.run(60)
    assert office.told == ["first"]
    office.verdict = "INCONCLUSIVE"
    office.run(600)
    assert office.told == office.kept == ["first"]


def test_of_what_is_only_likely_another_guess_is_no_news_but_knowing_is():
    office = Office()
    office.verdict = "LIKELY"
    office.run(20)
    office.who = "second"
    office.run(100)
    assert office.told == office.kept == ["first"]
    office.who, office.verdict = "third", "CONFIRMED"
    assert office.run(200).told == ["first", "third"]


def test_what_could_not_be_explained_at_first_is_told_once_it_can():
    office = Office()
    office.verdict = "INCONCLUSIVE"
    office.run(20)
    office.verdict = "CONFIRMED"
    assert office.run(60).told == ["first", "first"]


def test_calm_is_not_explained_and_events_are_not_looked_at_again():
    office = Office().run(20)
    office.who = "second"
    assert office.run(60, 0.2).told == ["first"]
    rig = Rig(CPU)
    first = rig.engine.step(replace(LINK, t_ns=rig.t))
    assert any(isinstance(a, Notify) for a in first)
    asked = [a for a in rig.run(600, 0.1) if isinstance(a, StartRca)]
    assert len(asked) == 1


def test_another_culprit_of_a_lesser_finding_is_told_as_well():
    again = Again()
    again.begin(DAY_NS, quiet=False)

    def two(name: str, pid: int) -> Report:
        first, second = said("a", "peer", 0, "CONFIRMED"), said("a", name, pid, "CONFIRMED")
        return replace(first, findings=(*first.findings, *second.findings))

    assert again.reported(two("first", 7)) == (True, True)
    again.culprit_ended(DAY_NS, 7)
    assert again.due_ns == DAY_NS + AGAIN_S * NS
    again.begin(again.due_ns, quiet=True)
    assert again.reported(two("second", 8)) == (True, True)
    again.begin(again.due_ns, quiet=True)
    assert again.reported(two("second", 8)) == (False, False)


def test_a_look_that_fails_changes_nothing_and_is_made_later_again():
    office = Office().run(20)
    office.fails = True
    office.run(60)
    office.fails, office.who = False, "second"
    assert office.run(120).told == ["first", "second"]


def test_an_alert_that_joins_is_explained_and_told_as_ever():
    office = Office(CPU, DISK).run(12, 1.5, 0.0)
    assert office.run(20, 1.5, 2.0).told == ["first", "first"]


WORKERS = tuple(Series("process_group_cpu_cores", "cores", labels=labels(group=name)) for name in ("first", "second"))


def work(office: Office, seconds: int, *cores: float) -> None:
    """Lets time go on with a condition that lasts and two groups of processes at work."""
    for _ in range(seconds):
        office.rig.t += NS
        office.rig.script.values = np.array([1.5])
        frame = Frame(office.rig.t, (BUSY, *WORKERS), np.array([0.99, *cores]))
        office._carry_out(office.rig.engine.step(FrameReady(frame)))


def test_who_joins_while_the_first_goes_on_leads_to_a_look_soon():
    office = Office()
    work(office, 1000, 1.9, 0.0)
    before = len(office.asked)
    office.who, office.pid = "second", 8
    work(office, int(JOINED_S + GONE_S) + 3, 1.0, 0.9)
    assert office.told == ["first", "second"]
    assert len(office.asked) == before + 1


def test_what_joins_for_a_moment_or_works_a_little_more_leads_to_none():
    office = Office()
    work(office, 1000, 1.0, 0.1)
    before = len(office.asked)
    work(office, 5, 1.0, 0.9)
    work(office, 200, 1.3, 0.5)
    assert len(office.asked) == before


def test_a_group_that_comes_and_goes_does_not_keep_etio_busy():
    office = Office()
    for _ in range(60):
        work(office, 30, 1.5, 0.1)
        work(office, 30, 1.5, 1.5)
    assert len(office.asked) <= 12


def left_open(office: Office) -> Incident:
    """The incident as the store has it when the daemon ends."""
    written = [a.item for _, a in office.rig.log if isinstance(a, Write) and isinstance(a.item, Incident)]
    return replace(written[-1], report="ready")


def test_an_incident_of_an_earlier_run_is_looked_at_again():
    """The one that was told is not told again; who is there now in his place is."""
    office = Office().run(600)
    incident = left_open(office)
    for who, told in (("first", []), ("second", ["second"])):
        later = Office()
        later.rig.t, later.who = office.rig.t, who
        later.rig.engine.adopt([incident], later.rig.t, [said(incident.id, "first", 7, "CONFIRMED")])
        later.run(int(AGAIN_S) + 2)
        assert later.told == told
        assert len(later.asked) == 1
        assert len(later.run(500).asked) == 1, "it is as old as it is, and is looked at as seldom"


def test_the_end_of_a_culprit_that_an_earlier_run_named_leads_to_a_look():
    office = Office().run(600)
    incident = left_open(office)
    later = Office()
    later.rig.t = office.rig.t
    later.rig.engine.adopt([incident], later.rig.t, [said(incident.id, "first", 7, "CONFIRMED")])
    later.run(100)
    before, later.who = len(later.asked), "second"
    later.ended(7)
    assert len(later.run(int(AGAIN_S) + 2).asked) == before + 1
    assert later.told == ["second"]
