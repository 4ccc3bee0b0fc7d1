"""From the samples of one page to the values of each model, and from two pages to what happened between them."""

import json
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from collector.inference_kinds import Kind, Picks
from collector.inference_text import (
    NAN,
    Histogram,
    Key,
    Recent,
    histogram,
    mean,
    parse_number,
    quantile,
    since,
    total,
)
from etio.core.errors import Broken

Values = dict[str, float]
"""Field or series name to value; what is missing is not there, or NaN."""
LARGEST = ("kv_ratio", "hit_ratio", "kv_block_tokens")
MEANS = ("kv_mean",)
"""Fields of which the largest over engines counts, or the mean; all others add up."""
COUNTED = ("preemptions", "prompt_tokens", "generated_tokens", "failed")
LATENCIES = ("ttft", "inter_token", "e2e")
REQUESTS = {"queue": "request_queue_seconds", "prefill": "request_prefill_seconds", "decode": "request_decode_seconds",
            "prompt_length": "request_prompt_tokens", "output_length": "request_output_tokens"}
"""Means over the requests that ended lately, by what they are called as series."""
MODEL_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Page:
    """One model on one page: fields of inference_kinds.Kind, and its histograms."""

    values: Values
    histograms: Mapping[str, Histogram]


@lru_cache(maxsize=1024)
def model_name(text: str) -> str:
    """A model's name as a label: printable, in one line, of bounded length; a path gives its last part.

    >>> model_name("/models/llama-3-8b.gguf"), model_name("meta-llama/Llama-3-8B")
    ('llama-3-8b.gguf', 'meta-llama/Llama-3-8B')
    """
    kept = "".join("?" if unicodedata.category(c)[0] == "C" else c for c in text).strip()
    if kept.startswith(("/", "./", "~")):
        kept = kept.rstrip("/").rpartition("/")[2]
    return kept[-MODEL_LENGTH:]


def by_model(kind: Kind, samples: Mapping[Key, float], fallback: str) -> dict[str, Page]:
    """Model name to its values. fallback: name for samples that carry none."""
    groups: dict[str, list[Key]] = defaultdict(list)
    for key in samples:
        groups[_model_of(kind, key, fallback)].append(key)
    if kind.name == "vllm" and len(groups) == 2 and fallback in groups:
        groups = _joined(groups, fallback)
    return {model: _page(kind, samples, keys) for model, keys in groups.items()}


def _model_of(kind: Kind, key: Key, fallback: str) -> str:
    named = next((v for label in kind.model_labels if (v := key.get(label))), "")
    return model_name(named) or fallback


def _joined(groups: dict[str, list[Key]], fallback: str) -> dict[str, list[Key]]:
    """vLLM's configuration carries no model name: with one model it speaks of that one."""
    (model,) = (m for m in groups if m != fallback)
    return {model: groups[model] + groups[fallback]}


def _page(kind: Kind, samples: Mapping[Key, float], keys: Iterable[Key]) -> Page:
    named: dict[str, list[Key]] = defaultdict(list)
    for key in keys:
        named[key.name].append(key)
    values = {f: v for f, group in kind.values.items() if not math.isnan(v := _field(f, group, samples, named))}
    _capacity(values, named.get("vllm:cache_config_info", []))
    spread = {f: h for f, group in kind.histograms.items() if (h := _histogram(group, samples, named)).bounds}
    return Page(values, spread)


def _field(name: str, group: Picks, samples: Mapping[Key, float], named: Mapping[str, list[Key]]) -> float:
    for pick in group:
        keys = [k for k in named.get(pick.name, ()) if set(pick.labels) <= set(k.labels)]
        if name == "engines" and keys:
            return float(len(keys))
        if keys:
            whole = total(samples, keys) / (len(keys) if name in MEANS else 1)
            return max(samples[k] for k in keys) if name in LARGEST else whole
    return NAN


def _histogram(group: Picks, samples: Mapping[Key, float], named: Mapping[str, list[Key]]) -> Histogram:
    for pick in group:
        buckets: dict[float, float] = defaultdict(float)
        for key in named.get(f"{pick.name}_bucket", ()):
            bound = _bound(key.get("le"))
            if not math.isnan(bound) and set(pick.labels) <= set(key.labels):
                buckets[bound] += samples[key]
        if buckets:
            sums = [k for k in named.get(f"{pick.name}_sum", ()) if set(pick.labels) <= set(k.labels)]
            return histogram(buckets, total(samples, sums))
    return Histogram()


def _bound(text: str) -> float:
    if re.fullmatch(r"\+?[Ii]nf", text):
        return math.inf
    return parse_number(text.encode())


