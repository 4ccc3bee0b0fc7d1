"""False incidents on healthy hosts: recorded days and unlabelled public data through the engine as it is delivered."""

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the daemon runs

from bench.common import from_caller, parser, write
from bench.healthy_recorded import CLASSES, Found, Judged, copied, judged_of, observe
from bench.healthy_sets import figures, judge
from bench.signals import entry
from etio.core.errors import EtioError
from etio.core.frame import NS

WORDS = {
    "fact": "the kernel or the hardware says so itself",
    "forecast": "a trend that is not there yet",
    "statistical": "unlike the past of this host",
}
FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def moment(text: str) -> int:
    """Nanoseconds of a moment given in UTC. Raises argparse.ArgumentTypeError.

    >>> moment("1970-01-01T00:01"), moment("1970-01-02")
    (60000000000, 86400000000000)
    """
    for form in FORMATS:
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()) * NS
        except ValueError:
            continue
    raise argparse.ArgumentTypeError(f"{text!r}: not a moment such as 2026-11-21T14:10 (UTC)")


def _recorded(options: argparse.Namespace) -> dict[str, Any]:
    known: tuple[Judged, ...] = judged_of(options.judged) if options.judged else ()
    with tempfile.TemporaryDirectory(prefix="etio-healthy-") as scratch:
        found = observe(copied(options.store, Path(scratch)), options.since, options.until)
    _print_recorded(found, known)
    return found.plain(known)


def _print_recorded(found: Found, known: tuple[Judged, ...]) -> None:
    hours = found.seconds / 3600
    print(f"{found.frames} frames, {hours:.2f} h, {found.series} series, {found.events} host events")
    for one in found.incidents:
        verdict = one.verdict(known)
        print(f"\n{one.when()}  {one.id}  {one.kind:11}  {one.seconds:5.0f} s  {one.load:5}  {verdict}")
        for alert in one.alerts:
            print(f"    {alert.at}  {alert.name} ({alert.severity}, {alert.detector}): {alert.summary}")
        print(f"    host: {one.host}")
    result = found.plain(known)
    print(f"\n{'cores':13} {'hours':>6} {'incidents':>9} {'false':>6} {'false a day':>11}  (below 20 %, 80 %, above)")
    for name, row in result["by_load"].items():
        print(f"{name:13} {row['hours']:6.2f} {row['incidents']:9} {row['false']:6} {row['false_per_day']:11.1f}")
    print(f"\n{'incidents':13} {'all':>5} {'per day':>8}")
    for kind in CLASSES:
        row = result["by_class"][kind]
        print(f"{kind:13} {row['incidents']:5} {row['per_day']:8.2f}  {WORDS[kind]}")
    print(f"{'judged true':13} {result['judged_true']:5}")
    print(f"{'false':13} {result['false']:5} {result['false_per_day']:8.2f}  neither a fact nor judged true")
    print(f"\n{'opened by':22} {'incidents':>9}")
    for name, count in sorted(result["by_alert"].items(), key=lambda kv: -kv[1]):
        print(f"{name:22} {count:9}")


def _public(options: argparse.Namespace) -> dict[str, Any]:
    found = {name: figures(hosts) for name, hosts in judge(options.data).items()}
    print(f"\n{'set':4} {'machines':>8} {'days':>6} {'incidents/day':>13} {'of any series/day':>18} "
          f"{'HostAnomaly/day':>15} {'other evidence/day':>18}")
    for name, row in found.items():
        print(f"{name:4} {row['machines']:8} {row['days']:6.1f} {row['incidents_per_day']:13.3f} "
              f"{row['series_incidents_per_day']:18.3f} {row['host_anomalies_per_day']:15.3f} "
              f"{row['other_evidence_per_day']:18.3f}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry: replays what was asked for, prints and writes it."""
    one = parser(__doc__ or "")
    one.add_argument("--store", type=from_caller, metavar="DIR", help="state folder, or a folder of day files")
    one.add_argument("--since", type=moment, default=0, help="UTC, such as 2026-11-21T14:10")
    one.add_argument("--until", type=moment, default=1 << 62, help="UTC")
    one.add_argument("--judged", type=from_caller, metavar="FILE",
                     help="what a person found out: lines of TIME true|false REASON, TIME within 30 s of an opening")
    one.add_argument("--data", type=from_caller, metavar="DIR", help="has anomaly/smd and /asd")
    options = one.parse_args(arguments)
    if options.store is None and options.data is None:
        one.error("give --store, --data or both")
    result: dict[str, Any] = {}
    try:
        if options.store is not None:
            result["recorded"] = _recorded(options)
        if options.data is not None:
            result["public"] = _public(options)
    except (EtioError, OSError) as error:
        print(f"healthy: {error}", file=sys.stderr)
        return 2
    write(options.json, result)
    return 0


if __name__ == "__main__":
    entry(main)
