"""The RCA worker: reads one request and prints one report.

Request: the complete report, without any model. Narration: the same in a model's words, or why not.
Run by etio.daemon.worker as an unprivileged child; it reads the host (knobs only), never writes to it.
"""

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from collector.knobs import KnobReader
from etio.core.codec import dumps
from etio.core.config import parse
from etio.core.report import ModelNote, Report
from etio.daemon.handover import Narration, Request, WindowHistory, receive
from etio.daemon.model_watch import unreachable
from rca.agent import explain
from rca.case import Case, RcaConfig
from rca.llm.config import LlmConfig

SECTIONS: dict[str, type[Any]] = {"rca": RcaConfig, "rca.llm": LlmConfig}


def main() -> int:
    """Entry of the process; the exit status is 0 when a report was printed."""
    first_to_go()
    out = sys.stdout
    sys.stdout = sys.stderr  # nothing but reports may go up the pipe
    request = receive(sys.stdin.buffer)
    if request is None:
        return 0
    settings = parse(request.settings, SECTIONS, "daemon")
    llm: LlmConfig = settings["rca.llm"]
    report = _narrated(request.report, llm) if isinstance(request, Narration) else _explained(request, settings)
    try:
        out.write(dumps(report) + "\n")
        out.flush()
    except BrokenPipeError:  # the daemon has gone; Python would try again at exit, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 1
    return 0


def first_to_go() -> None:
    """Where memory is short, this process is killed rather than the daemon: another one is started when needed."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _explained(request: Request, settings: dict[str, Any]) -> Report:
    llm: LlmConfig = settings["rca.llm"]
    case = Case(incident=request.incident, now_ns=request.now_ns, host=request.facts.host.name,
                settings=settings["rca"])
    history = WindowHistory(request.window, request.events)
    report = explain(case, history, request.facts, KnobReader(Path("/")), None)
    reason = unreachable(llm) or f"{llm.endpoint} was asked for a narrative; it may follow as a report of its own"
    return dataclasses.replace(report, model=ModelNote("deterministic", fallback_reason=reason))


def _narrated(report: Report, config: LlmConfig) -> Report:
    from rca.llm.assist import assist
    from rca.llm.probe import probe

    found = probe(config)
    if found.model is None:
        note = ModelNote("deterministic", endpoint=config.endpoint, fallback_reason=found.reason)
        return dataclasses.replace(report, model=note)
    return assist(report, found.model, config.deadline_s)


if __name__ == "__main__":
    sys.exit(main())
