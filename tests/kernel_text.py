"""Strategies and words for text as the kernel writes it."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**53)
PAGES = st.integers(0, 2**40)
WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,11}", fullmatch=True)
NODE = st.integers(0, 99)
DEVICE = st.tuples(st.integers(0, 259), st.integers(0, 255)).map(lambda pair: f"{pair[0]}:{pair[1]}")
ANY_NAME = st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name)
"""What may stand in a path or as the name of a task."""
quick = settings(max_examples=40, deadline=None)


def rows(cell, width, most=5):
    return st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=most)


def words(numbers):
    return " ".join(map(str, numbers))


def floats(numbers):
    return [float(n) for n in numbers]


def same(found, expected):
    np.testing.assert_array_equal(found, np.array(floats(expected)))


def escaped(name: bytes) -> bytes:
    """As seq_path() of the kernel writes a path."""
    return b"".join(b"\\%03o" % c if c in b" \t\n\\" else bytes([c]) for c in name)
