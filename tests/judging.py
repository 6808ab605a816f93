"""Decisions held against the raw truth, candidate by candidate, both ways; beside them what staler systems would say.

`Nightly` is Feast as it is mostly run: a view of last purchases and one of last returns with the windows as TTL, a view
of stock, materialised once a night. Feast's online read does not look at the TTL (`ttl_kept=False`); where the caller
compares the row's time with the window themselves, it is kept. `Snapshot` is a table of what is held back, worked out
anew from all data once a night. That the former is what Feast says, tests/test_suppression.py tries.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from live_retail import BEGAN, Decided, Shop
from raw_truth import BOUGHT_DAYS, DAY_S, RETURNED_DAYS, STYLE_BOUGHT_DAYS, RawTruth, Reason

from features.vocabulary import Offer

SHOWN = 3
AT_NIGHT_S = 6 * 3_600
"""Others work at six in the morning, the hour kindest to them: the shelves are full, and nobody has bought anything."""
TOO_MANY: Reason = ("too_many_returns", "share")
PerProduct = Mapping[str, frozenset[Reason]]


@dataclass(slots=True)
class Tally:
    """What one system got right and wrong, counted over candidates (decision × offer)."""

    left_open: Counter[str] = field(default_factory=Counter)
    held_wrongly: int = 0
    decisions_wrong: int = 0
    shown_wrongly: int = 0
    longest: int = 0
    _running: Counter[tuple[str, str]] = field(default_factory=Counter)

    def judge(self, customer_id: str, truth: Mapping[str, frozenset[str]], held: Mapping[str, bool]) -> None:
        """`truth`: the codes for which each offer must be held back, none where it may be shown."""
        wrong = False
        for offer_id, codes in truth.items():
            key = (customer_id, offer_id)
            if held[offer_id] == bool(codes):
                self._running[key] = 0
                continue
            wrong = True
            self._running[key] += 1
            self.longest = max(self.longest, self._running[key])
            self.held_wrongly += not codes
            self.left_open.update({*codes, "any"} if codes else ())
        self.decisions_wrong += wrong

    @property
    def wrong(self) -> int:
        return self.held_wrongly + self.left_open["any"]


@dataclass(slots=True)
class Verdict:
    """What the whole replay came to."""

    decisions: int = 0
    with_offer: int = 0
    candidates: int = 0
    held_back: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    systems: dict[str, Tally] = field(default_factory=dict)


class Nightly:
    """Last purchases and last returns of each customer as they were materialised in the nights before."""

    def __init__(self, truth: RawTruth, ttl_kept: bool):
        self._truth, self._ttl_kept = truth, ttl_kept
        self._rows: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
        self._until: dict[str, float] = defaultdict(float)

    def rows(self, customer_id: str, last: float) -> tuple[dict[str, int], dict[str, int]]:
        """The customer's rows of both views: each night what was new is written, and nothing is taken away."""
        bought, returned = self._rows.setdefault(customer_id, ({}, {}))
        nights = {last_night(at) + DAY_S for at in self._truth.busy(customer_id)}
        for night in sorted(night for night in nights if self._until[customer_id] < night <= last):
            who = self._truth.customer(customer_id, night - 1)
            for rows, found in ((bought, who.all_last_bought()), (returned, who.returned)):
                rows |= {product_id: at for product_id, at in found.items() if night - DAY_S <= at < night}
        self._until[customer_id] = last
        return bought, returned

    def held(self, customer_id: str, products: Iterable[str], now: float) -> dict[str, bool]:
        night = last_night(now)
        bought, returned = self.rows(customer_id, night)
        found = {}
        for product_id in products:
            kin = self._truth.kin(product_id)
            found[product_id] = (
                self._is_in(bought, [product_id], now, BOUGHT_DAYS)
                or self._is_in(bought, kin, now, STYLE_BOUGHT_DAYS)
                or self._is_in(returned, [product_id, *kin], now, RETURNED_DAYS)
                or self._truth.is_sold_out(product_id, night, BEGAN)
            )
        return found

    def _is_in(self, rows: Mapping[str, int], products: Iterable[str], now: float, days: int) -> bool:
        found = [rows[product_id] for product_id in products if product_id in rows]
        return bool(found) and (not self._ttl_kept or now < max(found) + days * DAY_S)


class Snapshot:
    """What was held back last night, by all that was known then."""

    def __init__(self, truth: RawTruth):
        self._truth = truth

    def held(self, customer_id: str, products: Iterable[str], now: float) -> dict[str, bool]:
        night = last_night(now)
        who = self._truth.customer(customer_id, night - 1)
        found = self._truth.all_held_back(who, products, night, BEGAN)
        return {product_id: bool(reasons) for product_id, reasons in found.items()}


def last_night(now: float) -> float:
    """When the others last worked."""
    return (now - AT_NIGHT_S) // DAY_S * DAY_S + AT_NIGHT_S


