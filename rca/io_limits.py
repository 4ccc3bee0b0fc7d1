"""Control groups at their I/O limit: who in them waits, and whether the disk had time to spare."""

from collections import Counter

from etio.core.report import Culprit
from rca.conditions import missing, series_evidence
from rca.culprits import describe, in_cgroup, named
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean
from rca.who import KERNEL_THREADS, Group

SPARE = 0.7


def spare_disk(scene: Scene, entity: str) -> Outcome:
    """Whether the disk that the limit is about has time to spare; of several, the one whose limit is used up most."""
    limits = [m for m in scene.measures("cgroup_io_limit_used_ratio", "cgroup", entity) if m.mean == m.mean]
    device = max(limits, key=lambda m: m.mean).series.label("device") if limits else None
    found = [m for m in scene.measures("disk_busy_ratio", "device", device or "") if m.now == m.now]
    if not found:
        return Outcome(None, missing("disk_busy_ratio", scene), "diskstats", "disk_busy_ratio")
    disk = found[0]
    return Outcome(disk.now <= SPARE, series_evidence(disk, disk.now), "diskstats", "disk_busy_ratio", "",
                   disk.deviation)


def limited_group(scene: Scene, entity: str) -> Blame:
    """The group at its I/O limit, with the process in it that does most."""
    inside = in_cgroup(scene, entity)
    ranked = sorted((g for attribute in ("read_bytes", "write_bytes") for g in scene.census.ranked(attribute, inside)),
                    key=lambda g: -max(_or0(g.total("read_bytes")), _or0(g.total("write_bytes"))))
    held = _held_back(scene, entity)
    ranked = held or ([] if entity in ("", "/") else ranked)  # of the whole host the busiest is anybody
    who = f"; {'held back most' if held else 'its busiest'} is {describe(ranked[0])}" if ranked else ""
    blame = named("cgroup", scene, entity, f"{clean(entity, 80)} uses all the I/O it may{who}", "cgroup files")
    unit = ranked[0].unit if ranked else ""
    culprit = Culprit("unit" if unit else "cgroup", clean(unit or entity, 200), ranked[0].pid if ranked else 0, entity,
                      unit, blame.culprit.claim)
    return Blame(culprit, blame.evidence, "cgroup")


def _held_back(scene: Scene, entity: str) -> list[Group]:
    """Who in the group sleeps uninterruptibly in most of the tables since the onset, most first. A request that is held
    back is issued by a thread of the kernel later, so what eBPF says of who issued it does not help here."""
    inside, tables = in_cgroup(scene, entity), [t for t in scene.census.tables if t.t_ns > scene.case.onset_ns]
    waits = Counter(p.pid for table in tables for p in table.processes if p.state == "D" and inside(p))
    held = [(sum(waits[m.process.pid] for m in group.members), group) for group in scene.census.groups
            if not group.own and group.ppid not in KERNEL_THREADS]
    least = max(2, len(tables) // 2)
    return [group for times, group in sorted(held, key=lambda pair: -pair[0]) if times >= least]


def _or0(value: float) -> float:
    return 0.0 if value != value else value  # noqa: PLR0124 - NaN