def _capacity(values: Values, configs: Iterable[Key]) -> None:
    """Tokens in the KV cache, from what the kinds tell of it in blocks or as a share."""
    told = [parse_number(k.get("num_gpu_blocks").encode()) * parse_number(k.get("block_size").encode())
            for k in configs]
    if told and not math.isnan(size := math.fsum(told)):
        values["kv_capacity"] = size
    if "kv_blocks" in values and "kv_block_tokens" in values:
        values["kv_tokens"] = values["kv_blocks"] * values["kv_block_tokens"]
        if values.get("kv_blocks_max", 0.0) > 0:
            values.setdefault("kv_ratio", values["kv_blocks"] / values["kv_blocks_max"])
    if "kv_mean" in values and "kv_capacity" in values:
        values.setdefault("kv_tokens", values["kv_mean"] * values["kv_capacity"])


@dataclass(slots=True)
class Track:
    """One model of one server over time: remembers its last page and the histograms of the last seconds."""

    window_s: float
    _seconds: float = NAN
    _last: Values = field(default_factory=dict)
    _step: Histogram = field(default_factory=Histogram)
    _recent: dict[str, Recent] = field(default_factory=dict)

    def step(self, seconds: float, page: Page) -> Values:
        """Gauges now, named as the series without "inference_"; cumulative figures stay with the page.

        seconds: when the page came, on a steady clock.
        """
        now = page.values
        found = {
            "running_requests": now.get("running", NAN), "waiting_requests": now.get("waiting", NAN),
            "kv_cache_used_ratio": _share(now.get("kv_ratio", NAN)), "kv_tokens": now.get("kv_tokens", NAN),
            "prefix_cache_hit_ratio": self._hits(now),
        }
        seen = {name: self._look(name, seconds, page) for name in (*LATENCIES, "step")}
        for name, series in zip(LATENCIES, ("ttft", "inter_token", "e2e_latency"), strict=True):
            found[f"{series}_p50_seconds"] = quantile(seen[name], 0.5)
            found[f"{series}_p99_seconds"] = quantile(seen[name], 0.99)
        found |= {series: mean(self._look(name, seconds, page)) for name, series in REQUESTS.items()}
        found |= self._steps(seconds, page)
        self._seconds, self._last = seconds, dict(now)
        return found

    def _look(self, name: str, seconds: float, page: Page) -> Histogram:
        one = page.histograms.get(name, Histogram())
        return self._recent.setdefault(name, Recent(self.window_s)).step(seconds, one) if one.bounds else one

    def _grown(self, now: Values, name: str) -> float:
        """Growth of a cumulative figure since the last page; NaN at first and after a restart."""
        change = now.get(name, NAN) - self._last.get(name, NAN)
        return change if change >= 0 else NAN

    def _hits(self, now: Values) -> float:
        asked = self._grown(now, "prefix_queries")
        return self._grown(now, "prefix_hits") / asked if asked > 0 else _share(now.get("hit_ratio", NAN))

    def _steps(self, seconds: float, page: Page) -> Values:
        """Time of a step and sequences in it, while the server was busy at both ends of the time between the pages.

        With a count of steps: time over steps. Without: the mean time between two tokens, which is what a step takes
        as each gives every sequence one token.
        """
        now, steps = page.values, self._grown(page.values, "steps")
        busy = min(now.get("running", 0.0), self._last.get("running", 0.0)) >= 1
        if "steps" in now:
            ok = busy and steps > 0 and seconds > self._seconds
            each = self._grown(now, "generated_tokens") / steps if ok else NAN
            took = (seconds - self._seconds) * now.get("engines", 1.0)  # they step at the same time
            return {"step_seconds": took / steps if ok else NAN, "batch_size": each}
        one = next((page.histograms[n] for n in ("step", "inter_token") if n in page.histograms), Histogram())
        between, self._step = since(one, self._step), one
        return {"step_seconds": mean(between) if busy else NAN,
                "batch_size": (now["running"] + self._last["running"]) / 2 if busy else NAN}


def _share(value: float) -> float:
    """A share as it is, at most 1; servers say -1 for "not known"."""
    return min(value, 1.0) if value >= 0 else NAN


def json_pages(body: bytes, fallback: str) -> dict[str, Page]:
    """Models of /api/ps (Ollama), or the slots of the only model (llama.cpp, called `fallback`). Raises Broken."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Broken("no JSON") from error
    return {fallback: Page(_slots(told), {})} if isinstance(told, list) else _ollama(told)


def _ollama(told: Any) -> dict[str, Page]:
    models = told.get("models") if isinstance(told, dict) else None
    if not isinstance(models, list):
        raise Broken("/api/ps: no list of models")
    found = {}
    for one in models[:64]:
        size, vram = (one.get("size"), one.get("size_vram")) if isinstance(one, dict) else (None, None)
        if isinstance(size, int) and isinstance(vram, int) and size > 0 and 0 <= vram <= size:
            found[model_name(str(one.get("name", "")))] = Page({"gpu_resident_ratio": vram / size}, {})
    return found


def _slots(told: Any) -> Values:
    slots = [s for s in told if isinstance(s, dict)] if isinstance(told, list) else []
    if not slots:
        raise Broken("/slots: no list of slots")
    return {"running": float(sum(s.get("is_processing") is True for s in slots[:4096]))}
