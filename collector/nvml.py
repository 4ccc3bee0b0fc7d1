"""NVIDIA GPUs through NVML.

Reads: libnvidia-ml through the package nvidia-ml-py (module pynvml), imported when the collector is opened.
Emits: gpu_* series by GPU; events gpu_xid and gpu_lost. What a GPU does not support is asked once and never again.
Needs: the NVIDIA driver; without it there is no data, which is no fault. Slow: a call can block for seconds or for
ever when a GPU is lost, so it runs in a thread of its own and may be abandoned in the middle of a call.
Source: NVML API reference (docs.nvidia.com/deploy/nvml-api).
"""

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from collector.nvml_fields import (
    ABSENT,
    COUNTERS,
    EMITS,
    FAST,
    FIELDS,
    LOST,
    NO_DRIVER,
    REASON_BITS,
    SLOW,
    UNITS,
    VALUE_NAMES,
    XID_EVENT,
    Call,
    Values,
    counters,
    number,
)
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Kind, Labels, Series, labels

NAN = math.nan
NS = 1_000_000_000
RETRY_LOST_NS = 300 * NS


@dataclass(frozen=True, slots=True)
class Config:
    """slow_s: seconds between readings of what changes rarely (limits, PCIe link, processes)."""

    slow_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.slow_s > 0:
            raise ValueError("slow_s must be above 0")


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process on one GPU. memory_bytes: NaN where the driver does not tell (MIG, containers)."""

    gpu: int
    uuid: str
    pid: int
    memory_bytes: float = NAN


class _Lost(Exception):
    """The GPU no longer answers."""


@dataclass(slots=True)
class _Gpu:
    """One GPU. absent: calls and fields it does not have. reason_s: seconds in which a throttle reason was seen."""

    index: int
    uuid: str
    handle: Any
    tags: Labels
    absent: set[str | int] = field(default_factory=set)
    places: dict[str, int] = field(default_factory=dict)
    slow: Values = field(default_factory=dict)
    slow_ns: int = 0
    lost_ns: int = 0
    last_ns: int = 0
    reason_s: Values = field(default_factory=dict)

    @property
    def entity(self) -> str:
        return f"gpu={self.index},uuid={self.uuid}"


class Nvml:
    """The collector. nvml: the module pynvml, or a stand-in with the same functions (tests)."""

    def __init__(self, config: Config, nvml: Any = None) -> None:
        self._config = config
        self._given = nvml
        self._nvml: Any = None
        self._gpus: list[_Gpu] = []
        self._series: list[Series] = []
        self._events: Any = None
        self._lost_at_start: list[int] = []
        self._processes: tuple[GpuProcess, ...] = ()
        self._busy = threading.Lock()

    def open(self, root: Path) -> None:
        """Finds the GPUs of the live host (`root` does not apply). Raises NoData without driver, library or GPU."""
        self._nvml = _start(self._given)
        try:
            count = self._nvml.nvmlDeviceGetCount()
            self._gpus = [gpu for i in range(count) if (gpu := self._find(i)) is not None]
        except self._nvml.NVMLError as error:
            self.close()
            raise Broken(f"NVML: {_text(error)}; is the driver loaded in the version of the library?") from error
        if not self._gpus and not self._lost_at_start:
            self.close()
            raise NoData("no NVIDIA GPU")
        self._register()

    def _find(self, index: int) -> _Gpu | None:
        """A GPU by its index; None where it does not answer at all."""
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = _string(self._nvml.nvmlDeviceGetUUID(handle))
        except self._nvml.NVMLError as error:
            if error.value not in ABSENT | LOST:
                raise
            if error.value in LOST:
                self._lost_at_start.append(index)
            return None
        return _Gpu(index, uuid, handle, labels(gpu=str(index), uuid=uuid))

    def _register(self) -> None:
        """Asks for XID events; a driver that has none is fine."""
        try:
            self._events = self._nvml.nvmlEventSetCreate()
            for gpu in self._gpus:
                if self._nvml.nvmlDeviceGetSupportedEventTypes(gpu.handle) & XID_EVENT:
                    self._nvml.nvmlDeviceRegisterEvents(gpu.handle, XID_EVENT, self._events)
        except self._nvml.NVMLError:
            self._events = None

    def close(self) -> None:
        """Gives NVML back; may be called twice, and at once while another thread hangs in a call (then it stays)."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            if self._nvml is not None:
                self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:
            pass  # there is nothing left to give back
        finally:
            self._nvml, self._gpus, self._events = None, [], None
            self._busy.release()

    def processes(self) -> tuple[GpuProcess, ...]:
        """Who was on which GPU at the last slow reading; safe from any thread."""
        return self._processes

    def collect(self, t_ns: int) -> Reading:
        """One reading of every GPU. Raises Broken while an earlier call still hangs."""
        if not self._busy.acquire(blocking=False):
            raise Broken("NVML: the call before still hangs")
        try:
            if self._nvml is None:
                raise Broken("NVML: not open")
            events = [HostEvent(t_ns, "gpu_lost", f"gpu={i}", source="NVML") for i in self._lost_at_start]
            self._lost_at_start = []
            events += self._xids(t_ns)
            found = [(gpu, self._read(gpu, t_ns, events)) for gpu in self._gpus]
            return self._reading(found, tuple(events))
        finally:
            self._busy.release()

    def _reading(self, found: list[tuple[_Gpu, Values]], events: tuple[HostEvent, ...]) -> Reading:
        """Puts values in their places; a series is made when its first value comes."""
        for gpu, values in found:
            for name, value in values.items():
                if name not in gpu.places and not math.isnan(value):
                    kind: Kind = "counter" if name in COUNTERS else "gauge"
                    gpu.places[name] = len(self._series)
                    self._series.append(Series(name, UNITS[name], kind, gpu.tags))
        out = np.full(len(self._series), np.nan)
        for gpu, values in found:
            for name, place in gpu.places.items():
                out[place] = values.get(name, NAN)
        return Reading(self._series, out, None, events)

    def _read(self, gpu: _Gpu, t_ns: int, events: list[HostEvent]) -> Values:
        """Values of one GPU; none of a lost one, which is tried again every five minutes."""
        if gpu.lost_ns and t_ns - gpu.lost_ns < RETRY_LOST_NS:
            return {}
        try:
            values: Values = {}
            for call in FAST:
                values |= self._ask(gpu, call)
            values |= self._counters(gpu, t_ns)
            if not gpu.slow_ns or t_ns - gpu.slow_ns >= self._config.slow_s * NS:
                self._read_slow(gpu, t_ns)
            gpu.lost_ns = 0
        except _Lost as error:
            if not gpu.lost_ns:
                events.append(HostEvent(t_ns, "gpu_lost", gpu.entity, (("reason", str(error)),), "NVML"))
            gpu.lost_ns, gpu.slow, gpu.slow_ns = t_ns, {}, 0
            self._processes = tuple(p for p in self._processes if p.gpu != gpu.index)
            return {}
        return values | gpu.slow

    def _guard(self, gpu: _Gpu, key: str, call: Callable[[], Any]) -> Any:
        """The call's answer; None where this GPU has no such thing (remembered) or has nothing to say just now."""
        if key in gpu.absent:
            return None
        try:
            return call()
        except self._nvml.NVMLError as error:
            if error.value in LOST:
                raise _Lost(_text(error)) from error
            if error.value in ABSENT:
                gpu.absent.add(key)
            return None

    def _ask(self, gpu: _Gpu, call: Call) -> Values:
        return self._guard(gpu, call.__name__, partial(call, self._nvml, gpu.handle)) or {}

    def _read_slow(self, gpu: _Gpu, t_ns: int) -> None:
        slow: Values = {}
        for call in SLOW:
            slow |= self._ask(gpu, call)
        listed = self._guard(gpu, "processes", partial(self._nvml.nvmlDeviceGetComputeRunningProcesses, gpu.handle))
        if listed is not None:
            mine = tuple(GpuProcess(gpu.index, gpu.uuid, p.pid, number(p.usedGpuMemory)) for p in listed)
            self._processes = tuple(p for p in self._processes if p.gpu != gpu.index) + mine
            slow["gpu_processes"] = float(len({p.pid for p in mine}))
        gpu.slow, gpu.slow_ns = slow, t_ns

    def _counters(self, gpu: _Gpu, t_ns: int) -> Values:
        """ECC errors, replays and throttled seconds, all cumulative, in one call for the GPU."""
        wanted = [f for f in FIELDS if f not in gpu.absent]
        if not wanted:
            gpu.absent.add("fields")
        told = self._guard(gpu, "fields", partial(self._nvml.nvmlDeviceGetFieldValues, gpu.handle, wanted)) or ()
        values = counters({one.fieldId: self._field(gpu, one) for one in told})
        self._from_reasons(gpu, values, t_ns)
        return values

    def _field(self, gpu: _Gpu, one: Any) -> float:
        """One answered field; each carries its own return code and type."""
        if one.nvmlReturn in LOST:
            raise _Lost(f"NVML error {one.nvmlReturn}")
        if one.nvmlReturn in ABSENT:
            gpu.absent.add(one.fieldId)
        if one.nvmlReturn or not 0 <= one.valueType < len(VALUE_NAMES):
            return NAN
        return number(getattr(one.value, VALUE_NAMES[one.valueType]))

    def _from_reasons(self, gpu: _Gpu, values: Values, t_ns: int) -> None:
        """Where the driver does not count throttled time: the time between readings that saw the reason's bit."""
        missing = [name for name in REASON_BITS if math.isnan(values[name]) and not self._counted(gpu, name)]
        seconds = (t_ns - gpu.last_ns) / NS if gpu.last_ns and t_ns > gpu.last_ns else 0.0
        gpu.last_ns = t_ns
        if not missing:
            return
        bits = self._reasons(gpu)
        if bits is None:
            return
        for name in missing:
            gpu.reason_s[name] = gpu.reason_s.get(name, 0.0) + (seconds if bits & REASON_BITS[name] else 0.0)
            values[name] = gpu.reason_s[name]

    @staticmethod
    def _counted(gpu: _Gpu, name: str) -> bool:
        """True where the driver did count this reason before: then a gap stays a gap, and two counts never mix."""
        return name in gpu.places and name not in gpu.reason_s

    def _reasons(self, gpu: _Gpu) -> int | None:
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            bits = self._guard(gpu, name, partial(getattr(self._nvml, name), gpu.handle))
            if isinstance(bits, int):
                return bits
        return None

    def _xids(self, t_ns: int) -> Iterator[HostEvent]:
        """XID errors since the last reading, as the driver queued them."""
        for _ in range(64 if self._events is not None else 0):
            try:
                told = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                index = self._nvml.nvmlDeviceGetIndex(told.device)
            except self._nvml.NVMLError:
                return  # most often the time-out that says: nothing more
            gpu = next((g for g in self._gpus if g.index == index), None)
            if gpu is not None and told.eventType == XID_EVENT:
                yield HostEvent(t_ns, "gpu_xid", gpu.entity, (("xid", int(told.eventData)),), "NVML")


