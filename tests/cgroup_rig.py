"""A collector of control groups that is open, and what it reads, for tests."""



from collector.cgroups import Cgroups, Config
from etio.core.frame import NS

T0 = 1_700_000_000 * NS


def opened(root, **config):
    collector = Cgroups(Config(**config))
    collector.open(root)
    return collector


def raw(collector, t_ns=T0):
    reading = collector.collect(t_ns)
    assert len(reading.series) == len(reading.values) == len(reading.weights)
    return {s.key: v for s, v in zip(reading.series, reading.values, strict=True)}


def of(values, name, group):
    return values[f'{name}{{cgroup="{group}"}}']
