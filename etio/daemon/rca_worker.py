"""The RCA worker: reads one request, prints the deterministic report, then perhaps one with a model's narrative.

Run by etio.daemon.explain as an unprivileged child; it reads the host (knobs only), never writes to it.
"""

import sys
from pathlib import Path
from typing import Any, TextIO

from collector.knobs import KnobReader
from rca.agent import explain
from rca.llm.assist import assist
from rca.llm.config import LlmConfig
from rca.llm.probe import probe

from etio.core.codec import dumps
from etio.core.config import parse
from etio.core.report import Report
from etio.daemon.handover import Request, WindowHistory, receive
from rca.case import Case, RcaConfig

SECTIONS: dict[str, type[Any]] = {"rca": RcaConfig, "rca.llm": LlmConfig}


def main() -> int:
    """Entry of the process; the exit status is 0 when at least one report was printed."""
    out = sys.stdout
    sys.stdout = sys.stderr  # nothing but reports may go up the pipe
    request = receive(sys.stdin.buffer)
    if request is None:
        return 0
    settings = parse(request.settings, SECTIONS, "daemon")
    report = _deterministic(request, settings["rca"])
    _print(out, report)
    chat, _ = probe(settings["rca.llm"])
    if chat is not None:
        _print(out, assist(report, chat, settings["rca.llm"].deadline_s))
    return 0


def _deterministic(request: Request, config: RcaConfig) -> Report:
    case = Case(incident=request.incident, now_ns=request.now_ns, host=request.facts.host.name, settings=config)
    history = WindowHistory(request.window, request.events)
    return explain(case, history, request.facts, KnobReader(Path("/")), None)


def _print(out: TextIO, report: Report) -> None:
    out.write(dumps(report) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
