"""The server thread: clear errors, clean end, and no cost while nobody asks."""

import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from api.config import ApiConfig
from api.server import ApiServer, ListenError, bind_tcp
from tests.sample_report import SampleLive, create_app, make_archive, render, serving


@pytest.fixture
def archive():
    return make_archive(SampleLive())


def test_a_taken_port_is_named_with_the_remedy(archive):
    with serving(archive) as server:
        second = ApiServer(create_app(archive, archive.live, ApiConfig(), render), ApiConfig(port=server.port))
        with pytest.raises(ListenError, match=rf"port {server.port}: another program uses it; find it with `ss -ltnp"):
            second.start()
        second.stop()
        assert httpx.get(server.address + "/healthz", trust_env=False).status_code == 200


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_host_is_told(host):
    with pytest.raises(ListenError, match=rf"cannot listen on {host} port 9842: this host has no such address"):
        bind_tcp(host, 9842)


def test_a_socket_path_in_use_or_in_the_way_is_told(archive, tmp_path):
    path = tmp_path / "etio.sock"
    config = ApiConfig(port=0, unix_socket=str(path))
    second = ApiServer(create_app(archive, archive.live, config, render), config)
    with serving(archive, unix_socket=str(path)), pytest.raises(ListenError, match="another etio is listening there"):
        second.start()
    path.write_text("precious")
    with pytest.raises(ListenError, match="no socket is in the way"):
        second.start()
    assert path.read_text() == "precious"


def test_the_socket_of_a_killed_run_is_replaced(archive, tmp_path):
    path = tmp_path / "etio.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(archive, unix_socket=str(path)), httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/healthz").status_code == 200


def test_stop_ends_open_streams_and_the_thread_and_may_be_called_twice(archive):
    config = ApiConfig(port=0)
    server = ApiServer(create_app(archive, archive.live, config, render), config)
    server.start()
    with httpx.stream("GET", server.address + "/api/v1/stream", trust_env=False) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "retry: 3000"
        begin = time.monotonic()
        server.stop()
        server.stop()
        assert time.monotonic() - begin < 4  # beyond is the end of its patience, stop(timeout_s)
        assert all(not line.startswith("event: error") for line in lines)
    assert not [t for t in threading.enumerate() if t.name == "etio-api"]
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.address, trust_env=False)


def test_streams_beyond_the_limit_are_refused(archive):
    with serving(archive) as server, httpx.Client(base_url=server.address, trust_env=False) as client:
        server._app.state.etio.hub.listeners = 8
        answer = client.get("/api/v1/stream")
        assert (answer.status_code, answer.json()["error"]) == (503, "too many open streams")


@pytest.mark.slow
def test_a_changed_incident_moves_the_version_of_the_stream(archive):
    archive.live.running = True
    with serving(archive) as server, httpx.stream("GET", server.address + "/api/v1/stream", trust_env=False) as answer:
        ticks = (line for line in answer.iter_lines() if line.startswith("data: "))
        first = next(ticks)
        server.changed()
        assert '"version": 2' in next(ticks)
        assert '"version": 1' in first


@pytest.mark.slow
def test_nothing_runs_while_nobody_asks(archive):
    with serving(archive) as server:
        httpx.get(server.address + "/metrics", trust_env=False)
        (thread,) = (t.native_id for t in threading.enumerate() if t.name == "etio-api")
        time.sleep(0.5)  # the answer's connection is closed behind it
        before, asked = _run(thread), archive.live.asked
        time.sleep(2.0)
        seconds, wakes = (now - then for now, then in zip(_run(thread), before, strict=True))
        assert archive.live.asked == asked
        assert wakes < 10
        assert seconds < 0.05


def _run(thread):
    """(CPU seconds, times it woke up) of a thread of ours."""
    folder = Path(f"/proc/self/task/{thread}")
    waits = next(ln for ln in (folder / "status").read_text().splitlines() if ln.startswith("voluntary_ctxt"))
    return int((folder / "schedstat").read_text().split()[0]) / 1e9, int(waits.split()[1])
