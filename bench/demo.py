"""scripts/run --demo: a harmless 30-second fault on this host, and the report it leads to."""

import ctypes
import multiprocessing
import os
import sys
import time

from bench.common import countdown
from bench.daemon import Daemon, daemon
from bench.signals import entry

FAULT_S = 30.0
PR_SET_NAME = 15


def main() -> int:
    """Entry."""
    print("starting a daemon of its own (the state is thrown away afterwards)", flush=True)
    with daemon() as etio:
        etio.wait_ready()
        status = etio.status()
        print(f"{status['series']} series, tier {status['tier']}", flush=True)
        countdown("learning what is usual on this host", 20)
        known = len(etio.client.get("/api/v1/reports", limit=100)["reports"])
        workers = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
        print(f"now {len(workers)} processes compete for {os.cpu_count()} cores for {FAULT_S:.0f} s (harmless)",
              flush=True)
        for worker in workers:
            worker.start()
        try:
            return _await_report(etio, known)
        finally:
            for worker in workers:
                worker.kill()


def _await_report(etio: Daemon, known: int) -> int:
    begin = time.monotonic()
    told = False
    while time.monotonic() - begin < FAULT_S:
        time.sleep(0.25)
        alerts = etio.client.get("/api/v1/alerts", state="firing")["alerts"]
        if alerts and not told:
            told = True
            print(f"{time.monotonic() - begin:.1f} s: alert {alerts[0]['name']}: {alerts[0]['summary']}", flush=True)
        reports = etio.client.get("/api/v1/reports", limit=100)["reports"]
        if len(reports) > known:
            print(f"{time.monotonic() - begin:.1f} s: the report\n", flush=True)
            print(etio.client.text(f"/api/v1/reports/{reports[0]['id']}?format=markdown"))
            return 0
    print("no report came within 30 s; `etio doctor` says what cannot be seen here", file=sys.stderr)
    return 1


def _spin() -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"etio-demo", 0, 0, 0)
    end = time.monotonic() + FAULT_S
    while time.monotonic() < end:
        pass


if __name__ == "__main__":
    entry(main)
