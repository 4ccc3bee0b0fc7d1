"""The README's tables, made from the code; a test keeps the two in step."""

from collections.abc import Iterable

import collector
import detectors
from collector.ebpf.collector import EMITS
from rca.discover import table


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def collectors() -> str:
    """Markdown table of the collectors: name, what it reads, how often, what it needs."""
    rows = [(f"`{name}`", spec.reads, f"{spec.period_s:g} s", spec.needs or "-")
            for name, spec in sorted(collector.discover().items())]
    families = ", ".join(sorted({e.name.split("_", 1)[0] for e in EMITS}))
    rows.append(("`ebpf`", f"tracepoints, aggregated in the kernel: {families}", "1 s", "root for the loader; bcc"))
    return _rows(("collector", "reads", "every", "needs"), rows)


def causes() -> str:
    """Markdown table of the causes: id and mechanism."""
    return _rows(("cause", "what happens"), [(f"`{one}`", mechanism) for one, _, mechanism, _ in table()])


def detector_table() -> str:
    """Markdown table of the detectors: name and what it does."""
    return _rows(("detector", "what it does"),
                 [(f"`{name}`", spec.help) for name, spec in sorted(detectors.discover().items())])


TABLES = {"collectors": collectors, "causes": causes, "detectors": detector_table}
