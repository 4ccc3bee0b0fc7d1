"""GPUs of the double and a collector that is open on them, for tests."""

from pathlib import Path

import pytest

from collector import nvml
from collector.nvml import Config, Nvml
from etio.core.frame import NS
from tests import nvml_double

GOLDEN = Path(__file__).parent / "golden"
HOSTS = tuple(f"nvml-{name}-from-documentation" for name in ("h100x8", "a10", "geforce", "h100-mig"))
H100 = HOSTS[0]
UUID = "GPU-7b8d7ea5-0000-4000-8000-00000000000"
T0 = 1_700_000_000 * NS
NAN = float("nan")


@pytest.fixture
def host(monkeypatch):
    """host(name, count): GPUs, and a collector that is open; all gone at the end."""
    kept = []
    monkeypatch.setattr(nvml, "_library", lambda: None)

    def opened(name=H100, count=1, root="/", **config):
        machine = nvml_double.machine(name, count)
        kept.append((machine, None))
        gpus = machine.__enter__()
        for key, value in gpus.environment.items():
            monkeypatch.setenv(key, value)
        collector = Nvml(Config(**config))
        kept[-1] = (machine, collector)
        collector.open(Path(root))
        return gpus, collector

    yield opened
    for machine, collector in kept:
        if collector is not None:
            collector.close()
        machine.__exit__(None, None, None)


def values(collector, t_ns):
    reading = collector.collect(t_ns)
    assert len(reading.values) == len(reading.series)
    return {s.key.split("{")[0] + s.label("gpu") + "".join(f"|{v}" for k, v in s.labels if k not in ("gpu", "uuid")): v
            for s, v in zip(reading.series, reading.values, strict=True)}
