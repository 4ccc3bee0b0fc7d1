"""Units of systemd over D-Bus: values as they were sent, garbage, silence, and crash loops by systemd's own count."""

import math
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.crash_loops import Config as CrashConfig
from collector.crash_loops import CrashLoops
from collector.dbus import BUS, Bus, Call, Reader, Refusal, decode, encode, length
from collector.units import COLLECTOR, Config, Unit, Units, parse_list
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS
from etio.daemon.watchers import Watchers
from tests.bus_double import FakeBus, listing, message, text
from tests.daemon_rig import folder
from tests.property_rig import outcome

LETTERS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def service(name, sub="running", active="active", **properties):
    return {"name": f"{name}.service", "active": active, "sub": sub, "path": f"/org/freedesktop/systemd1/unit/{name}",
            "NRestarts": 0, "Result": "success", "ExecMainCode": 0, "ExecMainStatus": 0} | properties


@pytest.fixture
def bus():
    """A bus below a folder with a short name: that of a socket must not be long."""
    with folder() as root:
        fake = FakeBus(root)
        yield fake, root
        fake.close()


def opened(root, **config):
    units = Units(Config(**config), pause=lambda _: None)
    units.open(root)
    return units


def values(reading):
    return {s.key: float(v) for s, v in zip(reading.series, reading.values, strict=True) if not math.isnan(v)}


def test_restarts_and_failures_are_told_with_how_they_ended(bus):
    fake, root = bus
    worker, once = service("worker"), service("once", sub="start", active="activating")
    fake.units = [worker, once, service("web", NRestarts=2), {**service("x"), "name": "srv.mount", "active": "failed"}]
    units = opened(root)
    first = units.collect(15 * NS)
    assert first.events == ()
    assert values(first) == {"units_failed": 1, "units_restarting": 0, "units_restarts_per_second": 0,
                             'unit_restarts{unit="web.service"}': 2}
    worker |= {"sub": "auto-restart", "active": "activating", "NRestarts": 7, "Result": "exit-code", "ExecMainCode": 1,
               "ExecMainStatus": 3}
    once |= {"active": "failed", "sub": "failed", "Result": "signal", "ExecMainCode": 2, "ExecMainStatus": 9}
    second = units.collect(30 * NS)
    assert values(second) == {"units_failed": 2, "units_restarting": 1, "units_restarts_per_second": 7,
                              'unit_restarts{unit="web.service"}': 2, 'unit_restarts{unit="worker.service"}': 7}
    failed, restarted = second.events
    assert (failed.kind, failed.entity) == ("unit_failed", "unit=once.service")
    assert failed.get("ended") == "it was killed by SIGKILL (Result=signal)"
    assert (restarted.kind, restarted.entity) == ("unit_restarts", "unit=worker.service")
    assert [restarted.get(n) for n in ("restarts", "total", "seconds")] == [7, 7, 15]
    assert restarted.get("ended") == "it exited with status 3 (Result=exit-code)"
    once |= {"active": "active", "sub": "running", "Result": "success"}
    assert [(e.kind, e.entity) for e in units.collect(45 * NS).events] == [("unit_recovered", "unit=once.service")]
    units.close()


@pytest.mark.parametrize(("unit", "ended"), [
    (Unit("a", "failed", "failed", "", 0, "oom-kill", 2, 9), "a process of it was killed for want of memory"),
    (Unit("a", "failed", "failed", "", 0, "watchdog", 3, 6), "it did not tell its watchdog in time that it is alive"),
    (Unit("a", "failed", "failed", "", 0, "timeout", 2, 15), "it did not start or stop in time"),
    (Unit("a", "failed", "failed", "", 0, "core-dump", 3, 11), "it was killed by SIGSEGV and dumped core"),
    (Unit("a", "failed", "failed", "", 0, "signal", 2, 250), "it was killed by signal 250"),
    (Unit("a", "failed", "failed", "", 0, "a-new-word", 0, 0), "it failed"),
    (Unit("a", "active", "running", "", 0, "success", 0, 0), ""),
])
def test_how_a_run_ended_in_words(unit, ended):
    assert unit.ended == (f"{ended} (Result={unit.result})" if ended else "")


