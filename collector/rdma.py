"""RDMA ports (InfiniBand and RoCE): state, speed, traffic, errors on the wire, congestion, and what was sent again.

Reads:  /sys/class/infiniband/<device>/ports/<port>/{state,phys_state,rate,link_layer}, counters/*, hw_counters/*
Emits:  rdma_*{device,port}; events rdma_link_down, rdma_link_up, link_degraded, link_restored
Needs:  an RDMA device; which hw_counters there are is its driver's choice (mlx5 has most)
Source: Documentation/ABI/stable/sysfs-class-infiniband; InfiniBand Architecture 1.4, 16.1.3.5 (PortCounters);
        drivers/infiniband/hw/{mlx5/counters.c,bnxt_re/hw_counters.c}

A reading asks the card's firmware, which can take milliseconds, hence the thread of its own. Bytes are counted by the
kernel in words of 4 bytes. Waiting to send is counted in ticks of the hardware, whose length only its maker knows.
"""

import os
import re
from dataclasses import dataclass, field
from functools import partial
from math import isnan
from pathlib import Path

from collector.cgroup_files import slurp
from collector.files import fault
from collector.table import NAN, Column, Table, emits, number, text
from etio.core.errors import NoData
from etio.core.event import Field, HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

CLASS = "sys/class/infiniband"
_LABELS = ("device", "port")


def _counter(name: str, help_: str, unit: str = "1/s") -> Column:
    return Column(f"rdma_{name}_per_second", unit, "counter", help_, _LABELS)


UP = Column("rdma_link_up", "1", "gauge", "1 = the port is active, 0 = it is not", _LABELS)
SPEED = Column("rdma_link_speed_bytes_per_second", "bytes/s", "gauge", "speed the link was brought up with", _LABELS)
COUNTERS: dict[str, tuple[Column, float]] = {
    "counters/port_xmit_data": (_counter("transmit_bytes", "bytes sent", "bytes/s"), 4.0),
    "counters/port_rcv_data": (_counter("receive_bytes", "bytes received", "bytes/s"), 4.0),
    "counters/port_xmit_packets": (_counter("transmit_packets", "packets sent"), 1.0),
    "counters/port_rcv_packets": (_counter("receive_packets", "packets received"), 1.0),
    "counters/symbol_error": (_counter("symbol_errors", "minor errors on the wire"), 1.0),
    "counters/link_error_recovery": (_counter("link_recoveries", "times the link had to recover from errors"), 1.0),
    "counters/link_downed": (_counter("link_downs", "times the link could not recover and went down"), 1.0),
    "counters/local_link_integrity_errors": (
        _counter("link_integrity_errors", "times errors on the wire passed the threshold"), 1.0),
    "counters/port_rcv_errors": (_counter("receive_errors", "packets received damaged"), 1.0),
    "counters/port_rcv_remote_physical_errors": (
        _counter("remote_physical_errors", "packets that somebody before had marked as bad"), 1.0),
    "counters/port_xmit_discards": (_counter("transmit_discards", "packets given up because they could not be sent"),
                                    1.0),
    "counters/excessive_buffer_overrun_errors": (_counter("buffer_overruns", "times receive buffers ran over"), 1.0),
    "counters/port_xmit_wait": (_counter("transmit_wait_ticks", "ticks with data to send that flow control held back"),
                                1.0),
    "hw_counters/out_of_sequence": (_counter("out_of_sequence", "packets that arrived out of order"), 1.0),
    "hw_counters/packet_seq_err": (_counter("sequence_errors", "times the other side said that packets were missing"),
                                   1.0),
    "hw_counters/local_ack_timeout_err": (_counter("ack_timeouts", "times no acknowledgement came in time"), 1.0),
    "hw_counters/implied_nak_seq_err": (_counter("implied_naks", "acknowledgements that skipped what was sent"), 1.0),
    "hw_counters/rnr_nak_retry_err": (_counter("receiver_not_ready", "times the other side had posted no buffer"), 1.0),
    "hw_counters/out_of_buffer": (_counter("out_of_buffer", "packets dropped because no receive buffer was posted"),
                                  1.0),
    "hw_counters/duplicate_request": (_counter("duplicate_requests", "requests that came a second time"), 1.0),
    "hw_counters/np_cnp_sent": (_counter("cnp_sent", "congestion notifications sent to senders (ECN)"), 1.0),
    "hw_counters/np_ecn_marked_roce_packets": (
        _counter("ecn_marked", "received RoCE packets that a switch had marked as congested"), 1.0),
    "hw_counters/rp_cnp_handled": (_counter("cnp_handled", "congestion notifications that slowed this sender down"),
                                   1.0),
    "hw_counters/rp_cnp_ignored": (_counter("cnp_ignored", "congestion notifications that were ignored"), 1.0),
    "hw_counters/rx_icrc_encapsulated": (_counter("icrc_errors", "RoCE packets with a wrong checksum"), 1.0),
    "hw_counters/roce_adp_retrans": (_counter("adaptive_retransmits", "adaptive retransmissions"), 1.0),
    "hw_counters/roce_adp_retrans_to": (_counter("adaptive_timeouts", "time-outs of adaptive retransmission"), 1.0),
    "hw_counters/roce_slow_restart": (_counter("slow_restarts", "slow restarts after a pause"), 1.0),
}
"""File below the port's folder to its series and the scale of its unit; hw_counters by the names of mlx5."""
_SAME = {"hw_counters/rx_cnp_pkts": "hw_counters/rp_cnp_handled", "hw_counters/tx_cnp_pkts": "hw_counters/np_cnp_sent",
         "hw_counters/rx_ecn_marked_pkts": "hw_counters/np_ecn_marked_roce_packets",
         "hw_counters/seq_err_naks_rcvd": "hw_counters/packet_seq_err",
         "hw_counters/to_retransmits": "hw_counters/local_ack_timeout_err",
         "hw_counters/rnr_naks_rcvd": "hw_counters/rnr_nak_retry_err",
         "hw_counters/oos_drop_count": "hw_counters/out_of_sequence",
         "hw_counters/dup_req": "hw_counters/duplicate_request"}
