"""A customer's events as lines that people read: what happened, what it was about, where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from features.catalog import Catalog
from features.signals import ABOUT_STOCK
from features.vocabulary import Event
from serving.shop.told import CHANNELS, title_of
from serving.shop.window import device_of

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
