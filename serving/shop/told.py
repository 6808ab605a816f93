"""One decision in plain words, for people who look at the demo shop. Pure; nothing is judged here.

A decision's trace has every offer and every rule. Here it is put in order for the eye: first what is held back because
of this customer's own story, by reason; then, in one heap, what is not meant for this place at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from features.catalog import Catalog
from features.placeholders import HTML_CHANNELS
from features.vocabulary import Offer, Product
from serving.decision_page import text_of
from serving.shop.reasons import ASIDE, REASONS, detail_of, label_of, moment_of, place_of
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
    return text_of(said) if channel in HTML_CHANNELS else said


def _held(
    offer: Offer | None, one: Mapping[str, Any], codes: Sequence[str], channel: str, catalog: Catalog, whole: bool
) -> Held:
    """The first reason in the order of telling names it; all of them are told."""
    code = min(codes, key=place_of)
    about = one.get("product_id") or next((r["product_id"] for r in one["reasons"] if r["product_id"]), None)
    product = catalog.products.get(about) if about else None
    title = title_of(offer, catalog, channel, product) if offer is not None else one["offer_id"]
    held = Held(one["offer_id"], title, product, whole, code)
    in_order = sorted(one["reasons"], key=lambda each: place_of(each["code"]))
    held.details = list(dict.fromkeys(detail_of(each) for each in in_order))
    times = [reason["retry_after"] for reason in one["reasons"]]
    if whole:
        held.retry_after = one["retry_after"]
    elif all(times):
        held.retry_after = max(times)
    events = [REASONS[each][1] for each in sorted(set(codes) & set(REASONS), key=place_of)]
    event = ", ".join(each for each in events if each)
    held.until = f"until {moment_of(held.retry_after)}" if held.retry_after else event or None
    if whole and held.retry_after and max(filter(None, times)) > held.retry_after:  # another product is free earlier
        held.until = f"{held.until}, then with another product"
    return held


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
