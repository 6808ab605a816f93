"""The rules once more, as plainly as they can be said: from raw events, one offer, one product, one rule at a time.

Nothing is shared with `serving.rules`, nothing kept, nothing looked up twice as fast as once. What the fast path says
must be what this says. Only the order of an offer's products (affinity) and the features are taken as given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from features import profiles
from features.catalog import Catalog
from features.vocabulary import DAY_S, OUTBOUND, PLACEMENTS, Event, Offer, Product
from serving.facts import Facts
from serving.rulebook import WEEKDAYS, Rulebook

Said = tuple[str, str, float | None, str | None]
"""Code, rule, retry_after, evidence."""


@dataclass(frozen=True)
class World:
    facts: Facts
    events: Sequence[Event]
    book: Rulebook
    catalog: Catalog
    features: Mapping[str, float] = field(repr=False)

    def named(self, *names: str) -> list[Event]:
        return sorted((e for e in self.events if e.name in names), key=lambda e: (e.occurred_at, e.message_id))

    def product(self, product_id: str) -> Product:
        return self.catalog.products.get(product_id) or Product(product_id, product_id)


def until(world: World, at: float, days: float) -> float | None:
    """The end of a window that is not over; None where it is."""
    end = round(at + days * DAY_S, 3)
    return end if world.facts.now < end else None


# -------------------------------------------------------------------------------------------------- the offer


def of_offer(world: World, offer: Offer) -> Iterator[Said]:
    facts, book = world.facts, world.book
    if facts.now < offer.valid_from:
        yield "outside_validity", "valid_from", offer.valid_from, None
    elif facts.now >= offer.valid_until:
        yield "outside_validity", "valid_until", None, None
    if offer.channels and facts.channel not in offer.channels:
        yield "wrong_channel", "channel", None, None
    if offer.placements and facts.placement not in offer.placements:
        yield "wrong_placement", "placement", None, None
    if facts.channel not in PLACEMENTS[facts.placement]:
        yield "wrong_placement", "channel_of_placement", None, None
    if offer.markets and facts.market not in offer.markets:
        yield "wrong_market", "market", None, None
    if offer.eligibility is not None and not is_met(offer.eligibility, world.features):
        yield "not_eligible", "eligibility", met_at(world, offer.eligibility), None
    yield from budget(world, offer)
    yield from reactions(world, offer)
    yield from feeds(world, offer)
    yield from consent(world, offer)
    if facts.channel in OUTBOUND and is_quiet(facts.now, zone_of(world), book):
        yield "quiet_hours", "night_or_rest", end_of_quiet(facts.now, zone_of(world), book), zone_of(world)
    yield from care(world, offer)
    bought = [(line, e) for e in world.named("Order Completed") for line in e.body["products"]]
    back = [(line, e) for e in world.named("Order Refunded") for line in e.body["products"]]
    share = faded(back, facts.now) / faded(bought, facts.now) if bought else math.nan
    orders = len(world.named("Order Completed"))
    rule = book.too_many_returns
    if offer.kind not in rule.lets_through and orders >= rule.orders and round(share, 6) > rule.share:
        yield "too_many_returns", "share", None, None
    if not (offer.product_ids or offer.category) or offer.value.margin:
        yield from margin(world, offer, offer.value.margin)


def is_met(condition: Any, features: Mapping[str, float]) -> bool:
    if "all" in condition:
        return all(is_met(each, features) for each in condition["all"])
    if "any" in condition:
        return any(is_met(each, features) for each in condition["any"])
    if "not" in condition:
        return not is_met(condition["not"], features)
    value, limit = features[condition["field"]], condition["value"]
    said = {"<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit}
    return not math.isnan(value) and said[condition["operator"]]


def met_at(world: World, condition: Any) -> float | None:
    """The first millisecond of a hundred years at which the condition is met, nothing else having happened."""
    profile, now = world.facts.profile, math.ceil(world.facts.now * 1e3)
    turns = set()
    for name, limit in named_by(condition):
        for above in (False, True):

            def side(ms: int, name: str = name, limit: float = limit, above: bool = above) -> bool:
                value = profiles.derive(profile, ms / 1e3)[name]
                return value > limit if above else value >= limit

            low, high = now, now + 36_525 * 86_400_000
            if side(low) != side(high):
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if side(middle) == side(low) else (low, middle)
                turns.add(high)
    return next((ms / 1e3 for ms in sorted(turns) if is_met(condition, profiles.derive(profile, ms / 1e3))), None)


def named_by(condition: Any) -> Iterator[tuple[str, float]]:
    if "field" in condition:
        yield condition["field"], condition["value"]
    else:
        for part in [condition["not"]] if "not" in condition else next(iter(condition.values())):
            yield from named_by(part)


def faded(lines: Sequence[tuple[dict, Event]], now: float) -> float:
    return sum(line["quantity"] * 2 ** (-(now - e.occurred_at) / (365 * DAY_S)) for line, e in lines)


def budget(world: World, offer: Offer) -> Iterator[Said]:
    total, today = world.facts.used.get(offer.offer_id, (0, 0))
    if offer.budget and offer.budget.total is not None and total >= offer.budget.total:
        yield "offer_budget_spent", "total", None, None
    if offer.budget and offer.budget.daily is not None and today >= offer.budget.daily:
        yield "offer_budget_spent", "daily", math.floor(world.facts.now / DAY_S + 1) * DAY_S, None


def reactions(world: World, offer: Offer) -> Iterator[Said]:
    mine = [e for e in world.named("Offer Responded") if e.body["offer_id"] == offer.offer_id]
    taken = [e for e in mine if e.body["response"] == "accepted"]
    away = [e for e in mine if e.body["response"] == "dismissed"]
    if taken and offer.kind in world.book.already_redeemed.kinds:
        yield "already_redeemed", "same_offer", None, taken[-1].message_id
    if away and (not taken or mine.index(taken[-1]) < mine.index(away[-1])):
        end = until(world, away[-1].occurred_at, days_of(world.book.recently_dismissed, offer, offer.category))
        if end:
            yield "recently_dismissed", "same_offer", end, away[-1].message_id


def feeds(world: World, offer: Offer) -> Iterator[Said]:
    facts, over_products = world.facts, bool(offer.product_ids or offer.category)
    for signal in ("profile", "stock"):
        rule, heard = world.book.signals[signal], facts.feeds.get(signal)
        if signal == "profile" and facts.profile is None:
            continue
        if signal == "stock" and (not over_products or facts.location_id is None):
            continue
        if signal == "stock" and heard is None:
            yield "signal_missing", "stock", None, facts.location_id
        elif heard is not None and facts.now - heard > rule.max_age_s and rule.on_stale == "suppress":
            yield "signal_stale", signal, None, None
    book = world.book
    personal = offer.eligibility is not None or offer.kind in book.consent.personal_kinds
    concerned = {
        "cases": offer.kind not in book.open_case.lets_through,
        "consent": facts.channel in OUTBOUND or personal,
    }
    for signal in ("cases", "consent"):
        demanded, heard = book.signals.get(signal), facts.feeds[signal]
        if demanded and demanded.on_stale == "suppress" and concerned[signal]:
            if heard is None:
                yield "signal_missing", signal, None, None
            elif facts.now - heard > demanded.max_age_s:
                yield "signal_stale", signal, None, None


def word_on(world: World, purpose: str) -> Event | None:
    """The last word on the channel or on all of them: one on all replaces what was said before."""
    found = None
    for e in world.named("Consent Updated"):
        if e.body["purpose"] == purpose and e.body.get("channel") in (None, world.facts.channel):
            found = e
    return found


def consent(world: World, offer: Offer) -> Iterator[Said]:
    if world.facts.channel in OUTBOUND:
        word = word_on(world, "marketing")
        if word is None or not word.body["granted"]:
            yield "no_consent", "marketing", None, word.message_id if word else None
    word = word_on(world, "personalisation")
    allowed = world.book.consent.personalisation == "until_refused" if word is None else word.body["granted"]
    if not allowed and (offer.eligibility is not None or offer.kind in world.book.consent.personal_kinds):
        yield "no_consent", "personalisation", None, word.message_id if word else None


def zone_of(world: World) -> str:
    said = world.named("$identify")
    home = world.catalog.locations.get(said[-1].body["traits"]["store_id"]) if said else None
    return (home.timezone if home else None) or world.book.timezone


def is_quiet(at: float, zone: str, book: Rulebook) -> bool:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    start, end = book.quiet_hours.start, book.quiet_hours.end
    minute = local.hour * 60 + local.minute
    night = start <= minute < end if start <= end else not end <= minute < start
    return night or WEEKDAYS[local.weekday()] in book.quiet_hours.rest_days


def end_of_quiet(at: float, zone: str, book: Rulebook) -> float:
    """Minute by minute, until it is over."""
    minute = math.floor(at / 60.0) * 60.0
    while is_quiet(minute, zone, book):
        minute += 60.0
    return minute


def care(world: World, offer: Offer) -> Iterator[Said]:
    now, book = world.facts.now, world.book
    cases: dict[str, Event] = {}
    for e in world.named("Support Case Opened", "Support Case Resolved"):
        if e.name.endswith("Resolved"):
            cases.pop(e.body["case_id"], None)
        else:
            cases.setdefault(e.body["case_id"], e)
    if offer.kind not in book.open_case.lets_through:
        yield from (("open_case", "case", None, e.message_id) for e in cases.values())
    kept = {e.body["promise_id"] for e in world.named("Promise Kept")}
    made = {e.body["promise_id"]: e for e in world.named("Promise Made")}
    for promise_id, e in made.items():
        overdue = datetime.fromisoformat(e.body["due"]).timestamp() < now
        if overdue and promise_id not in kept and offer.kind not in book.promise_broken.lets_through:
            yield "promise_broken", "promise", None, e.message_id
    tried = world.named("Checkout Failed", "Order Completed")
    if tried and tried[-1].name == "Checkout Failed" and offer.kind not in book.checkout_failed.lets_through:
        end = until(world, tried[-1].occurred_at, book.checkout_failed.hours / 24)
        if end:
            yield "checkout_failed", "checkout", end, tried[-1].message_id


def margin(world: World, offer: Offer, earned: float) -> Iterator[Said]:
    rule = world.book.below_margin
    left = round(earned - offer.value.discount - offer.value.cost, 6)
    if rule.minimum is not None and offer.kind not in rule.lets_through and left < rule.minimum:
        yield "below_margin", "earned", None, None


# ------------------------------------------------------------------------------------------------ one product


def of_product(world: World, offer: Offer, product: Product) -> Iterator[Said]:
    yield from bought(world, offer, product)
    yield from came_back(world, offer, product)
    yield from coming_back(world, product)
    yield from stock(world, product)
    in_cart = set(world.facts.cart)
    for e in world.named("Product Added", "Order Completed"):
        if e.name == "Product Added":
            in_cart.add(e.body["product_id"])
        else:
            in_cart -= {line["product_id"] for line in e.body["products"]} - set(world.facts.cart)
    if product.product_id in in_cart:
        yield "in_cart", "cart", None, None
    if not offer.value.margin:
        yield from margin(world, offer, product.margin or 0.0)
    yield from terms(world, offer, product)


def days_of(window: Any, offer: Offer, category: str | None) -> float:
    own = [days for days in (window.kinds.get(offer.kind), window.categories.get(category or "")) if days is not None]
    return max(own) if own else window.days


def bought(world: World, offer: Offer, product: Product) -> Iterator[Said]:
    book = world.book.recently_purchased
    trips = [e for e in world.named("Order Completed") if holds(e, product.product_id)]
    if product.replenishable:
        if not trips:
            return
        rule, last = world.book.replenishment, trips[-1].occurred_at
        interval = rule.unknown_interval_days
        if len(trips) >= rule.usual_trips:
            interval = max((last - trips[0].occurred_at) / (len(trips) - 1) / DAY_S, 1.0)
        end = until(world, last, interval)
        if end:
            yield "too_soon_to_replenish", "usual_interval", end, trips[-1].message_id
        return
    for other in world.catalog.products.values():
        mine = [e for e in world.named("Order Completed") if holds(e, other.product_id)]
        if mine and other.product_id == product.product_id:
            window, rule = book.same_product, "same_product"
        elif mine and product.parent_id and other.parent_id == product.parent_id:
            window, rule = book.same_style, "same_style"
        else:
            continue
        end = until(world, mine[-1].occurred_at, days_of(window, offer, product.category))
        if end:
            yield "recently_purchased", rule, end, mine[-1].message_id
    kin = [e for e in world.named("Order Completed") if any(c == product.category for c in categories(e))]
    if kin:
        end = until(world, kin[-1].occurred_at, days_of(book.same_category, offer, product.category))
        if end:
            yield "recently_purchased", "same_category", end, kin[-1].message_id


def holds(event: Event, product_id: str) -> bool:
    return any(line["product_id"] == product_id for line in event.body["products"])


def categories(event: Event) -> list[str]:
    return [line["category"] for line in event.body["products"]]


def scope_of(world: World, reason: str) -> Any:
    words = reason.lower().split()
    for word, scope in world.book.recently_returned.by_reason.items():
        if word in words:
            return scope
    return None


def came_back(world: World, offer: Offer, product: Product) -> Iterator[Said]:
    """The last return of each product counts, with its own reason; and the last one of the category."""
    last = {line["product_id"]: e for e in world.named("Order Refunded") for line in e.body["products"]}
    found: dict[str, list[tuple[float, str]]] = {}

    def note(rule: str, e: Event) -> None:
        scope = scope_of(world, e.body["reason"])
        window = getattr(world.book.recently_returned, rule)
        days = getattr(scope, rule) if scope else days_of(window, offer, product.category)
        end = until(world, e.occurred_at, days)
        if end:
            found.setdefault(rule, []).append((end, e.message_id))

    for product_id, e in last.items():
        other = world.product(product_id)
        if product_id == product.product_id:
            note("same_product", e)
        elif product.parent_id and other.parent_id == product.parent_id:
            note("same_style", e)
        if other.category == product.category:
            note("same_category", e)
    in_category = [e for e in world.named("Order Refunded") if product.category in categories(e)]
    if in_category:
        note("same_category", in_category[-1])
    for rule, ends in found.items():
        yield "recently_returned", rule, *max(ends)


def coming_back(world: World, product: Product) -> Iterator[Said]:
    asked: dict[str, tuple[Event, dict[str, None], str]] = {}
    for e in world.named("Return Requested", "Order Refunded"):
        order, listed = e.body["order_id"], dict.fromkeys(line["product_id"] for line in e.body["products"])
        if e.name == "Return Requested":
            first, before, _ = asked.get(order, (e, {}, ""))
            asked[order] = (first, before | listed, e.body["reason"])
        elif order in asked:
            first, before, reason = asked.pop(order)
            left = {product_id: None for product_id in before if product_id not in listed}
            if left:
                asked[order] = (first, left, reason)
    rule = world.book.open_return
    for first, left, reason in asked.values():
        scope, others = scope_of(world, reason), [world.product(product_id) for product_id in left]
        style = rule.same_style and (scope is None or scope.same_style > 0)
        category = rule.same_category and (scope is None or scope.same_category > 0)
        if product.product_id in left:
            if rule.same_product:
                yield "open_return", "same_product", None, first.message_id
        elif style and product.parent_id and any(each.parent_id == product.parent_id for each in others):
            yield "open_return", "same_style", None, first.message_id
        elif category and any(each.category == product.category for each in others):
            yield "open_return", "same_category", None, first.message_id


def stock(world: World, product: Product) -> Iterator[Said]:
    facts = world.facts
    if facts.location_id is None:
        yield "stock_unknown", "location", None, None
    elif product.product_id not in facts.stock:
        yield "stock_unknown", "stock", None, facts.location_id
    elif facts.stock[product.product_id].quantity < world.book.stock.minimum and shop_for(world, product) is None:
        yield "out_of_stock", "stock", None, facts.stock[product.product_id].message_id


def shop_for(world: World, product: Product) -> str | None:
    """The nearest shop that has it, if the customer's own shop is known."""
    facts, rule, said = world.facts, world.book.reserve_in_store, world.named("$identify")
    home = world.catalog.locations.get(said[-1].body["traits"]["store_id"]) if said else None
    if home is None or facts.location_id != "online" or facts.channel not in ("web", "app", "call_centre"):
        return None
    near = []
    for place, shop in facts.shops.items():
        location, level = world.catalog.locations[place], shop.levels.get(product.product_id)
        fresh = shop.heard_at is not None and facts.now - shop.heard_at <= world.book.signals["stock"].max_age_s
        if location.kind == "shop" and fresh and level is not None and level.quantity >= rule.minimum:
            near.append((kilometres(home, location), place))
    return min(near)[1] if near and min(near)[0] <= rule.max_km and rule.max_km > 0 else None


def kilometres(one: Any, other: Any) -> float:
    """By the law of cosines; `catalog` takes the haversine."""
    a, b = math.radians(one.latitude), math.radians(other.latitude)
    east = math.radians(one.longitude - other.longitude)
    cosine = math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(east)
    return 6371.0 * math.acos(max(-1.0, min(1.0, cosine)))


def terms(world: World, offer: Offer, product: Product) -> Iterator[Said]:
    shown: Event | None = None
    for e in world.named("Offer Responded"):
        if e.body["response"] in ("shown", "clicked"):
            if e.body["product_id"] == product.product_id and e.body["discount"] > 0:
                shown = e
        elif e.body["response"] == "accepted" and shown and shown.body["offer_id"] == e.body["offer_id"]:
            shown = None
    if shown and shown.channel != world.facts.channel and shown.body["discount"] != offer.value.discount:
        end = until(world, shown.occurred_at, days_of(world.book.terms_conflict, offer, product.category))
        if end:
            yield "terms_conflict", "same_product", end, shown.message_id
