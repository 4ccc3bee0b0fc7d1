"""Everything this version consists of, for `etio list` and the tables of the README."""


import collector
import detectors
from etio.core.policy import ALERTS
from rca.cards import load_cards
from rca.discover import causes


def parts() -> dict[str, list[dict[str, str]]]:
    """Collectors, detectors, alerts, causes and cards: name and one line each."""
    return {
        "collectors": [{"name": n, "what": s.reads} for n, s in sorted(collector.discover().items())],
        "detectors": [{"name": n, "what": s.help} for n, s in sorted(detectors.discover().items())],
        "alerts": [{"name": n, "what": k.subject} for n, k in sorted(ALERTS.items())],
        "causes": [{"name": c.id, "what": c.title} for c in causes()],
        "cards": [{"name": c.id, "what": c.title} for c in load_cards()],
    }
