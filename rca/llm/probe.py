"""Is there a model? Asked at start and now and then, so that a model that appears later is used."""

from dataclasses import dataclass

from etio.core.errors import ModelError
from etio.core.ports import ChatModel
from rca.llm.config import LlmConfig
from rca.llm.ollama import Ollama
from rca.llm.openai import OpenAi


@dataclass(frozen=True, slots=True)
class Probe:
    """model: ready to be asked, or None; reason: what was found, or why there is none, for status and reports."""

    model: ChatModel | None
    reason: str


def probe(config: LlmConfig) -> Probe:
    """Looks for a model at the endpoint, within config.probe_s per protocol; never raises."""
    if config.enabled == "off":
        return Probe(None, "switched off in the configuration (llm.enabled)")
    reasons = []
    for protocol in _protocols(config):
        try:
            model = protocol(config)
            version = model.probe(config.probe_s)
        except ModelError as error:
            reasons.append(str(error))
        else:
            return Probe(model, f"{model.name} at {model.endpoint} ({model.protocol} {version})".replace(" )", ")"))
    return Probe(None, f"no model at {config.endpoint}: {reasons[0]}")


def _protocols(config: LlmConfig) -> tuple[type[Ollama] | type[OpenAi], ...]:
    if config.api == "auto":
        return (Ollama, OpenAi)
    return (Ollama,) if config.api == "ollama" else (OpenAi,)
