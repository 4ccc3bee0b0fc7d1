"""The engine as an earlier run left it: learned baselines, open incidents, numbered reports."""

from dataclasses import replace

from etio.core.engine import Engine, Judge
from etio.core.report import Report
from etio.daemon.config import Config
from etio.daemon.detector_state import DetectorState
from etio.store.store import Store


class Numbers:
    """Each report of an incident gets a number, so that a later one does not replace an earlier one."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def numbered(self, report: Report) -> Report:
        """The report with its number in the id; the same report gets the same number again."""
        key = f"{report.incident_id}/{report.created_ns}/{report.model.mode}"
        number = self._given.setdefault(key, 1 + sum(k.startswith(report.incident_id) for k in self._given))
        return replace(report, id=f"{report.incident_id}.{number}")


def revive(config: Config, store: Store, now_ns: int) -> tuple[Engine, DetectorState, Numbers, tuple[Report, ...]]:
    """The engine with what the store still knows, and the reports of open incidents, oldest first. Raises StoreError
    when the store cannot be read."""
    judges = [Judge(spec.build(settings), spec.scope) for spec, settings in config.detectors.values()]
    learned = DetectorState(store, [j.detector for j in judges])
    learned.restore(now_ns)
    known = store.archive.incidents(limit=1000)
    engine = Engine(config.engine, judges, max((i.id for i in known), default=""))
    still_open = {i.id: i for i in known if not i.resolved_ns}
    oldest = min((i.opened_ns for i in still_open.values()), default=now_ns)
    told = tuple(r for r in reversed(store.archive.reports(limit=1000, since_ns=oldest)) if r.incident_id in still_open)
    engine.adopt(still_open.values(), now_ns, told)
    engine.adopt_evidence((a for a in store.archive.alerts(firing_only=True) if not a.incident_id), now_ns)
    numbers = Numbers()
    for report in told:
        numbers.numbered(report)
    return engine, learned, numbers, told
