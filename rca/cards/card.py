"""What a card says, and how its file is read: TOML between +++ lines, then the reason in prose."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from etio.core.codec import from_plain
from etio.core.errors import Broken, ConfigError
from etio.core.report import Risk
from rca.cards.command import Commands, check_template

CAUSES = (
    "cpu_saturation", "cgroup_cpu_throttling", "runqueue_contention", "cpu_steal", "memory_pressure", "memory_leak",
    "oom_kill", "swap_thrashing", "disk_saturation", "disk_full", "io_stall", "packet_loss", "link_down",
    "listen_overflow", "conntrack_full", "close_wait_leak", "syn_flood", "neighbour_table_full", "namespace_losses",
    "dns_unanswered", "tcp_memory_short", "slow_rank", "fork_storm", "pids_exhausted", "gpu_xid",
    "gpu_thermal_throttling", "connect_failures", "softirq_skew", "link_degraded", "rdma_link_errors",
    "rdma_congestion", "device_errors", "hardware_errors", "kernel_lockup", "filesystem_readonly",
    "filehandles_exhausted", "gpu_ecc_errors", "gpu_lost", "gpu_firmware_hang", "gpu_application_error",
    "gpu_nvlink_errors", "gpu_row_remap", "gpu_power_brake", "gpu_power_cap", "gpu_clocks_low", "gpu_pcie_degraded",
    "gpu_memory_full", "gpu_data_starvation", "gpu_straggler", "numa_remote_memory", "gpu_unresponsive",
    "disk_filling", "exhaustion_ahead", "process_fds_exhausted", "user_tasks_exhausted", "zombies", "crash_loop",
    "cgroup_io_throttling", "cpu_affinity", "udp_overflow", "unknown_program", "ports_exhausted", "process_stopped",
    "clock_jump", "context_switch_storm", "dirty_throttling", "kv_cache_exhausted", "serving_overload",
    "job_stalled", "model_on_cpu", "serving_long_prompts", "serving_long_answers", "serving_front_busy",
    "serving_misconfigured", "serving_slow_host", "server_down", "nvme_failing", "nvme_hot", "nvme_worn",
    "stage_imbalance", "slow_replica", "unit_failed", "connection_stalled",
    "file_lock_pile", "slow_flush", "queue_drops", "inotify_exhausted",
    "quota_exhausted", "group_frozen", "group_oom_off", "gpu_ecc_contained", "gpu_unrepairable",
    "gpu_errors_corrected", "gpu_recovery",
    "gpu_driver_broken", "gpu_mig_empty", "connections_reset", "connections_turned_away", "link_flapping", "dns_slow",
)  # fmt: skip
"""Cause ids a card may answer; the same words as rca/causes."""

GetKind = Literal[
    "", "sysctl", "block_queue", "thp", "cpufreq", "cgroup", "filesystem", "nic", "ulimit", "oom_score_adj",
    "affinity", "inference", "scheduling",
]
EntityKind = Literal["", "device", "cgroup", "mount", "pid"]
ChangeClass = Literal["R", "S", "B", "C", "H", "D"]
Calculator = Literal["set", "at_least", "at_most", "multiply", "choose", "sum_times", "text"]


@dataclass(frozen=True, slots=True)
class Get:
    """How the present value is read: arguments of Knobs.read. kind "" = there is nothing to read."""

    kind: GetKind = ""
    key: str = ""
    entity: EntityKind = ""


@dataclass(frozen=True, slots=True)
class Propose:
    """Which calculator of rca/cards/propose.py makes the proposed value, and its parameters.

    value: for set, at_least, at_most; guest: the same on a virtual machine.
    factor: for multiply and sum_times; series: evidence values that sum_times adds up.
    options: for choose, in order of preference. text: for text, a sentence that is no value.
    down: the proposal is a cap, so a smaller present value needs nothing.
    """

    calculator: Calculator
    value: float | str = ""
    guest: float | str = ""
    factor: float = 1.0
    series: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    text: str = ""
    down: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """What may be proposed at all. max_cpus and max_memory are shares of the host's cores and bytes."""

    min: float = float("-inf")
    max: float = float("inf")
    max_cpus: float = float("inf")
    max_memory: float = float("inf")
    allowed: tuple[str, ...] = ()
    step: float = 0.0
    unit: Literal["", "cores", "bytes"] = ""


