"""What a customer did with an offer: from `/respond`, and from an order that carries a decision's id.

Both become an `Offer Responded` event, which profiles and labels read. The record of the decision says
who it was for and what it offered; nothing else is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from features.vocabulary import ANONYMOUS, Event
from serving.decision_log import DecisionLog
from serving.problems import bad_input, not_found, shown
from serving.schemas import RespondRequest

CLOCKS_DIFFER_S = 300.0


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


def accepted_by(
    order: Mapping[str, Any], log: DecisionLog, customer_of: Callable[[str | None, str | None], str]
) -> Iterator[dict[str, Any]]:
    """The offers of its decision that an order's record takes up: those whose shown product it holds.

    `customer_of` says whose a login or anonymous id is now: decided for one id, bought under another of the same.
    """
    body = order["body"]
    if order["name"] != "Order Completed" or not isinstance(body.get("decision_id"), str):
        return
    record = log.find(body["decision_id"])
    if record is None:
        return
    decided_for = record["answer"]["customer_id"]
    if decided_for not in (order["user_id"], f"{ANONYMOUS}{order['anonymous_id']}") and customer_of(
        decided_for, None
    ) != customer_of(order["user_id"], order["anonymous_id"]):
        return
    bought = {line["product_id"] for line in body.get("products") or () if isinstance(line, Mapping)}
    for offer in record["answer"]["offers"]:
        if offer["product_id"] in bought:
            message_id = f"{order['message_id']}:accepted:{offer['rank']}"
            yield _event(message_id, record, offer, "accepted", order["occurred_at"])


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
    message_id: str, record: Mapping[str, Any], offer: Mapping[str, Any], response: str, at: float
) -> dict[str, Any]:
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
            "offer_kind": offer["kind"],
            "product_id": offer["product_id"],
            "discount": offer["worth"]["discount"],
            "response": response,
        },
    }
