"""Tables of /proc/net/stat: what the kernel counts of its neighbour and connection-tracking tables, for each CPU.

Source: Linux net/core/neighbour.c, neigh_stat_seq_show(); net/netfilter/nf_conntrack_standalone.c, ct_cpu_seq_show()
"""

from etio.core.errors import Broken, NoData

_WHOLE = "entries"
"""Stands in each line for the whole table; all else is of one CPU."""


def parse_table(data: bytes) -> dict[str, float]:
    """Sum over CPUs of each column by its name, `entries` once. Raises NoData (empty) or Broken.

    >>> parse_table(b"entries  drop\\n0000000a 00000001\\n0000000a 00000002\\n")
    {'entries': 10.0, 'drop': 3.0}
    """
    lines = data.decode("ascii", "replace").splitlines()
    if not lines:
        raise NoData("empty")
    names = lines[0].split()
    if not data.endswith(b"\n") or len(lines) < 2 or _WHOLE not in names:
        raise Broken("no table with a column of entries")
    sums = dict.fromkeys(names, 0.0)
    for line in lines[1:]:
        words = line.split()
        if len(words) != len(names):
            raise Broken(f"{len(words)} numbers for {len(names)} names")
        for name, word in zip(names, words, strict=True):
            try:
                value = float(int(word[:16], 16))
            except ValueError as error:
                raise Broken(f"cannot read the line {line[:60]!r}") from error
            sums[name] = value if name == _WHOLE else sums[name] + value
    return sums
