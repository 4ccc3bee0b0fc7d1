"""Collectors that watch what the daemon reads anyway (processes, failures, events), and what they have learned."""

import json
import logging
import threading
import time
from collections.abc import Callable

from collector.behaviour import Behaviour, ExeOf
from collector.behaviour import Config as BehaviourConfig
from collector.crash_loops import Config as CrashConfig
from collector.crash_loops import CrashLoops
from collector.lookups import Lookups
from collector.netspaces import Config as NetspacesConfig
from collector.netspaces import Netspaces
from collector.ports import Ports
from collector.process_groups import Config as GroupsConfig
from collector.process_groups import ProcessGroups
from collector.process_health import ProcessHealth
from collector.socket_states import SocketStates
from collector.stalled import Stalled
from collector.udp_sockets import Owners, UdpSockets
from collector.units import Config as UnitsConfig
from collector.units import Units
from etio.core.errors import Broken, StoreError
from etio.core.event import HostEvent
from etio.core.facts import ActorTable, ProcessTable
from etio.core.ports import Collector
from etio.store.store import Store

log = logging.getLogger(__name__)

NAME = "behaviour"
EVERY_S = 600.0


class Watchers:
    """The behaviour model, the crash loops and the process groups: fed by the sampler, asked by it."""

    def __init__(self, exe_of: ExeOf, owners: Owners) -> None:
        self._exe_of = exe_of
        self._owners = owners
        self.behaviour = Behaviour(BehaviourConfig())
        self.crashes = CrashLoops(CrashConfig())
        self.groups = ProcessGroups(GroupsConfig())
        self._units = Units(UnitsConfig())
        self._netspaces = Netspaces(NetspacesConfig())

    def adopt(self, collector: Collector) -> None:
        """Takes the collector in place of the idle one it stands for, if it is one of ours."""
        if isinstance(collector, Behaviour):
            collector.exe_of = self._exe_of
            self.behaviour = collector
        elif isinstance(collector, CrashLoops):
            self.crashes = collector
            collector.systemd = lambda: self._units.live
        elif isinstance(collector, ProcessGroups):
            self.groups = collector
        elif isinstance(collector, Units):
            self._units = collector
        elif isinstance(collector, Netspaces):
            collector.owners = self._owners
            self._netspaces = collector
        elif isinstance(collector, (UdpSockets, Ports, ProcessHealth, SocketStates, Stalled, Lookups)):
            collector.owners = self._owners

    def take(self, table: ProcessTable) -> ProcessTable:
        """Shows a process table to all."""
        return self._netspaces.take(self.groups.take(self.behaviour.take(self.crashes.take(table))))

    def actors(self, read: Callable[[int], ActorTable | None]) -> Callable[[int], ActorTable | None]:
        """A reader of actors that the crash loops see as well."""
        return lambda t_ns: self.crashes.take_actors(read(t_ns))

    def event(self, event: HostEvent) -> None:
        """Shows a host event to whom it concerns."""
        self.crashes.take_event(event)


class HabitState:
    """What is usual on this host outlives a restart. Never stops the daemon: without a snapshot it learns anew."""

    def __init__(self, store: Store, behaviour: Behaviour) -> None:
        self._store = store
        self._behaviour = behaviour
        self._due_s = time.monotonic() + EVERY_S
        self._thread: threading.Thread | None = None

    def restore(self) -> bool:
        """Takes the kept snapshot back; False when there is none that serves. Before the first table."""
        try:
            data = self._store.load_state(NAME)
            state = json.loads(data) if data is not None else None
            if not isinstance(state, dict):
                return False
            self._behaviour.restore(state)
        except (StoreError, Broken, ValueError, RecursionError) as error:
            log.warning("what is usual on this host is learned anew: %s", error)
            return False
        return True

    def tick(self) -> None:
        """Saves when that is due, in a thread of its own."""
        if time.monotonic() < self._due_s or (self._thread is not None and self._thread.is_alive()):
            return
        self._due_s = time.monotonic() + EVERY_S
        self._thread = threading.Thread(target=self._save, name="habits", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Saves once more; before the store is closed."""
        if self._thread is not None:
            self._thread.join()
        self._save()

    def _save(self) -> None:
        try:
            self._store.save_state(NAME, json.dumps(self._behaviour.snapshot()).encode())
        except StoreError as error:
            log.warning("what is usual on this host could not be saved: %s", error)
