"""What a network driver tells over SIOCETHTOOL: the modes its link supports, and its own counters. No privilege needed.

Source: Linux include/uapi/linux/ethtool.h (struct ethtool_link_settings, ethtool_sset_info, ethtool_gstrings,
ethtool_stats; enum ethtool_link_mode_bit_indices up to 6.17), netdevice(7)
"""

import array
import fcntl
import socket
import struct
from types import TracebackType

from etio.core.errors import Broken, NoData

_SIOCETHTOOL = 0x8946
_GLINKSETTINGS, _GSSET_INFO, _GSTRINGS, _GSTATS = 0x4C, 0x37, 0x1B, 0x1D
_STATS_SET, _NAME_BYTES = 1, 32
_MODES_AT = 48
_MAX_WORDS = 32
MAX_COUNTERS = 16_384
_SPARE = 1024
"""Room for counters that a driver adds between our question how many it has and that for their values."""
MODES: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = (
    (10, ((0, 1), (92, 92), (99, 102))),
    (100, ((2, 3), (67, 67), (90, 91))),
    (1_000, ((4, 5), (17, 17), (41, 41), (68, 68))),
    (2_500, ((15, 15), (47, 47))),
    (5_000, ((48, 48),)),
    (10_000, ((12, 12), (18, 20), (42, 46))),
    (20_000, ((21, 22),)),
    (25_000, ((31, 33),)),
    (40_000, ((23, 26),)),
    (50_000, ((34, 35), (40, 40), (52, 56))),
    (56_000, ((27, 30),)),
    (100_000, ((36, 39), (57, 61), (75, 79))),
    (200_000, ((62, 66), (80, 84), (103, 108))),
    (400_000, ((69, 73), (85, 89), (109, 114))),
    (800_000, ((93, 98), (115, 120))),
    (1_600_000, ((121, 124),)),
)
"""Mbit/s, and the bits (first, last) of the link modes with that speed."""


def fastest(words: tuple[int, ...]) -> int:
    """Mbit/s of the fastest mode in a mask of 32-bit words; 0 where it holds none that is known here.

    >>> fastest((1 << 5 | 1 << 12, 0))
    10000
    """
    mask = sum(word << (32 * i) for i, word in enumerate(words))
    speeds = (speed for speed, spans in MODES for first, last in spans if mask >> first & (1 << (last - first + 1)) - 1)
    return max(speeds, default=0)


def parse_link_settings(data: bytes) -> int:
    """Fastest supported mode in Mbit/s, 0 where unknown. Raises Broken for a short or senseless answer."""
    if len(data) < _MODES_AT:
        raise Broken(f"link settings of {len(data)} bytes")
    count = struct.unpack_from("=b", data, 15)[0]
    if not 0 < count <= _MAX_WORDS or len(data) < _MODES_AT + 4 * count:
        raise Broken(f"link settings with {count} words of modes")
    return fastest(struct.unpack_from(f"={count}I", data, _MODES_AT))


def parse_names(data: bytes) -> list[str]:
    """Names of the counters, from a struct ethtool_gstrings. Raises Broken for a short one."""
    if len(data) < 12:
        raise Broken(f"names of counters in {len(data)} bytes")
    count = struct.unpack_from("=I", data, 8)[0]
    if count > MAX_COUNTERS or len(data) < 12 + count * _NAME_BYTES:
        raise Broken(f"{count} names of counters in {len(data)} bytes")
    raw = (data[12 + i * _NAME_BYTES:12 + (i + 1) * _NAME_BYTES] for i in range(count))
    return [one.split(b"\0", 1)[0].strip().decode("ascii", "replace") for one in raw]


def parse_values(data: bytes) -> tuple[int, ...]:
    """Values of the counters, from a struct ethtool_stats. Raises Broken for a short one."""
    if len(data) < 8:
        raise Broken(f"counters in {len(data)} bytes")
    count = struct.unpack_from("=I", data, 4)[0]
    if count > MAX_COUNTERS or len(data) < 8 + 8 * count:
        raise Broken(f"{count} counters in {len(data)} bytes")
    return struct.unpack_from(f"={count}Q", data, 8)


class Ethtool:
    """A socket to ask with. Methods raise NoData where the driver or the device has no such thing."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        except OSError as error:
            raise NoData(f"ethtool: {error.strerror}") from error

    def __enter__(self) -> "Ethtool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()

    def supported(self, device: str) -> int:
        """Mbit/s of the fastest mode the link supports, 0 where the driver names none. Raises NoData or Broken."""
        head = self._ask(device, struct.pack("=I", _GLINKSETTINGS), _MODES_AT)
        words = -struct.unpack_from("=b", head, 15)[0]  # the kernel answers with how many it wants to be asked for
        if not 0 < words <= _MAX_WORDS:
            raise NoData(f"{device}: no link modes")
        asked = struct.pack("=I11xb", _GLINKSETTINGS, words)
        return parse_link_settings(self._ask(device, asked, _MODES_AT + 3 * 4 * words))

    def names(self, device: str) -> list[str]:
        """Names of the driver's counters, in the order of values()."""
        count = self._count(device)
        return parse_names(self._ask(device, struct.pack("=III", _GSTRINGS, _STATS_SET, count), 12 + _NAME_BYTES * (
            count + _SPARE)))

    def values(self, device: str) -> tuple[int, ...]:
        """The driver's counters now."""
        count = self._count(device)
        return parse_values(self._ask(device, struct.pack("=II", _GSTATS, count), 8 + 8 * (count + _SPARE)))

    def _count(self, device: str) -> int:
        answer = self._ask(device, struct.pack("=IIQ", _GSSET_INFO, 0, 1 << _STATS_SET), 20)
        mask, count = struct.unpack_from("=QI", answer, 8)
        if not mask or not 0 < count <= MAX_COUNTERS:
            raise NoData(f"{device}: no counters of the driver")
        return int(count)

    def _ask(self, device: str, question: bytes, size: int) -> bytes:
        """The kernel writes its answer over a buffer of `size` bytes that begins with the question."""
        buffer = array.array("B", question.ljust(size, b"\0"))
        request = struct.pack("16sP16x", device.encode("utf-8", "surrogateescape")[:15], buffer.buffer_info()[0])
        try:
            fcntl.ioctl(self._socket, _SIOCETHTOOL, request)
        except OSError as error:
            raise NoData(f"{device}: ethtool: {error.strerror}") from error
        return buffer.tobytes()
