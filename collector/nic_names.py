"""Counters of network drivers that mean the same under different names; a name that is not here is passed over.

Source: Documentation/networking/device_drivers/ethernet/{mellanox/mlx5/counters.rst,amazon/ena.rst}; string tables of
        drivers/net/ethernet/{mellanox/mlx5/core/en_stats.c,broadcom/bnxt/bnxt_ethtool.c} and intel/*/*_ethtool.c
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from collector.keyed import Item
from collector.table import Column

_DEVICE = ("device",)
PAUSE_RECEIVED = Column("network_pause_received_per_second", "1/s", "counter", "pause frames received: the other side "
                        'asked us to stop; priority "all" or that of PFC', ("device", "priority"))
PAUSE_SENT = Column("network_pause_sent_per_second", "1/s", "counter", "pause frames sent: we cannot keep up",
                    ("device", "priority"))
PAUSED = Column("network_paused_seconds_per_second", "seconds/s", "counter", "time the other side kept us from sending",
                ("device", "priority"))
STORMS = Column("network_pause_storms_per_second", "1/s", "counter", "times the card stopped sending pause frames "
                "because it had done so for too long", _DEVICE)
SYMBOLS = Column("network_symbol_errors_per_second", "1/s", "counter", "errors on the wire before correction fails",
                 _DEVICE)
CRC = Column("network_crc_errors_per_second", "1/s", "counter", "frames damaged on the wire", _DEVICE)
DOWNS = Column("network_link_downs_per_second", "1/s", "counter", "times the link was lost, as the card counts them",
               _DEVICE)
ECN = Column("network_ecn_marked_per_second", "1/s", "counter", "received packets with a congestion mark", _DEVICE)
NO_BUFFER = Column("network_no_receive_buffer_per_second", "1/s", "counter", "packets the card dropped because "
                   "the host had given it no buffer", _DEVICE)
DISCARDS = Column("network_port_discards_per_second", "1/s", "counter", "packets the port dropped because the card was "
                  "full", _DEVICE)
ALLOWANCE = Column("network_allowance_exceeded_per_second", "1/s", "counter", "packets held back or dropped because "
                   "the cloud instance was over its allowance", ("device", "allowance"))
COLUMNS = (PAUSE_RECEIVED, PAUSE_SENT, PAUSED, STORMS, SYMBOLS, CRC, DOWNS, ECN, NO_BUFFER, DISCARDS, ALLOWANCE)
_PATTERNS: tuple[tuple[Column, str, float], ...] = (
    (PAUSE_RECEIVED, r"rx_prio(\d)_pause|rx_pfc_ena_frames_pri(\d)|(?:port\.)?rx_priority_(\d)_xoff(?:\.nic)?|"
     r"rx_pb_(\d)_pxoff", 1.0),
    (PAUSE_SENT, r"tx_prio(\d)_pause|tx_pfc_ena_frames_pri(\d)|(?:port\.)?tx_priority_(\d)_xoff(?:\.nic)?|"
     r"tx_pb_(\d)_pxoff", 1.0),
    (PAUSED, r"rx_prio(\d)_pause_duration", 1e-6),
    (PAUSE_RECEIVED, r"rx_pause_ctrl_phy|rx_pause_frames|(?:port\.)?link_xoff_rx(?:\.nic)?|rx_flow_control_xoff", 1.0),
    (PAUSE_SENT, r"tx_pause_ctrl_phy|tx_pause_frames|(?:port\.)?link_xoff_tx(?:\.nic)?|tx_flow_control_xoff", 1.0),
    (PAUSED, r"rx_global_pause_duration", 1e-6),
    (STORMS, r"tx_pause_storm_error_events", 1.0),
    (SYMBOLS, r"rx_symbol_err_phy|rx_pcs_symbol_err_phy|rx_pcs_symbol_err", 1.0),
    (CRC, r"rx_crc_errors_phy|(?:port\.)?rx_crc_errors(?:\.nic)?|rx_fcs_err_frames", 1.0),
    (DOWNS, r"link_down_events_phy|link_down_events", 1.0),
    (ECN, r"rx_ecn_mark", 1.0),
    (NO_BUFFER, r"rx_out_of_buffer|rx_no_dma_resources|rx_no_buffer_count", 1.0),
    (DISCARDS, r"rx_discards_phy|(?:port\.)?rx_dropped\.nic|rx_missed_errors|rx_stat_discard", 1.0),
    (ALLOWANCE, r"(bw_in|bw_out|pps|conntrack|linklocal)_allowance_exceeded", 1.0),
)
_COMPILED = tuple((column, re.compile(pattern), scale) for column, pattern, scale in _PATTERNS)
_QUIET = frozenset((PAUSE_RECEIVED, PAUSE_SENT, PAUSED))
"""Columns of eight priorities each, of which most never move: shown when they have."""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter that is understood: its place among the driver's, and the label values of its series."""

    place: int
    column: Column
    values: tuple[str, ...]
    scale: float

    @property
    def quiet(self) -> bool:
        """Whether it is shown only once it is above 0."""
        return self.column in _QUIET


def understood(device: str, names: Sequence[str]) -> list[Counter]:
    """The counters among a driver's that are known here; of two with one meaning the first.

    >>> [(c.place, c.column.name, c.values) for c in understood("eth0", ["rx_bytes", "rx_prio3_pause"])]
    [(1, 'network_pause_received_per_second', ('eth0', '3'))]
    """
    found: dict[tuple[Column, tuple[str, ...]], Counter] = {}
    for place, name in enumerate(names):
        for column, pattern, scale in _COMPILED:
            match = pattern.fullmatch(name)
            if match:
                more = next((g for g in match.groups() if g), "all") if len(column.labels) > 1 else ""
                values = (device, more) if more else (device,)
                found.setdefault((column, values), Counter(place, column, values, scale))
                break
    return list(found.values())


def items(counters: Sequence[Counter]) -> Iterator[Item]:
    """For collector.keyed.Bulk, in the order of the counters."""
    for at, one in enumerate(counters):
        yield Item(one.column.series(*one.values), (at,), one.scale)
