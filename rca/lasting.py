"""Until when the conditions of an incident lasted: an alert resolves seconds after its trouble is gone.

A report that is made in between must speak of the trouble, not of the calm after it.
"""

import numpy as np
from numpy.typing import NDArray

from etio.core.alert import Alert
from etio.core.frame import NS, Floats
from etio.core.ports import Window
from rca.case import Case

GONE = 4
"""So many last samples must all be calm again; a burst may leave out a few."""
MIN_CALM = 12


def until_ns(window: Window, case: Case) -> int:
    """The last moment at which any alert of the case was met, as far as the series that carry them show; 0 = it lasts,
    or that cannot be told (an event, a series without a calm time).

    A value is calm again when it is nearer to its calm median than to what it was when the alert was met last.
    """
    alerts = [a for a in case.incident.alerts if a.severity != "info"]
    if case.incident.resolved_ns or not alerts or any(a.state == "resolved" for a in alerts):
        return 0
    ends = [_end(window, case, alert) for alert in alerts]
    return max(ends) if all(ends) else 0


def _end(window: Window, case: Case, alert: Alert) -> int:
    at = next((i for i, s in enumerate(window.series) if s.key == alert.series_key), None)
    if at is None:
        return 0
    t_ns, values = window.t_ns, window.values[:, at]
    known = np.isfinite(values)
    if known.any() and not known[-GONE:].any():  # the group, mount or device itself is gone
        return int(t_ns[np.flatnonzero(known)[-1]])
    before = known & (t_ns < case.onset_ns - 2 * NS)
    since = known & (t_ns >= alert.pending_ns)
    if before.sum() < MIN_CALM or since.sum() <= GONE:
        return 0
    return _last_met(t_ns[since], values[since], float(np.median(values[before])), alert.value)


def _last_met(t_ns: NDArray[np.int64], values: Floats, calm: float, met: float) -> int:
    far = (values - calm) * np.sign(met - calm) > 0.5 * abs(met - calm)
    if not np.isfinite(met) or met == calm or far[-GONE:].any() or not far.any():
        return 0
    return int(t_ns[np.flatnonzero(far)[-1]])
