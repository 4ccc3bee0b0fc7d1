"""What serving loads: the lean profile must not pay for frameworks it does not use. Each in a process of its own."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SERVE = """
import sys
from api.config import ApiConfig
from api.server import ApiServer
from etio.client import Client
from tests.sample_report import SampleLive, create_app, make_archive, render
archive = make_archive(SampleLive(now_ns=1_795_248_000 * 10**9))
server = ApiServer(create_app(archive, archive.live, ApiConfig(), render, lean=LEAN), ApiConfig(port=0))
server.start()
client = Client(server.address)
assert client.get("/api/v1/status")["version"]
assert client.post("/api/v1/query", {"sql": "select name from alerts"})["rows"]
server.stop()
sys.exit(f"loaded: {loaded}" if (loaded := [name for name in UNWANTED if name in sys.modules]) else 0)
"""
NEVER = ("click", "uvicorn.main", "uvicorn.supervisors", "multiprocessing")


@pytest.mark.parametrize(("lean", "unwanted"), [(True, (*NEVER, "fastapi", "pydantic")), (False, NEVER)])
def test_a_server_loads_what_it_uses(lean, unwanted):
    code = SERVE.replace("LEAN", str(lean)).replace("UNWANTED", repr(unwanted))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_whole_of_uvicorn_can_still_be_imported_afterwards():
    code = ("import api.server, uvicorn, click; from api.uvicorn_parts import Config, Server\n"
            "assert uvicorn.Config is Config and uvicorn.Server is Server and click.style and uvicorn.main")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_daemon_loads_only_what_it_uses():
    code = ("import sys, etio.daemon.run, collector, detectors\n"
            "collector.discover(), detectors.discover()\n"
            "bad = [n for n in ('fastapi', 'duckdb', 'river', 'pandas', 'scipy', 'click', 'httpx', 'numpy.random') "
            "if n in sys.modules]\n"
            "sys.exit(f'loaded: {bad}' if bad else 0)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_rca_worker_loads_no_http_client_before_a_model_is_asked():
    code = ("import sys, etio.daemon.rca_worker\n"
            "bad = [n for n in ('asyncio', 'httpx', 'starlette', 'duckdb', '_duckdb') if n in sys.modules]\n"
            "sys.exit(f'loaded: {bad}' if bad else 0)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