"""What bnxt_re calls differently."""
COLUMNS = (UP, SPEED, *(column for column, _ in COUNTERS.values()))
_RATE = re.compile(rb"\s*(\d{1,6}(?:\.\d{1,3})?) Gb/sec")
_ACTIVE = 4


def parse_state(data: bytes) -> int:
    """Number of a state such as "4: ACTIVE" or "2: Polling"; 0 for what is none.

    >>> parse_state(b"4: ACTIVE\\n")
    4
    """
    head = data.split(b":", 1)[0].strip()
    return int(head) if head.isdigit() and len(head) < 4 else 0


def parse_rate(data: bytes) -> float:
    """Bytes per second of "200 Gb/sec (4X HDR)"; NaN for what is none.

    >>> parse_rate(b"100 Gb/sec (4X EDR)\\n")
    12500000000.0
    """
    found = _RATE.match(data)
    return float(found[1]) * 1e9 / 8 if found else NAN


def parse_count(data: bytes) -> float:
    """A counter; NaN where the driver writes words such as "N/A (no PMA)", and for what is no count."""
    value = number(data.strip())
    return value if 0 <= value < 2.0**64 else NAN


@dataclass(slots=True)
class Port:
    """One port. files: counters that exist; best: fastest rate seen while it was active."""

    device: str
    number: str
    folder: Path
    files: list[tuple[str, Column, float]] = field(default_factory=list)
    up: float = NAN
    best: float = NAN
    degraded: bool = False

    @property
    def entity(self) -> str:
        """In the notation of Series.entity."""
        return f"device={self.device},port={self.number}"

    def events(self, t_ns: int, up: float, rate: float, words: dict[str, str]) -> list[HostEvent]:
        """What happened since the last look. A port that was down from the start is nothing new."""
        kinds = []
        if not isnan(up):
            if {self.up, up} == {0.0, 1.0}:
                kinds.append("rdma_link_up" if up else "rdma_link_down")
            self.up = up
        if up == 1.0 and not isnan(rate):
            slower = rate < self.best
            self.best = rate if isnan(self.best) else max(self.best, rate)
            if slower != self.degraded:
                self.degraded = slower
                kinds.append("link_degraded" if slower else "link_restored")
        speeds = {"speed_mbit": rate, "best_mbit": self.best}
        fields: list[tuple[str, Field]] = list(words.items())
        fields += [(k, round(v * 8 / 1e6)) for k, v in speeds.items() if not isnan(v)]
        return [HostEvent(t_ns, kind, self.entity, tuple(fields), "/sys/class/infiniband") for kind in kinds]


