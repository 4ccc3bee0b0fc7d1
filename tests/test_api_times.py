"""Moments in the forms that people write, and as Go prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.times import parse_time, rfc3339

NOW = 1_795_248_000_000_000_000


@pytest.mark.parametrize(("text", "expected"), [
    ("now", NOW),
    ("-15m", NOW - 900 * 10**9),
    ("-1.5h", NOW - 5400 * 10**9),
    ("1795248000", NOW),
    ("1795248000.5", NOW + 5 * 10**8),
    ("1795248000000", NOW),
    ("1795248000000000000", NOW),
    ("2026-11-21T08:00:00Z", NOW),
    ("2026-11-21T09:00:00+01:00", NOW),
    ("2026-11-21 08:00", NOW),
    ("0", 0),
])
def test_every_form_names_the_same_moment(text, expected):
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-5y", "2026-13-01", "1e9", "nan", "--1m", "9" * 40])
def test_what_is_no_time_says_what_would_be(text):
    with pytest.raises(ValueError, match="is no time; write now"):
        parse_time(text, NOW)


@given(st.text(max_size=60))
def test_any_text_is_a_time_or_a_value_error(text):
    try:
        found = parse_time(text, NOW)
    except ValueError:
        return
    assert isinstance(found, int)


def test_rfc3339_cuts_trailing_zeros_as_go_does():
    assert rfc3339(NOW) == "2026-11-21T08:00:00Z"
    assert rfc3339(NOW + 500_000_000) == "2026-11-21T08:00:00.5Z"
    assert rfc3339(NOW + 1) == "2026-11-21T08:00:00.000000001Z"
