"""The rules once more, as plainly as they can be said: from raw events, one offer, one product, one rule at a time.

Nothing is shared with `serving.rules`; kept are the events in their order, by name, product and category, and no more.
What the fast path says must be what this says, to the last word of every reason. Only the order of an offer's products
(affinity) and the features are taken as given; `plain_path` works them out as plainly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from features import profiles
from features.catalog import Catalog
from features.vocabulary import DAY_S, OUTBOUND, PLACEMENTS, Event, Location, Offer, Product
from serving.facts import Contact, Facts, moment
from serving.rulebook import WEEKDAYS, Rulebook

Said = tuple[str, str, float | None, Any, bytes, bytes]
"""Code, rule, retry_after, evidence; observed and limit as JSON."""


def said(
    code: str, rule: str, observed: Any, limit: Any, retry_after: float | None = None, evidence: Any = None
) -> Said:
    return code, rule, retry_after, evidence, orjson.dumps(observed), orjson.dumps(limit)


@dataclass(frozen=True)
class World:
    facts: Facts
    events: Sequence[Event]
    book: Rulebook
    catalog: Catalog
    features: Mapping[str, float] = field(repr=False)

    @cached_property
    def _in_order(self) -> dict[str, list[tuple[tuple[float, str], Event]]]:
        found: dict[str, list[tuple[tuple[float, str], Event]]] = {}
        for e in sorted(self.events, key=lambda e: e.key):
            found.setdefault(e.name, []).append((e.key, e))
        return found

    def named(self, *names: str) -> list[Event]:
        several = [pair for name in names for pair in self._in_order.get(name, ())]
        return [e for _, e in sorted(several, key=lambda pair: pair[0])]

    @cached_property
    def orders_with(self) -> dict[str, list[Event]]:
        """Per product, and per `category:` and its name, the orders that hold it."""
        return _holding(self.named("Order Completed"))

    @cached_property
    def refunds_with(self) -> dict[str, list[Event]]:
        return _holding(self.named("Order Refunded"))

    @cached_property
    def sent_back(self) -> tuple[dict[str, dict[str, tuple[str, Event]]], dict[tuple[str, str], str]]:
        """By order what is on its way back, with its reason and the request; and why what was refunded came back."""
        asked: dict[str, dict[str, tuple[str, Event]]] = {}
        why: dict[tuple[str, str], str] = {}
        for e in self.named("Return Requested", "Order Refunded"):
            lines, reason = asked.setdefault(e.body["order_id"], {}), e.body.get("reason") or ""
            listed = [line["product_id"] for line in e.body["products"]]
            if e.name == "Order Refunded":
                for each in listed:
                    why[e.message_id, each] = reason or (lines[each][0] if each in lines else "")
                for each in listed:
                    lines.pop(each, None)
                continue
            for each, (before, first) in lines.items():
                lines[each] = (before or reason, first)
            for each in listed:
                before, first = lines.get(each, ("", e))
                lines[each] = (reason or before, first)
        return asked, why

    def product(self, product_id: str) -> Product:
        return self.catalog.products.get(product_id) or Product(product_id, product_id)

    @cached_property
    def quiet(self) -> Said | None:
        return quiet_hours(self)

    @cached_property
    def returned_share(self) -> float:
        bought, back = (units(self.named(name)) for name in ("Order Completed", "Order Refunded"))
        return min(back / bought, 1.0) if bought else 0.0

    @cached_property
    def met(self) -> dict[str, float | None]:
        """When each condition that was asked about is first met."""
        return {}

    @cached_property
    def carts(self) -> set[str]:
        return in_carts(self)

    @cached_property
    def home(self) -> Location | None:
        return home_of(self)


def _holding(events: Sequence[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for e in events:
        lines = e.body["products"]
        for key in {line["product_id"] for line in lines} | {f"category:{line.get('category')}" for line in lines}:
            found.setdefault(key, []).append(e)
    return found


def within(world: World, at: float, days: float) -> tuple[str, str, float] | None:
    """A window that is not over: when it began, how long it is, when it ends; None where it is over."""
    end = round(at + days * DAY_S, 3)
    return (moment(at), f"{days:g} days", end) if world.facts.now < end else None


# -------------------------------------------------------------------------------------------------- the offer


def of_offer(world: World, offer: Offer) -> Iterator[Said]:
    facts, book = world.facts, world.book
    if facts.now < offer.valid_from:
        times = moment(facts.now), moment(offer.valid_from)
        yield said("outside_validity", "valid_from", *times, offer.valid_from)
    elif facts.now >= offer.valid_until:
        yield said("outside_validity", "valid_until", moment(facts.now), moment(offer.valid_until))
    if offer.channels and facts.channel not in offer.channels:
        yield said("wrong_channel", "channel", facts.channel, offer.channels)
    if offer.placements and facts.placement not in offer.placements:
        yield said("wrong_placement", "placement", facts.placement, offer.placements)
    if facts.channel not in PLACEMENTS[facts.placement]:
        yield said("wrong_placement", "channel_of_placement", facts.channel, sorted(PLACEMENTS[facts.placement]))
    if offer.markets and facts.market not in offer.markets:
        yield said("wrong_market", "market", facts.market, offer.markets)
    if offer.eligibility is not None and not is_met(offer.eligibility, world.features):
        yield eligibility(world, offer.eligibility)
    yield from budget(world, offer)
    yield from reactions(world, offer)
    yield from feeds(world, offer)
    yield from consent(world, offer)
    if world.quiet:
        yield world.quiet
    yield from care(world, offer)
    share, orders = world.returned_share, len(world.named("Order Completed"))
    rule = book.too_many_returns
    if offer.kind not in rule.lets_through and orders >= rule.orders and share > rule.share:
        yield said("too_many_returns", "share", round(share, 6), rule.share)
    if not (offer.product_ids or offer.category) or offer.value.margin:
        yield from margin(world, offer, offer.value.margin)
    yield from contact_limit(world, offer)
    yield from carried(world, offer)


def is_met(condition: Any, features: Mapping[str, float]) -> bool:
    if "all" in condition:
        return all(is_met(each, features) for each in condition["all"])
    if "any" in condition:
        return any(is_met(each, features) for each in condition["any"])
    if "not" in condition:
        return not is_met(condition["not"], features)
    value, limit = features[condition["field"]], condition["value"]
    compared = {"<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit}
    return not math.isnan(value) and compared[condition["operator"]]


def eligibility(world: World, condition: Any) -> Said:
    key = repr(condition)
    if key not in world.met:
        world.met[key] = met_at(world, condition)
    values = {name: world.features[name] for name, _ in named_by(condition)}
    return said("not_eligible", "eligibility", values, condition, world.met[key])


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


def units(events: Iterable[Event]) -> int:
    return sum(line["quantity"] for event in events for line in event.body["products"])


def budget(world: World, offer: Offer) -> Iterator[Said]:
    total, today = world.facts.used.get(offer.offer_id, (0, 0))
    if offer.budget and offer.budget.total is not None and total >= offer.budget.total:
        yield said("offer_budget_spent", "total", total, offer.budget.total)
    if offer.budget and offer.budget.daily is not None and today >= offer.budget.daily:
        tomorrow = math.floor(world.facts.now / DAY_S + 1) * DAY_S
        yield said("offer_budget_spent", "daily", today, offer.budget.daily, tomorrow)


def reactions(world: World, offer: Offer) -> Iterator[Said]:
    mine = [e for e in world.named("Offer Responded") if e.body["offer_id"] == offer.offer_id]
    taken = [e for e in mine if e.body["response"] == "accepted"]
    away = [e for e in mine if e.body["response"] == "dismissed"]
    if taken and offer.kind in world.book.already_redeemed.kinds:
        yield said("already_redeemed", "same_offer", moment(taken[-1].occurred_at), "once", None, taken[-1].message_id)
    if away and (not taken or mine.index(taken[-1]) < mine.index(away[-1])):
        days = days_of(world.book.recently_dismissed, offer, offer.category)
        held = within(world, away[-1].occurred_at, days)
        if held:
            yield said("recently_dismissed", "same_offer", *held, away[-1].message_id)


def feeds(world: World, offer: Offer) -> Iterator[Said]:
    facts, over_products = world.facts, bool(offer.product_ids or offer.category)
    for signal in ("profile", "stock"):
        rule, heard = world.book.signals[signal], facts.feeds.get(signal)
        if signal == "profile" and (facts.profile is None or not (over_products or offer.eligibility is not None)):
            continue
        if signal == "stock" and (not over_products or facts.location_id is None):
            continue
        if rule.on_stale != "suppress":
            continue
        if signal == "stock" and heard is None:
            yield said("signal_missing", "stock", "no message yet", "a stock feed", None, facts.location_id)
        elif heard is not None:
            yield from stale(world, signal, heard)
    book = world.book
    personal = offer.eligibility is not None or offer.kind in book.consent.personal_kinds
    concerned = {
        "cases": offer.kind not in book.open_case.lets_through,
        "consent": facts.channel in OUTBOUND or personal,
    }
    for signal in ("cases", "consent"):
        demanded = book.signals.get(signal)
        if demanded and demanded.on_stale == "suppress" and concerned[signal]:
            heard = facts.feeds[signal]
            if heard is None:
                yield said("signal_missing", signal, "no message yet", f"a feed of {signal}")
            else:
                yield from stale(world, signal, heard)


def stale(world: World, signal: str, heard: float) -> Iterator[Said]:
    age, most = world.facts.now - heard, world.book.signals[signal].max_age_s
    if age > most:
        yield said("signal_stale", signal, f"{age:.0f} s old", f"{most:.0f} s")


def word_on(world: World, purpose: str) -> Event | None:
    """The last word on the channel or on all of them: one on all replaces what was said before."""
    found = None
    for e in world.named("Consent Updated"):
        if e.body["purpose"] == purpose and e.body.get("channel") in (None, world.facts.channel):
            found = e
    return found


def allowed(world: World, purpose: str) -> bool:
    """Whether the customer lets us use what we know of them for personalisation, or profiling."""
    word = word_on(world, purpose)
    return getattr(world.book.consent, purpose) == "until_refused" if word is None else word.body["granted"]


def consent(world: World, offer: Offer) -> Iterator[Said]:
    def refused(purpose: str, limit: str) -> Said:
        word = word_on(world, purpose)
        if word is None:
            return said("no_consent", purpose, "not granted", limit)
        return said("no_consent", purpose, f"refused {moment(word.occurred_at)}", limit, None, word.message_id)

    if world.facts.channel in OUTBOUND:
        word = word_on(world, "marketing")
        if word is None or not word.body["granted"]:
            yield refused("marketing", "granted")
    personal = offer.eligibility is not None or offer.kind in world.book.consent.personal_kinds
    if personal and not allowed(world, "personalisation"):
        yield refused("personalisation", world.book.consent.personalisation)


def home_of(world: World) -> Location | None:
    """The shop that an identify named last; else, of the ten used last, the one with most orders of late."""
    named = [e.body["traits"]["store_id"] for e in world.named("$identify") if "store_id" in e.body.get("traits", {})]
    if named and named[-1]:
        return world.catalog.locations.get(named[-1])
    visits: dict[str, list[float]] = {}
    for e in world.named("Order Completed"):
        if e.location_id and e.location_id != "online":
            visits.setdefault(e.location_id, []).append(e.occurred_at)
            if len(visits) > 10:
                del visits[min(visits, key=lambda place: (visits[place][-1], place))]
    weighed = [
        (-sum(2 ** (-(world.facts.now - at) / (90 * DAY_S)) for at in times), place) for place, times in visits.items()
    ]
    return world.catalog.locations.get(min(weighed)[1]) if weighed else None


def tier_of(world: World) -> str | None:
    named = [e.body["traits"]["tier"] for e in world.named("$identify") if "tier" in e.body.get("traits", {})]
    return named[-1] or None if named else None


def quiet_hours(world: World) -> Said | None:
    now, book = world.facts.now, world.book.quiet_hours
    zone = (world.home.timezone if world.home else None) or world.book.timezone
    if world.facts.channel not in OUTBOUND or not is_quiet(now, zone, world.book):
        return None
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    start, end = (f"{minute // 60:02}:{minute % 60:02}" for minute in (book.start, book.end))
    limit = ", ".join([f"not {start} to {end}", *(f"not {day}" for day in book.rest_days)])
    observed = f"{WEEKDAYS[local.weekday()]} {local.hour:02}:{local.minute:02} in {zone}"
    return said("quiet_hours", "night_or_rest", observed, limit, end_of_quiet(now, zone, world.book), zone)


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
        for case_id, e in cases.items():
            yield said("open_case", "case", moment(e.occurred_at), f"case {case_id} resolved", None, e.message_id)
    kept = {e.body["promise_id"] for e in world.named("Promise Kept")}
    made = {e.body["promise_id"]: e for e in world.named("Promise Made")}
    for promise_id, e in made.items():
        due = datetime.fromisoformat(e.body["due"]).timestamp()
        if due < now and promise_id not in kept and offer.kind not in book.promise_broken.lets_through:
            yield said("promise_broken", "promise", moment(due), f"promise {promise_id} kept", None, e.message_id)
    tried = world.named("Checkout Failed", "Order Completed")
    if tried and tried[-1].name == "Checkout Failed" and offer.kind not in book.checkout_failed.lets_through:
        hours = book.checkout_failed.hours
        held = within(world, tried[-1].occurred_at, hours / 24)
        if held:
            yield said("checkout_failed", "checkout", held[0], f"{hours:g} hours", held[2], tried[-1].message_id)


def margin(world: World, offer: Offer, earned: float) -> Iterator[Said]:
    rule = world.book.below_margin
    left = round(earned - offer.value.discount - offer.value.cost, 6)
    if rule.minimum is not None and offer.kind not in rule.lets_through and left < rule.minimum:
        yield said("below_margin", "earned", left, rule.minimum)


def contact_limit(world: World, offer: Offer) -> Iterator[Said]:
    """Every limit that is reached, and the quiet after too many dismissals."""
    facts, policy = world.facts, world.book.contact_policy
    if facts.channel not in OUTBOUND:
        return

    def ends(contact: Contact, days: float) -> float:
        left = round(contact.at + days * DAY_S, 3)
        return left if contact.until is None else min(left, contact.until)

    for limit in policy.limits:
        if limit.channel in (None, facts.channel) and limit.kind in (None, offer.kind):
            counted = sorted(
                (ends(each, limit.days), each.decision_id)
                for each in facts.contacts.made
                if limit.channel in (None, each.channel)
                and (limit.kind is None or limit.kind in each.kinds)
                and ends(each, limit.days) > facts.now
            )
            if len(counted) >= limit.at_most:
                free = counted[len(counted) - limit.at_most][0] if limit.at_most else None
                rule = f"per_{limit.channel or 'customer'}" + (f"_{limit.kind}" if limit.kind else "")
                evidence = tuple(decision_id for _, decision_id in counted)
                at_most = f"{limit.at_most} in {limit.days:g} days"
                yield said("contact_limit", rule, len(counted), at_most, free, evidence)
    quiet = policy.quiet_after
    waved = sorted((each.at, each.message_id) for each in facts.contacts.dismissed if each.at <= facts.now)
    runs = [waved[at - quiet.dismissals : at] for at in range(quiet.dismissals, len(waved) + 1)] if quiet else []
    runs = [run for run in runs if run[-1][0] - run[0][0] <= quiet.within_days * DAY_S]
    if runs:
        free = round(runs[-1][-1][0] + quiet.quiet_days * DAY_S, 3)
        text = f"{quiet.dismissals} in {quiet.within_days:g} days, then {quiet.quiet_days:g} days quiet"
        if facts.now < free:
            evidence = tuple(message_id for _, message_id in runs[-1])
            yield said("contact_limit", "dismissals", quiet.dismissals, text, free, evidence)


def carried(world: World, offer: Offer) -> Iterator[Said]:
    """What another channel has shown comes at the same discount, and ends no sooner."""
    before = world.facts.carried
    for promised in before.offers if before else ():
        if promised.offer_id == offer.offer_id:
            if promised.discount != offer.value.discount:
                discounts = offer.value.discount, promised.discount
                yield said("terms_conflict", "discount", *discounts, before.until, before.decision_id)
            if promised.valid_until > offer.valid_until:
                ends = moment(offer.valid_until), moment(promised.valid_until)
                yield said("terms_conflict", "valid_until", *ends, before.until, before.decision_id)


# ------------------------------------------------------------------------------------------------ one product


def of_product(world: World, offer: Offer, product: Product) -> Iterator[Said]:
    yield from bought(world, offer, product)
    yield from came_back(world, offer, product)
    yield from coming_back(world, product)
    yield from stock(world, product)
    if product.product_id in world.carts and offer.kind not in world.book.in_cart.lets_through:
        yield said("in_cart", "cart", product.product_id, "not in the cart")
    if not offer.value.margin:
        yield from margin(world, offer, product.margin or 0.0)
    yield from terms(world, offer, product)


def in_carts(world: World) -> set[str]:
    """What the caller names, and what was put in and neither taken out nor bought."""
    put_in: set[str] = set()
    for e in world.named("Product Added", "Product Removed", "Order Completed"):
        if e.name == "Product Added":
            put_in.add(e.body["product_id"])
        else:
            put_in -= {line["product_id"] for line in e.body.get("products", [e.body])}
    return put_in | set(world.facts.cart)


def days_of(window: Any, offer: Offer, category: str | None) -> float:
    own = [days for days in (window.kinds.get(offer.kind), window.categories.get(category or "")) if days is not None]
    return max(own) if own else window.days


def bought(world: World, offer: Offer, product: Product) -> Iterator[Said]:
    book = world.book.recently_purchased
    trips = world.orders_with.get(product.product_id, [])
    if product.replenishable:
        if not trips:
            return
        rule, last = world.book.replenishment, trips[-1].occurred_at
        interval_s = rule.unknown_interval_days * DAY_S
        if len(trips) >= rule.usual_trips:
            interval_s = max((last - trips[0].occurred_at) / (len(trips) - 1), DAY_S)
        end = round(last + interval_s, 3)
        if world.facts.now < end:
            limit = f"{interval_s / DAY_S:.3g} days"
            yield said("too_soon_to_replenish", "usual_interval", moment(last), limit, end, trips[-1].message_id)
        return

    def held(rule: str, window: Any, e: Event) -> Iterator[Said]:
        found = within(world, e.occurred_at, days_of(window, offer, product.category))
        if found:
            yield said("recently_purchased", rule, *found, e.message_id)

    if trips:
        yield from held("same_product", book.same_product, trips[-1])
    for other in world.orders_with if product.parent_id else ():
        if other != product.product_id and world.product(other).parent_id == product.parent_id:
            yield from held("same_style", book.same_style, world.orders_with[other][-1])
    kin = world.orders_with.get(f"category:{product.category}") if product.category else None
    if kin:
        yield from held("same_category", book.same_category, kin[-1])


def scope_of(world: World, reason: str) -> Any:
    words = reason.lower().split()
    for word, scope in world.book.recently_returned.by_reason.items():
        if word in words:
            return scope
    return None


def came_back(world: World, offer: Offer, product: Product) -> Iterator[Said]:
    """The last return of each product counts, with its own reason; and the last one of the category."""
    found: dict[str, list[tuple[float, str, str, str]]] = {}

    def note(rule: str, e: Event, product_id: str) -> None:
        scope = scope_of(world, world.sent_back[1][e.message_id, product_id])
        window = getattr(world.book.recently_returned, rule)
        held = within(world, e.occurred_at, getattr(scope, rule) if scope else days_of(window, offer, product.category))
        if held:
            found.setdefault(rule, []).append((held[2], e.message_id, held[0], held[1]))

    for product_id, events in world.refunds_with.items():
        if product_id.startswith("category:"):
            continue
        other = world.product(product_id)
        if product_id == product.product_id:
            note("same_product", events[-1], product_id)
        elif product.parent_id and other.parent_id == product.parent_id:
            note("same_style", events[-1], product_id)
        if product.category and other.category == product.category:
            note("same_category", events[-1], product_id)
    in_category = world.refunds_with.get(f"category:{product.category}") if product.category else None
    if in_category:
        last = [line for line in in_category[-1].body["products"] if line.get("category") == product.category][-1]
        note("same_category", in_category[-1], last["product_id"])
    for rule, ends in found.items():
        end, message_id, at, days = max(ends)
        yield said("recently_returned", rule, at, days, end, message_id)


def coming_back(world: World, product: Product) -> Iterator[Said]:
    rule = world.book.open_return
    for order, lines in world.sent_back[0].items():
        for reason in sorted({why for why, _ in lines.values()}):
            left = [product_id for product_id, (why, _) in lines.items() if why == reason]
            first = min((e.occurred_at, e.message_id) for why, e in lines.values() if why == reason)
            scope, others = scope_of(world, reason), [world.product(product_id) for product_id in left]
            style = rule.same_style and (scope is None or scope.same_style > 0)
            category = rule.same_category and (scope is None or scope.same_category > 0)
            told = moment(first[0]), f"return of order {order} closed", None, first[1]
            if product.product_id in left:
                if rule.same_product:
                    yield said("open_return", "same_product", *told)
            elif style and product.parent_id and any(each.parent_id == product.parent_id for each in others):
                yield said("open_return", "same_style", *told)
            elif category and product.category and any(each.category == product.category for each in others):
                yield said("open_return", "same_category", *told)


def stock(world: World, product: Product) -> Iterator[Said]:
    facts, minimum = world.facts, world.book.stock.minimum
    if facts.location_id is None:
        yield said("stock_unknown", "location", None, "a location_id")
        return
    level = facts.stock.get(product.product_id)
    if level is None and facts.feeds.get("stock") is None and world.book.signals["stock"].on_stale != "suppress":
        return
    if level is None:
        yield said("stock_unknown", "stock", None, minimum, None, facts.location_id)
    elif level.quantity < minimum and shop_for(world, product) is None:
        yield said("out_of_stock", "stock", level.quantity, minimum, None, level.message_id)


def shop_for(world: World, product: Product) -> str | None:
    """The nearest shop that has it, if the customer's own shop is known."""
    facts, rule, home = world.facts, world.book.reserve_in_store, world.home
    if home is None or facts.location_id != "online" or facts.channel not in ("web", "app", "call_centre"):
        return None
    near = []
    for place, location in world.catalog.locations.items():
        if location.kind != "shop" or None in (location.latitude, home.latitude) or rule.max_km <= 0:
            continue
        km = kilometres(home, location)
        shop = facts.shops.get(place) if km <= rule.max_km else None
        if shop is None or shop.heard_at is None:
            continue
        level = shop.levels.get(product.product_id)
        fresh = facts.now - shop.heard_at <= world.book.signals["stock"].max_age_s
        if fresh and level is not None and level.quantity >= rule.minimum:
            near.append((km, place))
    return min(near)[1] if near else None


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
            if e.body.get("product_id") == product.product_id and e.body.get("discount", 0) > 0:
                shown = e
        elif e.body["response"] == "accepted" and shown and shown.body["offer_id"] == e.body["offer_id"]:
            shown = None
    if shown and shown.channel != world.facts.channel and shown.body["discount"] != offer.value.discount:
        held = within(world, shown.occurred_at, days_of(world.book.terms_conflict, offer, product.category))
        if held:
            by = f"{shown.body['offer_id']} ({shown.channel or 'channel unknown'})"
            observed = f"{shown.body['discount']:.2f} off by {by}, {held[0]}"
            limit = f"the same discount for {held[1]}"
            yield said("terms_conflict", "same_product", observed, limit, held[2], shown.message_id)
