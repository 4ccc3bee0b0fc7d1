"""Every card of rca/cards: complete, safe, and applied to a host as it should be."""

import contextlib
import dataclasses
import math
import os
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.knobs import KnobReader, human_bytes
from etio.core.errors import Broken, NoData
from etio.core.evidence import Evidence
from etio.core.facts import Cgroup, CgroupTable, Facts, Socket, SocketTable
from etio.core.report import Culprit
from rca.cards import load_cards, parse_card, suggest
from rca.cards.card import CAUSES
from rca.cards.command import check_template, clean_entity, render
from rca.cards.propose import understand
from rca.cards.suggest import entity_labels, entity_slots
from tests.cards_rig import HOST, FixedKnobs, every_entity, finding
from tests.property_rig import outcome

CARDS = load_cards()
GOOD = """+++
id = "x"
title = "T"
causes = ["oom_kill"]
knob = "k"
class = "R"
risk = "low"
risk_note = "n"
effect = "e"
source = "s"
trust = "V"
get = { kind = "sysctl", key = "vm.swappiness" }
propose = { calculator = "at_most", value = 10 }
apply = { any = "sysctl -w vm.swappiness={proposed}" }
rollback = { any = "sysctl -w vm.swappiness={current}" }
verify = { any = "vmstat 1 5" }
+++

Because.
"""


def evidence_for(card):
    """Evidence that satisfies what the card asks for and holds none of its contraindications."""
    names = [*card.when.evidence[:1], *card.propose.series] or ["cpu_busy_ratio"]
    keys = [f'{name}{{device="sda"}}' for name in names]
    return [Evidence(f"E{i}", "series", "c", series_key=key, value=0.6) for i, key in enumerate(keys, 1)]


def apply_card(card, monkeypatch, knobs=None, name="/system.slice/web.service"):
    monkeypatch.setattr(sys.modules["rca.cards.suggest"], "load_cards", lambda: (card,))
    entity, who = every_entity(name)
    if card.when.mounts:
        entity = f"mount={card.when.mounts[0]}"
    if card.when.scope == "host" or card.when.entities:
        entity = next(iter(card.when.entities), "host")
    host = dataclasses.replace(HOST, virtual=card.when.virtual == "only")
    engine = next((need.only[0] for need in card.when.requires if need.kind == "inference"), "")
    policy = next((n.only[0] for n in card.when.requires if n.kind == "scheduling" and n.only), "other")
    known = knobs or FixedKnobs(policy=policy, **({"engine": engine} if engine else {}))
    limit = 1 if card.when.queue == "program" else 9999
    short = Socket("10.0.0.1:80", state="listen", pid=4711, waiting=limit + 1, limit=limit)
    sockets = (SocketTable(1, (short,)),) if card.when.queue else ()
    facts = Facts(host, sockets=sockets)
    if card.when.queue == "program":
        known = FixedKnobs(net_core_somaxconn="4096")
    if card.id == "vm-min-free-lower":  # of two cards for one knob each has its side
        known = FixedKnobs(vm_min_free_kbytes="5000000")
    return suggest(finding(card.causes[0], entity, who), evidence_for(card), facts, known, 7)


def test_there_are_enough_cards_and_every_cause_has_one():
    assert len(CARDS) >= 30
    assert {cause for card in CARDS for cause in card.causes} == set(CAUSES)


def test_every_cause_has_a_card_that_needs_nothing_but_the_cause():
    bare = (c for c in CARDS if not c.get.kind and not c.when.evidence and c.when.virtual == "any")
    read_first = {"cgroup_cpu_throttling", "conntrack_full", "link_down"}
    assert {cause for card in bare for cause in card.causes} | read_first == set(CAUSES)


@pytest.mark.parametrize("card", CARDS, ids=lambda c: c.id)
def test_every_card_becomes_a_suggestion(card, monkeypatch):
    found = apply_card(card, monkeypatch)
    assert len(found) == 1, "renders for a sample finding"
    one = found[0]
    assert all((one.why, one.risk, one.risk_note, one.source, one.proposed, one.effect))
    assert all((one.apply, one.rollback, one.verify))
    assert len(one.why.split()) >= 12
    for command in (one.apply, one.rollback, one.verify):
        shlex.split(command, comments=True)
        subprocess.run(["sh", "-n", "-c", command], check=True)
        assert "{" not in command
    assert bool(one.current) != bool(one.current_note)
    assert one.cause == card.causes[0]


HOSTILE = ["/x; rm -rf /", "/$(reboot)", "/`id`", "/a' b", '/a" | sh', "/-rf", "/a\u202egnp", "/a && b.service", "/a#b"]


@pytest.mark.parametrize("card", [c for c in CARDS if c.get.entity == "cgroup"], ids=lambda c: c.id)
@given(name=st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=40).map(lambda t: "/" + t)))
def test_a_hostile_cgroup_never_forms_a_command(card, name):
    with pytest.MonkeyPatch.context() as patch:
        found = apply_card(card, patch, name=name)
    forms = card.apply.every().values()
    calm = {len(shlex.split(form, comments=True)) for form in forms}
    for one in found:
        words = shlex.split(one.apply, comments=True)
        assert len(words) in calm, one.apply
        assert not words or any(name in word for word in words), "the name is one word, unchanged"


