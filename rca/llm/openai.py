"""A model behind an OpenAI-compatible server (vLLM, llama-server, Ollama's /v1), constrained by response_format.

Only the portable `json_schema` form is used: extensions are ignored without a word by servers that lack them.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etio.core.errors import ModelError
from etio.core.ports import Answer
from rca.llm import wire
from rca.llm.config import LlmConfig
from rca.llm.wire import Exchange, InvalidAnswer, Json

if TYPE_CHECKING:
    import httpx

_STATUS = {503: "the server is busy", 429: "the server is busy", 404: "the model is not served"}


class OpenAi:
    """ChatModel over /v1/chat/completions. `name` is "" until the first use where none is configured."""

    protocol = "OpenAI-compatible"

    def __init__(self, config: LlmConfig) -> None:
        self.endpoint = wire.check_endpoint(config.endpoint, config.allow_remote).removesuffix("/v1")
        self.name = config.model
        self._config = config

    def probe(self, deadline_s: float) -> str:
        """Chooses the model; the protocol tells no version. Raises ModelError when there is no server or no model."""
        return wire.within(deadline_s, self._probe)

    def ask(self, system: str, user: str, schema: Mapping[str, Any], deadline_s: float) -> Answer:
        """One constrained answer. Raises ModelError (InvalidAnswer where asking again may help)."""
        size = len(system) + len(user)
        wire.check_fits(size, self._config.num_ctx, self._config.num_predict)
        start = time.monotonic()
        answer = wire.within(deadline_s, lambda: self._chat(system, user, schema))
        text, usage = content(answer, self._config.allow_remote)
        wire.check_uncut(size, wire.as_count(usage.get("prompt_tokens")))
        wire.check_json(text)
        counts = (wire.as_count(usage.get("prompt_tokens")), wire.as_count(usage.get("completion_tokens")))
        return Answer(text, self.name, time.monotonic() - start, *counts)

    async def _probe(self) -> str:
        async with wire.client(self.endpoint) as opened:
            self.name = await self._choose(opened)
        return ""

    async def _choose(self, opened: "httpx.AsyncClient") -> str:
        answer = await wire.fetch(opened, "GET", "/v1/models")
        served = wire.as_dict(answer.body).get("data")
        if answer.status != 200 or not isinstance(served, list):
            raise ModelError("the endpoint is no OpenAI-compatible server")
        names = [wire.clean_name(wire.as_dict(m).get("id")) for m in served]
        local = [n for n in names if n and (self._config.allow_remote or not wire.is_cloud({"name": n}))]
        wanted = self._config.model
        if wanted and wanted not in local:
            raise ModelError("the configured model is not served here")
        if not local:
            raise ModelError("the server serves no model")
        return wanted or local[0]

    async def _chat(self, system: str, user: str, schema: Mapping[str, Any]) -> Exchange:
        async with wire.client(self.endpoint) as opened:
            self.name = await self._choose(opened)
            return await wire.fetch(opened, "POST", "/v1/chat/completions", self._body(system, user, schema))

    def _body(self, system: str, user: str, schema: Mapping[str, Any]) -> Json:
        form = {"type": "json_schema", "json_schema": {"name": "analysis", "strict": True, "schema": dict(schema)}}
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return {
            "model": self.name, "messages": messages, "response_format": form, "temperature": 0, "stream": False,
            "seed": self._config.seed, "max_tokens": self._config.num_predict,
        }  # fmt: skip


def content(answer: Exchange, allow_remote: bool = False) -> tuple[str, Json]:
    """Text and usage of a completion. Raises ModelError unless it is a whole one; InvalidAnswer without text."""
    body = wire.as_dict(answer.body)
    if answer.status != 200:
        raise ModelError(_STATUS.get(answer.status, f"the server answered with HTTP status {answer.status}"))
    choices = body.get("choices")
    first = wire.as_dict(choices[0]) if isinstance(choices, list) and choices else {}
    message = wire.as_dict(first.get("message"))
    if "error" in body or not first:
        raise ModelError("the server reported an error while it answered")
    if wire.is_cloud(body) and not allow_remote:
        raise ModelError("the answer came from a cloud model, which is not allowed")
    if first.get("finish_reason") == "length":
        raise ModelError("the answer was cut off (length)")
    text = message.get("content")
    if not isinstance(text, str) or not text.strip():
        raise InvalidAnswer("the model asked for a tool instead of answering")
    return text, wire.as_dict(body.get("usage"))
