"""Inference servers of this host: load, KV cache, latencies, throughput, in the same series for every kind of server.

Reads: the metrics page of vLLM, SGLang, Triton with TensorRT-LLM, llama.cpp (`--metrics`; else /slots) and
text-generation-inference, and /api/ps of Ollama. Servers are found from listening sockets (sock_diag) and command lines
(collector/inference_find.py), or named in the configuration. What they say is untrusted: bounded, parsed strictly.
Source: see collector/inference_kinds.py.
"""

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from collector.inference_find import Finder, Server
from collector.inference_http import Answer, Asker, Client
from collector.inference_kinds import KINDS, Kind, kind_of_page
from collector.inference_series import COLUMNS, UP
from collector.inference_text import NAN, Pages
from collector.inference_values import COUNTED, Page, Track, by_model, json_pages, model_name
from collector.table import Column, Table, emits
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,62}", re.ASCII)
RUSH_S = 1.0
GONE_S = 120.0
"""A server that ended in the middle of its work counts as down for so long, then as removed; one that somebody starts
again and again counts as down until it answers."""
MOST_STARTS = 99
TICKS = os.sysconf("SC_CLK_TCK")
BUSY_S = 5.0
"""At work: requests were computed or waited within so many seconds."""
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that is named rather than found. url: without path. kind: one of KINDS, or "auto" = by its page.

    token_file: a file whose content is sent as bearer token; read anew when the server is asked for the first time.
    """

    name: str
    url: str
    kind: str = AUTO
    token_file: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name = {self.name!r}: letters, digits and _.:@- only, at most 63")
        if self.kind not in (AUTO, *KINDS):
            raise ValueError(f"kind = {self.kind!r}: one of {', '.join((AUTO, *KINDS))}")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url = {self.url!r}: must begin with http:// or https://")


@dataclass(frozen=True, slots=True)
class Config:
    """discover: look for servers on this host. endpoints: servers by address, also on other hosts.

    timeout_s: for one page, as a whole. look_s: seconds between looks for servers. window_s: seconds of requests that
    percentiles speak of. max_servers, max_models: what is watched at most.
    """

    discover: bool = True
    endpoints: tuple[Endpoint, ...] = ()
    timeout_s: float = 0.5
    look_s: float = 5.0
    window_s: float = 10.0
    max_servers: int = 8
    max_models: int = 8

    def __post_init__(self) -> None:
        if not 0.05 <= self.timeout_s <= 5.0:
            raise ValueError(f"timeout_s = {self.timeout_s}: must lie between 0.05 and 5 s")
        if min(self.look_s, self.window_s) < 1 or not 1 <= min(self.max_servers, self.max_models) <= 64:
            raise ValueError("look_s and window_s must be at least 1 s, max_servers and max_models 1 to 64")
        if len({e.name for e in self.endpoints}) < len(self.endpoints):
            raise ValueError("endpoints: two of one name")


@dataclass(slots=True, eq=False)
class _Watch:
    """One server under watch."""

    server: Server
    asker: Asker
    fixed: bool
    kind: Kind | None = None
    pages: Pages | None = None
    tracks: dict[str, Track] = field(default_factory=dict)
    path: str = ""
    up: bool | None = None
    reason: str = ""
    busy_s: float = -math.inf
    gone_s: float = math.inf
    answered_s: float = math.inf
    """Seconds after boot at its last answer."""
    starts: set[tuple[int, str]] = field(default_factory=set)
    """Processes that were started in its place since then."""

    def started(self, pid: int, start: str) -> bool:
        """Whether a process began after the last answer; one that was there before, such as a worker, did not."""
        new = start.isdecimal() and int(start) / TICKS > self.answered_s
        if new and len(self.starts) < MOST_STARTS:
            self.starts.add((pid, start))
        return new


class Inference:
    """The collector; see the module."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._clock = config, clock
        self._table = Table()
        self._finder: Finder | None = None
        self._watches: dict[str, _Watch] = {}
        self._look_s = -math.inf
        self._told: tuple[tuple[str, str], ...] = ()

    def open(self, root: Path) -> None:
        """Raises NoData where there is nobody to look for: a recorded host, or discovery off and no endpoint named."""
        live = root == Path("/")
        if not self._config.endpoints and not (live and self._config.discover):
            raise NoData("no server is named, and servers are looked for on a live host only")
        self._finder = Finder("/proc") if live and self._config.discover else None
        for one in self._config.endpoints:
            server = Server(one.name, "" if one.kind == AUTO else one.kind, one.url.rstrip("/"))
            self._add(server, _headers(one), fixed=True)

    def close(self) -> None:
        """May be called twice; does not wait for servers."""
        for watch in self._watches.values():
            watch.asker.close()
        self._watches, self._look_s = {}, -math.inf

    @property
    def rest_s(self) -> float:
        """Without a server there is nothing to do until the next look for one."""
        return 0.0 if self._watches else self._config.look_s

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Every server with its settings, as pairs for Facts.extra: ("inference NAME", JSON). From any thread."""
        return self._told

    def collect(self, t_ns: int) -> Reading:
        """One reading of every server, within the time-out."""
        now = self._clock()
        self._look(now)
        asked = [w for w in self._watches.values() if now < w.gone_s and w.asker.ask(partial(_ask, w.path, w.kind))]
        until = now + self._config.timeout_s + 0.05
        self._table.start()
        for watch in self._watches.values():
            self._one(watch, watch in asked, until)
        self._told = tuple((f"inference {n}", _fact(w)) for n, w in self._watches.items())
        return self._table.reading()

    # -- who is there -----------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        refused = any(w.up is False and not w.fixed and now < w.gone_s for w in self._watches.values())
        if self._finder is None or now - self._look_s < (RUSH_S if refused else self._config.look_s):
            return
        self._look_s = now
        found = self._finder.look(closely=any(w.gone_s < math.inf for w in self._watches.values()))
        for name, server in found.items():
            known = self._watches.get(name)
            if known is None or known.server.pid != server.pid:
                if known is not None:
                    known.asker.close()
                    del self._watches[name]
                self._add(server, {}, fixed=False)
                _inherit(known, self._watches.get(name), now)
        for name, begun in self._finder.starting.items():
            watch = self._watches.get(name)
            if watch is not None and watch.gone_s < math.inf and watch.started(*begun):
                watch.gone_s = now
        self._forget(set(found), now)

    def _add(self, server: Server, headers: Mapping[str, str], fixed: bool) -> None:
        urls = {w.server.url for w in self._watches.values() if w.fixed}
        if (not fixed and server.url in urls) or not self._room():
            return
        kind = KINDS.get(server.kind)
        client = Client(server.url, headers, self._config.timeout_s)
        self._watches[server.name] = _Watch(server, Asker(client, server.name), fixed, kind,
                                            path=kind.page if kind else "/metrics")

    def _room(self) -> bool:
        """Whether one more may be watched; one that is gone makes room for one that is there."""
        if len(self._watches) < self._config.max_servers:
            return True
        gone = [name for name, watch in self._watches.items() if watch.gone_s < math.inf]
        if gone:
            first = self._watches.pop(min(gone, key=lambda name: self._watches[name].gone_s))
            first.asker.close()
        return bool(gone)

    def _forget(self, found: set[str], now: float) -> None:
        """A server that is no longer there: down where it was at work, else removed by somebody."""
        for name, watch in list(self._watches.items()):
            if watch.fixed or name in found:
                watch.gone_s = math.inf
            elif watch.gone_s == math.inf and (watch.starts or now - watch.busy_s <= BUSY_S):
                watch.gone_s, watch.up, watch.reason = now, False, "its process is gone"
            elif watch.gone_s == math.inf or now - watch.gone_s > GONE_S:
                watch.asker.close()
                del self._watches[name]

    # -- what it says -------------------------------------------------------------------------------------------------

    def _one(self, watch: _Watch, asked: bool, until: float) -> None:
        before = watch.up
        try:
            if watch.gone_s < math.inf:
                raise NoData(watch.reason)
            if not asked:
                raise NoData("does not answer")
            self._read(watch, watch.asker.answer(until - self._clock()))
            watch.up, watch.reason, watch.starts = True, "", set()
            watch.answered_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        except (NoData, Broken) as error:
            watch.up, watch.reason = (None if before is None else False), str(error)
        if watch.up is not None:  # one that never answered may still be starting
            self._put(UP, (watch.server.name,), 1.0 if watch.up else 0.0)

    def _read(self, watch: _Watch, answer: Answer) -> None:
        """Raises NoData (no answer) or Broken (no page that can be understood)."""
        if answer.error:
            raise NoData(f"{watch.server.url}: {answer.error}")
        if answer.status != 200:
            raise NoData(f"{watch.server.url}{watch.path}: HTTP {answer.status}{_hint(watch, answer.status)}")
        if answer.body[:1] in (b"[", b"{"):
            self._put_all(watch, json_pages(answer.body, _fallback(watch)), answer.seconds)
            return
        watch.kind = watch.kind or kind_of_page(answer.body)
        if watch.kind is None:
            raise Broken(f"{watch.server.url}: no page of a server that etio knows")
        watch.pages = watch.pages or Pages(watch.kind.names())
        samples = watch.pages.read(answer.body)
        self._put_all(watch, by_model(watch.kind, samples, _fallback(watch)), answer.seconds)

    def _put_all(self, watch: _Watch, pages: Mapping[str, Page], seconds: float) -> None:
        for model, page in sorted(pages.items()):
            if model not in watch.tracks and len(watch.tracks) >= self._config.max_models:
                continue
            track = watch.tracks.setdefault(model, Track(self._config.window_s))
            values = track.step(seconds, page)
            values |= {name: page.values.get(name, NAN) for name in (*COUNTED, "gpu_resident_ratio")}
            if max(values["running_requests"], values["waiting_requests"], key=_or_zero) >= 1:
                watch.busy_s = self._clock()
            for name, column in COLUMNS.items():
                self._put(column, (watch.server.name, model), values.get(name, NAN))

    def _put(self, column: Column, of: tuple[str, ...], value: float) -> None:
        """Only what has ever had a value becomes a series."""
        if not math.isnan(value):
            self._table.put((column.name, *of), lambda: [column.series(*of)], [value])


def _inherit(old: _Watch | None, new: _Watch | None, now: float) -> None:
    """A server that went down stays down until the one in its place has answered."""
    if old is None or new is None or not (old.up is False or now - old.busy_s <= BUSY_S):
        return
    new.up, new.reason = False, "it was started again and has not answered yet"
    new.starts, new.answered_s = old.starts, old.answered_s
    new.started(new.server.pid, new.server.start)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _ask(path: str, kind: Kind | None, client: Client) -> Answer:
    """One page. llama.cpp without --metrics still tells of its slots."""
    answer = client.get(path)
    if kind is not None and kind.name == "llama.cpp" and answer.status in (404, 501):
        return client.get("/slots")
    return answer


def _hint(watch: _Watch, status: int) -> str:
    if watch.kind is not None and watch.kind.name == "sglang" and status == 404:
        return "; start it with --enable-metrics"
    return "; give its token in collector.inference.endpoints (token_file)" if status in (401, 403) else ""


def _fallback(watch: _Watch) -> str:
    return model_name(watch.server.flags.get("model", "")) or "unknown"


def _headers(one: Endpoint) -> dict[str, str]:
    """The token as a header. Raises Broken where its file cannot be read or holds no token."""
    if not one.token_file:
        return {}
    try:
        token = Path(one.token_file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Broken(f"{one.token_file}: cannot be read: {type(error).__name__}") from error
    if not token or not token.isprintable() or " " in token:
        raise Broken(f"{one.token_file}: holds no token")
    return {"Authorization": f"Bearer {token}"}


def _fact(watch: _Watch) -> str:
    server = watch.server
    state = "gone" if watch.gone_s < math.inf else {True: "up", False: "silent", None: "starting"}[watch.up]
    return json.dumps({"kind": watch.kind.name if watch.kind else server.kind, "pid": server.pid, "comm": server.comm,
                       "state": state, "starts": len(watch.starts), "reason": watch.reason[:200],
                       "models": sorted(watch.tracks)[:8], "flags": dict(server.flags)})


COLLECTOR = CollectorSpec(
    name="inference",
    config=Config,
    build=Inference,
    reads="metrics pages of vLLM, SGLang, Triton/TensorRT-LLM, llama.cpp, TGI; /api/ps of Ollama",
    emits=emits((UP, *COLUMNS.values())),
    needs="an inference server on this host, or one named in the configuration",
    source="the servers' own metrics documentation",
    slow=True,
    optional=True,
)