@given(st.sampled_from(["device", "cgroup", "mount", "pid", "unit"]), st.text(max_size=60))
def test_a_clean_entity_is_one_word_or_refused(kind, text):
    try:
        clean = clean_entity(kind, text)
    except Broken:
        return
    template = "cmd --x={" + kind + "} | tee /sys/{" + kind + "}/y"
    assert shlex.split(render(template, {kind: clean})) == ["cmd", f"--x={clean}", "|", "tee", f"/sys/{clean}/y"]
    assert not clean.startswith("-")
    assert ".." not in clean.split("/")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('risk = "low"', 'risk = "tiny"', "risk"),
        ('risk = "low"', 'risk = "low"\ncolour = 1', "colour"),
        ('rollback = { any = "sysctl -w vm.swappiness={current}" }\n', "", "rollback"),
        ('verify = { any = "vmstat 1 5" }', "verify = {}", "verify: empty"),
        ("{proposed}", "{process}", "unknown slot {process}"),
        ("{proposed}", "{proposed:hex}", "unknown format"),
        ("={proposed}", "='{proposed}'", "quotes"),
        ("vmstat 1 5", "vmstat 1 5; reboot", "not allowed"),
        ('["oom_kill"]', '["gremlins"]', "unknown cause 'gremlins'"),
        ("value = 10", 'value = "ten"', "must be a number"),
        ('calculator = "at_most", value = 10', 'calculator = "exec"', "calculator"),
        ('id = "x"', 'id = "y"', "not the file's name"),
        ("Because.", " ", "why: empty"),
        ("+++\n\n", "\n", "expected TOML"),
        ('knob = "k"', "knob = k", "x.md"),
    ],
)
def test_a_broken_card_names_file_and_key(old, new, says):
    parse_card(GOOD, "x.md")
    with pytest.raises(Broken) as caught:
        parse_card(GOOD.replace(old, new, 1), "x.md")
    assert "x.md" in str(caught.value)
    assert says in str(caught.value)


@given(st.text(max_size=300) | st.builds(lambda at, gone, put: GOOD[:at] + put + GOOD[at + gone:],
                                         st.integers(0, len(GOOD)), st.integers(0, 20), st.text(max_size=5)))
def test_any_text_is_a_card_or_broken_by_name(text):
    for candidate in (text, "+++\n" + text + "+++\nwhy"):
        card = outcome(partial(parse_card, candidate, "x.md"), Broken, says="x.md")
        if card is not None:
            assert card.id == "x"
            assert all((card.title, card.causes, card.source, card.why, card.apply, card.rollback, card.verify))


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"], exclude_characters='"\\+{}'), min_size=1, max_size=40)
       .filter(lambda text: text.strip()), st.sampled_from(["low", "medium", "high"]), st.integers(0, 10**9),
       st.integers(1, 99))
def test_what_is_written_in_a_card_is_what_it_says(title, risk, value, rank):
    text = GOOD.replace('title = "T"', f'title = "{title}"\nrank = {rank}').replace('risk = "low"', f'risk = "{risk}"')
    card = parse_card(text.replace("value = 10", f"value = {value}").replace("Because.", f"Because\n{title}."), "x.md")
    assert (card.title, card.risk, card.rank, card.propose.value) == (title, risk, rank, value)
    assert card.why == " ".join(f"Because {title}.".split())
    assert (card.id, card.causes, card.get.kind, card.get.key) == ("x", ("oom_kill",), "sysctl", "vm.swappiness")


def test_virtual_hosts_get_no_governor():
    for virtual in (True, False):
        facts = Facts(dataclasses.replace(HOST, virtual=virtual))
        found = suggest(finding("cpu_saturation"), (), facts, FixedKnobs(), 1)
        assert ("cpu-governor" in [s.card for s in found]) != virtual


@pytest.mark.parametrize(
    ("text", "number", "word", "version"),
    [
        ("60", 60, "60", 0), ("0.50 cores (cpu.cfs_quota_us=50000)", 0.5, "0.50", 1),
        ("1.5 GiB (memory.max=1610612736)", 1.5 * 2**30, "1.5", 2), ("max (cpu.max=max 100000)", math.inf, "max", 2),
        ("unlimited", math.inf, "unlimited", 0),
        ("always [madvise] never", math.nan, "madvise", 0), ("", math.nan, "", 0), ("cubic", math.nan, "cubic", 0),
        ("no limit (cpu.cfs_quota_us=-1, cpu.cfs_period_us=100000)", math.inf, "no", 1),
        ("4096 131072 6291456", 4096, "4096", 0),
    ],
)  # fmt: skip
def test_printed_values_are_understood(text, number, word, version):
    present = understand(text)
    assert present.number == pytest.approx(number, nan_ok=True)
    assert (present.word, present.version) == (word, version)


