"""What a customer had bought, sent back and could not buy at a moment, from the raw files and from nothing of ours.

Written for the proof of suppression, apart from the adapter, the fold and the rules: SQL over the published lines,
then the plainest loop there is. With the project it shares what docs/suppression.md says things mean, and no code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import duckdb

DAY_S = 86_400
BOUGHT_DAYS, STYLE_BOUGHT_DAYS, RETURNED_DAYS = 60, 30, 90
"""The windows of the shipped rulebook for a cross-sell: the same product and another of its style; either sent back."""
Reason = tuple[str, str]
"""Code and rule."""

LINES = r"""
with kept as (
    select distinct * from read_parquet(?)
    where regexp_matches(stock_code, '^[0-9]{5}') and unit_price > 0 and customer_id is not null
      and (case when invoice like 'C%' then -quantity else quantity end) > 0
)
select invoice, customer_id::int::varchar as customer_id, trim(stock_code) as product_id,
       sum(abs(quantity))::int as units,
       max(epoch(max(invoice_ts))) over (partition by invoice, customer_id)::bigint as moment
from kept group by invoice, customer_id, stock_code
order by moment, invoice, product_id
"""
"""One row per invoice, customer and product; an invoice is complete at its last minute."""
STOCKOUTS = """
select dense_rank() over (order by store_id, product_id) - 1 as series,
       dense_rank() over (order by dt) - 1 as day, stockout_mask
from read_parquet(?)
"""


class Line(NamedTuple):
    """So many units of a product on one invoice; taken back where the invoice begins with `C`."""

    invoice: str
    product_id: str
    units: int
    at: int


@dataclass(slots=True)
class Purchase:
    """Units of a product bought at once: how many may still be taken back, and how many were really bought."""

    at: int
    left: int
    units: int


@dataclass(slots=True)
class Customer:
    """One customer's purchases by product, returns by product, and orders, as of a moment."""

    bought: dict[str, list[Purchase]] = field(default_factory=lambda: defaultdict(list))
    returned: dict[str, int] = field(default_factory=dict)
    sent_back: list[tuple[int, int]] = field(default_factory=list)
    orders: dict[str, list[Purchase]] = field(default_factory=lambda: defaultdict(list))

    def buy(self, line: Line) -> None:
        purchase = Purchase(line.at, line.units, line.units)
        self.bought[line.product_id].append(purchase)
        self.orders[line.invoice].append(purchase)

    def take_back(self, line: Line) -> None:
        """Of the latest purchase with enough left, else of all, the latest first; within a day it was never bought."""
        before = [purchase for purchase in reversed(self.bought[line.product_id]) if purchase.left]
        enough = [purchase for purchase in before if purchase.left >= line.units]
        wanted = line.units
        for purchase in enough[:1] or before:
            units = min(wanted, purchase.left)
            purchase.left -= units
            wanted -= units
            if line.at - purchase.at <= DAY_S:
                purchase.units -= units
            else:
                self._sent_back(line, units)
            if not wanted:
                return
        self._sent_back(line, wanted)

    def _sent_back(self, line: Line, units: int) -> None:
        self.returned[line.product_id] = line.at
        self.sent_back.append((line.at, units))

    def last_bought(self, product_id: str) -> int | None:
        return max((each.at for each in self.bought.get(product_id, ()) if each.units), default=None)

    def all_last_bought(self) -> dict[str, int]:
        found = {product_id: self.last_bought(product_id) for product_id in self.bought}
        return {product_id: at for product_id, at in found.items() if at is not None}

    def sends_back_too_much(self) -> bool:
        """More than half of the units bought, from three orders on."""
        whole = [order for order in self.orders.values() if any(each.units for each in order)]
        units = sum(each.units for order in whole for each in order)
        back = sum(count for _, count in self.sent_back)
        return len(whole) >= 3 and round(back / units, 6) > 0.5


class RawTruth:
    """Both raw files, asked about a customer and a moment."""

    def __init__(self, retail: Path, stock: Path, styles: Mapping[str, str], products: Sequence[str]):
        """`styles`: the style of each product that has one. `products`: those with stock, one series each, in order."""
        self._lines: dict[str, list[Line]] = defaultdict(list)
        with duckdb.connect() as base:
            for invoice, customer_id, *line in base.execute(LINES, [str(retail)]).fetchall():
                self._lines[customer_id].append(Line(invoice, *line))
            masks = {(series, day): mask for series, day, mask in base.execute(STOCKOUTS, [str(stock)]).fetchall()}
        self._masks, self._days = masks, 1 + max(day for _, day in masks)
        self._series = {product_id: place % (1 + max(s for s, _ in masks)) for place, product_id in enumerate(products)}
        self._styles = styles
        self._siblings: dict[str, set[str]] = defaultdict(set)
        for product_id, style in styles.items():
            self._siblings[style].add(product_id)

    def customer(self, customer_id: str, now: float, unheard: Collection[str] = ()) -> Customer:
        """Everything up to `now`, but for the invoices of this very minute that nobody has told us of yet."""
        found = Customer()
        for line in self._lines.get(customer_id, ()):
            if line.at > now:
                break
            if line.invoice in unheard:
                continue
            if line.invoice.startswith("C"):
                found.take_back(line)
            else:
                found.buy(line)
        return found

    def busy(self, customer_id: str) -> list[int]:
        """When the customer bought or sent back anything."""
        return [line.at for line in self._lines.get(customer_id, ())]

    def kin(self, product_id: str) -> set[str]:
        """The other products of its style."""
        return self._siblings.get(self._styles.get(product_id, ""), set()) - {product_id}

    def is_sold_out(self, product_id: str, now: float, began: float) -> bool:
        """By the hour of the day of the series that was joined to the product, `began` being its first day."""
        day, hour = int((now - began) // DAY_S), int(now % DAY_S // 3_600)
        return bool(self._masks[self._series[product_id], day % self._days] >> hour & 1)

    def held_back(self, who: Customer, product_id: str, now: float) -> Iterator[Reason]:
        """Why this product must not be offered to that customer, whatever is in stock."""
        kin = self.kin(product_id)
        if _within(who.last_bought(product_id), now, BOUGHT_DAYS):
            yield "recently_purchased", "same_product"
        if any(_within(who.last_bought(each), now, STYLE_BOUGHT_DAYS) for each in kin):
            yield "recently_purchased", "same_style"
        if _within(who.returned.get(product_id), now, RETURNED_DAYS):
            yield "recently_returned", "same_product"
        if any(_within(who.returned.get(each), now, RETURNED_DAYS) for each in kin):
            yield "recently_returned", "same_style"

    def all_held_back(
        self, who: Customer, products: Iterable[str], now: float, began: float
    ) -> dict[str, frozenset[Reason]]:
        """The reasons of each of `products`; none where it may be offered."""
        found = {}
        for product_id in products:
            reasons = set(self.held_back(who, product_id, now))
            if self.is_sold_out(product_id, now, began):
                reasons.add(("out_of_stock", "stock"))
            found[product_id] = frozenset(reasons)
        return found


def _within(at: int | None, now: float, days: int) -> bool:
    return at is not None and now < at + days * DAY_S
