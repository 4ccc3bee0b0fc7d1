"""Which connections fill the table of connection tracking: a sample of /proc/PID/net/nf_conntrack.

Standard library only, and no import of ours: the warden loads this file; only root may read that file. The table is in
the order of a hash, so its beginning is a fair sample of all of it.
"""

import re
import time
from collections import Counter

MOST = 4096
_BUDGET_S = 0.2
_LINE = re.compile(r"\S+ +\d+ (\w+) .*?src=(\S+) dst=(\S+)(?: sport=\d+ dport=(\d+))?")


def sample(path: str, most: int = MOST, budget_s: float = _BUDGET_S) -> dict[str, object]:
    """Entries looked at, those without an answer, and of each of source, target and protocol the most common with its
    count. Raises OSError."""
    looked = unanswered = 0
    sources: Counter[str] = Counter()
    targets: Counter[str] = Counter()
    protocols: Counter[str] = Counter()
    hosts: set[str] = set()
    until = time.monotonic() + budget_s
    with open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            found = _LINE.match(line)
            if found is None:
                continue
            protocol, source, host, port = found.groups()
            looked += 1
            unanswered += "[UNREPLIED]" in line
            sources[source] += 1
            targets[f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if port else host] += 1
            protocols[protocol] += 1
            hosts.add(host)
            if looked >= most or time.monotonic() > until:
                break
    tops = {name: list((counts.most_common(1) or [("", 0)])[0])
            for name, counts in (("source", sources), ("target", targets), ("protocol", protocols))}
    return {"looked": looked, "unanswered": unanswered, "hosts": len(hosts), **tops}