@given(st.integers(1, 2**50), st.integers(1000, 10**7), st.integers(1000, 10**6))
def test_what_the_knob_reader_prints_is_read_as_the_same_number(size, quota, period):
    memory = understand(f"{human_bytes(size)} (memory.max={size})")
    assert memory.number == pytest.approx(size, rel=0.05, abs=0.5)
    assert (memory.exact, memory.version) == (size, 2)
    cores = quota / period
    v2 = understand(f"{cores:.2f} cores (cpu.max={quota} {period})")
    v1 = understand(f"{cores:.2f} cores (cpu.cfs_quota_us={quota}, cpu.cfs_period_us={period})")
    assert v2.number == v1.number == pytest.approx(cores, abs=0.005)
    assert (v2.exact, v2.period_us, v2.version) == (quota, period, 2)
    assert (v1.exact, v1.period_us, v1.version) == (quota, period, 1)


@given(st.text(max_size=80))
def test_any_printed_value_is_read_without_an_error(text):
    assert understand(text).period_us > 0


@given(st.text(max_size=80))
def test_entities_never_raise(entity):
    entity_labels(entity)
    slots = entity_slots(finding("oom_kill", entity), ())
    assert all(clean_entity(k, v) == v for k, v in slots.items())


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text(max_size=12).filter(
    lambda value: "," not in value and "=" not in value), min_size=1, max_size=4))
def test_an_entity_is_read_back_as_its_labels(labels):
    assert entity_labels(",".join(f"{name}={value}" for name, value in labels.items())) == labels


def test_entity_paths_may_hold_commas():
    assert entity_labels("device=/dev/sdb1,mount=/a,b=c d,type=ext4") == {
        "device": "/dev/sdb1", "mount": "/a,b=c d", "type": "ext4"}  # fmt: skip
    assert entity_labels("cgroup=/a,device=sda") == {"cgroup": "/a,device=sda"}
    assert entity_labels("device=/dev/sdb1,mount=/a, b,type=ext4")["mount"] == "/a, b"
    assert entity_slots(finding("disk_full", "device=/dev/sdb1,mount=/data"), ())["device"] == "sdb1"


def test_a_leak_is_capped_from_the_group_table_and_rolled_back_exactly():
    table = CgroupTable(5, (Cgroup("/jobs/a", memory_bytes=100 * 2**20), Cgroup("/jobs/b", memory_bytes=2**40)))
    who = Culprit("process", "leaky", pid=4711, cgroup="/jobs/a")
    facts = Facts(HOST, cgroups=(table,))
    text = "1.5 GiB (memory.limit_in_bytes=1610616832)"
    found = suggest(finding("memory_leak", culprit=who), (), facts, FixedKnobs(memory_limit=text), 1)
    cap = next(s for s in found if s.card == "memory-leak-cap")
    assert cap.proposed == "144 MiB"
    assert cap.apply == "echo 150994944 | tee /sys/fs/cgroup/memory/jobs/a/memory.limit_in_bytes"
    assert cap.rollback == "echo 1610616832 | tee /sys/fs/cgroup/memory/jobs/a/memory.limit_in_bytes"
    none = FixedKnobs(memory_limit="no limit (memory.limit_in_bytes=9223372036854771712)")
    found = suggest(finding("memory_leak", culprit=who), (), facts, none, 1)
    cap = next(s for s in found if s.card == "memory-leak-cap")
    assert cap.rollback.startswith("echo -1 |")


@pytest.mark.parametrize("pid", [0, 1, 2])
def test_init_and_the_kernel_are_never_stopped(pid):
    who = Culprit("process", "systemd", pid=pid, cgroup="/init.scope")
    found = suggest(finding("fork_storm", culprit=who), (), Facts(HOST), FixedKnobs(), 1)
    assert not [s for s in found if "kill" in s.apply]


def test_every_knob_is_one_that_the_reader_knows():
    """The list of kinds and keys is closed on the other side, too: a card must not ask for what nobody reads."""
    reader = KnobReader(Path("/"))
    entities = {"device": "sda", "cgroup": "/", "mount": "/", "pid": str(os.getpid()), "": ""}
    for card in CARDS:
        told = ""
        with contextlib.suppress(Broken):
            try:
                reader.read(card.get.kind or "thp", card.get.key or "enabled", entities[card.get.entity])
            except NoData as error:
                told = str(error)
        assert "is no k" not in told, card.id


@pytest.mark.skipif(all(one.split()[4] != "/" for one in Path("/proc/self/mountinfo").read_text().splitlines()),
                    reason="the root of a chroot is no mount point")
def test_a_real_host_answers():
    found = suggest(finding("disk_full", "mount=/"), (), Facts(HOST), KnobReader(Path("/")), 1)
    assert found[0].card == "disk-find-space"
    assert "B" in found[0].current


def test_templates_are_checked():
    assert list(check_template("echo {current:us} | tee /x{cgroup}/y")) == []
    assert list(check_template("echo {nope}"))
    assert list(check_template("echo {pid:us}"))
    assert list(check_template("echo $(x)"))
    assert list(check_template("a {")) == ["stray brace"]
