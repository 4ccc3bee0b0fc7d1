"""A unit of systemd failed and stays down."""

from rca.services import failed_unit
from rca.spec import CauseSpec, Happened, Table

CAUSE = CauseSpec(
    id="unit_failed",
    title="unit failed",
    mechanism="A unit of systemd ended by an error, did not start, or was started too often; nobody starts it again.",
    source="systemd.service(5): Restart=, Result; org.freedesktop.systemd1(5)",
    alerts=("UnitFailed",),
    tables=(Table(
        label="unit",
        needs=((Happened(("unit_failed",)),),),
        refutes=(Happened(("unit_recovered",), why="it is no longer failed"),
                 Happened(("crash_loop",), why="it was in a crash loop before, which says more")),
    ),),
    headlines=("{who} failed",),
    summary=("{claim} {blame:ref}.",),
    tell_apart="the last lines of its log before it failed (systemctl status, journalctl -u)",
    hard=True,
    specific=1,
    blame=failed_unit,
)