def test_one_that_runs_again_already_is_looked_at_a_few_times(bus):
    fake, root = bus
    worker = service("worker")
    fake.units = [worker]

    def pause(_):
        worker.update({"Result": "exit-code", "ExecMainCode": 1, "ExecMainStatus": 1})

    units = Units(Config(), pause=pause)
    units.open(root)
    units.collect(NS)
    worker["NRestarts"] = 1
    (event,) = units.collect(16 * NS).events
    assert event.get("ended") == "it exited with status 1 (Result=exit-code)"
    units.close()


@pytest.mark.parametrize(("status", "told"), [(143, 0), (130, 0), (137, 1), (1, 1)])
def test_one_that_somebody_has_ended_did_not_fail(bus, status, told):
    fake, root = bus
    java = service("java")
    fake.units = [java]
    units = opened(root)
    units.collect(NS)
    java |= {"active": "failed", "sub": "failed", "Result": "exit-code", "ExecMainCode": 1, "ExecMainStatus": status}
    reading = units.collect(16 * NS)
    assert len(reading.events) == told
    assert values(reading)["units_failed"] == 1
    units.close()


def test_a_service_that_is_new_was_started_again_since(bus):
    fake, root = bus
    units = opened(root)
    units.collect(NS)
    fake.units = [service("worker", NRestarts=4)]
    (event,) = units.collect(16 * NS).events
    assert event.get("restarts") == 4
    fake.units = [service("worker", NRestarts=1)]  # a person started it anew
    assert units.collect(31 * NS).events == ()
    units.close()


def test_an_old_systemd_without_the_count_still_tells_who_failed(bus):
    fake, root = bus
    worker = service("worker")
    del worker["NRestarts"]
    fake.units = [worker]
    units = opened(root)
    assert values(units.collect(NS))["units_failed"] == 0
    worker |= {"active": "failed", "sub": "failed", "Result": "timeout"}
    (event,) = units.collect(16 * NS).events
    assert event.kind == "unit_failed"
    assert "did not start or stop in time" in event.get("ended")
    units.close()


def test_many_services_are_asked_in_rounds_and_no_more_than_allowed(bus):
    fake, root = bus
    fake.units = [service(f"u{i}", NRestarts=i) for i in range(100)]
    units = opened(root, services=70, units=5)
    found = values(units.collect(NS))
    assert sum(call.endswith("NRestarts") for call in fake.calls) == 70
    assert sum(key.startswith("unit_restarts{") for key in found) == 5
    fake.units = [service(f"u{i}", NRestarts=i + 1) for i in range(100)]
    assert len(units.collect(16 * NS).events) <= 5
    units.close()


@pytest.mark.slow
def test_no_systemd_no_bus_and_a_bus_that_says_nothing(tmp_path, bus):
    with pytest.raises(NoData, match="systemd does not run here"):
        opened(tmp_path / "elsewhere")
    fake, root = bus
    fake.greeting = b"REJECTED EXTERNAL\r\n"
    with pytest.raises(Broken, match="does not let us in"):
        opened(root)
    fake.greeting = b"OK 1234\r\n"
    units = opened(root, seconds=2.0)
    units.collect(NS)
    assert units.live
    fake.silent = True
    with pytest.raises(Broken, match="no answer within"):
        units.collect(16 * NS)
    assert not units.live
    fake.silent = False
    units.collect(31 * NS)
    assert units.live
    fake.close()
    (root / "run/dbus/system_bus_socket").unlink()
    units.close()
    with pytest.raises(NoData, match="no D-Bus message bus"):
        units.collect(46 * NS)


def test_every_series_is_announced(bus):
    fake, root = bus
    fake.units = [service("worker", NRestarts=1)]
    found = opened(root).collect(NS)
    assert {(s.name, s.unit) for s in found.series} == {(e.name, e.unit) for e in COLLECTOR.emits}


@pytest.fixture
def real_bus():
    """dbus-daemon itself, with a bus of its own."""
    with folder() as place:
        yield from _dbus_daemon(place)


