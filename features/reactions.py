"""What a customer did with each offer: waved it away, took it up; and which discounts we have shown them, on what.

One entry an offer or product, none left out within 730 days. A discount counts as shown when the response says
which product it was on; taking the offer up settles it. How often a *kind* was clicked and the like is in `steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.profile_value import Profile
from features.vocabulary import DAY_S, KEEP_DAYS, Event

KEEP_S = KEEP_DAYS * DAY_S
DISMISSED, ACCEPTED, TERMS = "dismissed", "accepted", "terms"
AT, ID, DISCOUNT, CHANNEL, OFFER = range(5)
DECISION = 2
"""Of an offer taken up: the decisions that it was of, where that was said, with when it was said last."""
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Terms:
    """A discount on a product that this customer has seen, and where. `evidence` is the message that said so."""

    product_id: str
    discount: float
    channel: str | None
    offer_id: str
    at: float
    evidence: str


def dismissed(profile: Profile | None) -> Mapping[str, tuple[float, str]]:
    """Per offer waved away: when last, and the message that said so."""
    return {offer_id: (entry[AT], entry[ID]) for offer_id, entry in _of(profile, DISMISSED).items()}


def accepted(profile: Profile | None) -> Mapping[str, tuple[float, str]]:
    """Per offer taken up: when last, and the message that said so."""
    return {offer_id: (entry[AT], entry[ID]) for offer_id, entry in _of(profile, ACCEPTED).items()}


def terms(profile: Profile | None) -> Mapping[str, Terms]:
    """Per product the discount that was shown last and has not been used."""
    return {
        product_id: Terms(product_id, entry[DISCOUNT], entry[CHANNEL] or None, entry[OFFER], entry[AT], entry[ID])
        for product_id, entry in _of(profile, TERMS).items()
    }


def _of(profile: Profile | None, part: str) -> Mapping[str, Any]:
    return profile.state["reactions"][part] if profile is not None and profile.state else _NONE


def says_again(state: Mapping[str, Any], event: Event) -> bool:
    """Whether it says that an offer was taken up which another message said of the same decision: a coupon and its
    order are one acceptance."""
    body = event.body
    known = state["reactions"][ACCEPTED].get(body.get("offer_id")) if body.get("response") == "accepted" else None
    decision_id = body.get("decision_id")
    return known is not None and isinstance(decision_id, str) and decision_id in known[DECISION]


def fresh() -> dict[str, dict[str, Any]]:
    return {DISMISSED: {}, ACCEPTED: {}, TERMS: {}}


# -------------------------------------------------------------------------------------------------- step


def _responded(state: dict[str, Any], items: Any, event: Event) -> None:
    body, now = event.body, event.occurred_at
    mine, response, offer_id = state["reactions"], body.get("response"), body.get("offer_id")
    if not offer_id:
        return
    if response == "dismissed":
        _note(mine[DISMISSED], offer_id, [now, event.message_id])
    elif response == "accepted":
        mine[DISMISSED].pop(offer_id, None)
        before = mine[ACCEPTED].get(offer_id, ("", "", {}))[DECISION]
        decisions = {each: at for each, at in before.items() if now - at <= KEEP_S}
        if isinstance(body.get("decision_id"), str):
            decisions[body["decision_id"]] = now
        _note(mine[ACCEPTED], offer_id, [now, event.message_id, decisions])
        for product_id in [key for key, entry in mine[TERMS].items() if entry[OFFER] == offer_id]:
            del mine[TERMS][product_id]
    elif body.get("product_id") and _money(body.get("discount")):
        entry = [now, event.message_id, float(body["discount"]), event.channel or "", offer_id]
        _note(mine[TERMS], body["product_id"], entry)


def _money(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _note(entries: dict[str, Any], key: str, entry: list[Any]) -> None:
    for old in [each for each, known in entries.items() if entry[AT] - known[AT] > KEEP_S]:
        del entries[old]
    entries[key] = entry


STEPS = {"Offer Responded": _responded}
