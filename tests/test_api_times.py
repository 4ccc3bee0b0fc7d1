"""Moments in the forms that people write, and as Go prints them."""

from datetime import UTC, datetime, timedelta, timezone

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


@given(st.integers(0, 2**62 // 1000), st.integers(-14 * 60, 14 * 60))
def test_a_moment_is_read_back_to_the_microsecond(microseconds, offset_minutes):
    t_ns = microseconds * 1000
    assert parse_time(rfc3339(t_ns), NOW) == t_ns
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    assert parse_time(local.astimezone(timezone(timedelta(minutes=offset_minutes))).isoformat(), NOW) == t_ns
    if 10**9 <= t_ns < 10**20:
        assert parse_time(f"{microseconds // 10**6}.{microseconds % 10**6:06d}", NOW) == t_ns
    if t_ns >= 10**16:
        assert parse_time(str(t_ns), NOW) == t_ns


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