def _start(given: Any) -> Any:
    """Imports and initialises NVML. Raises NoData where package, library or driver are absent, Broken otherwise."""
    nvml = given
    if nvml is None:
        try:
            import pynvml
        except ImportError as error:
            raise NoData("nvidia-ml-py is not installed") from error
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value in NO_DRIVER:
            raise NoData(f"no NVIDIA driver ({_text(error)})") from error
        raise Broken(f"NVML: {_text(error)}") from error
    return nvml


def _text(error: Any) -> str:
    return f"{error} (code {error.value})"


def _string(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def gpu_names(nvml: Any = None) -> tuple[str, ...]:
    """Names of the GPUs by index, such as "NVIDIA H200". Raises NoData without driver, library or GPU; may block."""
    module = _start(nvml)
    try:
        handles = [module.nvmlDeviceGetHandleByIndex(i) for i in range(module.nvmlDeviceGetCount())]
        names = tuple(_string(module.nvmlDeviceGetName(h)) for h in handles)
    except module.NVMLError as error:
        raise Broken(f"NVML: {_text(error)}") from error
    finally:
        module.nvmlShutdown()
    if not names:
        raise NoData("no NVIDIA GPU")
    return names


COLLECTOR = CollectorSpec(
    name="nvml",
    config=Config,
    build=Nvml,
    reads="NVML (libnvidia-ml of the NVIDIA driver)",
    emits=EMITS,
    needs="NVIDIA driver",
    source="NVML API reference",
    slow=True,
    optional=True,
)
