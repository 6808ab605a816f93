"""One decision in plain steps: every rule on every offer and product, a score for each open offer, a sorted list, JSON.

What it knows of the world is a `reference.World`; who gathers that is `plain_path`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Protocol

import orjson
import reference
from plain_ranking import Open, best_first, ranked
from plain_scores import Affinity, Entry, Model, Row, line_columns, offer_columns
from reference import Said, World

from features.vocabulary import DAY_S, Offer
from serving.facts import moment
from serving.treatments import treatment_of

Reason = dict[str, Any]


class Known(Protocol):
    """What decisions share: the files of the workspace, opened."""

    products: Mapping[str, Sequence[str]]
    models: Mapping[str, Model]
    counts: Any
    versions: Mapping[str, Any]


class Decision:
    def __init__(self, known: Known, world: World, entries: Mapping[str, Entry] | None):
        self.known, self.world, self.entries = known, world, entries
        self.facts, self.book, self.catalog = world.facts, world.book, world.catalog
        self.personal = reference.allowed(world, "personalisation")
        self.profiled = self.personal and reference.allowed(world, "profiling")
        orders = world.features["orders_90d"]
        self.affinity = Affinity((entries or {}) if self.personal else {}, self.catalog, orders, self.facts.now)
        self.open: list[Open] = []
        self.suppressed: list[dict[str, Any]] = []
        self.passed_over: list[dict[str, Any]] = []
        orders_of = {offer_id: self._in_order(offer_id) for offer_id in self.catalog.offers}
        self.facts.stock.ask(products[0] for products in orders_of.values() if products)
        for offer_id in sorted(self.catalog.offers):
            self._screen(self.catalog.offers[offer_id], orders_of[offer_id])
        self._score()
        self._rank()

    # ------------------------------------------------------------------------------------------- the screen

    def _in_order(self, offer_id: str) -> list[str]:
        """The offer's products by affinity; before them the one that another channel has shown."""
        best = self.affinity.best_products(self.known.products[offer_id])
        carried = self.facts.carried.offers if self.facts.carried and self.profiled else ()
        first = [each.product_id for each in carried if each.offer_id == offer_id and each.product_id in best][:1]
        return [*first, *(each for each in best if each not in first)]

    def _screen(self, offer: Offer, products: Sequence[str]) -> None:
        of_offer, held = list(reference.of_offer(self.world, offer)), dict[str, list[Said]]()
        chosen: str | None = None
        for product_id in products:
            reasons = list(dict.fromkeys(reference.of_product(self.world, offer, self.world.product(product_id))))
            if not reasons:
                chosen = product_id
                break
            if not held:
                self.facts.stock.ask(products)
            held[product_id] = reasons
        if (offer.product_ids or offer.category) and not products:
            of_offer.append(reference.said("stock_unknown", "products", 0, 1))
        if chosen is not None:
            self.passed_over += [
                {"offer_id": offer.offer_id, "product_id": each, "reasons": [_told(r, [each]) for r in reasons]}
                for each, reasons in held.items()
            ]
        if not of_offer and (chosen is not None or not products):
            level = self.facts.stock.get(chosen) if chosen is not None else None
            sold_out = level is not None and level.quantity < self.book.stock.minimum
            place = reference.shop_for(self.world, self.world.product(chosen or "")) if sold_out else None
            self.open.append(Open(offer, chosen, place))
            return
        shared: dict[Said, list[str]] = {}
        for product_id, reasons in held.items() if chosen is None else ():
            for each in reasons:
                shared.setdefault(each, []).append(product_id)
        nearest = min((latest(reasons) for reasons in held.values()), default=0.0) if chosen is None else 0.0
        free = max(latest(of_offer), nearest)
        told = [*(_told(each, []) for each in of_offer), *(_told(each, ids) for each, ids in shared.items())]
        self.suppressed.append(_held(offer, told, None if free in (0.0, inf) else moment(free)))

    # ------------------------------------------------------------------------------------------- the scores

    def _score(self) -> None:
        facts, features, models = self.facts, self.world.features, self.known.models
        scored = facts.known and self.profiled
        churn = models["churn"].predict([features])[0] if "churn" in models and scored and self.open else None
        if "propensity" in models:
            model = models["propensity"]
            chances = model.predict([self._row(each.offer) for each in self.open]) if scored else []
            for each, chance in zip(self.open, chances or [model.population] * len(self.open), strict=True):
                each.propensity = chance
        for each in self.open:
            risk = self._return_risk(each.product_id, scored)
            self._worth(each, risk, churn)

    def _row(self, offer: Offer) -> Row:
        products = self.known.products[offer.offer_id]
        both = self.affinity.columns(products)
        static = offer_columns(self.catalog, offer, products, self.facts.channel, self.facts.placement)
        return {**self.world.features, **both, **static}

    def _return_risk(self, product_id: str | None, scored: bool) -> float | None:
        model = self.known.models.get("returns")
        if model is None or product_id is None:
            return None
        if self.known.counts is None:
            return model.population
        features = self.world.features if scored else dict.fromkeys(self.world.features, math.nan)
        line = line_columns(self.known.counts, product_id, self.entries if scored else None, features)
        return model.predict([{**features, **line}])[0]

    def _worth(self, each: Open, risk: float | None, churn: float | None) -> None:
        offer, value = each.offer, each.offer.value
        product = self.world.product(each.product_id) if each.product_id else None
        margin = value.margin or (product.margin if product else None) or 0.0
        baseline = self._baseline(each.product_id) if value.discount > 0.0 and self.personal else None
        each.worth = {
            "margin": margin,
            "return_risk": risk,
            "discount": value.discount,
            "baseline_propensity": baseline,
            "cost": value.cost,
        }
        each.value = margin * (1.0 - (risk or 0.0)) - value.discount * (1.0 + (baseline or 0.0)) - value.cost
        arbitration, parts = self.book.arbitration, {"base": 1.0, "churn": 0.0, "cart": 0.0, "in_view": 0.0}
        weight = arbitration.context_weights.get(offer.kind)
        if weight is not None:
            looked_at = self.world.product(self.facts.product_id).category if self.facts.product_id else None
            about = product.category if product else offer.category
            parts["base"], parts["churn"] = weight.base, weight.churn * (churn or 0.0)
            parts["cart"] = weight.cart * self._freshness()
            parts["in_view"] = weight.in_view if looked_at is not None and looked_at == about else 0.0
        each.context, each.weight = parts, parts["base"] + parts["churn"] + parts["cart"] + parts["in_view"]
        chance = 1.0 if each.propensity is None else each.propensity
        each.priority = chance**arbitration.propensity_exponent * each.weight * each.value * offer.lever

    def _baseline(self, product_id: str | None) -> float:
        days = self.book.arbitration.baseline_days
        if product_id is None:
            expected = self.world.features["expected_orders_90d"]
            return 0.0 if math.isnan(expected) else 1.0 - math.exp(-expected * days / 90.0)
        entry = (self.entries or {}).get(f"p:{product_id}")
        if entry is None or not entry.last:
            return 0.0
        age_days = max(0.0, self.facts.now - entry.last) / DAY_S
        return 1.0 - math.exp2(-(entry.decayed_trips * math.exp2(-age_days / 90)) * days / 90)

    def _freshness(self) -> float:
        hours = self.world.features["cart_age_hours"] if self.personal else math.nan
        if math.isnan(hours):
            return 1.0 if self.facts.cart else 0.0
        return math.exp2(-max(0.0, hours) / self.book.arbitration.cart_half_life_hours)

    def _rank(self) -> None:
        """The placement's fallback offers only where nothing else is shown, and then whatever their priority."""
        usual = [each for each in self.open if self.facts.placement not in each.offer.fallback]
        last_resort = [each for each in self.open if each not in usual]
        floor = self.book.arbitration.floor
        self.shown, excluded = ranked(self.world, usual, floor)
        self.by_default = not self.shown and bool(last_resort)
        below = [each for each in best_first(usual) if each.priority < floor]
        if self.by_default:
            self.shown, excluded = ranked(self.world, last_resort, -inf)
        for each in below:
            self._hold(each, "below_floor", "floor", round(each.priority, 6), floor)
        for each, by in excluded:
            self._hold(each, "mutually_exclusive", "exclusive_group", by.offer.offer_id, each.offer.exclusive_group)

    def _hold(self, each: Open, *told: Any) -> None:
        self.suppressed.append(_held(each.offer, [_told(reference.said(*told), [])], None))

    # ------------------------------------------------------------------------------------------- the answer

    def answer(self, decision_id: str) -> dict[str, Any]:
        facts = self.facts
        return {
            "decision_id": decision_id,
            "customer_id": facts.customer_id,
            "channel": facts.channel,
            "placement": facts.placement,
            "decided_at": moment(facts.now),
            "arm": "nba",
            "fallback": self._fallback(),
            "continued_from": facts.carried.decision_id if facts.carried and self.profiled else None,
            "offers": [self._offered(rank, each, chance) for rank, (each, chance) in enumerate(self.shown, 1)],
            "signals": self._signals(),
            "versions": self.known.versions,
            "suppressed": self.suppressed,
            "passed_over": self.passed_over,
        }

    def _fallback(self) -> str | None:
        if self.by_default:
            return "placement_default"
        stale = {name for name, rule in self.book.signals.items() if rule.on_stale == "degrade" and self._silent(name)}
        if stale - {"profile"}:
            return "stale_signal"
        if not (self.facts.known and self.profiled):
            return "unknown_customer"
        if "propensity" not in self.known.models:
            return "no_model"
        return "stale_signal" if stale else None

    def _silent(self, signal: str) -> bool:
        heard = self.facts.feeds.get(signal)
        if heard is None:
            return signal != "profile"
        return self.facts.now - heard > self.book.signals[signal].max_age_s

    def _signals(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for signal, rule in self.book.signals.items():
            heard = self.facts.feeds.get(signal)
            if heard is not None:
                age = max(0.0, self.facts.now - heard)
                told[signal] = {"age_s": round(age, 3), "stale": age > rule.max_age_s}
            elif rule.on_stale != "allow":
                told[signal] = {"age_s": None, "stale": True}
        return told

    def _offered(self, rank: int, each: Open, chance: float) -> dict[str, Any]:
        offer, facts = each.offer, self.facts
        place = self.catalog.locations.get(each.set_aside or facts.location_id or "")
        product = self.catalog.products.get(each.product_id or "")
        tier = reference.tier_of(self.world) if self.personal else None
        return {
            "rank": rank,
            "offer_id": offer.offer_id,
            "kind": offer.kind,
            "product_id": each.product_id,
            "treatment": treatment_of(offer, product, place, tier, facts.channel),
            "fulfilment": {"kind": "reserve_in_store", "location_id": each.set_aside} if each.set_aside else None,
            "priority": each.priority,
            "propensity": each.propensity,
            "uplift": None,
            "value": each.value,
            "worth": each.worth,
            "context_weight": each.weight,
            "context": each.context,
            "lever": offer.lever,
            "selection_probability": chance,
            "valid_until": moment(offer.valid_until),
        }


def latest(held: Sequence[Said]) -> float:
    """When the last of these reasons is gone."""
    return max((inf if each[2] is None else each[2] for each in held), default=0.0)


def _held(offer: Offer, reasons: list[Reason], retry_after: str | None) -> dict[str, Any]:
    return {"offer_id": offer.offer_id, "retry_after": retry_after, "reasons": reasons}


def _told(reason: Said, products: Sequence[str]) -> Reason:
    code, rule, retry_after, evidence, observed, limit = reason
    return {
        "code": code,
        "rule": rule,
        "observed": orjson.loads(observed),
        "limit": orjson.loads(limit),
        "retry_after": None if retry_after is None else moment(retry_after),
        "evidence": evidence,
        "product_id": products[0] if products else None,
        "product_ids": list(products) if len(products) > 1 else None,
    }
