"""Dataclasses to JSON and back; strict configuration."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.codec import dumps, from_plain, loads
from etio.core.config import parse
from etio.core.errors import Broken, ConfigError
from etio.core.event import HostEvent
from etio.core.facts import Cgroup, Process
from etio.core.policy import EngineConfig


@given(st.integers(), st.text(), st.floats(), st.lists(st.tuples(st.text(), st.one_of(st.integers(), st.text()))))
def test_event_survives_the_round_trip(t_ns, text, number, fields):
    del number
    event = HostEvent(t_ns, "oom_kill", text, tuple(fields), "s")
    assert loads(HostEvent, dumps(event)) == event


@given(st.floats(), st.floats())
def test_nan_and_infinity_survive(a, b):
    group = loads(Cgroup, dumps(Cgroup("/x", cpu_seconds=a, quota_cores=b)))
    for before, after in ((a, group.cpu_seconds), (b, group.quota_cores)):
        assert after == before or (math.isnan(before) and math.isnan(after))


@pytest.mark.parametrize(("data", "place"), [
    ({"pid": "x", "ppid": 1, "comm": "c"}, "Process.pid"),
    ({"pid": 1, "ppid": 1, "comm": "c", "nope": 1}, "nope"),
    ({"pid": 1, "ppid": 1}, "comm"),
    ([], "Process"),
    ({"pid": True, "ppid": 1, "comm": "c"}, "Process.pid"),
])
def test_what_does_not_fit_is_named(data, place):
    with pytest.raises(Broken, match=place):
        from_plain(Process, data)


@given(st.text() | st.binary())
def test_no_text_breaks_the_decoder(text):
    with pytest.raises(Broken):
        loads(Process, text)


@dataclass(frozen=True)
class Disk:
    period_s: float = 1.0
    devices: tuple[str, ...] = ()
    names: dict[str, float] = field(default_factory=dict)


SECTIONS = {"disk": Disk, "disk.smart": Disk, "engine": EngineConfig}


def test_defaults_where_the_file_is_silent_and_integers_for_floats():
    parsed = parse({"disk": {"period_s": 2, "smart": {"devices": ["sda"]}}}, SECTIONS, "f.toml")
    assert parsed["disk"] == Disk(period_s=2.0)
    assert parsed["disk.smart"].devices == ("sda",)
    assert parsed["engine"] == EngineConfig()


def test_every_mistake_is_listed_at_once_with_place_and_remedy():
    data = {"disk": {"perod_s": 2, "devices": "sda"}, "dsk": {}, "engine": {"mute": ["Nope"]}, "top": 1}
    with pytest.raises(ConfigError) as caught:
        parse(data, SECTIONS, "f.toml")
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 5
    assert "f.toml: disk.perod_s: unknown key; did you mean 'period_s'?" in text
    assert "f.toml: disk.devices" in text
    assert "f.toml: dsk: unknown; did you mean 'disk'?" in text
    assert "'Nope' is no alert" in text
    assert "f.toml: top: unknown" in text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["disk", "smart", "period_s", "x"]),
                                                                    inner)))
def test_any_table_either_parses_or_raises_config_error(data):
    problems: tuple[str, ...] = ("none",)
    try:
        parse(data if isinstance(data, dict) else {"disk": data}, SECTIONS, "f")
    except ConfigError as error:
        problems = error.problems
    assert problems


def test_values_of_a_table_are_typed_too():
    with pytest.raises(ConfigError, match=r"disk\.names\.a: expected a number"):
        parse({"disk": {"names": {"a": "x"}}}, SECTIONS, "f")
    assert parse({"disk": {"names": {"a": 1}}}, SECTIONS, "f")["disk"].names == {"a": 1.0}