def judged(decisions: Iterable[Decided], shop: Shop, truth: RawTruth) -> Verdict:
    """Every candidate of every decision against the truth, for us and for the others."""
    others = {
        "Feast, nightly": Nightly(truth, ttl_kept=False),
        "Feast, nightly, TTL kept by the caller": Nightly(truth, ttl_kept=True),
        "daily snapshot": Snapshot(truth),
    }
    verdict = Verdict(systems={name: Tally() for name in ("Onestory", *others)})
    offers, products = {offer.offer_id: offer for offer in shop.offers}, shop.products
    by_value = sorted(shop.offers, key=lambda offer: (-offer.value.margin, offer.offer_id))
    for decided in decisions:
        who = truth.customer(decided.customer_id, decided.now, decided.unheard)
        true = truth.all_held_back(who, products, decided.now, BEGAN)
        too_many = who.sends_back_too_much()
        must = {offer_id: _must(offer, true, too_many) for offer_id, offer in offers.items()}
        ours = _said(decided.answer)
        shown = [each["product_id"] for each in decided.answer["offers"]]
        verdict.differences += _differences(decided, offers, true, too_many, ours)
        verdict.decisions += 1
        verdict.with_offer += bool(shown)
        verdict.candidates += len(must)
        verdict.held_back += sum(map(bool, must.values()))
        for held in ours.values():
            verdict.reasons.update({reason for reasons in held.values() for reason in reasons})
            verdict.codes.update({code for reasons in held.values() for code, _ in reasons})
        tally = verdict.systems["Onestory"]
        tally.judge(decided.customer_id, must, {offer_id: offer_id in ours for offer_id in must})
        tally.shown_wrongly += sum(bool(true[product_id]) or too_many for product_id in shown)
        for name, system in others.items():
            tally, held_products = verdict.systems[name], system.held(decided.customer_id, products, decided.now)
            held_offers = {
                offer_id: too_many or all(held_products[product_id] for product_id in offer.product_ids)
                for offer_id, offer in offers.items()
            }
            tally.judge(decided.customer_id, must, held_offers)
            open_ = [offer for offer in by_value if not held_offers[offer.offer_id]][:SHOWN]
            chosen = [next(p for p in offer.product_ids if not held_products[p]) for offer in open_]
            tally.shown_wrongly += sum(bool(true[product_id]) for product_id in chosen)
    return verdict


def _must(offer: Offer, true: PerProduct, too_many: bool) -> frozenset[str]:
    """The codes for which the offer must be held back: where every product of it must be, those of all of them."""
    reasons = [true[product_id] for product_id in offer.product_ids]
    codes = {code for each in reasons for code, _ in each} if all(reasons) else set()
    return frozenset(codes | ({TOO_MANY[0]} if too_many else set()))


def _said(answer: Mapping[str, Any]) -> dict[str, dict[str | None, set[Reason]]]:
    """What our answer says of each offer that it holds back: the reasons per product, None for the whole offer."""
    found: dict[str, dict[str | None, set[Reason]]] = {}
    for each in answer["suppressed"]:
        per_product = found[each["offer_id"]] = defaultdict(set)
        for reason in each["reasons"]:
            for product_id in reason["product_ids"] or [reason["product_id"]]:
                per_product[product_id].add((reason["code"], reason["rule"]))
    return found


def _differences(
    decided: Decided,
    offers: Mapping[str, Offer],
    true: PerProduct,
    too_many: bool,
    ours: Mapping[str, Mapping[str | None, set[Reason]]],
) -> list[str]:
    """Every reason that only one side knows of, in words; every offer that only one side holds back."""
    found: list[tuple[str, str | None, Any, Any]] = []
    for offer_id, offer in offers.items():
        held = all(true[product_id] for product_id in offer.product_ids)
        expected: dict[str | None, set[Reason]] = {}
        if held:
            expected |= {product_id: set(true[product_id]) for product_id in offer.product_ids}
        if too_many:
            expected[None] = {TOO_MANY}
        said = dict(ours.get(offer_id, {}))
        keys = {*expected, *said}
        found += [
            (offer_id, key, said.get(key), expected.get(key)) for key in keys if said.get(key) != expected.get(key)
        ]
    for each in decided.answer["passed_over"]:
        reasons = {(reason["code"], reason["rule"]) for reason in each["reasons"]}
        if reasons != true[each["product_id"]]:
            found.append((each["offer_id"], each["product_id"], reasons, set(true[each["product_id"]])))
    for each in decided.answer["offers"]:
        if too_many or true[each["product_id"]]:
            found.append((each["offer_id"], each["product_id"], "shown", set(true[each["product_id"]])))
    where = f"customer {decided.customer_id} at {decided.now:.0f}"
    return [
        f"{where}, {offer_id}, {product_id}: we say {us}, the truth is {it}" for offer_id, product_id, us, it in found
    ]


def rows_of(verdict: Verdict) -> Sequence[tuple[str, ...]]:
    """The comparison as a table: a heading, then a row per figure."""
    systems = verdict.systems.values()
    codes = (
        ("bought lately", "recently_purchased"),
        ("returned lately", "recently_returned"),
        ("sold out", "out_of_stock"),
    )
    left = [
        (f"… left open though {name}", *(f"{tally.left_open[code]:,}" for tally in systems)) for name, code in codes
    ]
    return [
        ("of the candidates", *verdict.systems),
        ("open that should be held back", *(f"{tally.left_open['any']:,}" for tally in systems)),
        *left,
        ("held back that should be open", *(f"{tally.held_wrongly:,}" for tally in systems)),
        ("decisions with any of it", *(f"{tally.decisions_wrong:,}" for tally in systems)),
        ("offers shown wrongly", *(f"{tally.shown_wrongly:,}" for tally in systems)),
        ("decisions in a row wrong about an offer, at most", *(f"{tally.longest:,}" for tally in systems)),
    ]