@dataclass(frozen=True, slots=True)
class Config:
    """max_ports: most ports followed over the daemon's life."""

    max_ports: int = 32


class Rdma:
    """Collector of the RDMA ports."""

    def __init__(self, config: Config) -> None:
        self._most = config.max_ports
        self._table = Table()
        self._ports: dict[tuple[str, str], Port] = {}
        self._folder = Path(CLASS)

    def open(self, root: Path) -> None:
        """Raises NoData where there is no RDMA device."""
        self._folder = root / CLASS
        if not self._found():
            raise NoData(f"{self._folder}: no RDMA device")

    def _found(self) -> list[tuple[str, str]]:
        """(device, port) of every port. Raises NoData or Broken."""
        try:
            devices = sorted(os.listdir(os.fsencode(self._folder)))
        except OSError as error:
            raise fault(self._folder, error) from error
        pairs = []
        for device in map(text, devices):
            try:
                ports = sorted(os.listdir(self._folder / device / "ports"))
            except OSError:
                continue
            pairs += [(device, port) for port in ports if port.isdecimal()]
        return pairs

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when the devices cannot be listed."""
        found = self._found()
        self._table.start()
        events: list[HostEvent] = []
        for gone in self._ports.keys() - set(found):
            events += _farewell(t_ns, self._ports.pop(gone))
        for pair in found:
            port = self._ports.get(pair) or self._meet(*pair)
            if port is not None:
                events += self._look(t_ns, port)
        return self._table.reading(tuple(events))

    def _meet(self, device: str, number_: str) -> Port | None:
        if len(self._ports) >= self._most:
            return None
        folder = self._folder / device / "ports" / number_
        port = self._ports[device, number_] = Port(device, number_, folder)
        taken: set[Column] = set()
        for name in (*COUNTERS, *_SAME):
            column, scale = COUNTERS[_SAME.get(name, name)]
            if column not in taken and (folder / name).exists():
                taken.add(column)
                port.files.append((name, column, scale))
        return port

    def _look(self, t_ns: int, port: Port) -> list[HostEvent]:
        state, physical = (parse_state(_read(port.folder / name)) for name in ("state", "phys_state"))
        up = float(state == _ACTIVE) if state else NAN
        rate = parse_rate(_read(port.folder / "rate")) if up == 1.0 else NAN
        own = (port.device, port.number)
        for column, value in ((UP, up), (SPEED, rate)):
            if not isnan(value):
                self._table.put((own, column.name), partial(_series, column, own), [value])
        for name, column, scale in port.files:
            count = parse_count(_read(port.folder / name)) * scale
            if not isnan(count):
                self._table.put((own, column.name), partial(_series, column, own), [count])
        layer = _word(_read(port.folder / "link_layer"))
        words = {"link_layer": layer} if layer else {}
        return port.events(t_ns, up, rate, words | {"state": str(state), "physical_state": str(physical)})

    def close(self) -> None:
        """Nothing is held."""


def _farewell(t_ns: int, port: Port) -> list[HostEvent]:
    """Ends what was told of a port that has gone."""
    kinds = [*(["rdma_link_up"] if port.up == 0.0 else []), *(["link_restored"] if port.degraded else [])]
    return [HostEvent(t_ns, kind, port.entity, (("removed", 1),), "/sys/class/infiniband") for kind in kinds]


def _read(path: Path) -> bytes:
    """The beginning of a file; empty where it cannot be read."""
    return slurp(str(path), 128) or b""


def _word(data: bytes) -> str:
    word = text(data.strip())[:32]
    return "".join(c if c.isprintable() else "?" for c in word)


def _series(column: Column, own: tuple[str, str]) -> list[Series]:
    return [column.series(*own)]


COLLECTOR = CollectorSpec(
    name="rdma", config=Config, build=Rdma, reads="/sys/class/infiniband/*/ports/*",
    emits=emits(COLUMNS), needs="an RDMA device", source="Documentation/ABI/stable/sysfs-class-infiniband",
    period_s=5.0, slow=True, optional=True,
)
