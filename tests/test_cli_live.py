"""Every command of `etio` against a running daemon, for people and for programs; and against none."""

import json
import re

import pytest

import collector
import detectors
from etio.core.policy import ALERTS
from rca.cards import load_cards
from rca.discover import causes
from tests import daemon_rig as rigs

pytestmark = pytest.mark.slow

CONFIG = """
[daemon]
ebpf = "off"
root = "{root}"
tick_s = 0.5
[engine]
settle_s = 0.2
for_s = {{ FileHandlesExhausted = 1.0 }}
"""
ENTITY = "FileHandlesExhausted"


class Live:
    def __init__(self, rig: rigs.Rig, host: rigs.FakeHost) -> None:
        self.rig, self.host = rig, host
        self.report: dict = {}

    def run(self, *arguments: str):
        return rigs.etio(*arguments, url=self.rig.url)

    def json(self, *arguments: str):
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    def text(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout


@pytest.fixture(scope="module")
def live():
    with rigs.folder() as folder:
        host = rigs.FakeHost(folder)
        rig = rigs.Rig(folder, CONFIG.format(root=host.root))
        one = Live(rig, host)
        try:
            rig.start()
            empty = one.run("report")
            assert (empty.returncode, empty.stdout.split(":")[0]) == (0, "no report yet")
            assert one.json("report") is None
            assert "no alert fires" in one.text("alerts")
            host.exhaust()
            rigs.wait_for(lambda: rig.get("/api/v1/reports")["reports"], 30)
            one.report = rig.get("/api/v1/reports")["reports"][0]
            yield one
        finally:
            rig.close()


def test_status(live):
    data = live.json("status")
    assert set(data) == set(live.rig.status())
    assert (data["host"], data["tier"], data["ready"], data["alerts_firing"]) == ("recorded", "T2", True, 1)
    text = live.text("status")
    for part in ("recorded", "tier T2", "switched off", "1 alert firing", "collector", "pressure"):
        assert part in text, text


def test_doctor(live):
    rows = live.json("doctor")
    assert {"part", "state", "what", "remedy"} == set(rows[0])
    assert {r["state"] for r in rows} <= {"good", "absent", "bad"}
    by_part = {r["part"]: r for r in rows}
    assert by_part["daemon"]["state"] == "good"
    assert "switched off" in by_part["eBPF"]["what"]
    assert 'ebpf = "auto"' in by_part["eBPF"]["what"] + by_part["eBPF"]["remedy"]
    assert "collector memory" in by_part
    text = live.text("doctor")
    assert all(part in text for part in ("daemon", "eBPF", "bcc", "collector memory"))


def test_alerts(live):
    (alert,) = live.json("alerts")
    assert (alert["name"], alert["state"], alert["severity"]) == (ENTITY, "firing", "critical")
    assert alert["incident_id"] == live.report["incident_id"]
    assert ENTITY in live.text("alerts")
    assert ENTITY in live.text("alerts", "--all")
    assert {a["name"] for a in live.json("alerts", "--all")} == {ENTITY}


@pytest.mark.parametrize("which", ["", "id", "incident_id"])
def test_report(live, which):
    wanted = [live.report[which]] if which else []
    data = live.json("report", *wanted)
    assert data["id"] == live.report["id"]
    markdown = live.text("report", "--markdown", *wanted)
    assert markdown.startswith("# ")
    assert live.report["incident_id"] in markdown
    shown = live.text("report", *wanted)
    assert "## " not in shown, "rendered for a person"
    assert live.report["incident_id"] in shown


def test_a_report_that_does_not_exist(live):
    done = live.run("report", "2020-01-01-0001")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "2020-01-01-0001" in done.stderr


def test_query(live):
    data = live.json("query", "SELECT name, state FROM alerts")
    assert (data["columns"], data["rows"], data["truncated"]) == (["name", "state"], [[ENTITY, "firing"]], False)
    assert ENTITY in live.text("query", "SELECT name FROM alerts")
    count = live.json("query", "SELECT count(DISTINCT key) FROM samples")
    assert count["rows"][0][0] > 100


def test_all_is_well_again(live):
    live.host.relax()
    rigs.wait_for(lambda: live.json("alerts") == [], 60)
    assert [(a["name"], a["state"]) for a in live.json("alerts", "--all")] == [(ENTITY, "resolved")]
    assert "no alert fires" in live.text("alerts")


@pytest.mark.parametrize("sql", [
    "DELETE FROM alerts", "DROP TABLE alerts", "INSERT INTO alerts VALUES (1)", "UPDATE alerts SET state = 'x'",
    "COPY alerts TO '/tmp/x.csv'", "SELECT * FROM read_text('/etc/passwd')", "ATTACH '/tmp/x.duckdb'",
    "PRAGMA version", "SET memory_limit = '9GB'", "SELECT 1; DROP TABLE alerts", "CREATE TABLE t AS SELECT 1",
    "INSTALL httpfs", "CHECKPOINT", "", "SELEC 1", "SELECT nothing FROM alerts",
])
def test_query_refuses_everything_but_one_select(live, sql):
    done = live.run("query", sql)
    assert done.returncode == 2, done.stdout
    assert done.stdout == ""
    assert done.stderr.startswith("etio: ")
    assert live.json("query", "SELECT count(*) FROM alerts")["rows"] == [[1]]


def test_names_of_columns_are_shown_as_they_are(live):
    text = live.text("query", "SELECT 1 AS \"[/bold]\", '[red]x' AS y")
    assert "[/bold]" in text
    assert "[red]x" in text


def test_list_agrees_with_the_code(live):
    data = live.json("list")
    assert {r["name"] for r in data["collectors"]} == set(collector.discover())
    assert {r["name"] for r in data["detectors"]} == set(detectors.discover())
    assert {r["name"] for r in data["alerts"]} == set(ALERTS)
    assert {r["name"] for r in data["causes"]} == {c.id for c in causes()}
    assert {r["name"] for r in data["cards"]} == {c.id for c in load_cards()}
    assert all(r["what"] for rows in data.values() for r in rows)
    text = live.text("list")
    assert all(r["name"] in text for rows in data.values() for r in rows)


def test_check_config(live):
    table = live.json("check-config", "--config", str(live.rig.toml))
    assert table["daemon"]["tick_s"]
    assert {f"collector.{n}" for n in collector.discover()} <= set(table)
    assert live.text("check-config", "--config", str(live.rig.toml)) == f"{live.rig.toml}: good\n"


def test_every_command_explains_itself():
    text = rigs.etio("--help").stdout
    commands = re.findall(r"^    ([a-z-]+)(?: |$)", text, re.M)
    assert {"run", "status", "doctor", "alerts", "report", "query", "replay", "check-config", "list"} <= set(commands)
    for command in commands:
        done = rigs.etio(command, "--help")
        assert done.returncode == 0
        assert "usage: etio" in done.stdout
    assert rigs.etio().returncode == 2
    assert rigs.etio("--version").stdout.startswith("etio ")
    assert rigs.etio("dance").returncode == 2


@pytest.mark.parametrize("command", [["status"], ["alerts"], ["report"], ["query", "SELECT 1"], ["status", "--json"]])
def test_without_a_daemon(command):
    done = rigs.etio(*command)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no daemon answers at http://127.0.0.1:1" in done.stderr
    assert "scripts/run" in done.stderr


@pytest.mark.parametrize("url", [
    "nonsense", "http://127.0.0.1:99999", "ftp://127.0.0.1", "http://[::1", "file:///etc/passwd", "http://a b",
])
def test_an_address_that_is_none(url):
    done = rigs.etio("status", url=url)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "root:" not in done.stdout + done.stderr


def test_doctor_without_a_daemon():
    done = rigs.etio("doctor", "--json")
    assert done.returncode == 0
    rows = {r["part"]: r for r in json.loads(done.stdout)}
    assert rows["daemon"]["state"] == "bad"
    assert "scripts/run" in rows["daemon"]["remedy"]


def test_a_server_that_is_not_etio(live):
    import http.server
    import threading

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = rigs.etio("status", url=f"http://127.0.0.1:{server.server_address[1]}/")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
    finally:
        server.shutdown()
        server.server_close()


def test_output_into_a_closed_pipe(live):
    import subprocess
    import sys
    line = f"{sys.executable} -m etio list | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd="/", check=False,
                          env=rigs.environment(ETIO_URL=live.rig.url))
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr


