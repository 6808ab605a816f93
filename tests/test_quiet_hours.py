"""Quiet hours by the clock on the customer's wall, also in the nights in which it is put forward or back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rulebook import QuietHours
from serving.rules.quiet_hours import end_of, is_quiet

BERLIN = "Europe/Berlin"


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("now", "start", "end", "over"),
    [
        ("2026-11-20T21:00:00Z", "21:00", "8:00", "2026-11-21T07:00:00Z"),
        ("2026-11-21T06:59:59Z", "21:00", "8:00", "2026-11-21T07:00:00Z"),
        ("2026-11-20T12:00:00Z", "12:30", "14:00", "2026-11-20T13:00:00Z"),
        ("2027-03-27T22:00:00Z", "21:00", "8:00", "2027-03-28T06:00:00Z"),
        ("2027-03-27T22:00:00Z", "21:00", "2:30", "2027-03-28T01:00:00Z"),  # 2:30 is skipped: clocks jump from 2 to 3
        ("2026-10-24T22:00:00Z", "21:00", "2:30", "2026-10-25T00:30:00Z"),  # 2:30 comes twice: over at the first …
        ("2026-10-25T01:10:00Z", "21:00", "2:30", "2026-10-25T01:30:00Z"),  # … and again from the second 2:00 on
    ],
)
def test_quiet_hours_end_when_the_clock_says_so(now: str, start: str, end: str, over: str) -> None:
    book = QuietHours.model_validate({"start": start, "end": end})
    assert is_quiet(at(now), BERLIN, book)
    assert end_of(at(now), BERLIN, book) == at(over)


def test_rest_days_run_from_midnight_to_midnight_and_into_the_next_morning() -> None:
    book = QuietHours.model_validate({"rest_days": ["saturday", "sunday"]})
    assert end_of(at("2026-11-21T12:00:00Z"), BERLIN, book) == at("2026-11-23T07:00:00Z")
    by_day = QuietHours.model_validate({"start": "8:00", "end": "8:00", "rest_days": ["saturday"]})
    assert end_of(at("2026-11-21T12:00:00Z"), BERLIN, by_day) == at("2026-11-21T23:00:00Z")


@given(
    st.integers(1_700_000_000, 1_900_000_000),
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"]),
)
def test_one_second_before_their_end_they_are_on_and_then_off(now: int, start: int, end: int, zone: str) -> None:
    times = {name: f"{minute // 60}:{minute % 60:02}" for name, minute in (("start", start), ("end", end))}
    book = QuietHours.model_validate(times)
    if is_quiet(now, zone, book):
        over = end_of(now, zone, book)
        assert over is not None
        assert over > now
        assert is_quiet(over - 1, zone, book)
        assert not is_quiet(over, zone, book)


def test_both_times_alike_are_no_quiet_hours() -> None:
    book = QuietHours.model_validate({"start": "8:00", "end": "8:00"})
    assert not any(is_quiet(datetime(2026, 11, 20, hour, tzinfo=UTC).timestamp(), BERLIN, book) for hour in range(24))
