"""What a report says of where a number was read is where its collector reads it."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from collector import discover
from collector.ebpf.collector import EMITS
from collector.tcp import Config, Tcp
from etio.core.errors import NoData
from rca.sources import SOURCES, source_of

SPECS = discover()
TCP_FILES = ("snmp", "netstat", "sockstat", "snmp6", "sockstat6")


def expanded(text: str) -> str:
    """`a/{b,c}/d` as `a/b/d a/c/d`.

    >>> expanded("/proc/{stat,net/{udp,tcp}}")
    '/proc/stat /proc/net/udp /proc/net/tcp'
    """
    done = []
    for word in text.replace(";", " ").replace(", /", " /").replace(": ", " ").split():
        parts = re.split(r"\{([^{}]*)\}", word)
        done += ["".join(p) for p in product(*([part] if i % 2 == 0 else part.split(",") for i, part in
                                                enumerate(parts)))]
    return " ".join(done)


def emitted() -> list[tuple[str, str, str]]:
    """(collector, series, what the collector says that it reads)."""
    kernel = [("ebpf", one.name, "") for one in EMITS]
    return kernel + [(name, one.name.replace("*", "any"), spec.reads) for name, spec in SPECS.items()
                     for one in spec.emits]


def agrees(source: str, reads: str) -> bool:
    """Whether each path of a source is among those of the collector; of a source without one, whether a word is."""
    paths = re.findall(r"/(?:proc|sys|dev)[^\s()]*", expanded(source))
    where = expanded(reads)
    if paths:
        return all(path.rstrip(",") in where for path in paths)
    words = {w for w in re.findall(r"[A-Za-z_]{4,}", source.lower()) if w not in ("files", "open", "read")}
    return any(word.rstrip("s") in reads.lower() for word in words)


@pytest.mark.parametrize(("collector", "series", "reads"), emitted())
def test_the_named_source_is_one_that_the_collector_reads(collector: str, series: str, reads: str) -> None:
    source, _ = source_of(series)
    if collector == "ebpf":
        assert source.startswith("eBPF"), source
    else:
        assert agrees(source, reads), f"{series}: {source!r}, but {collector} reads {reads!r}"


@pytest.mark.parametrize("file", TCP_FILES)
def test_each_counter_of_the_network_stack_names_its_own_file(file: str, tmp_path: Path) -> None:
    net = tmp_path / "proc/net"
    net.mkdir(parents=True)
    try:
        (net / file).write_bytes(Path("/proc/net", file).read_bytes())
    except OSError:
        pytest.skip(f"no /proc/net/{file} here")
    one = Tcp(Config())
    one.open(tmp_path)
    reading = one.collect(1)
    one.close()
    assert np.isfinite(reading.values).any()
    assert {source_of(s.name)[0] for s in reading.series} == {f"/proc/net/{file}"}


def test_no_row_of_the_table_is_idle() -> None:
    names = [name for _, name, _ in emitted()]
    idle = [start for start, *named in SOURCES if not any(
        (name == start or name.startswith(start + "_")) and source_of(name) == tuple(named) for name in names)]
    assert idle == []


def test_a_collector_that_has_nothing_says_so(tmp_path: Path) -> None:
    one = Tcp(Config())
    with pytest.raises(NoData):
        one.open(tmp_path)
