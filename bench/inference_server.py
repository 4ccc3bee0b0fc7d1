"""A vLLM server as far as an observer can tell: a process of its own with vLLM's command line and metrics page.

For drills and tests. It runs as a script of its own, so it imports nothing of this project. The engine is simulated in
real time: continuous batching, chunks of prompts, a paged KV cache, preemption by recomputation, steps of T(B, S)
milliseconds. Started as ``python /some/folder/vllm serve MODEL --port N --max-num-seqs 64 ...`` (see `started`).

Environment (all numbers): SIM_BLOCKS blocks of 16 tokens at --gpu-memory-utilization 0.9; SIM_FLOOR_MS, SIM_SEQ_MS,
SIM_TOKEN_MS of T = floor + seq * B + token * S; SIM_PREFILL_MS for each of at most 2048 prompt tokens of a step;
SIM_CPU_MS of each step are computed, not slept; SIM_FRONT_MS of CPU for each prompt token before the request is queued,
one after the other as in a tokenizer; SIM_FAIL_S: ends so many seconds after its start, without listening.
POST /v1/completions {"prompt": [token ids], "max_tokens": n} answers when the request is done.
POST /sim {"rate", "prompt_tokens", "output_tokens", "slow", "hang", "drop"} sets requests per second that arrive by
themselves, a factor on the time of a step, whether the metrics page hangs, and whether all clients hang up.
Metric names: vllm/v1/metrics/loggers.py.
"""

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BLOCK = 16
TTFT = (.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560)
TOKEN = (.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
LATENCY = (.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
LENGTH = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
CHUNK = 2048
SPREADS = {
    "iteration_tokens_total": (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    "time_to_first_token_seconds": TTFT, "inter_token_latency_seconds": TOKEN, "e2e_request_latency_seconds": LATENCY,
    "request_queue_time_seconds": LATENCY, "request_prefill_time_seconds": LATENCY,
    "request_decode_time_seconds": LATENCY, "request_prompt_tokens": LENGTH, "request_generation_tokens": LENGTH,
}


class Histogram:
    """One of Prometheus' histograms."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        """Counts one value."""
        self.counts[next((i for i, b in enumerate(self.bounds) if value <= b), len(self.bounds))] += 1
        self.sum += value

    def text(self, name: str, help_text: str, tags: str) -> list[str]:
        """Its lines of a metrics page."""
        lines, total = [f"# HELP {name} {help_text}", f"# TYPE {name} histogram"], 0
        for bound, count in zip((*map(float, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{{tags},le="{bound}"}} {float(total)}')
        return [*lines, f"{name}_count{{{tags}}} {float(total)}", f"{name}_sum{{{tags}}} {self.sum}"]


class Request:
    """One request: how many tokens it brings and wants, how many it has, and how many of its prompt are left to do."""

    def __init__(self, prompt: int, output: int) -> None:
        self.prompt, self.left, self.output, self.made = prompt, prompt, output, 0
        self.came, self.last, self.first, self.begun = time.monotonic(), 0.0, 0.0, 0.0
        self.done = threading.Event()

    @property
    def tokens(self) -> int:
        """In the KV cache."""
        return self.prompt + self.made

    @property
    def blocks(self) -> int:
        """Of the KV cache that its next step needs."""
        return -(-(self.tokens + 1) // BLOCK)


class Engine:
    """The scheduler of one engine, in a thread of its own."""

    def __init__(self, blocks: int, max_seqs: int, cost: tuple[float, ...], cpu_ms: float, front_ms: float) -> None:
        self.blocks, self.max_seqs, self.cost, self.cpu_ms, self.front_ms = blocks, max_seqs, cost, cpu_ms, front_ms
        self.arrived: deque[Request] = deque()
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.lock = threading.Lock()
        self.counters = dict.fromkeys(("num_preemptions", "prompt_tokens", "generation_tokens", "finished"), 0)
        self.spread = {name: Histogram(bounds) for name, bounds in SPREADS.items()}
        self.load: dict[str, float] = {"rate": 0.0, "prompt_tokens": 100, "output_tokens": 100, "slow": 1.0,
                                       "hang": 0, "drop": 0}
        self._due, self._random = 0.0, random.Random(7)

    def used(self) -> int:
        """Blocks of the KV cache in use."""
        return sum(r.blocks for r in self.running)

    def put(self, request: Request) -> Request:
        """Lets a request wait for its turn, before the tokenizer where that takes time."""
        (self.arrived if self.front_ms else self.waiting).append(request)
        return request

    def front(self) -> None:
        """Makes tokens of the text of one request after the other, for ever."""
        while True:
            request = self.arrived.popleft() if self.arrived else None
            _burn(self.front_ms / 1e3 * request.prompt if request else 0.0)
            if request:
                self.waiting.append(request)
            time.sleep(0.0 if self.arrived else 0.002)

    def run(self) -> None:
        """Serves for ever."""
        while True:
            if self.load["drop"]:
                self._drop()
            self._arrivals()
            with self.lock:
                self._admit()
                prompts = self._chunk()
                batch, tokens = len(self.running), sum(r.tokens for r in self.running)
            if not batch:
                time.sleep(0.002)
                continue
            step = self.cost[0] + self.cost[1] * batch + self.cost[2] * tokens + self.cost[3] * prompts
            self._compute(step * self.load["slow"] / 1e3)
            with self.lock:
                self._step(prompts)

    def _drop(self) -> None:
        """All clients hang up."""
        with self.lock:
            for queue in (self.arrived, self.waiting, self.running):
                queue.clear()

    def _arrivals(self) -> None:
        now, rate = time.monotonic(), self.load["rate"]
        if rate <= 0:
            self._due = now
        while rate > 0 and self._due <= now:
            self._due += self._random.expovariate(rate)
            spread = self._random.uniform(0.7, 1.3)
            output = max(2, int(self.load["output_tokens"] * spread))
            self.put(Request(int(self.load["prompt_tokens"] * spread), output))

    def _admit(self) -> None:
        """Takes waiting requests in while there is room."""
        while self.waiting and len(self.running) < self.max_seqs and \
                self.used() + self.waiting[0].blocks <= self.blocks:
            request = self.waiting.popleft()
            request.left, request.begun = request.tokens, request.begun or time.monotonic()
            self.running.append(request)

    def _chunk(self) -> int:
        """Prompt tokens that this step computes, of the oldest first."""
        budget = CHUNK
        for request in self.running:
            done = min(request.left, budget)
            request.left, budget = request.left - done, budget - done
        return CHUNK - budget

    def _compute(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        _burn(min(self.cpu_ms / 1e3, seconds))
        time.sleep(max(0.0, until - time.monotonic()))

    def _step(self, prompts: int) -> None:
        now, made = time.monotonic(), 0
        for request in [one for one in self.running if not one.left]:
            made += 1
            self._token(request, now)
        while self.used() > self.blocks and len(self.running) > 1:
            self.waiting.appendleft(self.running.pop())  # the newest gives way and is computed anew later
            self.counters["num_preemptions"] += 1
        self.counters["prompt_tokens"] += prompts
        self.counters["generation_tokens"] += made
        self.spread["iteration_tokens_total"].observe(prompts + made)

    def _token(self, request: Request, now: float) -> None:
        request.made += 1
        if request.first:
            self.spread["inter_token_latency_seconds"].observe(now - request.last)
        else:
            request.first = now
            self.spread["time_to_first_token_seconds"].observe(now - request.came)
        request.last = now
        if request.made >= request.output:
            self.running.remove(request)
            self.counters["finished"] += 1
            for name, value in zip(tuple(SPREADS)[3:], (
                    now - request.came, request.begun - request.came, request.first - request.begun,
                    now - request.first, request.prompt, request.made), strict=True):
                self.spread[name].observe(value)
            request.done.set()

    def page(self, model: str) -> bytes:
        """The metrics page."""
        tags = f'engine="0",model_name="{model}"'
        with self.lock:
            gauges = {
                "num_requests_running": ("Number of requests in model execution batches.", len(self.running)),
                "num_requests_waiting": ("Number of requests waiting to be processed.", len(self.waiting)),
                "kv_cache_usage_perc": ("KV-cache usage. 1 means 100 percent usage.", self.used() / self.blocks),
            }
            lines = ["# HELP python_info Python platform information", "# TYPE python_info gauge",
                     'python_info{implementation="CPython",major="3",minor="12",version="3.12.11"} 1.0']
            for name, (words, value) in gauges.items():
                lines += [f"# HELP vllm:{name} {words}", f"# TYPE vllm:{name} gauge", f"vllm:{name}{{{tags}}} {value}"]
            for name in ("num_preemptions", "prompt_tokens", "generation_tokens"):
                lines += [f"# HELP vllm:{name}_total Cumulative number.", f"# TYPE vllm:{name}_total counter",
                          f"vllm:{name}_total{{{tags}}} {float(self.counters[name])}",
                          f"# TYPE vllm:{name}_created gauge", f"vllm:{name}_created{{{tags}}} 1.7637e+09"]
            lines += [f'vllm:request_success_total{{engine="0",finished_reason="{why}",model_name="{model}"}} {n}'
                      for why, n in (("stop", 0.0), ("length", float(self.counters["finished"])), ("abort", 0.0))]
            lines += [line for name, one in self.spread.items() for line in one.text(f"vllm:{name}", "-", tags)]
        lines += ["# TYPE vllm:cache_config_info gauge",
                  f'vllm:cache_config_info{{block_size="{BLOCK}",cache_dtype="auto",engine="0",'
                  f'num_gpu_blocks="{self.blocks}"}} 1.0']
        return ("\n".join(lines) + "\n").encode()


def _burn(seconds: float) -> None:
    """Computes for so many seconds of CPU."""
    busy = time.thread_time() + seconds
    while time.thread_time() < busy:
        sum(range(200))


def handler(engine: Engine, model: str) -> type[BaseHTTPRequestHandler]:
    """What answers HTTP for an engine."""
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "uvicorn"

        def log_message(self, *_: object) -> None:
            pass

        def _reply(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path == "/metrics":
                while engine.load["hang"]:
                    time.sleep(0.1)
                self._reply(engine.page(model), "text/plain; version=0.0.4; charset=utf-8")
            else:
                self._reply(b"", status=200 if self.path == "/health" else 404)

        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            if self.path == "/sim":
                engine.load |= told
                self._reply(b"{}")
            elif self.path == "/v1/completions":
                request = engine.put(Request(len(told["prompt"]), told["max_tokens"]))
                request.done.wait()
                usage = {"prompt_tokens": request.prompt, "completion_tokens": request.made}
                self._reply(json.dumps({"object": "text_completion", "model": model, "usage": usage}).encode())
            else:
                self._reply(b"{}", status=404)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Whoever hung up is no matter."""


def main(argv: list[str]) -> None:
    """Entry of the process."""
    words = dict(itertools.pairwise(argv[2:]))
    env = {name: float(os.environ.get(f"SIM_{name}", default)) for name, default in
           {"BLOCKS": 2000, "FLOOR_MS": 20, "SEQ_MS": 0.2, "TOKEN_MS": 0.0005, "PREFILL_MS": 0, "CPU_MS": 0,
            "FRONT_MS": 0, "FAIL_S": 0}.items()}
    if env["FAIL_S"]:
        time.sleep(env["FAIL_S"])
        sys.exit(1)
    blocks = int(env["BLOCKS"] * float(words.get("--gpu-memory-utilization", 0.9)) / 0.9)
    cost = (env["FLOOR_MS"], env["SEQ_MS"], env["TOKEN_MS"], env["PREFILL_MS"])
    engine = Engine(blocks, int(words.get("--max-num-seqs", 256)), cost, env["CPU_MS"], env["FRONT_MS"])
    threading.Thread(target=engine.front, daemon=True).start()
    server = _Server(("127.0.0.1", int(words["--port"])), handler(engine, argv[1]))
    threading.Thread(target=engine.run, daemon=True).start()
    server.serve_forever()


class Sim:
    """A simulated server that runs, as its tester sees it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, timeout: float = 20, **what: Any) -> dict[str, Any]:
        """Its answer to a POST of JSON. Raises OSError."""
        request = urllib.request.Request(self.url + path, json.dumps(what).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return dict(json.loads(reply.read()))

    def load(self, **what: float) -> None:
        """Sets the load, see the module."""
        self.post("/sim", **what)

    def page(self) -> bytes:
        """Its metrics page. Raises OSError."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=20) as reply:
            return bytes(reply.read())


@contextlib.contextmanager
def started(folder: Path, port: int, *flags: str, model: str = "meta-llama/Llama-3.1-8B-Instruct", **env: float
            ) -> Iterator[Sim]:
    """The server as a process whose command line is vLLM's; ended on leaving."""
    program = folder / "vllm"
    if not program.exists():
        program.symlink_to(Path(__file__).resolve())
    more = {f"SIM_{name.upper()}": str(value) for name, value in env.items()}
    process = subprocess.Popen([sys.executable, str(program), "serve", model, "--port", str(port), *flags],
                               env={**os.environ, **more}, stdin=subprocess.DEVNULL)
    try:
        sim = Sim(port, process)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                sim.page()
                break
            time.sleep(0.05)
        yield sim
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
