"""Pages of Prometheus text from inference servers: untrusted, bounded, read at the price of one look-up a line.

Source: Prometheus documentation, exposition formats (text format 0.0.4), histogram_quantile().
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from etio.core.errors import Broken

NAN = math.nan
MOST_BYTES = 4 << 20
MOST_KEYS = 20_000
"""A page with more series than this is no page of an inference server."""
MOST_TEXT = 120
"""Characters of a label value that are kept."""
SANE = 1e30
_NAME = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(rb'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|\Z)', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NUMBER = re.compile(rb"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?|[+-]?Inf|NaN", re.IGNORECASE)

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One sample's name and labels, in the order of the page."""

    name: str
    labels: Labels = ()

    def get(self, name: str) -> str:
        """Value of a label, "" where there is none."""
        return next((v for k, v in self.labels if k == name), "")


def parse_key(text: bytes) -> Key | None:
    """A name with its labels; None where the text is of another form.

    >>> parse_key(b'up{job="a\\\\"b"}')
    Key(name='up', labels=(('job', 'a"b'),))
    """
    match = _NAME.match(text)
    if match is None:
        return None
    rest = text[match.end():].strip()
    if not rest:
        return Key(match[0].decode())
    if not (rest.startswith(b"{") and rest.endswith(b"}")):
        return None
    found, at, inner = [], 0, rest[1:-1]
    while at < len(inner):
        label = _LABEL.match(inner, at)
        if label is None:
            return None
        found.append((label[1].decode(), _value(label[2])))
        at = label.end()
    return Key(match[0].decode(), tuple(found))


def _value(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return _ESCAPE.sub(lambda m: {"n": "\n"}.get(m[1], m[1]), text)[:MOST_TEXT]


def parse_number(token: bytes) -> float:
    """The number a token spells in the exposition format; NaN where it spells none, or one beyond all sense."""
    if _NUMBER.fullmatch(token) is None:
        return NAN
    value = float(token)
    return value if abs(value) < SANE else NAN


class Pages:
    """Reads the pages of one server. wanted: names of the samples that are kept; all others cost one look-up."""

    def __init__(self, wanted: Iterable[str]) -> None:
        self._wanted = frozenset(wanted)
        self._known: dict[bytes, Key | None] = {}

    def read(self, page: bytes) -> dict[Key, float]:
        """The samples wanted, the last of equals. A line of another form is left out; NaN is left out.

        Raises Broken for a page that is too large.
        """
        if len(page) > MOST_BYTES:
            raise Broken(f"metrics page of more than {MOST_BYTES >> 20} MiB")
        found: dict[Key, float] = {}
        known = self._known
        for line in page.split(b"\n"):
            if not line or line[0] == 35:  # "#"
                continue
            end = line.rfind(b"}") + 1 or line.find(b" ")
            text = line[:end]
            key = known[text] if text in known else self._learn(text)
            if key is None:
                continue
            value = _sample(line[end:])
            if not math.isnan(value):
                found[key] = value
        return found

    def _learn(self, text: bytes) -> Key | None:
        name = _NAME.match(text)
        key = parse_key(text) if name is not None and name[0].decode() in self._wanted else None
        if len(self._known) >= MOST_KEYS:
            self._known.clear()  # a server whose labels change all the time: learn anew, bounded
        self._known[text] = key
        return key


def _sample(rest: bytes) -> float:
    """The value behind a name; a time stamp may follow."""
    tokens = rest.split()
    return parse_number(tokens[0]) if 1 <= len(tokens) <= 2 else NAN


@dataclass(frozen=True, slots=True)
class Histogram:
    """A cumulative histogram at one moment. bounds: ascending, the last one +inf; counts: observations at or below."""

    bounds: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    total: float = NAN

    @property
    def count(self) -> float:
        """Observations in all; NaN for an empty histogram."""
        return self.counts[-1] if self.counts else NAN


def histogram(buckets: Mapping[float, float], total: float) -> Histogram:
    """From bucket bounds to cumulative counts; an inconsistent one (counts that fall) is empty."""
    bounds = tuple(sorted(buckets))
    counts = tuple(buckets[b] for b in bounds)
    if not bounds or bounds[-1] != math.inf or any(b < a for a, b in itertools.pairwise(counts)):
        return Histogram()
    return Histogram(bounds, counts, total)


def since(now: Histogram, then: Histogram) -> Histogram:
    """What was observed between two moments; empty where the server started again or its buckets changed."""
    if now.bounds != then.bounds or not now.bounds:
        return Histogram()
    counts = tuple(a - b for a, b in zip(now.counts, then.counts, strict=True))
    if counts[0] < 0 or any(b < a for a, b in itertools.pairwise(counts)):
        return Histogram()
    return Histogram(now.bounds, counts, now.total - then.total)


def quantile(one: Histogram, share: float) -> float:
    """The value below which `share` of the observations lie, linear within its bucket; NaN without observations.

    In the last, unbounded bucket only its lower bound is known: that is the answer then.

    >>> quantile(Histogram((0.1, 0.2, math.inf), (0.0, 10.0, 10.0), 1.5), 0.5)
    0.15000000000000002
    """
    if not one.counts or not one.count > 0:
        return NAN
    rank = share * one.count
    at = next(i for i, c in enumerate(one.counts) if c >= rank)
    low = one.bounds[at - 1] if at else min(0.0, one.bounds[0])
    if one.bounds[at] == math.inf:
        return low if at else NAN
    below = one.counts[at - 1] if at else 0.0
    inside = one.counts[at] - below
    return low + (one.bounds[at] - low) * ((rank - below) / inside if inside > 0 else 1.0)


def mean(one: Histogram) -> float:
    """Mean of the observations; NaN where there are none."""
    return one.total / one.count if one.count > 0 and one.total >= 0 else NAN


@dataclass(slots=True)
class Recent:
    """Histograms of the last seconds: what was observed within `window_s`, from cumulative pages.

    Of pages a second apart a p99 rests on a handful of requests; ten seconds hold enough of them.
    """

    window_s: float
    _kept: list[tuple[float, Histogram]] = field(default_factory=list)

    def step(self, seconds: float, one: Histogram) -> Histogram:
        """Takes the newest in (seconds: any steady clock); what the window holds, empty at first or after a reset."""
        if self._kept and not since(one, self._kept[-1][1]).bounds:
            self._kept.clear()
        self._kept.append((seconds, one))
        while len(self._kept) > 2 and seconds - self._kept[1][0] >= self.window_s:
            del self._kept[0]
        return since(one, self._kept[0][1]) if len(self._kept) > 1 else Histogram()


def total(samples: Mapping[Key, float], keys: Sequence[Key]) -> float:
    """Sum over the keys that have a value; NaN where none has."""
    values = [samples[k] for k in keys if k in samples]
    return math.fsum(values) if values else NAN
