"""The routes, asked over a real loopback socket."""

import json

import httpx
import pytest

from etio.core import codec
from etio.core.report import Report
from etio.core.status import Status
from tests.sample_report import NS, SECONDS, SampleArchive, SampleLive, make_archive, serving

NOW = 1_795_248_000 * NS
KEY = 'cgroup_cpu_throttled_ratio{cgroup="/system.slice/billing-api.service"}'


@pytest.fixture(scope="module")
def archive():
    return make_archive(SampleLive(now_ns=NOW, extra=800))


@pytest.fixture(scope="module", params=[False, True], ids=["fastapi", "starlette"])
def client(archive, request):
    with (serving(archive, lean=request.param) as server,
          httpx.Client(base_url=server.address, trust_env=False) as client):
        yield client


def test_status_is_the_whole_status(client, archive):
    found = codec.loads(Status, client.get("/api/v1/status").content)
    assert codec.dumps(found) == codec.dumps(archive.live.status())


def test_alerts_by_state(client):
    firing = client.get("/api/v1/alerts", params={"state": "firing"}).json()["alerts"]
    assert [a["name"] for a in firing] == ["CgroupCpuThrottled"]
    assert [a["name"] for a in client.get("/api/v1/alerts").json()["alerts"]] == ["CgroupCpuThrottled", "DiskSaturated"]
    assert firing[0]["labels"] == {"cgroup": "/system.slice/billing-api.service"}


def test_incidents_carry_the_head_of_their_report(client):
    found = client.get("/api/v1/incidents").json()["incidents"]
    assert [i["id"] for i in found] == ["2026-11-21-0007", "2026-11-20-0003"]
    assert found[0]["report"]["culprit"]["name"] == "billing-api.service"
    assert found[0]["report"]["causes"] == ["cgroup_cpu_throttling", "runqueue_contention"]
    assert found[1]["severity"] == "warning"
    one = client.get("/api/v1/incidents/2026-11-20-0003").json()
    assert one["report"]["verdict"] == "LIKELY"


def test_incidents_since_a_moment(client):
    found = client.get("/api/v1/incidents", params={"since": "-2h"}).json()["incidents"]
    assert [i["id"] for i in found] == ["2026-11-21-0007"]


def test_a_report_comes_back_whole_by_either_id(client, archive):
    for name in ("2026-11-21-0007-r1", "2026-11-21-0007"):
        answer = client.get(f"/api/v1/reports/{name}", params={"format": "json"})
        assert codec.dumps(codec.loads(Report, answer.content)) == codec.dumps(archive.reports_kept[0])


def test_a_report_in_the_form_that_is_accepted(client):
    def kind(**headers):
        return client.get("/api/v1/reports/2026-11-20-0003", headers=headers).headers["content-type"]

    assert kind() == kind(accept="*/*") == "application/json"
    assert kind(accept="text/markdown;q=0.9").startswith("text/markdown")
    assert kind(accept="text/html,application/xhtml+xml,*/*;q=0.8").startswith("text/html")


def test_the_html_form_escapes_what_it_adds(client):
    page = client.get("/api/v1/reports/2026-11-20-0003", params={"format": "html"}).text
    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_series_match_all_words(client):
    found = client.get("/api/v1/series", params={"match": "DISK nvme"}).json()["series"]
    assert [s["key"] for s in found] == [
        'disk_busy_ratio{device="nvme0n1"}', 'disk_read_latency_seconds{device="nvme0n1"}']


def test_a_curve_ends_with_the_seconds_that_are_only_in_memory(client):
    body = client.get("/api/v1/series/data", params={"key": [KEY, "nonsense"], "start": "-10m"}).json()
    assert body["unknown"] == ["nonsense"]
    (curve,) = body["curves"]
    assert curve["t_ns"][-1] == NOW
    assert curve["t_ns"] == sorted(set(curve["t_ns"]))
    assert len(curve["t_ns"]) == len(curve["mean"]) == 601
    assert curve["mean"][0] < 0.01
    assert curve["mean"][-1] > 0.8
    assert curve["band"]["low"] < curve["band"]["middle"] < curve["band"]["high"] < 0.01


def test_the_past_beyond_memory_comes_from_the_archive(client):
    span = {"start": str(NOW - SECONDS * NS), "end": "-12m"}
    body = client.get("/api/v1/series/data", params={"key": KEY, **span}).json()
    assert len(body["curves"][0]["t_ns"]) == SECONDS - 720


def test_missing_values_are_null(client):
    body = client.get("/api/v1/series/data", params={"key": "vm_page_in_kib_per_second", "start": "-1m"}).json()
    assert set(body["curves"][0]["mean"]) == {None}


def test_now_shows_few_series_per_name_and_leaves_loopback_out(client):
    body = client.get("/api/v1/now").json()
    keys = [s["key"] for s in body["series"]]
    assert keys[0] == "cpu_busy_ratio"
    assert 'network_receive_bytes_per_second{device="lo"}' not in keys
    assert all(len(s["values"]) == len(body["t_ns"]) == 301 for s in body["series"])
    assert body["bands"]["cpu_busy_ratio"] == [0.266, 0.494]


