"""Which ranks of a training job work on the same data, from their numbers and roles alone."""

from collections.abc import Mapping


def replicas(roles: Mapping[str, int]) -> dict[str, int]:
    """Rank label to the number of its replica; {} where that cannot be told.

    roles: rank label to its role (pipeline stage). Launchers number ranks stage by stage, so the first ranks of all
    stages are one replica, the second ones another. It cannot be told with one stage, with one rank for each stage,
    with stages of different size or with ranks that have no number.

    >>> replicas({"0": 0, "1": 0, "2": 7, "3": 7})
    {'0': 0, '2': 0, '1': 1, '3': 1}
    >>> replicas({"0": 0, "1": 0, "2": 7}), replicas({"0": 0, "1": 0}), replicas({"0": 0, "1": 1})
    ({}, {}, {})
    """
    if not all(rank.isdecimal() for rank in roles):
        return {}
    stages: dict[int, list[str]] = {}
    for rank in sorted(roles, key=int):
        stages.setdefault(roles[rank], []).append(rank)
    sizes = {len(ranks) for ranks in stages.values()}
    if len(stages) < 2 or len(sizes) != 1 or sizes == {1}:
        return {}
    return {rank: i for i, ranks in enumerate(zip(*stages.values(), strict=True)) for rank in ranks}
