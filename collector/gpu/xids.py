"""XID errors as the driver tells them, in a thread of its own: waiting for them blocks, and so may every other call."""

import threading
from collections.abc import Callable
from typing import Any

from collector.gpu.binding import TIMEOUT

XID = 0x8
"""nvmlEventTypeXidCriticalError."""
WAIT_MS = 1000
PAUSE_S = 5.0
"""After an error; a GPU that fell off the bus answers each wait at once with one."""


class XidThread:
    """Tells each XID to `tell` (GPU index, XID, MIG instance or -1). Ends with the process."""

    def __init__(self, nvml: Any, handles: list[Any], tell: Callable[[int, int, int], None]) -> None:
        self._nvml = nvml
        self._handles = handles
        self._tell = tell
        self._events: Any = None

    def start(self) -> bool:
        """Registers and starts; False where no GPU of this driver tells XIDs, which is fine."""
        try:
            self._events = self._nvml.nvmlEventSetCreate()
        except self._nvml.NVMLError:
            return False
        if not sum(self._register(handle) for handle in self._handles):
            return False
        threading.Thread(target=self._serve, name="xid", daemon=True).start()
        return True

    def _register(self, handle: Any) -> bool:
        try:
            able = self._nvml.nvmlDeviceGetSupportedEventTypes(handle) & XID
            if able:
                self._nvml.nvmlDeviceRegisterEvents(handle, XID, self._events)
        except self._nvml.NVMLError:
            return False
        return bool(able)

    def _serve(self) -> None:
        pause = threading.Event()
        while True:
            try:
                told = self._nvml.nvmlEventSetWait_v2(self._events, WAIT_MS)
                index = self._nvml.nvmlDeviceGetIndex(told.device)
            except self._nvml.NVMLError as error:
                if error.value != TIMEOUT:
                    pause.wait(PAUSE_S)
                continue
            if told.eventType == XID:
                instance = -1 if told.gpuInstanceId == 0xFFFFFFFF else int(told.gpuInstanceId)
                self._tell(index, int(told.eventData), instance)
