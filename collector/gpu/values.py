"""Values of one GPU on their way from NVML to series. Free of numpy, which the worker does without."""

from math import isnan

Values = dict[str, float]
"""Series name (or "name|value of its own label") to raw value: gauges in their unit, counters cumulative."""


def known(values: Values) -> Values:
    """The values that are numbers."""
    return {name: value for name, value in values.items() if not isnan(value)}
