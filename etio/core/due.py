"""When something that rests is due, on a clock that can be set back."""


def is_due(t_ns: int, at_ns: int, pause_ns: int) -> bool:
    """Whether what rests until `at_ns` is due; it was to rest for `pause_ns` at most.

    A moment further ahead than that is of a clock that has been set back since: waiting for it would mean being blind.

    >>> is_due(99, 100, 10), is_due(100, 100, 10), is_due(7, 100, 10)
    (False, True, True)
    """
    return not 0 < at_ns - t_ns <= pause_ns
