"""Stock as one decision reads it: what was looked at is remembered, for the record, and read back from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from features.signals import Level, Signals
from serving.facts import Shop

Logged = dict[str, tuple[Any, ...] | None]
_line: Callable[[Level], tuple[Any, ...]] = attrgetter("quantity", "occurred_at", "message_id")


class Shelf(Mapping[str, Level]):
    """The levels of one location by product."""

    __slots__ = ("_levels", "read")

    def __init__(self, levels: Mapping[str, Level]):
        self._levels: Mapping[str, Level] = levels
        self.read: dict[str, Level | None] = {}

    def get(self, product_id: str, default: Any = None) -> Any:
        level = self.read[product_id] = self._levels.get(product_id)
        return default if level is None else level

    def __getitem__(self, product_id: str) -> Level:
        return self._levels[product_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._levels)

    def __len__(self) -> int:
        return len(self._levels)

    def logged(self) -> Logged:
        return {p: None if s is None else _line(s) for p, s in self.read.items()}


class Shops(Mapping[str, Shop]):
    """Every location's stock and when its feed was last heard of; opened when asked for."""

    __slots__ = ("_signals", "opened")

    def __init__(self, signals: Signals):
        self._signals = signals
        self.opened: dict[str, tuple[float | None, Shelf]] = {}

    def get(self, location_id: str, default: Any = None) -> Any:
        return self[location_id]

    def __getitem__(self, location_id: str) -> Shop:
        if location_id not in self.opened:
            heard_at = self._signals.last_at("stock", location_id)
            self.opened[location_id] = (heard_at, Shelf(self._signals.stock_at(location_id)))
        return Shop(*self.opened[location_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self.opened)

    def __len__(self) -> int:
        return len(self.opened)

    def logged(self) -> dict[str, Any]:
        return {place: {"heard_at": at, "stock": shelf.logged()} for place, (at, shelf) in self.opened.items()}


def levels_of(logged: Mapping[str, list[Any] | None]) -> dict[str, Level]:
    """The levels in a record."""
    return {product_id: Level(*level) for product_id, level in logged.items() if level is not None}


def shops_of(logged: Mapping[str, Any]) -> dict[str, Shop]:
    """The shops in a record."""
    return {place: Shop(seen["heard_at"], levels_of(seen["stock"])) for place, seen in logged.items()}
