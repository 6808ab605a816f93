"""What a customer did with an offer: from `/respond`, and from messages that carry a decision's id.

All become `Offer Responded` events, which profiles and labels read. The record of the decision says who it was for
and what it offered; nothing else is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from features.events import EventProblem, check
from features.vocabulary import ANONYMOUS, Event
from serving.decision_log import DecisionLog
from serving.problems import bad_input, not_found, shown
from serving.schemas import RespondRequest

CLOCKS_DIFFER_S = 300.0
Record = Mapping[str, Any]


class Known(NamedTuple):
    """What messages are read by: the record of a decision by its id, and whose a login or anonymous id is now."""

    find: Callable[[str], Record | None]
    customer_of: Callable[[str | None, str | None], str]

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
    if request.occurred_at_s is not None and request.occurred_at_s > now:
        raise bad_input("occurred_at", f"{shown(request.occurred_at)} is in the future; expected a past time")
    if request.occurred_at_s is not None and request.occurred_at_s < record["facts"]["now"] - CLOCKS_DIFFER_S:
        raise bad_input("occurred_at", f"{shown(request.occurred_at)} is before the decision; expected a later time")
    offered = {offer["offer_id"]: offer for offer in record["answer"]["offers"]}
    if request.offer_id not in offered:
        known = ", ".join(f"`{offer_id}`" for offer_id in offered) or "none"
        raise bad_input("offer_id", f"{shown(request.offer_id)} was not offered by it; expected one of {known}")
    at = now if request.occurred_at_s is None else request.occurred_at_s
    return _event(
        f"response:{request.decision_id}:{request.response_id}", record, offered[request.offer_id], request.kind, at
    )


def completed(message: dict[str, Any], known: Known, now: float) -> dict[str, Any]:
    """A response that a message tells of, with what it does not say itself: as the decision's record has it."""
    event = _checked(message, now) if message["name"] == "Offer Responded" else None
    record = known.decision(event.body.get("decision_id"), event) if event else None
    if event is None or record is None:
        return message
    for offer in record["answer"]["offers"]:
        if offer["offer_id"] == event.body["offer_id"]:
            missing = {key: value for key, value in _said_of(offer).items() if event.body.get(key) in (None, "")}
            channel = event.channel or record["answer"]["channel"]
            return {**message, "channel": channel, "body": {**message["body"], **missing}}
    return message


def accepted_by(message: Record, known: Known, now: float) -> Iterator[dict[str, Any]]:
    """The offers of its decision that an order's record takes up: those whose shown product it holds."""
    event = _checked(message, now) if message["name"] == "Order Completed" else None
    record = known.decision(event.body.get("decision_id"), event) if event else None
    if event is None or record is None:
        return
    bought = {line["product_id"] for line in event.body.get("products") or ()}
    for offer in record["answer"]["offers"]:
        if offer["product_id"] in bought:
            yield _event(f"{event.message_id}:accepted:{offer['rank']}", record, offer, "accepted", event.occurred_at)


def _checked(message: Record, now: float) -> Event | None:
    """The message as it will be stored; None for one that carries no decision's id, or will be refused."""
    if message["body"].get("decision_id") is None:
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


def _event(message_id: str, record: Record, offer: Record, response: str, at: float) -> dict[str, Any]:
    customer_id = record["answer"]["customer_id"]
    anonymous = customer_id.startswith(ANONYMOUS)
    return {
        "message_id": message_id,
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
        },
    }


def _said_of(offer: Record) -> dict[str, Any]:
    """What the decision showed of an offer."""
    return {
        "offer_kind": offer["kind"],
        "product_id": offer["product_id"],
        "discount": offer["worth"]["discount"],
    }
