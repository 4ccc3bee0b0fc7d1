"""Settings of the language model room."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LlmConfig:
    """Section [llm].

    enabled: "auto" = off until the endpoint answers; "on" = the same, but its absence is worth a warning.
    api: which protocol; "auto" asks the endpoint. model: "" = the best one that is installed.
    deadline_s: wall clock for one report, repair included. num_ctx, num_predict: tokens of context and of answer; the
        same for all calls, because a change makes the server load the model again.
    allow_remote: whether figures of this host may leave it: an endpoint that is not loopback, or a model that a
        loopback server passes on to a cloud.
    """

    enabled: Literal["auto", "on", "off"] = "auto"
    api: Literal["auto", "ollama", "openai"] = "auto"
    endpoint: str = "http://127.0.0.1:11434"
    model: str = ""
    deadline_s: float = 60.0
    probe_s: float = 2.0
    num_ctx: int = 8192
    num_predict: int = 900
    seed: int = 42
    keep_alive: str = "5m"
    allow_remote: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for values that cannot work."""
        if self.deadline_s <= 0 or self.probe_s <= 0:
            raise ValueError("deadline_s and probe_s must be above 0")
        if not 256 <= self.num_predict < self.num_ctx:
            raise ValueError("num_predict must be at least 256 and below num_ctx")
