"""Delivers what waits in the outbox: at least once, in order per receiver, with back-off. A thread of its own."""

import itertools
import json
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from api.config import Target, WebhookConfig, read_token
from api.payload import ingest, payload
from etio.core.alert import Alert
from etio.core.errors import EtioError
from etio.core.event import Notify
from etio.core.ports import Outbox, OutboxItem

NS: Final = 1_000_000_000
BATCH: Final = 50
IDLE_S: Final = 30.0
EVER_NS: Final = 2**62
EVERYTHING: Final = 10_000
"""Longest sleep; put() and notify() wake the thread at once."""
__all__ = ["Outbox", "OutboxItem", "Sender", "Target", "WebhookConfig", "backoff_s", "ingest", "judge", "payload"]
log = logging.getLogger("etio.webhook")


@dataclass(frozen=True, slots=True)
class Result:
    """Of one attempt: ok, or why not, and whether another attempt makes sense; wait_s as the receiver asked."""

    ok: bool
    error: str = ""
    retry: bool = True
    wait_s: float = 0.0


class Sender:
    """Turns Notify actions into bodies in the outbox and delivers them.

    firing: the alerts that fire now, asked every resend_s where a target is an Alertmanager; host: for these.
    on_give_up: told in one line when a receiver refuses a body for good.
    Raises ConfigError when a token file cannot be read.
    """

    def __init__(
        self, config: WebhookConfig, outbox: Outbox, firing: Callable[[], Sequence[Alert]] = tuple, host: str = "",
        on_give_up: Callable[[str], None] = log.warning,
    ) -> None:
        self._config, self._outbox, self._host, self._external_url = config, outbox, host, config.external_url
        self._firing, self._on_give_up = firing, on_give_up
        self._tokens = {t.endpoint: read_token(t.token, t.token_file) for t in config.targets}
        self._targets = {t.endpoint: t for t in config.targets}
        self._held: dict[str, int] = {}
        self._resend_ns = 0
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._count = itertools.count()
        self._round_ns = 0
        self.given_up = 0

    def queue(self, notify: Notify, host: str, external_url: str = "") -> None:
        """Keeps one body per target in the outbox; returns once they are durable. Raises what the outbox raises.

        external_url: for the links, where the configuration gives none.
        """
        self._host, self._external_url = host, self._config.external_url or external_url
        now_ns = time.time_ns()
        for target in self._config.targets:
            if body := self._body(target, notify, now_ns):
                text = json.dumps(body, ensure_ascii=False)
                item_id = f"{now_ns:020d}-{next(self._count):06d}-{secrets.token_hex(2)}"
                self._outbox.put(OutboxItem(item_id, target.endpoint, text, now_ns))
        self._wake.set()

    def _body(self, target: Target, notify: Notify, now_ns: int) -> Any:
        url = self._external_url
        if target.kind == "webhook":
            return payload(notify, self._host, url)
        alerts = notify.alerts or notify.incident.alerts
        return ingest(alerts, self._host, url, self._ends_ns(now_ns), notify.report)

    def start(self) -> None:
        """Starts the thread; does nothing where there is no target."""
        if self._config.targets and self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="etio-webhook", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends the thread after the attempt that runs; what is left stays in the outbox."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def _run(self) -> None:
        import httpx

        # No proxy and no .netrc of the environment: alerts go where the configuration says and nowhere else.
        with httpx.Client(trust_env=False, follow_redirects=False) as client:
            self._recall(time.time_ns())
            while not self._stopping.is_set():
                self._wake.clear()
                try:
                    more = self._round(client, time.time_ns())
                except EtioError as error:
                    log.warning("webhooks wait: %s", error)  # the store is in trouble; what is kept stays kept
                    more = False
                if not more:
                    self._wake.wait(self._pause_s(time.time_ns()))

    def _recall(self, now_ns: int) -> None:
        """What an earlier run left may be due in a moment: without this the first pause would sleep past it."""
        latest_ns = now_ns + int(self._config.max_retry_s * NS)
        try:
            left = self._outbox.due(EVER_NS, BATCH)
        except EtioError as error:
            log.warning("webhooks wait: %s", error)
            return
        for item in left:
            if item.next_ns > now_ns:
                self._held[item.url] = min(item.next_ns, latest_ns)

    def _round(self, client: Any, now_ns: int) -> bool:
        if now_ns < self._round_ns:  # the clock was set back: what was to be due by it is so at once
            self._resend_ns, self._held = 0, {}
            for item in self._outbox.due(EVER_NS, EVERYTHING):
                self._outbox.put(replace(item, next_ns=min(item.next_ns, now_ns)))
        self._round_ns = now_ns
        self._resend(client, now_ns)
        return self.drain(client, now_ns)

    def drain(self, client: Any, now_ns: int) -> bool:
        """One attempt for each due item; True when there may be more.

        After a failure the later items of that receiver wait as long, which keeps their order and lets others through.
        """
        self._held = {url: until for url, until in self._held.items() if until > now_ns}
        items = self._outbox.due(now_ns, BATCH)
        for item in items:
            if self._stopping.is_set():
                return False
            held_ns = self._held.get(item.url, 0)
            if held_ns > now_ns:
                kept = (item.id, item.url, item.body, item.created_ns, item.tries)
                self._outbox.put(OutboxItem(*kept, next_ns=held_ns, last_error=item.last_error))
            else:
                self._settle(item, self._attempt(client, item.url, item.body))
        return len(items) == BATCH

    def _settle(self, item: OutboxItem, result: Result) -> None:
        now_ns = time.time_ns()
        if result.ok:
            self._held.pop(item.url, None)
            self._outbox.delivered(item.id)
        elif not result.retry or now_ns - item.created_ns > self._config.keep_s * NS:
            self.given_up += 1
            self._outbox.delivered(item.id)
            self._on_give_up(f"webhook to {_place(item.url)} given up after {item.tries + 1} tries: {result.error}")
        else:
            wait_s = max(result.wait_s, backoff_s(item.tries, self._config.min_retry_s, self._config.max_retry_s))
            self._held[item.url] = now_ns + int(wait_s * NS)
            self._outbox.failed(item.id, self._held[item.url], result.error)

    def _attempt(self, client: Any, url: str, body: str) -> Result:
        import httpx

        target = self._targets.get(url)
        if target is None:
            return Result(False, "the receiver is no longer in the configuration", retry=False)
        headers = {"content-type": "application/json", "user-agent": "etio"}
        if token := self._tokens[url]:
            headers["authorization"] = f"Bearer {token}"
        try:
            answer = client.post(url, content=body.encode(), headers=headers, timeout=target.timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Result(False, f"{type(error).__name__}: {error}"[:200])
        return judge(answer.status_code, answer.headers.get("retry-after", ""), answer.text[:120])

    def _resend(self, client: Any, now_ns: int) -> None:
        """Firing alerts again, past the outbox: what is lost here comes with the next round."""
        receivers = [t for t in self._config.targets if t.kind == "alertmanager"]
        if not receivers or now_ns < self._resend_ns:
            return
        self._resend_ns = now_ns + int(self._config.resend_s * NS)
        body = ingest(self._firing(), self._host, self._external_url, self._ends_ns(now_ns))
        for target in receivers if body else []:
            result = self._attempt(client, target.endpoint, json.dumps(body, ensure_ascii=False))
            if not result.ok:
                log.info("alerts not sent again to %s: %s", _place(target.endpoint), result.error)

    def _ends_ns(self, now_ns: int) -> int:
        """An alert that is not sent again for four rounds ends by itself, as with Prometheus servers."""
        return now_ns + int(4 * self._config.resend_s * NS)

    def _pause_s(self, now_ns: int) -> float:
        """Until the next thing to do, as far as it is known; put() wakes earlier."""
        moments = list(self._held.values())
        if self._resend_ns:
            moments.append(self._resend_ns)
        return min([IDLE_S, *(max(0.05, (m - now_ns) / NS) for m in moments)])


def judge(code: int, retry_after: str = "", text: str = "") -> Result:
    """2xx is delivered; 5xx, 408 and 429 are tried again; anything else will not get better by repeating."""
    if 200 <= code < 300:
        return Result(True)
    wait_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    return Result(False, f"HTTP {code} {text}".strip(), code >= 500 or code in (408, 429), min(wait_s, 3600.0))


def backoff_s(tries: int, least_s: float, most_s: float) -> float:
    """Seconds until the next attempt: doubling from least_s up to most_s, with a quarter of jitter."""
    return float(min(most_s, least_s * 2.0 ** min(tries, 30)) * random.uniform(0.75, 1.25))


def _place(url: str) -> str:
    """Scheme and host of a receiver: paths of webhooks often hold a secret and stay out of logs."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
