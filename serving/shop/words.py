"""Decisions and events in plain words, for people who look at the demo shop. Pure; nothing is judged here.

A decision's trace has every offer and every rule. Here it is put in order for the eye: first what is held back because
of this customer's own story, by reason; then, in one heap, what is not meant for this place at all.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from features.catalog import Catalog
from features.placeholders import HTML_CHANNELS
from features.signals import ABOUT_STOCK
from features.vocabulary import Event, Offer, Product
from serving.shop.window import device_of
from serving.treatments import treatment_of

CHANNELS = {
    "web": "Website",
    "app": "App",
    "email": "E-mail",
    "sms": "SMS",
    "push": "Push",
    "call_centre": "Call centre",
    "store": "Store",
}
REASONS = {
    "open_return": ("A return is under way", "until the return is settled"),
    "recently_returned": ("Sent back recently", None),
    "recently_purchased": ("Bought recently", None),
    "too_soon_to_replenish": ("Not used up yet", None),
    "in_cart": ("Already in the cart", "until it leaves the cart"),
    "out_of_stock": ("Sold out", "until it is back in stock"),
    "open_case": ("Waiting for support", "until the case is resolved"),
    "promise_broken": ("We owe them something", "until the promise is kept"),
    "checkout_failed": ("Could not pay a moment ago", None),
    "no_consent": ("No consent", "until they agree"),
    "contact_limit": ("Contacted often enough", None),
    "quiet_hours": ("Night where they are", None),
    "recently_dismissed": ("Waved away", None),
    "already_redeemed": ("Used already", None),
    "terms_conflict": ("Other terms shown elsewhere", None),
    "too_many_returns": ("Sends a lot back", None),
    "mutually_exclusive": ("A better one of its kind is shown", None),
    "below_margin": ("Would earn too little", None),
    "below_floor": ("Not worth showing", None),
    "offer_budget_spent": ("Budget is spent", None),
    "stock_unknown": ("Nobody says how much is left", "until a stock message comes"),
    "signal_stale": ("Its feed has gone quiet", "until the feed is heard"),
    "signal_missing": ("Its feed was never heard", "until the feed is heard"),
}
"""Per reason code: what it means in a word, and what lifts it where no time does. In the order of telling."""
ASIDE = ("wrong_channel", "wrong_placement", "wrong_market", "not_eligible", "outside_validity", "control_arm")
"""Reasons that are about the offer and this place; what has one is told in one heap."""
_SCOPES = {"same_product": "this product", "same_style": "another size of it", "same_category": "its category"}


@dataclass(frozen=True, slots=True)
class Shown:
    """An offer as it came, for a page: `where` is the shop in which it is set aside."""

    offer_id: str
    title: str
    body: str
    kind: str
    product: Product | None
    where: str | None
    priority: float | None


@dataclass(slots=True)
class Held:
    """One offer that is held back, or one product of an open one: why, and until when."""

    offer_id: str
    title: str
    product: Product | None
    whole: bool
    code: str
    details: list[str] = field(default_factory=list)
    until: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """One decision in words. `waiting`: free but for the hour of the day."""

    decision_id: str
    channel: str
    name: str
    placement: str
    shown: Sequence[Shown]
    held: Sequence[tuple[str, Sequence[Held]]]
    waiting: Sequence[Held]
    aside: int
    fallback: str | None

    @property
    def held_count(self) -> int:
        return sum(len(each) for _, each in self.held)


def told(answer: Mapping[str, Any], catalog: Catalog) -> Told:
    """A decision with its trace, in words."""
    channel = answer["channel"]
    groups: dict[str, list[Held]] = {}
    waiting: list[Held] = []
    aside = 0
    for one in answer["suppressed"]:
        offer = catalog.offers.get(one["offer_id"])
        codes = [reason["code"] for reason in one["reasons"]]
        if any(code in ASIDE for code in codes):
            aside += 1
            continue
        held = _held(offer, one, codes, channel, catalog, whole=True)
        if set(codes) == {"quiet_hours"}:
            waiting.append(held)
        else:
            groups.setdefault(held.code, []).append(held)
    for one in answer["passed_over"]:
        codes = [reason["code"] for reason in one["reasons"]]
        held = _held(catalog.offers.get(one["offer_id"]), one, codes, channel, catalog, whole=False)
        groups.setdefault(held.code, []).append(held)
    order = [*REASONS, *sorted(set(groups) - set(REASONS))]
    return Told(
        decision_id=answer["decision_id"],
        channel=channel,
        name=CHANNELS[channel],
        placement=answer["placement"],
        shown=[_shown(each, channel, catalog) for each in answer["offers"]],
        held=[(label_of(code), groups[code]) for code in order if code in groups],
        waiting=waiting,
        aside=aside,
        fallback=answer["fallback"],
    )


def label_of(code: str) -> str:
    return REASONS.get(code, (code.replace("_", " ").capitalize(), None))[0]


def _shown(offer: Mapping[str, Any], channel: str, catalog: Catalog) -> Shown:
    """An offer as text: where treatments are HTML, what they say is read from it, and written as text again."""
    fulfilment = offer["fulfilment"]
    where = catalog.locations.get(fulfilment["location_id"]) if fulfilment else None
    product_id, title = offer["product_id"], offer["treatment"].get("title", offer["offer_id"])
    return Shown(
        offer["offer_id"],
        _text(title, channel) if title != offer["offer_id"] else _readable(title),
        _text(offer["treatment"].get("body", ""), channel),
        offer["kind"].replace("_", " "),
        catalog.products.get(product_id) or (Product(product_id, product_id) if product_id else None),
        (where.name if where else fulfilment["location_id"]) if fulfilment else None,
        offer["priority"],
    )


def _readable(offer_id: str) -> str:
    return offer_id.replace("-", " ").capitalize()


def _text(said: str, channel: str) -> str:
    return html.unescape(said) if channel in HTML_CHANNELS else said


def _held(
    offer: Offer | None, one: Mapping[str, Any], codes: Sequence[str], channel: str, catalog: Catalog, whole: bool
) -> Held:
    """The first reason in the order of telling names it; all of them are told."""
    code = min(codes, key=_place)
    about = one.get("product_id") or next((r["product_id"] for r in one["reasons"] if r["product_id"]), None)
    product = catalog.products.get(about) if about else None
    title = title_of(offer, catalog, channel, product) if offer is not None else one["offer_id"]
    held = Held(one["offer_id"], title, product, whole, code)
    in_order = sorted(one["reasons"], key=lambda each: _place(each["code"]))
    held.details = list(dict.fromkeys(_detail(each) for each in in_order))
    times = [reason["retry_after"] for reason in one["reasons"]]
    if whole:
        held.retry_after = one["retry_after"]
    elif all(times):
        held.retry_after = max(times)
    event = next((REASONS.get(each, ("", None))[1] for each in codes if REASONS.get(each, ("", None))[1]), None)
    held.until = f"until {moment_of(held.retry_after)}" if held.retry_after else event
    return held


def _place(code: str) -> int:
    """Where a reason stands in the order of telling."""
    return list(REASONS).index(code) if code in REASONS else len(REASONS)


def _detail(reason: Mapping[str, Any]) -> str:
    """One reason as a sentence: what was seen, and what would have been allowed."""
    code, observed, limit = reason["code"], reason["observed"], reason["limit"]
    scope = _SCOPES.get(reason["rule"], "")
    if code in ("recently_purchased", "recently_returned") and isinstance(observed, str):
        verb = "bought" if code == "recently_purchased" else "sent back"
        return f"{scope or 'it'} was {verb} {moment_of(observed)}; not again within {limit}"
    if code == "too_soon_to_replenish" and isinstance(observed, str):
        return f"bought {moment_of(observed)}, and lasts about {limit}"
    if code == "below_margin":
        return f"would earn {_said(observed)}, at least {_said(limit)} is asked"
    if code == "recently_dismissed":
        return f"waved away {_said(observed)}; not again within {_said(limit)}"
    if code == "open_return":
        return "a return of its kind has been asked for and is not settled"
    if code == "in_cart":
        return "put in on any device, it counts on all"
    if code == "out_of_stock":
        return f"{observed} left, at least {limit} needed, and no shop near theirs can set it aside"
    if code == "stock_unknown":
        return "no stock message has come for it" if observed is None else f"stock is {observed}"
    if code == "no_consent":
        return f"needs a yes to {reason['rule'].replace('_', ' ')} that has not been given"
    if code == "quiet_hours":
        return f"{_said(observed)}; {_said(limit)}"
    if code == "contact_limit":
        return f"{_said(observed)} so far, allowed {_said(limit)}"
    return f"{label_of(code).lower()}: saw {_said(observed)}, limit {_said(limit)}"


def _said(value: Any) -> str:
    if isinstance(value, str) and len(value) > 18 and value[4:5] == "-" and value[10:11] == "T":
        return moment_of(value)
    if isinstance(value, list | tuple):
        return ", ".join(_said(each) for each in value)
    return "nothing" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def day_of(at: str | float) -> str:
    """The same, shorter: `22 Nov, 10:00`."""
    return moment_of(at)[4:].removesuffix(" UTC")


def moment_of(at: str | float) -> str:
    """A time for people, in UTC: `Sun 22 Nov, 10:00`."""
    when = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
    return f"{when:%a} {when.day} {when:%b}, {when:%H:%M} UTC"


# ------------------------------------------------------------------------------------------------ events

HIDDEN = ABOUT_STOCK | {"Feed Alive", "Cart Viewed"}
"""What no customer would remember."""
SHOWN, SEVERAL = "Offer shown", "Offers shown"
_NAMES = {"$identify": "Signed in", "$alias": "Two ids joined", "$page": "Page seen", "Offer Responded": "Offer"}


@dataclass(slots=True)
class Line:
    """One event as a line; several offers shown one after the other are one."""

    at: float
    what: str
    about: str
    channel: str


def lines(events: Sequence[Event], catalog: Catalog) -> list[Line]:
    """The events that a customer would remember, in the order given."""
    told: list[Line] = []
    for event in events:
        if event.name in HIDDEN:
            continue
        what, place = _NAMES.get(event.name, event.name), catalog.locations.get(event.location_id or "")
        if event.name == "Offer Responded":
            what = f"Offer {event.body.get('response', '')}"
        if event.name == "$identify" and _home(event):
            what = "My store"
        device = device_of(event.anonymous_id)
        where = place.name if place else f"on the {device}" if device else CHANNELS.get(event.channel or "", "")
        line = Line(event.occurred_at, what, _about(event, catalog), where)
        before = told[-1] if told else None
        if before is not None and what == SHOWN and before.what in (SHOWN, SEVERAL) and before.channel == where:
            before.what = SEVERAL
            before.about = before.about if line.about in before.about else f"{before.about}, {line.about}"
        else:
            told.append(line)
    return told


def _home(event: Event) -> str | None:
    """The store that an `identify` says is the customer's."""
    home = (event.body.get("traits") or {}).get("home_location_id")
    return str(home) if home else None


