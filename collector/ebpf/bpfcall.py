"""bpf(2) and perf_event_open(2), as far as the loader needs them. Standard library only; failures are OSErrors."""

import ctypes
import fcntl
import os
import platform
import struct

MAP_TYPE_ARRAY = 2
F_MMAPABLE = 1 << 10
PROG_TYPE_KPROBE = 2
PROG_TYPE_TRACEPOINT = 5
PROG_TYPE_TRACING = 26
_ATTACH_TRACE_RAW_TP = 23
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN, _MAP_FREEZE = 0, 2, 5, 17, 22
_SYSCALLS = {"x86_64": (321, 298), "aarch64": (280, 241), "riscv64": (280, 241), "loongarch64": (280, 241)}
_ATTR_BYTES = 152
_LOG_BYTES = 1 << 18
_PERF_TYPE_TRACEPOINT = 2
_PERF_ATTR_BYTES = 112
_PERF_FLAG_FD_CLOEXEC = 8
_UPROBE = "/sys/bus/event_source/devices/uprobe"
_IOC_SET_BPF, _IOC_ENABLE = 0x40042408, 0x2400
_libc = ctypes.CDLL(None, use_errno=True)


def _numbers() -> tuple[int, int]:
    try:
        return _SYSCALLS[platform.machine()]
    except KeyError:
        raise OSError(38, f"eBPF system calls of {platform.machine()} are not known to etio") from None


def _bpf(command: int, attr: bytes, what: str) -> tuple[int, bytes]:
    """One bpf(2) call: its result and the attribute block as the kernel left it."""
    block = ctypes.create_string_buffer(attr.ljust(_ATTR_BYTES, b"\0"), _ATTR_BYTES)
    result = _libc.syscall(_numbers()[0], command, block, _ATTR_BYTES)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return int(result), block.raw


def _object_name(name: str) -> bytes:
    return name.encode()[:15].ljust(16, b"\0")


def create_array(name: str, value_bytes: int, flags: int = 0) -> int:
    """Descriptor of a new array map of one element."""
    attr = struct.pack("<IIIIIII", MAP_TYPE_ARRAY, 4, value_bytes, 1, flags, 0, 0) + _object_name(name)
    return _bpf(_MAP_CREATE, attr, f"create map {name}")[0]


def write_array(map_fd: int, value: bytes) -> None:
    """Sets the one element of an array map; `value` must have its size."""
    key, data = ctypes.create_string_buffer(4), ctypes.create_string_buffer(value, len(value))
    _bpf(_MAP_UPDATE, struct.pack("<IIQQQ", map_fd, 0, ctypes.addressof(key), ctypes.addressof(data), 0), "write map")


def object_id(fd: int) -> int:
    """Kernel-wide id of a map or a program."""
    info = _fdinfo(fd)
    return int(info.get("map_id") or info["prog_id"])


def _fdinfo(fd: int) -> dict[str, str]:
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def freeze(map_fd: int) -> None:
    """From now on only programs write this map: no descriptor of it can, nor be mapped writable.

    (A descriptor opened read-only would do, but the kernel refuses to map one as shared.)
    """
    _bpf(_MAP_FREEZE, struct.pack("<I", map_fd), "freeze map")


def load_program(name: str, code: bytes, btf_id: int = 0, kind: int = PROG_TYPE_TRACEPOINT) -> int:
    """Verifies and loads a program; btf_id: of the typedef of its BTF-typed tracepoint, 0 for one of another `kind`.

    Raises OSError whose text ends with the verifier's last words.
    """
    kind = PROG_TYPE_TRACING if btf_id else kind
    try:
        return _load(name, code, (kind, btf_id), 0)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_BYTES)
        try:
            return _load(name, code, (kind, btf_id), ctypes.addressof(log))
        except OSError:
            words = " | ".join(log.value.decode("utf-8", "replace").strip().splitlines()[-4:-1])
            raise OSError(error.errno, f"{error.strerror}; {words}"[:400]) from None


def _load(name: str, code: bytes, what: tuple[int, int], log: int) -> int:
    kind, btf_id = what
    license_text = ctypes.create_string_buffer(b"Dual BSD/GPL")
    text = ctypes.create_string_buffer(code, len(code))
    attr = struct.pack("<IIQQ", kind, len(code) // 8, ctypes.addressof(text), ctypes.addressof(license_text))
    attr += struct.pack("<IIQII", 1 if log else 0, _LOG_BYTES if log else 0, log, 0, 0) + _object_name(name)
    attr += struct.pack("<II", 0, _ATTACH_TRACE_RAW_TP if btf_id else 0)
    attr += struct.pack("<IIQIIQII", 0, 0, 0, 0, 0, 0, 0, btf_id)
    return _bpf(_PROG_LOAD, attr, f"load {name}")[0]


def attach_raw(program_fd: int) -> int:
    """Attaches a BTF-typed program; the descriptor returned keeps it attached."""
    return _bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", 0, program_fd), "attach raw tracepoint")[0]


def attach_classic(program_fd: int, event_id: int) -> int:
    """Attaches a program to a classic tracepoint, on all CPUs; the descriptor returned keeps it attached."""
    return _attach_perf(program_fd, struct.pack("<IIQQ", _PERF_TYPE_TRACEPOINT, _PERF_ATTR_BYTES, event_id, 1))


def attach_uprobe(program_fd: int, path: str, offset: int, at_return: bool) -> int:
    """Attaches a program to a place in a file, for every process that maps it now or later; the descriptor returned
    keeps it attached, and the file in use. at_return: when the function that begins there returns."""
    name = ctypes.create_string_buffer(path.encode())
    config = 1 << _number(f"{_UPROBE}/format/retprobe", 7) if at_return else 0
    attr = struct.pack("<IIQQ", _number(f"{_UPROBE}/type", 0), _PERF_ATTR_BYTES, config, 1).ljust(56, b"\0")
    return _attach_perf(program_fd, attr + struct.pack("<QQ", ctypes.addressof(name), offset))


def _number(path: str, skip: int) -> int:
    """The number in a file of sysfs, after `skip` characters ("config:" is 7)."""
    with open(path, encoding="ascii") as file:
        return int(file.read().strip()[skip:])


def _attach_perf(program_fd: int, packed: bytes) -> int:
    attr = ctypes.create_string_buffer(packed.ljust(_PERF_ATTR_BYTES, b"\0"), _PERF_ATTR_BYTES)
    fd = _libc.syscall(_numbers()[1], attr, -1, 0, -1, _PERF_FLAG_FD_CLOEXEC)
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"perf_event_open: {os.strerror(error)}")
    try:
        fcntl.ioctl(fd, _IOC_SET_BPF, program_fd)
        fcntl.ioctl(fd, _IOC_ENABLE, 0)
    except OSError:
        os.close(fd)
        raise
    return int(fd)
