"""What a customer did with an offer: from `/respond`, and from messages that carry a decision's id.

All become `Offer Responded` events, which profiles and labels read. The record of the decision says who it was for
and what it offered; nothing else is believed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from features.catalog import Catalog
from features.commerce import LONGEST_ID
from features.events import SKEW_S, EventProblem, check
from features.vocabulary import ANONYMOUS, Event
from serving.decision_log import DecisionLog
from serving.problems import bad_input, not_found, shown
from serving.schemas import RespondRequest
from serving.taken_up import decisions_of, taken_up

COUPON = "Coupon Applied"
"""What `segment` leaves of this name says no id of an offer."""
Record = Mapping[str, Any]


class Known(NamedTuple):
    """What messages are read by: the record of a decision by its id, whose a login or anonymous id is, the catalog."""

    find: Callable[[str], Record | None]
    customer_of: Callable[[str | None, str | None], str]
    catalog: Catalog

    def decision(self, decision_id: Any, event: Event) -> Record | None:
        """The record of that decision, if it was made for who the event is about.

        Decided for one id, bought under another of the same customer: that is one customer.
        """
        record = self.find(decision_id) if isinstance(decision_id, str) else None
        if record is None:
            return None
        decided_for = record["answer"]["customer_id"]
        said = event.user_id, event.anonymous_id and f"{ANONYMOUS}{event.anonymous_id}"
        same = decided_for in said or (
            self.customer_of(decided_for, None) == self.customer_of(event.user_id, event.anonymous_id)
        )
        return record if same else None


def responded(request: RespondRequest, log: DecisionLog, now: float) -> dict[str, Any]:
    """The event that `/respond` asks for. Raises Problem where no such decision or offer was answered."""
    record = log.find(request.decision_id)
    if record is None:
        raise not_found(f"no decision {shown(request.decision_id)}; expected one answered by /decide")
    if request.occurred_at_s is not None and request.occurred_at_s > now + SKEW_S:
        most = f"expected at most {SKEW_S / 60:.0f} minutes ahead of our clock"
        raise bad_input("occurred_at", f"{shown(request.occurred_at)} is in the future; {most}")
    if request.occurred_at_s is not None and request.occurred_at_s < record["facts"]["now"] - SKEW_S:
        raise bad_input("occurred_at", f"{shown(request.occurred_at)} is before the decision; expected a later time")
    offered = {offer["offer_id"]: offer for offer in record["answer"]["offers"]}
    if request.offer_id not in offered:
        known = ", ".join(f"`{offer_id}`" for offer_id in offered) or "none"
        raise bad_input("offer_id", f"{shown(request.offer_id)} was not offered by it; expected one of {known}")
    at = now if request.occurred_at_s is None else min(request.occurred_at_s, now)
    return _event(
        f"response:{request.decision_id}:{request.response_id}", record, offered[request.offer_id], request.kind, at
    )


def completed(message: dict[str, Any], known: Known, now: float) -> dict[str, Any]:
    """A response that a message tells of, with what it does not say itself: as the decision's record has it.

    A coupon that is no offer's own, of a decision that showed a single offer, is that one's.
    """
    event = _checked(message, now) if message["name"] in ("Offer Responded", COUPON) else None
    record = known.decision(event.body.get("decision_id"), event) if event else None
    if event is None or record is None:
        return message
    offers = record["answer"]["offers"]
    meant = [each for each in offers if each["offer_id"] == event.body.get("offer_id")]
    if not meant and len(offers) == 1 and _names_no_offer(event, known):
        meant = offers
    for offer in meant:
        missing = {key: value for key, value in _said_of(offer).items() if event.body.get(key) in (None, "")}
        response = "accepted" if event.name == COUPON else event.body["response"]
        body = {**message["body"], **missing, "offer_id": offer["offer_id"], "response": response}
        channel = event.channel or record["answer"]["channel"]
        return {**message, "name": "Offer Responded", "channel": channel, "body": body}
    return message


def asks_for_a_decision(message: Record) -> bool:
    """Whether the log of decisions must be read for a message that takes no time otherwise."""
    return message["name"] == COUPON and message["body"].get("decision_id") is not None


def _names_no_offer(event: Event, known: Known) -> bool:
    """Whether it is a coupon that says which decision it is of, and not which offer: a shop's own code at most."""
    offer_id = event.body.get("offer_id")
    code = offer_id is not None and offer_id == event.body.get("coupon_id") and offer_id not in known.catalog.offers
    return event.name == COUPON or code


def accepted_by(message: Record, known: Known, now: float) -> Iterator[dict[str, Any]]:
    """The offers that an order takes up, of the decisions that it names."""
    if message["name"] != "Order Completed" or (event := _checked(message, now)) is None:
        return
    for decision_id in decisions_of(event.body):
        record = known.decision(decision_id, event)
        if record is None:
            continue
        for offer, product_id in taken_up(record["answer"]["offers"], decision_id, event.body, known.catalog):
            of = "" if decision_id == event.body.get("decision_id") else f"{decision_id}:"
            message_id = f"{event.message_id}:accepted:{of}{offer['rank']}"
            bought = {**offer, "product_id": product_id}
            by = {"order_id": event.body["order_id"]}
            yield _event(message_id, record, bought, "accepted", event.occurred_at, by)


def _checked(message: Record, now: float) -> Event | None:
    """The message as it will be stored; None for one that names no decision, or will be refused."""
    body = message["body"]
    lines = body.get("products") if message["name"] == "Order Completed" else None
    said = [body, *(lines if isinstance(lines, list) else ())]
    if not any(isinstance(each, Mapping) and each.get("decision_id") is not None for each in said):
        return None
    try:
        return check(message, now)
    except EventProblem:
        return None


def each_once(events: Iterable[Event]) -> Iterator[Event]:
    """Responses without those that say again that this offer of this decision was taken up: one acceptance is told."""
    taken: set[tuple[Any, Any]] = set()
    for event in events:
        key = event.body.get("decision_id"), event.body.get("offer_id")
        if event.body.get("response") == "accepted" and key[0] is not None:
            if key in taken:
                continue
            taken.add(key)
        yield event


def _event(
    message_id: str, record: Record, offer: Record, response: str, at: float, more: Record = MappingProxyType({})
) -> dict[str, Any]:
    customer_id = record["answer"]["customer_id"]
    anonymous = customer_id.startswith(ANONYMOUS)
    return {
        "message_id": message_id if len(message_id) <= LONGEST_ID else f"{response}-{_short(message_id)}",
        "name": "Offer Responded",
        "occurred_at": at,
        "user_id": None if anonymous else customer_id,
        "anonymous_id": customer_id.removeprefix(ANONYMOUS) if anonymous else None,
        "channel": record["answer"]["channel"],
        "body": {
            "decision_id": record["decision_id"],
            "offer_id": offer["offer_id"],
            **_said_of(offer),
            "response": response,
            **more,
        },
    }


def _short(message_id: str) -> str:
    return hashlib.sha256(message_id.encode()).hexdigest()[:32]


def _said_of(offer: Record) -> dict[str, Any]:
    """What the decision showed of an offer."""
    return {
        "offer_kind": offer["kind"],
        "product_id": offer["product_id"],
        "discount": offer["worth"]["discount"],
    }