def test_replay_of_a_running_daemon_s_folder_says_who_holds_it(live):
    done = live.run("replay", str(live.rig.state))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(live.rig.pid) in done.stderr


def test_zz_replay_prints_the_same_alerts(live):
    """Last: the daemon is stopped for it."""
    live.host.relax()
    rigs.wait_for(lambda: not live.rig.get("/api/v1/alerts?state=firing")["alerts"], 40)
    lived = live.rig.get("/api/v1/alerts?state=all")["alerts"]
    assert live.rig.stop() == 0
    for target in (live.rig.state, *live.rig.state.glob("d*.duckdb")):
        done = live.run("replay", str(target), "--json", "--config", str(live.rig.toml))
        assert (done.returncode, done.stderr) == (0, "")
        moves = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(m["alert"]["name"], m["alert"]["state"]) for m in moves] == [(ENTITY, "firing"), (ENTITY, "resolved")]
        expected = [t for a in lived for t in (a["firing_ns"], a["resolved_ns"])]
        assert [m["t_ns"] for m in moves] == expected
        assert [m["alert"]["pending_ns"] for m in moves] == [a["pending_ns"] for a in lived for _ in range(2)]
        assert [m["alert"]["labels"] for m in moves] == [[] for _ in moves]
        text = live.run("replay", str(target), "--config", str(live.rig.toml)).stdout
        assert text.count(ENTITY) == 2


@pytest.mark.parametrize(("name", "content", "word"), [
    ("none.npz", None, "there is no such file"), ("empty.npz", b"", "no recording"),
    ("bad.duckdb", b"x" * 5000, "bad.duckdb"), ("folder", "folder", "no day files"),
])
def test_replay_of_what_is_no_recording(name, content, word):
    with rigs.folder() as folder:
        path = folder / name
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        done = rigs.etio("replay", str(path))
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert word in done.stderr


def test_replay_of_a_recording():
    """An .npz as tests and incident reports carry it."""
    import numpy as np

    from etio.core.frame import NS, Frame
    from etio.core.series import Series
    from etio.store.recording import record

    series = (Series("kernel_file_handles_used_ratio", "ratio"),)
    values = [0.1] * 10 + [0.99] * 20 + [0.1] * 30
    frames = [Frame(1_790_000_000 * NS + i * NS, series, np.array([v])) for i, v in enumerate(values)]
    with rigs.folder() as folder:
        record(folder / "one.npz", frames)
        done = rigs.etio("replay", str(folder / "one.npz"), "--json")
        assert (done.returncode, done.stderr) == (0, "")
        states = [json.loads(line)["alert"]["state"] for line in done.stdout.splitlines()]
        assert states == ["firing", "resolved"]
