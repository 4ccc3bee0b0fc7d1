"""Detectors and collectors speak of the same series: a rule on a name that nobody emits would be silent for ever."""

import importlib
import pkgutil

import collector
from collector.ebpf.collector import EMITS as EBPF
from detectors.degradation import LATENCIES
from detectors.drift import SUMMARIES
from detectors.peers import FAMILIES
from detectors.robust_z import FLOORS
from detectors.rules import Config, table
from detectors.subsystems import FEATURES
from detectors.trends import RESOURCES
from etio.core.policy import SHIFTS
from etio.core.ports import CollectorSpec


def emitted():
    """Name to (unit, labels) of everything that the collectors say they emit, eBPF included."""
    found = {e.name: (e.unit, e.labels) for e in EBPF}
    for module in pkgutil.iter_modules(collector.__path__):
        spec = getattr(importlib.import_module(f"collector.{module.name}"), "COLLECTOR", None)
        if isinstance(spec, CollectorSpec):
            found |= {e.name: (e.unit, e.labels) for e in spec.emits}
    return found


def conditions():
    every = [c for rule in table(Config()) for c in rule.conditions]
    return every + [c.instead for c in every if c.instead]


def test_every_name_is_emitted():
    used = {name for c in conditions() for name in (c.series, c.per) if name}
    used |= {name for names in FEATURES.values() for name in names}
    used |= {name for family in FAMILIES for name in (family.series, family.gate)}
    used |= {name for name, _ in SUMMARIES.values()}
    used |= {one.series for one in RESOURCES} | set(LATENCIES) | {load for load, _ in LATENCIES.values()} | SHIFTS
    assert used - set(emitted()) == set()


def test_every_unit_has_a_floor():
    assert {unit for unit, _ in emitted().values()} - set(FLOORS) == set()


def test_labels_that_rules_and_families_rely_on():
    have = emitted()
    for family in FAMILIES:
        assert family.label in have[family.series][1]
        assert have[family.gate][1] == have[family.series][1]
    for rule in table(Config()):
        if rule.skip[0]:
            assert rule.skip[0] in have[rule.conditions[0].series][1]