def test_one_select_of_a_person(client):
    answer = client.post("/api/v1/query", json={"sql": "select name, score from alerts order by score"})
    rows = [["DiskSaturated", 2.0], ["CgroupCpuThrottled", 7.3]]
    assert answer.json() == {"columns": ["name", "score"], "rows": rows, "truncated": False}


@pytest.mark.parametrize(("sql", "part"), [("drop table alerts", "only one SELECT"), ("select nope", "no such column")])
def test_bad_sql_is_one_clear_error(client, sql, part):
    answer = client.post("/api/v1/query", json={"sql": sql})
    assert answer.status_code == 400
    assert part in answer.json()["error"]
    assert "one SELECT over" in answer.json()["remedy"]


@pytest.mark.parametrize(("path", "status", "part"), [
    ("/api/v1/reports/2020-01-01-0001", 404, "no report"),
    ("/api/v1/incidents/%3Cscript%3E", 404, "no incident"),
    ("/api/v1/reports?since=yesterday", 400, "is no time"),
    ("/api/v1/reports?limit=0", 400, "limit"),
    ("/api/v1/alerts?state=odd", 400, "firing"),
    ("/api/v1/series/data", 400, "key"),
    ("/api/v1/series/data?key=nonsense", 404, "no series"),
    ("/api/v1/series/data?key=cpu_busy_ratio&start=now&end=-1h", 400, "not before"),
    ("/api/v1/query", 405, "Not Allowed"),
    ("/api/v1/reports?limit=1001", 400, "limit"),
    ("/api/v1/reports?limit=ten", 400, "query.limit: Input should be a valid integer"),
    ("/api/v1/alerts?state=odd&state=none", 400, "query.state: Input should be 'firing' or 'all'"),
    ("/api/v1/series/data?" + "key=a&" * 17, 400, "at most 16 items"),
    ("/static/..%2Fapp.py", 404, ""),
    ("/static/app.py", 404, "no file"),
    ("/nothing", 404, "Not Found"),
])
def test_every_error_has_one_shape(client, path, status, part):
    answer = client.get(path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "remedy"}
    assert part in answer.json()["error"]


@pytest.mark.parametrize(("body", "part"), [
    ("{", "JSON decode error"), ("[]", "body"), ("{}", "body.sql: Field required"),
    ('{"sql": 7}', "body.sql: Input should be a valid string"), ('{"sql": null}', "body.sql"),
])
def test_a_body_that_is_no_question(client, body, part):
    answer = client.post("/api/v1/query", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert part in answer.json()["error"]


def test_only_probes_answer_head(client):
    assert client.head("/readyz").status_code == 200
    assert client.head("/metrics").status_code == client.head("/api/v1/status").status_code == 405


def test_a_limit_in_its_bounds_is_taken(client):
    assert len(client.get("/api/v1/incidents", params={"limit": "1"}).json()["incidents"]) == 1


def test_probes_tell_the_reasons_while_blind(client, archive):
    assert client.get("/readyz").json()["tier"] == "T1"
    assert client.get("/-/ready").status_code == client.head("/healthz").status_code == 200
    archive.live.changes = {"ready": False, "reasons": ("no frame for 12 s",), "tier": "T2"}
    try:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["no frame for 12 s"])
        assert client.get("/-/ready").status_code == 503
        assert client.get("/healthz").json()["status"] == "degraded"
        assert client.get("/-/healthy").status_code == 200
    finally:
        archive.live.changes = {}


def test_metrics_leave_out_what_is_too_old(client, archive):
    assert "etio_cpu_busy_ratio " in client.get("/metrics").text
    archive.live.changes = {"now_ns": NOW + 60 * NS, "ready": False}
    try:
        text = client.get("/metrics").text
    finally:
        archive.live.changes = {}
    assert "etio_cpu_busy_ratio" not in text
    assert "etio_ready 0" in text


def test_the_stream_sends_ticks_with_values_and_status(client):
    with client.stream("GET", "/api/v1/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        line = next(line for line in answer.iter_lines() if line.startswith("data: "))
    body = json.loads(line[6:])
    assert body["values"]["cpu_busy_ratio"][1:] == [0.266, 0.494]
    assert body["status"]["tier"] == "T1"
    assert body["status"]["failed"][0]["name"] == "links"


def test_a_store_in_trouble_is_told_and_not_a_crash(client, archive, monkeypatch):
    from etio.core.errors import StoreError

    def broken(*_, **__):
        raise StoreError("disk full: free some space")

    monkeypatch.setattr(SampleArchive, "incidents", broken)
    answer = client.get("/api/v1/incidents")
    assert (answer.status_code, answer.json()["error"]) == (503, "disk full: free some space")