def _dbus_daemon(place):
    path, config = place / "bus", place / "bus.conf"
    config.write_text(f"<busconfig><listen>unix:path={path}</listen><auth>EXTERNAL</auth><policy context='default'>"
                      "<allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/>"
                      "</policy></busconfig>")
    try:
        child = subprocess.Popen(["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={config}",
                                  "--print-address=1"], stdout=subprocess.PIPE)
    except FileNotFoundError:
        pytest.skip("no dbus-daemon")
    assert child.stdout.readline()
    yield path
    child.terminate()
    child.communicate(timeout=20)


def test_the_real_bus_answers_and_refuses(real_bus):
    bus = Bus(real_bus, 20)
    ask = [Call(BUS, "/org/freedesktop/DBus", BUS, name, body) for name, body in (
        ("ListNames", ()), ("NameHasOwner", (BUS,)), ("GetNameOwner", ("org.freedesktop.systemd1",)),
        ("GetConnectionUnixUser", (BUS,)), ("GetConnectionCredentials", (BUS,)))]
    names, has, nobody, user, credentials = bus.call(ask)
    assert BUS in names[0]
    assert has == (True,)
    assert isinstance(nobody, Refusal)
    assert nobody.name.endswith("NameHasNoOwner")
    assert "systemd1" in nobody.text
    assert isinstance(user[0], int)
    assert dict(credentials[0])["UnixUserID"] == user[0]
    assert len(bus.call([ask[0]] * 300)) == 300
    bus.close()


def test_systemd_that_is_not_on_the_bus_is_broken(real_bus, tmp_path):
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "run/dbus").mkdir()
    (tmp_path / "run/dbus/system_bus_socket").symlink_to(real_bus)
    with pytest.raises(Broken, match=r"ServiceUnknown|NameHasNoOwner"):
        opened(tmp_path, seconds=20).collect(NS)


@given(rows=st.lists(st.fixed_dictionaries({"name": LETTERS, "active": LETTERS, "sub": LETTERS, "path": LETTERS}),
                     max_size=6))
def test_a_list_of_units_holds_what_was_sent(rows):
    raw = message(2, 77, "a(ssssssouso)", listing(rows))
    serial, answer = decode(raw)
    assert (serial, length(raw[:16])) == (77, len(raw))
    assert [(u.active, u.sub, u.path) for u in parse_list(answer)] == [(r["active"], r["sub"], r["path"]) for r in rows]


@given(st.tuples(st.integers(0, 255), st.booleans(), st.integers(-2**15, 2**15 - 1), st.integers(0, 2**32 - 1),
                 st.integers(-2**63, 2**63 - 1), st.floats(allow_nan=False), LETTERS), st.sampled_from("<>"))
def test_basic_values_come_out_as_they_were_put_in(sent, order):
    y, b, n, u, x, d, s = sent
    raw = s.encode()
    data = struct.pack(order + "BxxxIhxxI", y, b, n, u) + struct.pack(order + "qd", x, d)
    data += struct.pack(order + "I", len(raw)) + raw + b"\0"
    assert Reader(data, order).values("ybnuxds") == sent


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda b: message(2, 5, "a(ssssssouso)", b)) |
       st.tuples(st.text("abdghinoqstuvxy(){}", max_size=8), st.binary(max_size=60)).map(
           lambda p: message(2, 5, p[0], p[1])))
def test_any_bytes_are_an_answer_or_broken(raw):
    found = outcome(lambda: decode(raw), Broken)
    if found is not None:
        assert raw[1] in (2, 3)
        units = outcome(lambda: parse_list(found[1]), Broken) or []
        assert len(units) <= len(raw) // 40, "each has eight strings or more, of four bytes at least"


@given(st.lists(LETTERS | st.lists(LETTERS, max_size=3), max_size=4))
def test_a_call_says_what_it_was_told_to_say(body):
    raw = encode(Call("a.b", "/c", "d.e", "F", tuple(body)), 9)
    assert length(raw[:16]) == len(raw)
    reader = Reader(raw, "<", 12)
    fields = dict(reader.values("a(yv)")[0])
    reader.align(8)
    assert [fields[code] for code in (1, 2, 3, 6)] == ["/c", "d.e", "F", "a.b"]
    assert Reader(raw[reader.at:], "<").values(fields.get(8, "")) == tuple(body)