@dataclass(frozen=True, slots=True)
class Require:
    """A setting of this host that must be one of `only` (where given) and none of `never`, or the card is of no use.

    A setting that is not there or cannot be read only counts against `only`.
    """

    kind: GetKind
    key: str
    entity: EntityKind = ""
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class When:
    """Where the card applies.

    evidence: at least one of these series must be among what supports the finding (none = no demand).
    scope: "host" = only where the finding speaks of the host as a whole. entities: what it must speak of.
    mounts, filesystems: what it is for.
    culprit: somebody must have been named. survivor: who was named is not whom the kernel has killed.
    threads: how many the named process must have at least. queue: whose limit the full accept queue meets, the host's
    (net.core.somaxconn) or a smaller one that its program gave to listen(2). limited: the present value must be one.
    not_devices: beginnings of names of devices it is not for. min_memory: bytes the host must have.
    requires: settings it rests on.
    """

    virtual: Literal["any", "only", "never"] = "any"
    evidence: tuple[str, ...] = ()
    scope: Literal["any", "host"] = "any"
    entities: tuple[str, ...] = ()
    filesystems: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    culprit: bool = False
    survivor: bool = False
    threads: int = 0
    queue: Literal["", "host", "program"] = ""
    limited: bool = False
    not_devices: tuple[str, ...] = ()
    min_memory: float = 0.0
    requires: tuple[Require, ...] = ()


@dataclass(frozen=True, slots=True)
class Contraindication:
    """When not to: checked where `series` names evidence, otherwise told to the reader."""

    reason: str
    series: str = ""
    above: float = float("inf")
    below: float = float("-inf")


@dataclass(frozen=True, slots=True)
class Card:
    """One piece of tuning knowledge.

    rank: order among the cards of one cause, small first.
    change_class: R runtime, S restart, B boot, C workload, H hardware, D look only.
    trust: V = the cited source was read for this fact; K = general practice, the source only names the knob.
    why: the prose below the front matter.
    """

    id: str
    title: str
    causes: tuple[str, ...]
    knob: str
    change_class: ChangeClass
    risk: Risk
    risk_note: str
    effect: str
    source: str
    trust: Literal["V", "K"]
    propose: Propose
    apply: Commands
    rollback: Commands
    verify: Commands
    why: str
    rank: int = 50
    get: Get = field(default_factory=Get)
    range: Range = field(default_factory=Range)
    when: When = field(default_factory=When)
    contraindications: tuple[Contraindication, ...] = ()


def parse_card(text: str, file: str) -> Card:
    """The card in `text`. Raises Broken naming the file and the key that is unknown, ill-typed, empty or unsafe."""
    parts = text.split("+++\n")
    if len(parts) != 3 or parts[0].strip():
        raise Broken(f"{file}: expected TOML between two +++ lines, then prose")
    try:
        data: dict[str, Any] = tomllib.loads(parts[1])
    except tomllib.TOMLDecodeError as error:
        raise Broken(f"{file}: {error}") from error
    if taken := {"why", "change_class"} & set(data):
        raise Broken(f"{file}: unknown field {sorted(taken)[0]!r}")
    if "class" in data:
        data["change_class"] = data.pop("class")
    card = from_plain(Card, data | {"why": " ".join(parts[2].split())}, file)
    for problem in _problems(card, file):
        raise Broken(f"{file}: {problem}")
    return card


@cache
def load_cards() -> tuple[Card, ...]:
    """All cards of this folder, by id. Raises ConfigError listing every broken file."""
    cards, problems = [], []
    for path in sorted(Path(__file__).parent.glob("*.md")):
        try:
            cards.append(parse_card(path.read_text(encoding="utf-8"), path.name))
        except (Broken, OSError, UnicodeDecodeError) as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(problems)
    return tuple(cards)


def _problems(card: Card, file: str) -> Iterator[str]:
    """What the types cannot say."""
    if f"{card.id}.md" != file:
        yield f"id: {card.id!r} is not the file's name"
    for name in ("title", "knob", "effect", "source", "why", "risk_note"):
        if not getattr(card, name).strip():
            yield f"{name}: empty"
    if not card.causes:
        yield "causes: empty"
    yield from (f"causes: unknown cause {c!r}" for c in card.causes if c not in CAUSES)
    for name in ("title", "knob", "effect"):
        yield from (f"{name}: {p}" for p in check_template(getattr(card, name), display=True))
    for name in ("apply", "rollback", "verify"):
        yield from _command_problems(name, getattr(card, name))
    yield from _propose_problems(card)
    if bool(card.get.kind) != bool(card.get.key):
        yield "get.key: kind and key go together"


def _command_problems(name: str, commands: Commands) -> Iterator[str]:
    if not commands.every():
        yield f"{name}: empty"
    for variant, template in commands.every().items():
        yield from (f"{name}.{variant}: {p}" for p in check_template(template))


def _propose_problems(card: Card) -> Iterator[str]:
    how = card.propose
    needs = {"set": how.value, "at_least": how.value, "at_most": how.value, "choose": how.options, "text": how.text,
             "sum_times": how.series, "multiply": how.factor != 1.0}  # fmt: skip
    given = needs[how.calculator]
    if given is False or given in ("", ()):
        yield f"propose: calculator {how.calculator!r} lacks its parameter"
    if how.calculator in ("at_least", "at_most") and not isinstance(how.value, float):
        yield "propose.value: must be a number"
    if how.calculator in ("multiply", "choose") and not card.get.kind:
        yield f"propose: calculator {how.calculator!r} needs [get]"
