"""Who may ask what: Host header, token, Unix socket, bodies, headers."""

import httpx
import pytest

from api.app import create_app
from api.config import ApiConfig, BadSetting
from etio.core import config as core_config
from etio.core.errors import ConfigError
from tests.sample_report import NS, SampleLive, make_archive, render, serving

NOW = 1_795_248_000 * NS


@pytest.fixture
def archive():
    return make_archive(SampleLive(now_ns=NOW))


def ask(server, path="/api/v1/status", **headers):
    return httpx.get(server.address + path, headers=headers, trust_env=False)


def test_an_open_address_needs_a_token():
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0.*no token is set; set token_file"):
        ApiConfig(host="0.0.0.0")
    assert ApiConfig(host="0.0.0.0", token="x").token == "x"
    assert "secret" not in repr(ApiConfig(token="secret"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_none(host):
    assert ApiConfig(host=host).token == ""


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.1", "localhost.example", "::ffff:192.0.2.1"])
def test_anything_else_is_open(host):
    with pytest.raises(BadSetting):
        ApiConfig(host=host)


def test_the_configuration_lists_it_with_every_other_mistake():
    table = {"api": {"host": "::", "port": 80, "prot": 1}}
    with pytest.raises(ConfigError) as caught:
        core_config.parse(table, {"api": ApiConfig}, "etio.toml")
    text = "\n".join(caught.value.problems)
    assert "etio.toml: api: host: '::' can be reached" in text
    assert "api.prot: unknown key; did you mean 'port'?" in text


def test_a_token_file_that_is_missing_or_empty_stops_the_start(tmp_path, archive):
    for path, part in ((tmp_path / "none", "No such file"), (tmp_path / "empty", "is empty")):
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(ConfigError, match=part):
            create_app(archive, archive.live, ApiConfig(token_file=str(path)), render)


@pytest.mark.slow
def test_names_of_other_sites_are_refused(archive):
    with serving(archive, allowed_hosts=("Box.lan",)) as server:
        for host in (f"127.0.0.1:{server.port}", "localhost", "[::1]:1", "LOCALHOST:99", "box.lan:1"):
            assert ask(server, host=host).status_code == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::1].evil.example", ""):
            answer = ask(server, host=host)
            assert answer.status_code == 403, host
            assert "allowed_hosts" in answer.json()["remedy"]


@pytest.mark.slow
def test_with_a_token_only_its_owner_sees_data(archive):
    with serving(archive, token="s3cret") as server:
        for headers in ({}, *({"authorization": a} for a in ("Bearer wrong", "Basic s3cret", "s3cret", "Bearer"))):
            for path in ("/api/v1/status", "/metrics", "/api/v1/stream", "/api/v1/reports/x", "/nothing"):
                assert ask(server, path, **headers).status_code == 401, (path, headers)
        assert ask(server, authorization="Bearer s3cret").status_code == 200
        assert ask(server, authorization="bearer  s3cret").status_code == 200


def test_with_a_token_probes_answer_but_tell_no_details(archive):
    with serving(archive, token="s3cret") as server:
        assert ask(server, "/healthz").json() == {"status": "ok"}
        assert ask(server, "/readyz").json() == {"ready": True, "tier": "T1"}
        assert "collectors" in ask(server, "/healthz", authorization="Bearer s3cret").json()
        assert ask(server, "/").status_code == ask(server, "/static/app.js").status_code == 200


def test_a_unix_socket_is_trusted_by_its_mode(archive, tmp_path):
    path = tmp_path / "etio.sock"
    with serving(archive, token="s3cret", unix_socket=str(path)):
        assert path.stat().st_mode & 0o777 == 0o660
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://etio") as client:
            assert client.get("/api/v1/status").status_code == 200
    assert not path.exists()


@pytest.mark.parametrize(("headers", "body", "status"), [
    ({"content-type": "text/plain"}, b'{"sql": "select 1"}', 415),
    ({"content-type": "application/x-www-form-urlencoded"}, b"sql=select", 415),
    ({"content-type": "application/json"}, b'{"sql": "' + b"x" * 70_000 + b'"}', 413),
    ({"content-type": "application/json", "sec-fetch-site": "cross-site"}, b'{"sql": "select 1"}', 403),
    ({"content-type": "application/json"}, b"{", 400),
    ({"content-type": "application/json"}, b'{"sql": 5}', 400),
    ({"content-type": "application/json; charset=utf-8", "sec-fetch-site": "same-origin"}, b'{"sql": "select 1"}', 200),
])
def test_bodies_are_json_of_bounded_size_from_our_own_page(archive, headers, body, status):
    with serving(archive) as server:
        answer = httpx.post(f"{server.address}/api/v1/query", content=body, headers=headers, trust_env=False)
        assert answer.status_code == status
        assert status == 200 or set(answer.json()) == {"error", "remedy"}


def test_a_body_of_unknown_length_is_refused(archive):
    with serving(archive) as server:
        answer = httpx.post(f"{server.address}/api/v1/query", content=iter([b"{}"]),
                            headers={"content-type": "application/json"}, trust_env=False)
        assert answer.status_code == 411


@pytest.mark.parametrize("path", [
    "/", "/static/app.js", "/api/v1/status", "/nothing", "/api/v1/reports/2026-11-21-0007?format=html"])
def test_every_answer_carries_the_security_headers(archive, path):
    with serving(archive) as server:
        found = ask(server, path).headers
    policy = found["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert found["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in found
    assert "server" not in found
    assert found["cache-control"] == ("no-cache" if path in ("/", "/static/app.js") else "no-store")


def test_an_unchanged_file_is_not_sent_again(archive):
    with serving(archive) as server:
        first = ask(server, "/static/style.css")
        again = ask(server, "/static/style.css", **{"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