def _about(event: Event, catalog: Catalog) -> str:
    body = event.body
    if event.name == "Offer Responded":
        offer = catalog.offers.get(body.get("offer_id", ""))
        return title_of(offer, catalog, event.channel) if offer else str(body.get("offer_id", ""))
    if event.name == "Consent Updated":
        verb = "agrees to" if body.get("granted") else "refuses"
        return f"{verb} {body.get('purpose')} by {body.get('channel') or 'any channel'}"
    if event.name == "$identify":
        home = (body.get("traits") or {}).get("home_location_id")
        place = catalog.locations.get(str(home)) if home else None
        return f"my store is {place.name if place else home}" if home else f"as {event.user_id}"
    ids = [body.get("product_id"), *(line.get("product_id") for line in body.get("products") or ())]
    named = [_name(str(each), catalog) for each in ids if each]
    told_ = ", ".join(named[:2]) + (f" and {len(named) - 2} more" if len(named) > 2 else "")
    for key in ("query", "reason", "text", "name"):
        if not told_ and body.get(key):
            return str(body[key])
    return f"{told_} ({body['reason']})" if told_ and body.get("reason") else told_


def _place_name(location_id: str, catalog: Catalog) -> str:
    place = catalog.locations.get(location_id)
    return place.name if place else location_id


def _name(product_id: str, catalog: Catalog) -> str:
    product = catalog.products.get(product_id)
    return product.name if product else product_id


def title_of(offer: Offer, catalog: Catalog, channel: str | None, product: Product | None = None) -> str:
    """What the offer is called: its title in the channel, else in another; else what it is over, else its id."""
    for each in (channel or "web", "web", *offer.treatments):
        if offer.treatments.get(each, {}).get("title"):
            return _text(treatment_of(offer, product or _first(offer, catalog), None, None, each)["title"], each)
    product = product or _first(offer, catalog)
    return product.name if product else _readable(offer.offer_id)


def _first(offer: Offer, catalog: Catalog) -> Product | None:
    ids = catalog.products_of(offer)
    return catalog.products.get(ids[0]) if ids else None
