"""What is unlike before, unlike its peers, or no longer told."""

from etio.core.alerts.kind import AlertKind

KINDS = (
    AlertKind("SeriesAnomaly", "warning", (), "{entity} is far outside its usual range", for_s=8, clear_s=30),
    AlertKind("PeerDeviation", "warning", (), "{entity} differs from its peers", for_s=20, clear_s=60),
    AlertKind("SubsystemAnomaly", "info", (), "{entity} behaves unlike before", for_s=20, clear_s=60, explain=False),
    AlertKind("HostAnomaly", "info", (), "the host as a whole is unlike itself", for_s=5, clear_s=30, explain=False),
    AlertKind("SlowDegradation", "info", (), "{entity} gets slower", for_s=10, clear_s=600, grace_s=125, explain=False),
    AlertKind("SignalStuck", "warning", (), "{entity} delivers the same numbers again and again", for_s=5, clear_s=30,
              explain=False),
    AlertKind("SignalMissing", "warning", (), "{entity} has stopped to deliver some of its numbers", for_s=5,
              clear_s=30, explain=False),
)
