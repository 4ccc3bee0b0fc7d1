"""A model behind Ollama's /api/chat, with the answer constrained to a JSON schema.

Own client, because the official one knows neither `truncate` nor `shift`, has no wall-clock deadline and takes proxies
from the environment. Source: Ollama API documentation and server (0.32).
"""

import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etio.core.errors import ModelError
from etio.core.ports import Answer
from rca.llm import wire
from rca.llm.config import LlmConfig
from rca.llm.wire import InvalidAnswer, Json

if TYPE_CHECKING:
    import httpx

LARGEST_BYTES = 12e9
"""A bigger model than this is not chosen unasked: it would take the memory of the host under diagnosis."""
_STATUS = {503: "the server is busy", 404: "the model is not installed", 403: "the server refuses this host"}


@dataclass(frozen=True, slots=True)
class Finished:
    """What the chunks of one answer came to. error: an error chunk came; done: the last chunk came."""

    text: str = ""
    done: bool = False
    reason: str = ""
    prompt_tokens: int = 0
    answer_tokens: int = 0
    tools: bool = False
    error: bool = False
    cloud: bool = False


class Ollama:
    """ChatModel over Ollama. `name` is "" until the first use where the configuration names no model."""

    protocol = "Ollama"

    def __init__(self, config: LlmConfig) -> None:
        self.endpoint = wire.check_endpoint(config.endpoint, config.allow_remote)
        self.name = config.model
        self._config = config

    def probe(self, deadline_s: float) -> str:
        """Version of the server; chooses the model. Raises ModelError when there is no server or no usable model."""
        return wire.within(deadline_s, self._probe)

    def ask(self, system: str, user: str, schema: Mapping[str, Any], deadline_s: float) -> Answer:
        """One constrained answer. Raises ModelError (InvalidAnswer where asking again may help)."""
        wire.check_fits(len(system) + len(user), self._config.num_ctx, self._config.num_predict)
        start = time.monotonic()
        ended = wire.within(deadline_s, lambda: self._chat(system, user, schema))
        judge(ended, len(system) + len(user), self._config.allow_remote)
        seconds = time.monotonic() - start
        return Answer(ended.text, self.name, seconds, ended.prompt_tokens, ended.answer_tokens)

    async def _probe(self) -> str:
        async with wire.client(self.endpoint) as opened:
            answer = await wire.fetch(opened, "GET", "/api/version")
            version = wire.clean_name(wire.as_dict(answer.body).get("version"))
            if answer.status != 200 or not version:
                raise ModelError("the endpoint is no Ollama server")
            self.name = await self._choose(opened)
            return version

    async def _choose(self, opened: "httpx.AsyncClient") -> str:
        answer = await wire.fetch(opened, "GET", "/api/tags")
        models = wire.as_dict(answer.body).get("models")
        if answer.status != 200 or not isinstance(models, list):
            raise ModelError("the server does not list its models")
        return choose(models, self._config.model, self._config.allow_remote)

    async def _chat(self, system: str, user: str, schema: Mapping[str, Any]) -> Finished:
        async with wire.client(self.endpoint) as opened:
            self.name = await self._choose(opened)
            body = self._body(system, user, schema)
            async with opened.stream("POST", "/api/chat", json=body) as response:
                if response.status_code != 200 and not response.is_redirect:
                    status = response.status_code
                    raise ModelError(_STATUS.get(status, f"the server answered with HTTP status {status}"))
                return join([item async for item in _objects(response)])

    def _body(self, system: str, user: str, schema: Mapping[str, Any]) -> Json:
        config = self._config
        options = {"num_ctx": config.num_ctx, "num_predict": config.num_predict, "temperature": 0, "seed": config.seed}
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return {
            "model": self.name, "messages": messages, "format": dict(schema), "stream": True, "options": options,
            "think": False, "shift": False, "truncate": False, "keep_alive": config.keep_alive,
        }  # fmt: skip


async def _objects(response: "httpx.Response") -> AsyncIterator[Any]:
    """The JSON objects of a body, one per line; None for a line that is none."""
    rest = b""
    async for chunk in wire.bounded(response):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            yield wire.decode(line)
    if rest:
        yield wire.decode(rest)


def join(objects: Iterable[Any]) -> Finished:
    """Chunks of one answer to the whole; takes the single object of an answer that was not streamed, too."""
    text: list[str] = []
    last: Json = {}
    tools = error = cloud = False
    for item in map(wire.as_dict, objects):
        message = wire.as_dict(item.get("message"))
        content = message.get("content")
        text.append(content if isinstance(content, str) else "")
        tools = tools or bool(message.get("tool_calls"))
        error = error or "error" in item
        cloud = cloud or wire.is_cloud(item)
        last = item if item.get("done") is True else last
    counts = (wire.as_count(last.get("prompt_eval_count")), wire.as_count(last.get("eval_count")))
    return Finished("".join(text), bool(last), str(last.get("done_reason", "")), *counts, tools, error, cloud)


def judge(ended: Finished, characters: int, allow_remote: bool = False) -> None:
    """Raises ModelError unless this is a whole answer of a local model to the whole prompt, and InvalidAnswer (one of
    them, worth another try) where it is no text.

    characters: length of the prompt.
    """
    if ended.cloud and not allow_remote:
        raise ModelError("the answer came from a cloud model, which is not allowed")
    if ended.error:
        raise ModelError("the server reported an error while it answered")
    if not ended.done:
        raise ModelError("the answer ended before it was done")
    if ended.reason not in ("stop", ""):
        raise ModelError("the answer was cut off (length)" if ended.reason == "length" else "the answer did not finish")
    wire.check_uncut(characters, ended.prompt_tokens)
    if ended.tools and not ended.text.strip():
        raise InvalidAnswer("the model asked for a tool instead of answering")
    wire.check_json(ended.text)


def choose(models: Iterable[Any], wanted: str, allow_remote: bool) -> str:
    """The model to use: the wanted one when it is installed, else the largest that is no burden. Raises ModelError."""
    listed = [m for m in map(wire.as_dict, models) if wire.clean_name(m.get("name"))]
    local = [m for m in listed if allow_remote or not wire.is_cloud(m)]
    if wanted:
        return _wanted(wanted, listed, local)
    able = [m for m in local if _can_chat(m)]
    if not able:
        cloud = "; cloud models are not used" if len(local) < len(listed) else ""
        raise ModelError(f"no chat model is installed{cloud}")
    light = [m for m in able if wire.as_count(m.get("size")) <= LARGEST_BYTES]
    best = max(light, key=_size_then_name) if light else min(able, key=_size_then_name)
    return wire.clean_name(best["name"])


def _wanted(wanted: str, listed: list[Json], local: list[Json]) -> str:
    names = (wanted, f"{wanted}:latest")
    found = next((m for m in local if m["name"] in names), None)
    if found:
        return wire.clean_name(found["name"])
    if re.search(r"[:-]cloud$", wanted) or any(m["name"] in names for m in listed):
        raise ModelError("the configured model runs in a cloud, which is not allowed")
    raise ModelError("the configured model is not installed")


def _size_then_name(model: Json) -> tuple[int, str]:
    return wire.as_count(model.get("size")), str(model["name"])


def _can_chat(model: Json) -> bool:
    able = model.get("capabilities")
    if isinstance(able, list):
        return "completion" in able
    family = str(wire.as_dict(model.get("details")).get("family", ""))
    return "bert" not in family and "embed" not in str(model["name"])
