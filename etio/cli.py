"""The command line: thin commands over the daemon."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from etio import __version__
from etio.core.errors import ConfigError, EtioError
from etio.core.words import visible

Command = Callable[[argparse.Namespace], int]


class OneLine(logging.Formatter):
    """Log lines that nobody can forge: names of groups, mounts and programs may hold any character."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One record as one line; what an error adds below stays as it is."""
        return visible(super().formatMessage(record))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the `etio` command; returns the exit status: 0 good, 1 trouble found, 2 wrong use or cannot start."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.INFO, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(OneLine("%(levelname)s %(name)s: %(message)s"))
    for noisy in ("httpx", "httpcore", "asyncio", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    command: Command = arguments.command
    try:
        status = command(arguments)
        sys.stdout.flush()
        return status
    except ConfigError as error:
        count = len(error.problems)
        print(f"etio: the configuration has {count} mistake{'s' if count > 1 else ''}:", file=sys.stderr)
        for problem in error.problems:
            print(f"  {problem}", file=sys.stderr)
        return 2
    except EtioError as error:
        print(f"etio: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "baseline optimizations" not in str(error):  # numpy's words
            raise
        print(f"etio: this processor is too old for numpy ({' '.join(str(error).split())}); a virtual machine may be "
              "given another model, with QEMU by -cpu host", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read has heard enough; what is still in the buffer must not fail again at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="etio", description="Says what is wrong with this host, why, who did it, "
                                                              "and which knob to turn.")
    parser.add_argument("--version", action="version", version=f"etio {__version__}")
    parser.add_argument("--verbose", "-v", action="store_true", help="log more")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str, as_json: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(command=command)
        if as_json:
            one.add_argument("--json", action="store_true", help="print JSON, for programs")
        return one

    run = add("run", _run, "run the daemon in the foreground", as_json=False)
    check = add("check-config", _check_config, "check a configuration file and list every mistake")
    for one in (run, check):
        one.add_argument("--config", "-c", type=Path, help="TOML file; without it, built-in defaults")
    run.add_argument("--state", help="state folder, in place of store.directory")
    run.add_argument("--port", type=int, help="HTTP port, in place of api.port")
    add("status", _status, "how the daemon is doing")
    add("doctor", _doctor, "what can be seen on this host, what cannot, why, and what would help")
    alerts = add("alerts", _alerts, "alerts that fire")
    alerts.add_argument("--all", action="store_true", help="resolved ones, too")
    report = add("report", _report, "a report (the newest, or by incident or report id)")
    report.add_argument("id", nargs="?", default="", help="incident or report id")
    report.add_argument("--markdown", action="store_true", help="Markdown source")
    query = add("query", _query, "run one read-only SELECT in the daemon")
    query.add_argument("sql", help="over the views samples, series, alerts, incidents, reports, events")
    again = add("replay", _replay, "run recorded frames through the same engine and print its alerts")
    again.add_argument("file", type=Path, help="a day file (.duckdb), a state folder or a recording (.npz)")
    again.add_argument("--config", "-c", type=Path, help="TOML file; without it, built-in defaults")
    room = add("capacity", _capacity, "what an inference server can carry under a latency target, from measured steps")
    source = room.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="CSV file: set, batch_size, kv_tokens, step_ms")
    source.add_argument("--server", metavar="NAME", nargs="?", const="",
                        help="an inference server that the daemon watches, or a part of its name; none: all of them")
    room.add_argument("--set", help="one set of the file, or a part of its name; without it, a line for each")
    room.add_argument("--target-ms", type=float, help="longest step allowed; default: twice the fastest measured")
    room.add_argument("--length", type=float, help="tokens of a sequence in the KV cache; default: the median measured")
    room.add_argument("--most-batch", type=int, help="most sequences at once; default: the most measured")
    room.add_argument("--demand", type=float, help="generated tokens per second to carry: how many servers?")
    room.add_argument("--headroom", type=float, default=0.2, help="share of each server kept spare (0.2)")
    add("list", _list, "collectors, detectors, causes and cards of this version")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from etio.daemon.config import load, override
    from etio.daemon.run import run

    return run(override(load(arguments.config), arguments.state, arguments.port))


def _check_config(arguments: argparse.Namespace) -> int:
    from etio.core.config import default_table
    from etio.daemon.config import load, sections

    load(arguments.config)
    if arguments.json:
        print(json.dumps(default_table(sections()), indent=2, default=str))
    else:
        print(f"{arguments.config or 'built-in defaults'}: good")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from etio import show
    from etio.client import Client

    return _print(arguments, Client().get("/api/v1/status"), show.status)


def _doctor(arguments: argparse.Namespace) -> int:
    from etio import show
    from etio.client import Client
    from etio.daemon.doctor import examine

    try:
        status = Client().get("/api/v1/status")
    except EtioError as error:
        status = {"error": str(error)}
    return _print(arguments, examine(status), show.doctor)


def _alerts(arguments: argparse.Namespace) -> int:
    from etio import show
    from etio.client import Client

    data = Client().get("/api/v1/alerts", state="all" if arguments.all else "firing")["alerts"]
    return _print(arguments, data, show.alerts)


def _report(arguments: argparse.Namespace) -> int:
    from etio import show
    from etio.client import Client

    client = Client()
    wanted = arguments.id
    if not wanted:
        newest = client.get("/api/v1/reports", limit=1)["reports"]
        if not newest:
            print("null" if arguments.json else "no report yet: nothing has been wrong since this daemon keeps history")
            return 0
        wanted = newest[0]["id"]
    if arguments.json:
        return _print(arguments, client.get(f"/api/v1/reports/{wanted}"), show.markdown)
    text = client.text(f"/api/v1/reports/{wanted}?format=markdown")
    if arguments.markdown:
        print(text)
    else:
        show.markdown(text)
    return 0


def _query(arguments: argparse.Namespace) -> int:
    from etio import show
    from etio.client import Client

    return _print(arguments, Client().post("/api/v1/query", {"sql": arguments.sql}), show.table)


def _replay(arguments: argparse.Namespace) -> int:
    from etio import show
    from etio.core.codec import to_plain
    from etio.daemon.config import load
    from etio.daemon.replay import engine_of, recorded, replay

    if not arguments.file.exists():
        raise EtioError(f"{arguments.file}: there is no such file; a state folder holds day files in its days folder")
    for one in replay(engine_of(load(arguments.config)), recorded(arguments.file)):
        if arguments.json:
            print(json.dumps(to_plain(one)))
        else:
            show.transition(one)
    return 0


def _capacity(arguments: argparse.Namespace) -> int:
    from etio import capacity
    from etio.client import Client

    wanted = {name: getattr(arguments, name) for name in ("target_ms", "length", "most_batch", "demand", "headroom")}
    if arguments.server is None:
        sets = capacity.read_sets(arguments.data)
    else:
        sets = capacity.server_sets(Client().get("/api/v1/inference")["servers"])
        if arguments.server:
            sets = dict([capacity.pick(sets, arguments.server, "--server")])
    if arguments.set is None and len(sets) > 1:
        return _print(arguments, capacity.overview(sets, wanted), capacity.show_overview)
    name, steps = capacity.pick(sets, arguments.set or next(iter(sets)))
    return _print(arguments, capacity.answer(name, steps, wanted), lambda data: capacity.show(steps, data))


def _list(arguments: argparse.Namespace) -> int:
    from etio import show
    from etio.daemon.parts import parts

    return _print(arguments, parts(), show.parts)


def _print(arguments: argparse.Namespace, data: Any, show: Callable[[Any], None]) -> int:
    if arguments.json:
        print(json.dumps(data, indent=2))
    else:
        show(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
