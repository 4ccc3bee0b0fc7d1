"""Inference servers on this host: found from sockets and command lines, asked without ever being waited for."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import inference_server as sim
from collector.inference import COLLECTOR, Config, Endpoint
from collector.inference_find import Finder
from collector.knobs import KnobReader
from collector.listeners import parse_listening
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from etio.core.rates import Rates
from tests.daemon_rig import free_port, wait_for

pytestmark = pytest.mark.slow

FLAGS = ("--gpu-memory-utilization", "0.85", "--max-num-seqs", "32", "--api-key", "sk-SECRET")


def values(reading):
    found = {s.key: float(v) for s, v in zip(reading.series, reading.values, strict=True)}
    return {k: v for k, v in found.items() if v == v}  # noqa: PLR0124 - NaN


def named(reading, name):
    return next((v for k, v in values(reading).items() if k.startswith(f"inference_{name}{{")), None)


@contextlib.contextmanager
def opened(config, root="/"):
    collector = COLLECTOR.build(config)
    collector.open(Path(root))
    try:
        yield collector
    finally:
        collector.close()
        collector.close()


def ask(collector):
    return collector.collect(time.time_ns())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sim.started(tmp_path_factory.mktemp("vllm"), free_port(), *FLAGS, blocks=400) as one:
        yield one


def test_a_server_is_found_by_itself_with_its_settings_and_without_its_secrets(server):
    with opened(Config(max_servers=32)) as collector:
        wait_for(lambda: ask(collector) and f"inference vllm:{server.port}" in dict(collector.facts()))
        told = json.loads(dict(collector.facts())[f"inference vllm:{server.port}"])
        assert (told["kind"], told["pid"], told["state"]) == ("vllm", server.process.pid, "up")
        assert told["flags"] == {"gpu_memory_utilization": "0.85", "max_num_seqs": "32",
                                 "model": "meta-llama/Llama-3.1-8B-Instruct"}
        assert "SECRET" not in str(collector.facts())
    knobs, pid = KnobReader(Path("/")), str(server.process.pid)
    assert knobs.read("inference", "gpu_memory_utilization", pid) == "0.85"
    assert knobs.read("inference", "engine", f"pid={pid}") == "vllm"
    assert knobs.read("inference", "enforce_eager", pid) == "off (default)"
    for key, entity in (("api_key", pid), ("engine", "1"), ("engine", "../1")):
        with pytest.raises(NoData):
            knobs.read("inference", key, entity)


def test_what_it_serves_is_what_the_series_say(server):
    rates = Rates()
    with opened(Config(discover=False, endpoints=(Endpoint("llm", server.url),))) as collector:
        server.load(rate=6.0, prompt_tokens=100, output_tokens=40)
        before = server.post("/v1/completions", prompt=[1] * 50, max_tokens=10)["usage"]
        assert before == {"prompt_tokens": 50, "completion_tokens": 10}

        def settled():
            reading = ask(collector)
            row = dict(zip((s.name for s in reading.series), rates.step(time.time_ns(), reading), strict=True))
            return row if row.get("inference_step_seconds", 0) > 0 and named(reading, "e2e_latency_p50_seconds") else 0

        row = wait_for(settled, pause=0.5)
        server.load(rate=0.0)
    assert 0.02 <= row["inference_step_seconds"] < 0.4
    assert row["inference_running_requests"] >= row["inference_batch_size"] * 0.1
    assert row["inference_generated_tokens_per_second"] > 0
    assert 0 < row["inference_kv_cache_used_ratio"] <= 1
    assert row["inference_inter_token_p50_seconds"] <= row["inference_inter_token_p99_seconds"]


def test_a_server_that_ends_at_work_is_down_and_one_that_is_idle_is_removed(tmp_path):
    ports = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(sim.started(tmp_path, p)) for p in ports)
        one.load(rate=20.0, output_tokens=400)
        collector = stack.enter_context(opened(Config(look_s=1.0, max_servers=32)))
        wait_for(lambda: {f'inference_server_up{{server="vllm:{p}"}}' for p in ports} <= set(values(ask(collector))))
        busy = f'server="vllm:{ports[0]}"}}'
        wait_for(lambda: any(k.startswith("inference_running_requests") and k.endswith(busy) and v > 0
                             for k, v in values(ask(collector)).items()), pause=0.2)
        one.process.kill()
        two.process.kill()
        two.process.wait()
        key = 'inference_server_up{{server="vllm:{}"}}'
        wait_for(lambda: key.format(ports[1]) not in values(ask(collector)), pause=0.2)
        assert values(ask(collector)).get(key.format(ports[0])) == 0.0


class Odd:
    """A server on loopback that treats each connection in one odd way."""

    def __init__(self, behave):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.behave, self.seen = self.socket.getsockname()[1], behave, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                link, _ = self.socket.accept()
                threading.Thread(target=self._one, args=(link,), daemon=True).start()

    def _one(self, link):
        with contextlib.suppress(OSError), link:
            self.seen.append(link.recv(4096))
            self.behave(link)

    def close(self):
        self.socket.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def drip(link):
    link.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    for _ in range(200):
        link.sendall(b"x")
        time.sleep(0.05)


def endless(link):
    link.sendall(HEAD + b"\r\n")
    for _ in range(200):
        link.sendall(b"vllm:num_requests_running 1\n" * 4000)


ODD = {
    "silent": lambda link: time.sleep(10),
    "drip": drip,
    "endless": endless,
    "garbage": lambda link: link.sendall(b"\xff\xfe\x00" * 500),
    "closes": lambda link: link.close(),
    "refuses": lambda link: link.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    "html": lambda link: link.sendall(HEAD + b"Content-Length: 6\r\n\r\n<html>"),
    "bomb": lambda link: link.sendall(HEAD + b"Content-Length: 8000\r\n\r\n" + b"[" * 8000),
}


def test_odd_servers_hold_nothing_up_and_do_not_hide_a_good_one(server):
    odd = {name: Odd(behave) for name, behave in ODD.items()}
    endpoints = [Endpoint(name, f"http://127.0.0.1:{one.port}") for name, one in odd.items()]
    config = Config(discover=False, endpoints=(*endpoints, Endpoint("good", server.url)), timeout_s=0.3, max_servers=9)
    try:
        with opened(config) as collector:
            def all_asked():
                begin = time.monotonic()
                reading = ask(collector)
                assert time.monotonic() - begin < 8, "each within its time-out, all at once"
                told = {k.removeprefix("inference "): json.loads(v) for k, v in collector.facts()}
                known = told["good"]["state"] == "up" and all(told[name]["reason"] for name in odd)
                return (reading, told) if known and "401" in told["refuses"]["reason"] else None

            reading, told = wait_for(all_asked, pause=0.2)
            assert {told[name]["state"] for name in odd} == {"starting"}, "they never answered"
            assert "token_file" in told["refuses"]["reason"]
            assert list(values(reading)).count('inference_server_up{server="good"}') == 1
            assert not [k for k in values(reading) if any(f'"{name}"' in k for name in odd)]
    finally:
        for one in odd.values():
            one.close()


def test_a_server_that_stops_answering_is_down(server):
    with opened(Config(discover=False, endpoints=(Endpoint("llm", server.url),))) as collector:
        wait_for(lambda: named(ask(collector), "server_up") == 1.0)
        server.load(hang=1)
        try:
            wait_for(lambda: named(ask(collector), "server_up") == 0.0)
        finally:
            server.load(hang=0)
        wait_for(lambda: named(ask(collector), "server_up") == 1.0)


def test_a_token_goes_to_the_named_server_only_and_is_told_nowhere(tmp_path):
    secret = tmp_path / "token"
    secret.write_text("t0k3n-SECRET\n")
    page = b"vllm:num_requests_running 3\n"
    odd = Odd(lambda link: link.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(page) + page))
    endpoint = Endpoint("far", f"http://127.0.0.1:{odd.port}", "vllm", str(secret))
    with opened(Config(discover=False, endpoints=(endpoint,))) as collector:
        wait_for(lambda: named(ask(collector), "running_requests") == 3.0)
        assert b"Authorization: Bearer t0k3n-SECRET" in odd.seen[0]
        assert "SECRET" not in str(collector.facts())
    secret.write_text("two words\n")
    with pytest.raises(Broken, match="token"), opened(Config(endpoints=(endpoint,))):
        pass
    odd.close()


def test_nothing_is_looked_for_on_a_recorded_host(tmp_path):
    with pytest.raises(NoData, match="live host"), opened(Config(), str(tmp_path)):
        pass


def test_the_configuration_refuses_what_makes_no_sense():
    for bad in ({"timeout_s": 60}, {"window_s": 0}, {"max_servers": 0},
                {"endpoints": (Endpoint("a", "http://x"), Endpoint("a", "http://y"))}):
        with pytest.raises(ValueError):
            Config(**bad)
    for name, url, kind in (("a b", "http://x", "auto"), ("a", "file:///etc/passwd", "auto"), ("a", "http://x", "tgo")):
        with pytest.raises(ValueError):
            Endpoint(name, url, kind)


def test_listening_sockets_come_first_and_only_they_are_read():
    line = b"   0: %s:%s 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %d 1 0 100 0 0 10 0\n"
    raw = b"  sl  local_address ...\n" + line % (b"0100007F", b"1F40", b"0A", 11) + \
        line % (b"00000000", b"1F41", b"0A", 12) + line % (b"0100007F", b"0050", b"01", 13) + \
        line % (b"00000000", b"0051", b"0A", 14)
    found, end = parse_listening(raw)
    assert [(s.port, s.host, s.inode) for s in found] == [(8000, "127.0.0.1", 11), (8001, "127.0.0.1", 12)]
    assert end
    six = line % (b"00000000000000000000000001000000", b"1F40", b"0A", 15)
    assert parse_listening(six)[0][0].host == "[0:0:0:0:0:0:0:1]"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_no_socket_table_raises_anything(raw):
    found, end = parse_listening(raw)
    assert len(found) + end <= raw.count(b"\n") + 1
    assert all(0 <= one.port < 2**16 and one.inode >= 0 for one in found)


def test_a_server_without_a_port_on_its_command_line_is_found_by_its_socket(tmp_path):
    """A process whose port only its socket tells; and one that merely looks like a server is none."""
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n" \
           "time.sleep(60)"
    program = tmp_path / "llama-server"
    program.symlink_to(Path(sys.executable).resolve())
    processes = [subprocess.Popen([str(program), "-c", code], stdout=subprocess.PIPE, text=True),
                 subprocess.Popen([str(program), "-c", "import time; time.sleep(60)"])]
    try:
        port = int(processes[0].stdout.readline())
        found = Finder("/proc").look()
        mine = [s for s in found.values() if s.pid in {p.pid for p in processes}]
        assert [(s.name, s.kind, s.pid) for s in mine] == [(f"llama.cpp:{port}", "llama.cpp", processes[0].pid)]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        processes[0].stdout.close()


def test_a_reading_keeps_its_places(server):
    with opened(Config(discover=False, endpoints=(Endpoint("llm", server.url),))) as collector:
        first = wait_for(lambda: ask(collector) if named(ask(collector), "kv_tokens") is not None else None)
        later = collector.collect(time.time_ns() + NS)
        assert later.series[: len(first.series)] == first.series
