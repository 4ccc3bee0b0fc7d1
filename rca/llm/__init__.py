"""Language models: they may choose among ids that exist and phrase; plain code verifies. Off until one answers.

No name of the host reaches a model, no word of a model reaches a command, and no report waits for one: `assist` hands
the deterministic report back whenever a model is down, late or wrong.
"""

from rca.llm.assist import assist
from rca.llm.breaker import Breaker
from rca.llm.config import LlmConfig
from rca.llm.probe import Probe, probe

__all__ = ["Breaker", "LlmConfig", "Probe", "assist", "probe"]
