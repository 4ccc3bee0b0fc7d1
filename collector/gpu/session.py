"""A conversation with NVML: which GPUs there are, and one round of readings after the other. Any call may hang."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from collector.gpu.about import about, near
from collector.gpu.binding import ABSENT, LOST, NS, Lost, describe, pci_address, start, string
from collector.gpu.card import Card
from collector.gpu.fast import read_fast
from collector.gpu.fields import read_fields, read_fields_seldom
from collector.gpu.gpm import read_gpm
from collector.gpu.reasons import read_reasons
from collector.gpu.slow import Holder, links_down, read_holders, read_slow
from collector.gpu.values import Values, known
from collector.gpu.xids import XidThread
from etio.core.errors import Broken, NoData

RETRY_LOST_NS = 300 * NS


@dataclass(frozen=True, slots=True)
class Told:
    """One GPU in one round. lost: why it does not answer, "" = it does."""

    index: int
    uuid: str
    pci: str
    values: Values
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """holders: who uses which GPU, None where nothing was asked about it. facts: of each GPU by index, as holders."""

    told: tuple[Told, ...]
    holders: tuple[Holder, ...] | None = None
    facts: dict[int, dict[str, str]] = field(default_factory=dict)


class Session:
    """nvml: the module pynvml, or None to import it. doing: is told each call before it is made."""

    def __init__(self, slow_s: float, doing: Callable[[str], None] = lambda _: None, nvml: Any = None) -> None:
        self._slow_ns = int(slow_s * NS)
        self._doing = doing
        self._given = nvml
        self._nvml: Any = None
        self._cards: list[Card] = []
        self._lost_at_start: list[Told] = []
        self._facts: dict[int, dict[str, str]] = {}
        self._holders: dict[int, tuple[Holder, ...]] = {}
        self.driver = ""

    def open(self) -> tuple[str, ...]:
        """Finds the GPUs; their names. Raises NoData without driver, library or GPU, Broken otherwise."""
        self._doing("nvmlInit")
        self._nvml = start(self._given)
        try:
            self._doing("nvmlDeviceGetCount")
            count = self._nvml.nvmlDeviceGetCount()
            self._cards = [card for i in range(count) if (card := self._find(i)) is not None]
        except self._nvml.NVMLError as error:
            raise Broken(f"NVML: {describe(error)}") from error
        if not self._cards and not self._lost_at_start:
            raise NoData("no NVIDIA GPU")
        self._describe()
        return tuple(card.name for card in self._cards)

    def listen(self, tell: Callable[[int, int, int], None]) -> bool:
        """Starts the thread that waits for XIDs; tell(GPU index, XID, MIG instance or -1) is called from it."""
        return XidThread(self._nvml, [card.handle for card in self._cards], tell).start()

    def read(self, t_ns: int) -> Round:
        """One reading of every GPU."""
        lost, self._lost_at_start = self._lost_at_start, []
        slow = [card for card in self._cards if self._is_due(card, t_ns)]
        told = (*lost, *(self._told(card, t_ns) for card in self._cards))
        if not slow:
            return Round(told)
        held = tuple(holder for holders in self._holders.values() for holder in holders)
        return Round(told, held, self._facts)

    def _find(self, index: int) -> Card | None:
        """A GPU by its index; None where it does not answer at all."""
        self._doing(f"nvmlDeviceGetHandleByIndex of GPU {index}")
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = string(self._nvml.nvmlDeviceGetUUID(handle))
        except self._nvml.NVMLError as error:
            if error.value not in ABSENT | LOST:
                raise
            if error.value in LOST:
                self._lost_at_start.append(Told(index, "", "", {}, describe(error)))
            return None
        return Card(index, handle, uuid, doing=self._doing)

    def _describe(self) -> None:
        with suppress(self._nvml.NVMLError):
            self.driver = string(self._nvml.nvmlSystemGetDriverVersion())
        for card in self._cards:
            with suppress(Lost):  # the first round tells it
                self._describe_card(card)

    def _describe_card(self, card: Card) -> None:
        card.name = string(card.ask(self._nvml, "nvmlDeviceGetName") or "")
        pci = card.ask(self._nvml, "nvmlDeviceGetPciInfo")
        card.pci = pci_address(string(pci.busId)) if pci is not None else ""

    def _is_due(self, card: Card, t_ns: int) -> bool:
        return not card.lost_ns and (not card.slow_ns or t_ns - card.slow_ns >= self._slow_ns)

    def _told(self, card: Card, t_ns: int) -> Told:
        """Values of one GPU; none of a lost one, which is tried again every five minutes."""
        if card.lost_ns and t_ns - card.lost_ns < RETRY_LOST_NS:
            return Told(card.index, card.uuid, card.pci, {})
        try:
            values = self._values(card, t_ns)
        except Lost as error:
            first, card.lost_ns = not card.lost_ns, t_ns
            card.slow, card.slow_ns, card.last_ns, card.links_up = {}, 0, 0, -1
            self._holders.pop(card.index, None)
            return Told(card.index, card.uuid, card.pci, {}, str(error) if first else "")
        card.lost_ns = 0
        return Told(card.index, card.uuid, card.pci, known(values))

    def _values(self, card: Card, t_ns: int) -> Values:
        nvml, last_ns = self._nvml, card.last_ns
        if self._is_due(card, t_ns) or card.lost_ns:
            self._read_slow(card, t_ns)
        counted = read_fields(nvml, card)
        values = {**read_fast(nvml, card), **read_reasons(nvml, card, t_ns), **counted}
        return {**values, **read_gpm(nvml, card, t_ns, last_ns), **card.slow, **links_down(card, self._cards)}

    def _read_slow(self, card: Card, t_ns: int) -> None:
        slow = {**read_slow(self._nvml, card), **read_fields_seldom(self._nvml, card)}
        holders = read_holders(self._nvml, card)
        if holders is not None:
            self._holders[card.index] = holders
            slow["gpu_processes"] = float(len({h.pid for h in holders}))
        self._facts[card.index] = {**about(self._nvml, card), **near(self._nvml, card, self._cards)}
        card.slow, card.slow_ns = slow, t_ns
