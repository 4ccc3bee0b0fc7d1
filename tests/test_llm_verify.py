"""The verifier: what the evidence carries stands, everything else falls, each for the right reason."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.evidence import Evidence
from rca.llm import numbers, verify
from rca.llm.prompt import brief, harmless
from tests.llm_samples import T0, S, sample_report

REPORT = sample_report()
NAMES = frozenset(brief(REPORT).names)


def why(text, *ids, report=REPORT):
    return verify.verdict(verify.read(text, ids or ("E1",), report, NAMES))


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("C1 was throttled in 91 % of its periods.", ["E1"]),
        ("C1 was throttled in 91.2% of the periods, because its CPU quota is exhausted.", ["E1", "E2"]),
        ("CPU usage of C1 rose from 0.6 to 2 cores.", ["E2"]),
        ("The usage grew by 1.4 cores.", ["E2"]),
        ("The usage is 3.3 times its usual value.", ["E2"]),
        ("Throttling led to accept queue overflows 3 s later.", ["E1", "E4"]),
        ("The wait in the run queue (p99) increased to 41 ms.", ["E5"]),
        ("Available memory is unchanged at 8.2 GiB.", ["E6"]),
        ("Memory pressure was ruled out.", ["E6"]),
        ("It is not memory pressure: 8.2 GiB are available.", ["E6"]),
        ("The host as a whole was at 62 %, so its CPUs were not saturated.", ["E3"]),
        ("The run-queue delay [E5] exceeded its threshold 1.8 times.", ["E5"]),
        ("cgroup_cpu_throttled_ratio rose to 91 % (E1).", ["E1"]),
        ("C1\u2019s CPU time is limited by its quota.", ["E1"]),
    ],
)
def test_what_the_evidence_carries_stands(text, ids):
    assert why(text, *ids) == ""


@pytest.mark.parametrize(
    ("text", "ids", "reason"),
    [
        ("C1 was throttled in 95 % of its periods.", ["E1"], "95 % is not in E1"),
        ("C1 was throttled in 91 % of its periods.", ["E2"], "91 % is not in E2"),
        ("The wait increased to 41 s.", ["E5"], "41 s is not in E5"),
        ("The wait increased to 412 ms.", ["E5"], "412 ms is not in E5"),
        ("CPU usage of C1 fell to 2 cores.", ["E2"], "does not show that anything fell"),
        ("Available memory rose to 8.2 GiB.", ["E6"], "does not show that anything rose"),
        ("CPU usage did not rise.", ["E2"], "E2 rose"),
        ("The throttled ratio is normal.", ["E1"], "far from usual"),
        ("The memory of the host is exhausted.", ["E6"], "does not show a high level"),
        ("Queue overflows led to throttling.", ["E4", "E1"], "order of cause and effect"),
        ("Memory is the root of the problem.", ["E6"], "cause and effect"),
        ("Memory pressure is the reason.", ["E6"], "memory_pressure was ruled out"),
        ("Disk saturation was observed.", ["E1"], "disk_saturation was ruled out"),
        ("A memory leak was observed.", ["E6"], "outside the vocabulary"),
        ("Please restart C1.", ["E1"], "outside the vocabulary"),
        ("Run systemctl to raise the quota.", ["E1"], "outside the vocabulary"),
        ("Kill P1 now.", ["E1"], "P1 does not exist"),
        ("Visit evil.example for help.", ["E1"], "markup, a link or a command"),
        ("See http://a.b", ["E1"], "markup, a link or a command"),
        ("The quota is in /etc/passwd", ["E1"], "markup, a link or a command"),
        ("The quota rm -rf", ["E1"], "markup, a link or a command"),
        ("The quota `is` full", ["E1"], "markup, a link or a command"),
        ("The quota\u202eis full", ["E1"], "markup, a link or a command"),
        ("C9 was throttled.", ["E1"], "C9 does not exist"),
        ("E55 was throttled.", ["E1"], "E55 does not exist"),
        ("The quota is full. " * 20, ["E1"], "longer than"),
        (" ", ["E1"], "empty"),
    ],
)
def test_what_it_does_not_carry_falls(text, ids, reason):
    assert reason in why(text, *ids)


def test_a_sentence_without_evidence_falls():
    assert verify.verdict(verify.read("The CPU is busy.", [], REPORT, NAMES)) == "it rests on no evidence"
    assert "no evidence" in verify.verdict(verify.read("The CPU is busy.", ["E99"], REPORT, NAMES))


def test_order_is_not_judged_below_the_sampling_time():
    assert why("The delay led to throttling.", "E5", "E1") == ""


def test_names_are_put_back_harmless():
    names = brief(REPORT).names
    sentence = verify.read("C1 was throttled.", ["E1"], REPORT, NAMES)
    assert verify.with_names(sentence, names) == "/system.slice/billing-api.service was throttled [E1]."
    assert not set("".join(names.values())) & set("<>`*\"'$|;&[]")
    assert not [n for n in names.values() if "//" in n]


@given(st.text(max_size=100))
def test_harmless_names(name):
    shown = harmless(name)
    assert 0 < len(shown) <= 60
    assert shown.isascii()
    assert "//" not in shown


@given(st.text(max_size=300), st.lists(st.sampled_from(["E1", "E4", "E8", "E99"]), max_size=3))
def test_any_text_gets_a_verdict(text, ids):
    sentence = verify.read(text, ids, REPORT, NAMES)
    verify.verdict(sentence)
    assert len(verify.quotable(sentence)) <= 100


UNITS = ["ratio", "bytes", "bytes/s", "seconds", "1/s", "hertz", "watts", "celsius"]


@given(st.floats(1e-7, 1e13), st.sampled_from(UNITS))
def test_a_number_as_shown_is_always_carried(value, unit):
    """Whatever the prompt shows, the verifier lets the model repeat."""
    item = Evidence("E1", "series", "c", value=value, unit=unit)
    said = list(numbers.quantities(f"it is {numbers.show(value, unit)} now"))
    if "e" not in numbers.show(value, unit).split()[0]:
        assert len(said) == 1
        assert numbers.is_carried(said[0], [item], 0), (numbers.show(value, unit), said)


@given(st.floats(0.01, 1e9), st.floats(1.2, 50))
def test_a_number_that_is_off_by_a_fifth_is_not(value, factor):
    item = Evidence("E1", "series", "c", value=value, unit="cores")
    wrong = numbers.Quantity("x", value * factor, 0.05 * value, "")
    assert not numbers.is_carried(wrong, [item], 0)


def test_quantities():
    found = [(q.number, q.dimension) for q in numbers.quantities("1,120 of 3.5 GiB/s, E5 v2 12ms; 0.5 % and 7.")]
    assert found == [(1120, ""), (3.5 * 2**30, "bytes"), (0.012, "seconds"), (0.005, "ratio"), (7, "")]


@pytest.mark.parametrize(
    ("value", "baseline", "moved"),
    [(2, 1, 1), (1, 2, -1), (1.0, 1.02, 0), (0, 0, 0), (float("nan"), 1, None), (5, 0, 1)],
)
def test_direction(value, baseline, moved):
    assert numbers.direction(Evidence("E1", "series", "c", value=value, baseline=baseline)) == moved


def test_onset_seconds_may_be_said():
    late = dataclasses.replace(REPORT, since_ns=T0 - 5 * S)
    assert why("Overflows began 8 s after the start of the incident.", "E4", report=late) == ""
    assert "is not in" in why("Overflows began 6 s after the start of the incident.", "E4", report=late)
