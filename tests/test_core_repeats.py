"""Trouble that comes and goes is told so many times an hour, then only if it stays, grows or is critical."""

import pytest

from api.payload import payload
from etio.core.alert import Alert, Incident
from etio.core.event import Notify
from etio.core.frame import NS
from etio.core.repeats import Repeats
from etio.core.report import Culprit, DataQuality, Finding, ModelNote, Report

T = 1_795_000_000 * NS


def alert(name="ConnectFailures", severity="warning", state="firing"):
    return Alert(fingerprint=name, name=name, severity=severity, state=state, labels=(), summary="", series_key="",
                 value=1.0, unit="", score=1.0, detector="hard_rules", pending_ns=T)


class Pager:
    """What is sent, as (second, incident, resolved), of bursts that are told here."""

    def __init__(self):
        self.repeats, self.sent = Repeats(times=3), []

    def tell(self, second, number, *alerts, over=False, report=None):
        alerts = alerts or (alert(),)
        notice = Notify(Incident(f"i{number}", T, alerts, T + 1 if over else 0), alerts, report)
        self.keep(second, self.repeats.put(notice, T + second * NS))

    def keep(self, second, notices):
        self.sent += [(second, n.incident.id, bool(n.incident.resolved_ns)) for n in notices]

    def burst(self, start, number, *alerts, seconds=60):
        """Begin, report, end."""
        for after, over in ((0, False), (3, False), (seconds, True)):
            self.tell(start + after, number, *alerts, over=over)
        self.keep(start + seconds, self.repeats.due(T + (start + seconds) * NS))

    @property
    def incidents(self):
        return list(dict.fromkeys(name for _, name, _ in self.sent))


def test_bursts_are_told_three_times_an_hour_and_again_in_the_next():
    pager = Pager()
    for number in range(30):
        pager.burst(180 * number, number)
    assert pager.incidents == ["i0", "i1", "i2", "i20", "i21", "i22"]
    assert sum(name == "i1" for _, name, _ in pager.sent) == 3, "begin, report and end"


def test_what_stays_is_told_after_five_minutes_from_its_begin_on():
    pager = Pager()
    for number in range(3):
        pager.burst(180 * number, number)
    pager.sent.clear()
    pager.tell(600, 3)
    pager.tell(603, 3)
    pager.keep(899, pager.repeats.due(T + 899 * NS))
    assert pager.sent == []
    pager.keep(900, pager.repeats.due(T + 900 * NS))
    pager.tell(2000, 3, over=True)
    assert pager.sent == [(900, "i3", False), (900, "i3", False), (2000, "i3", True)]


@pytest.mark.parametrize("more", [alert("DiskSlow"), alert("OomKill", "critical")])
def test_what_is_new_or_critical_is_told_at_once_with_what_waited(more):
    pager = Pager()
    for number in range(3):
        pager.burst(180 * number, number)
    pager.sent.clear()
    pager.tell(600, 3)
    pager.tell(610, 3, alert(), more)
    assert pager.sent == [(610, "i3", False), (610, "i3", False)]


def found(culprit):
    finding = Finding("cpu_saturation", "", "CONFIRMED", "", (), (), culprit=Culprit("process", culprit))
    return Report("r", "i", "h", T, T, "", "CONFIRMED", "warning", "", (finding,), (), (), (), (), (), (), None,
                  DataQuality("T1", 1.0), ModelNote("deterministic"))


def test_another_culprit_is_news_and_the_same_one_is_not():
    pager = Pager()
    for number, culprit in enumerate(["backup", "backup", "backup", "backup", "indexer", "backup", "indexer"]):
        pager.tell(180 * number, number)
        pager.tell(180 * number + 3, number, report=found(culprit))
        pager.tell(180 * number + 60, number, over=True)
    assert pager.incidents == ["i0", "i1", "i2", "i4", "i6"]
    assert [second for second, name, _ in pager.sent if name == "i4"] == [723, 723, 780]


def test_what_was_told_is_told_to_its_end_whatever_joins():
    pager = Pager()
    for number in range(3):
        pager.burst(180 * number, number)
    pager.sent.clear()
    pager.tell(600, 3, alert("DiskSlow"))
    pager.tell(610, 3, alert("DiskSlow"), alert())
    pager.tell(620, 3, alert("DiskSlow"), alert(), over=True)
    assert pager.sent == [(600, "i3", False), (610, "i3", False), (620, "i3", True)]


def test_what_is_critical_is_told_however_often_it_comes():
    pager = Pager()
    for number in range(8):
        pager.burst(180 * number, number, alert("FilesystemFull", "critical"))
    assert len(pager.incidents) == 8


def test_a_report_after_the_end_counts_nothing_and_goes_the_way_of_its_incident():
    pager = Pager()
    for number in range(5):
        pager.burst(180 * number, number)
        pager.tell(180 * number + 70, number, over=True)
    assert pager.incidents == ["i0", "i1", "i2"]
    assert sum(name == "i0" for _, name, _ in pager.sent) == 4


def test_evidence_is_no_repeat_and_the_rest_is_sent_at_the_end():
    pager = Pager()
    for number in range(3):
        pager.burst(180 * number, number, alert(), alert("HostAnomaly", "info"))
    pager.tell(600, 3)
    assert [n.incident.id for n in pager.repeats.rest()] == ["i3"]
    assert pager.repeats.rest() == []


def test_memory_is_bounded():
    pager = Pager()
    for number in range(2000):
        pager.burst(180 * number, number, alert(f"A{number}"))
    assert max(len(pager.repeats._members), len(pager.repeats._told)) <= 256


def test_a_repeat_says_how_often_it_was_told_and_when_it_will_wait():
    repeats, words = Repeats(times=3), []
    for number in range(4):
        for over in (False, True):
            notice = Notify(Incident(f"i{number}", T, (alert(),), T + 1 if over else 0), (alert(),))
            words += [n.repeats for n in repeats.put(notice, T + (60 * number + 20 * over) * NS)]
    assert words == [
        "", "", "told 2 times within 60 minutes; after 3 it is told again only if it lasts 5 minutes, or with news", "",
        "told 3 times within 60 minutes; from now on it is told again only if it lasts 5 minutes, or with news", ""]


def test_the_words_go_with_the_webhook():
    notice = Notify(Incident("i1", T, (alert(),)), (alert(),), repeats="told 2 times")
    assert payload(notice, "vm", "")["alerts"][0]["annotations"]["repeats"] == "told 2 times"
