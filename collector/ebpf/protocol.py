"""What the daemon may ask of the warden: a closed list of requests that carry integers and nothing else.

Standard library only, and no import of ours: both sides load this file.
"""

import json

MAX_REQUEST = 2048
MAX_REPLY = 1 << 17
MAX_FDS = 250
MAX_PIDS = 64
MAX_PID = 1 << 22
MAX_FAMILY = 16
MAX_INODE = (1 << 32) - 1
_PLAIN = ("ping", "load", "open_kmsg", "program_costs", "jobs", "jobs_sample", "jobs_end", "nvme", "inotify")
_ONE_PID = ("stack", "numa_maps", "smaps", "exe", "tracked", "netns")


class Refused(ValueError):
    """No request of the closed list."""


_ONE = {**dict.fromkeys(_ONE_PID, ("pid", MAX_PID)),
        "writers": ("device", MAX_INODE),
        **dict.fromkeys(("load_family", "unload_family"), ("family", MAX_FAMILY))}
"""Requests that carry one number: what it is called, and the greatest."""


class Request:
    """One decoded request; pids: empty where it takes none. For "load" they are numbers of families that are off
    otherwise (1 = the first of families.ON_DEMAND), for "load_family" and "unload_family" one of families.NUMBERS, for
    "socket_owners" inodes.

    (No dataclass: that import costs the warden 1.6 MB.)
    """

    __slots__ = ("do", "pids")

    def __init__(self, do: str, pids: tuple[int, ...] = ()) -> None:
        self.do, self.pids = do, pids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Request) and (self.do, self.pids) == (other.do, other.pids)

    def __hash__(self) -> int:
        return hash((self.do, self.pids))


def encode(request: Request) -> bytes:
    """The bytes that decode() makes `request` of."""
    plain: dict[str, object] = {"do": request.do}
    if request.do == "load" and request.pids:
        plain["families"] = list(request.pids)
    elif request.do == "io":
        plain["pids"] = list(request.pids)
    elif request.do == "socket_owners":
        plain["inodes"] = list(request.pids)
    elif request.do in _ONE:
        plain[_ONE[request.do][0]] = request.pids[0]
    return json.dumps(plain).encode()


def decode(data: bytes) -> Request:
    """Reads one request. Raises Refused for anything but the closed list, and nothing else whatever the bytes."""
    if len(data) > MAX_REQUEST:
        raise Refused(f"request of {len(data)} bytes")
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused("request is no JSON") from None
    if not isinstance(plain, dict):
        raise Refused("request is no object")
    do = plain.pop("do", None)
    if not isinstance(do, str):
        raise Refused("request names no action")
    if do in _PLAIN and not plain:
        return Request(do)
    what, most = _ONE.get(do, ("", 0))
    if what and plain.keys() == {what}:
        return Request(do, (_number(plain[what], most, what),))
    if do == "io" and plain.keys() == {"pids"} and isinstance(plain["pids"], list) and len(plain["pids"]) <= MAX_PIDS:
        return Request(do, tuple(_pid(one) for one in plain["pids"]))
    wanted = plain.get("families")
    if do == "load" and plain.keys() == {"families"} and isinstance(wanted, list) and 0 < len(wanted) <= MAX_FAMILY:
        return Request(do, tuple(_number(one, MAX_FAMILY, "family") for one in wanted))
    inodes = plain.get("inodes")
    if do == "socket_owners" and plain.keys() == {"inodes"} and isinstance(inodes, list) and len(inodes) <= MAX_PIDS:
        return Request(do, tuple(_number(one, MAX_INODE, "inode") for one in inodes))
    raise Refused("request is not in the list")


def _pid(value: object) -> int:
    return _number(value, MAX_PID, "pid")


def _number(value: object, most: int, what: str) -> int:
    if type(value) is not int or not 0 < value <= most:
        raise Refused(f"no {what}")
    return value
