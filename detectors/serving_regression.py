"""Throughput at unchanged load: the last seconds against like moments of the same server.

A moment is ten ticks: sequences being served, tokens in the KV cache, prompt tokens and generated tokens a second. Like
moments have as many sequences (10 %), tokens (15 %) and prompt work (25 %). Their median is what this load used to
give; fewer by the drop ratio, and by three robust standard deviations, is a regression. Moments of a regression are not
remembered, so one that lasts stays told.
"""

from collections import deque
from collections.abc import Mapping
from math import isnan, nan
from typing import Any

import numpy as np

from etio.core.frame import Floats
from etio.core.words import figure

MOMENT = 10
KEPT = 360
LEAST = 8
FIELDS = ("running_requests", "kv_tokens", "prompt_tokens_per_second", "generated_tokens_per_second")
ALIKE = (0.10, 0.15, 0.25)
PROMPT_FLOOR = 50.0
"""Prompt tokens a second that make no difference."""


class Likes:
    """The moments of one model of one server."""

    def __init__(self, drop: float) -> None:
        self._drop = drop
        self._ticks: deque[tuple[float, ...]] = deque(maxlen=MOMENT)
        self._moments: deque[tuple[float, ...]] = deque(maxlen=KEPT)
        self._count = 0

    def step(self, get: Mapping[str, float]) -> tuple[float, str]:
        """(score, note) of the last ten ticks; NaN without enough like moments, or while nothing is served."""
        row = tuple(get[name] for name in FIELDS)
        if isnan(row[0]) or isnan(row[3]) or row[0] < 1:
            self._ticks.clear()
            return nan, ""
        self._ticks.append(row)
        if len(self._ticks) < MOMENT:
            return nan, ""
        now = np.array(self._ticks).mean(axis=0)
        score, usual = self._against(now)
        self._count += 1
        if self._count % MOMENT == 0 and not score >= 0.5:
            self._moments.append(tuple(now.tolist()))
        note = (f": {figure(float(now[3]))} tokens a second where the same load gave {figure(usual)} "
                f"({figure(float(now[0]))} requests at once)")
        return score, note

    def _against(self, now: Floats) -> tuple[float, float]:
        past = np.array(self._moments)
        if len(past) < LEAST:
            return nan, nan
        alike = self._alike(past, now)
        if alike.sum() < LEAST:
            return nan, nan
        made = past[alike, 3]
        usual = float(np.median(made))
        spread = 1.4826 * float(np.median(np.abs(made - usual))) / max(usual, 1e-9)
        drop = 1.0 - float(now[3]) / max(usual, 1e-9)
        return max(drop, 0.0) / max(self._drop, 3.0 * spread), usual

    @staticmethod
    def _alike(past: Floats, now: Floats) -> Any:
        with np.errstate(invalid="ignore"):
            same = np.abs(past[:, 0] - now[0]) <= ALIKE[0] * now[0]
            tokens = np.abs(past[:, 1] - now[1]) <= ALIKE[1] * now[1]
            same &= tokens | (np.isnan(past[:, 1]) & isnan(now[1]))
            prompts = np.abs(past[:, 2] - now[2]) <= np.maximum(ALIKE[2] * now[2], PROMPT_FLOOR)
            return same & (prompts | (np.isnan(past[:, 2]) & isnan(now[2])))

    def snapshot(self) -> dict[str, Any]:
        """The moments as one array."""
        return {"moments": np.array(self._moments).reshape(-1, len(FIELDS))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back; raises KeyError, TypeError or ValueError when it is none."""
        rows = np.asarray(state["moments"], dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(FIELDS):
            raise ValueError("moments: four numbers each")
        self._moments.extend(tuple(row) for row in rows.tolist())