def test_a_deep_or_long_message_is_broken():
    with pytest.raises(Broken):
        decode(message(2, 5, "a" * 200 + "y", bytes(64)))
    with pytest.raises(Broken, match="bytes"):
        length(struct.pack("<BBBBIII", ord("l"), 2, 0, 1, 2**31, 1, 0))
    with pytest.raises(Broken, match="beyond"):
        decode(message(2, 5, "as", struct.pack("<I", 999) + text("x")))


# -- crash loops by systemd's own count -------------------------------------------------------------------------------


def restarts(t_s, count, ended="it exited with status 1 (Result=exit-code)"):
    fields = (("restarts", float(count)), ("total", float(count)), ("seconds", 15.0), ("program", "worker.service"),
              ("unit", "worker.service"), ("ended", ended))
    return HostEvent(t_s * NS, "unit_restarts", "unit=worker.service", fields, "systemd (D-Bus)")


def main_process(t_s, pid):
    process = Process(pid, 1, "worker", unit="worker.service", start_s=float(pid))
    return ProcessTable(t_s * NS, (process,))


def test_restarts_by_systemd_are_a_loop_and_one_that_it_gave_up_is_over():
    loops = CrashLoops(CrashConfig())
    loops.take(main_process(10, 500))
    loops.take_event(restarts(15, 5))
    (event,) = loops.collect(16 * NS).events
    assert (event.kind, event.entity, event.source) == ("crash_loop", "program=worker.service", "systemd (D-Bus)")
    assert (event.get("starts"), event.get("how")) == (5, "it exited with status 1 (Result=exit-code)")
    assert loops.collect(30 * NS).events == ()
    (over,) = loops.collect(60 * NS).events
    assert over.kind == "crash_loop_over"
    assert [loops.collect(t * NS).events for t in range(61, 90)] == [()] * 29
    loops.take_event(restarts(90, 3))
    assert [e.kind for e in loops.collect(91 * NS).events] == ["crash_loop"]


def test_the_end_of_a_loop_has_the_names_of_its_begin():
    loops = CrashLoops(CrashConfig())
    loops.take_event(restarts(15, 5))
    (begun,) = loops.collect(16 * NS).events
    loops.take(main_process(20, 500))
    (over,) = loops.collect(60 * NS).events
    assert (over.entity, over.get("comm")) == (begun.entity, begun.get("comm"))


def test_a_look_that_took_long_is_no_loop_that_is_over():
    loops = CrashLoops(CrashConfig())
    loops.collect(60 * NS)
    loops.take_event(restarts(15, 5))
    assert [e.kind for e in loops.collect(61 * NS).events] == ["crash_loop"]
    assert [e.kind for t in range(62, 89) for e in loops.collect(t * NS).events] == []
    assert [e.kind for e in loops.collect(91 * NS).events] == ["crash_loop_over"]


def test_two_restarts_by_systemd_are_no_loop():
    loops = CrashLoops(CrashConfig())
    loops.take_event(restarts(15, 1))
    loops.take_event(restarts(30, 1))
    assert loops.collect(31 * NS).events == ()
    loops.take_event(restarts(45, 1, ""))
    (event,) = loops.collect(46 * NS).events
    assert event.get("how") == "it exited with status 1 (Result=exit-code)"


@pytest.mark.parametrize(("systemd", "kinds"), [(False, ["crash_loop"]), (True, [])])
def test_what_a_person_restarts_is_no_loop_where_systemd_counts(systemd, kinds):
    loops = CrashLoops(CrashConfig())
    loops.systemd = lambda: systemd
    for i in range(6):
        loops.take(main_process(5 * i, 500 + i))
    assert [e.kind for e in loops.collect(30 * NS).events] == kinds


def test_the_daemon_tells_the_loops_whether_systemd_counts(bus):
    watchers, loops, units = Watchers(lambda _: "", lambda _: {}), CrashLoops(CrashConfig()), opened(bus[1])
    watchers.adopt(loops)
    watchers.adopt(units)
    assert not loops.systemd()
    units.collect(NS)
    assert loops.systemd()
    units.close()
    assert not loops.systemd()
