"""Counts that fade: what is t old counts 2^(−t/half-life), exact at any later instant from the last value alone.

A counter is `[weight, at]`: the weight as it was at its last event, and when that was. No clock: time is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from features.vocabulary import DAY_S

WEIGHT, AT = range(2)


def half(age_s: float, half_life_days: float) -> float:
    return math.exp2(-age_s / (half_life_days * DAY_S))


def count(counters: dict[str, Any], key: str, now: float, half_life_days: float, amount: float = 1.0) -> None:
    """Add `amount` to the counter `key` at `now`, which is never before its last event."""
    weight, at = counters.get(key, (0.0, now))
    counters[key] = [weight * half(now - at, half_life_days) + amount, now]


def worth(counter: Sequence[float], as_of: float, half_life_days: float) -> float:
    """What a counter is worth at `as_of`."""
    return counter[WEIGHT] * half(max(0.0, as_of - counter[AT]), half_life_days)


def keep_latest(counters: dict[str, Any], most: int) -> None:
    """Leave only the `most` counters heard of last; of two as old the one with the greater key stays."""
    while len(counters) > most:
        del counters[min(counters, key=lambda key: (counters[key][AT], key))]
