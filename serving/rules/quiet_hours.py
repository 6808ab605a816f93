"""The rule on quiet hours: by e-mail, sms and push nobody hears of us at night or on a day of rest, by their own clock.

The clock is that of the customer's home location, else the workspace's. Where clocks are put forward or back, the
hour that people there see counts.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from features.vocabulary import OUTBOUND, Offer
from serving.rulebook import WEEKDAYS, QuietHours
from serving.rules.case import Case, Reason, Reasons

DAYS_AHEAD = 9
"""A week of rest days is refused by the rulebook's check; with any one day of work the end is nearer than this."""


def quiet_hours(case: Case, offer: Offer) -> Reasons:
    if case.facts.channel not in OUTBOUND:
        return ()
    zone, book = case.timezone, case.book.quiet_hours
    if not is_quiet(case.facts.now, zone, book):
        return ()
    observed = datetime.fromtimestamp(case.facts.now, ZoneInfo(zone)).strftime("%A %H:%M").lower() + f" in {zone}"
    limit = f"not {_clock(book.start)} to {_clock(book.end)}" + "".join(f", not {day}" for day in book.rest_days)
    return (Reason("quiet_hours", "night_or_rest", observed, limit, end_of(case.facts.now, zone, book), zone),)


def is_quiet(at: float, zone: str, book: QuietHours) -> bool:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    if WEEKDAYS[local.weekday()] in book.rest_days:
        return True
    minute = local.hour * 60 + local.minute
    if book.start <= book.end:
        return book.start <= minute < book.end
    return minute >= book.start or minute < book.end


def end_of(at: float, zone: str, book: QuietHours) -> float | None:
    """When the quiet hours that `at` lies in are over; None if never.

    They end at an `end` by the clock, or at a midnight; or, where that is skipped, when the clocks are put forward.
    """
    today = datetime.fromtimestamp(at, ZoneInfo(zone)).date()
    for day in (today + timedelta(days=number) for number in range(DAYS_AHEAD)):
        for minute in sorted({0, book.end}):
            for end in _instants(day, minute, zone):
                if end > at and not is_quiet(end, zone, book):
                    return _first_quiet_no_more(at, end, zone, book)
    return None


def _instants(day: date, minute: int, zone: str) -> list[float]:
    """When it is so late on that day: once, or twice where the clocks are put back."""
    local = datetime.combine(day, time(minute // 60, minute % 60), ZoneInfo(zone))
    return sorted({local.replace(fold=fold).astimezone(UTC).timestamp() for fold in (0, 1)})


def _first_quiet_no_more(at: float, end: float, zone: str, book: QuietHours) -> float:
    """`end`, unless the clocks jumped over the last of the quiet hours just before it: then that jump."""
    if is_quiet(end - 1.0, zone, book):
        return end
    low, high = int(at), int(end)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_quiet(middle, zone, book) else (low, middle)
    return float(high)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
