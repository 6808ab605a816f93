"""A prepared outbound decision, looked at again just before it is sent: still right, or held back now and why.

All rules are asked again, now, for the offers that were decided and the products they were decided with. Its own
contact does not count against it. Where it is right, the contact is taken anew, so that it cannot be given back
before it is sent; where it is not, the contact is free again. Asking twice gives the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from features.vocabulary import OUTBOUND
from serving.continuity import carried_by
from serving.decide import Decision, reason_told
from serving.decision_log import DecisionLog
from serving.desk import Desk
from serving.facts import Contacts, moment
from serving.outbound import Outbound
from serving.problems import bad_input, not_found, shown
from serving.question import Question
from serving.rules import Reason, Reasons
from serving.rules.consent import denials


def confirmed(outbound: Outbound, log: DecisionLog, desk: Desk, decision_id: str, now: float) -> dict[str, Any]:
    """`{"valid": true}`, or `{"valid": false, "reasons": […]}`."""
    record = _to_be_sent(log, decision_id)
    held = outbound.held_by(decision_id)
    if held is not None and held.until is None:
        return _against([_sent(held.at, decision_id, offer["offer_id"]) for offer in record["answer"]["offers"]])
    customer_id, ask = desk.resolver.customer(record["answer"]["customer_id"]), _question(record)
    again, chosen_with = carried_by(record, now), log.profile_of(record)

    def check(others: Contacts) -> list[dict[str, Any]]:
        decision = desk.draft(ask, customer_id, now, others, again).decision
        same_book = record["versions"]["rulebook"] == decision.policy.book.version
        denied = denials(decision.facts, decision.policy.book, chosen_with, same_book)
        told = (_reasons(offer, decision, decision_id, denied) for offer in record["answer"]["offers"])
        return [reason for reasons in told for reason in reasons]

    kinds = [offer["kind"] for offer in record["answer"]["offers"]]
    taken = outbound.contact(decision_id, ask.channel, kinds, now)
    return _against(outbound.still(customer_id, taken, now, check))


def _to_be_sent(log: DecisionLog, decision_id: str) -> Mapping[str, Any]:
    record = log.find(decision_id)
    if record is None:
        raise not_found(f"there is no decision {shown(decision_id)} within retention")
    channel = record["answer"]["channel"]
    if channel not in OUTBOUND:
        expected = f"expected one by {', '.join(sorted(OUTBOUND))}"
        raise bad_input("decision_id", f"{shown(decision_id)} was decided for `{channel}`; {expected}")
    if record["request"]["preview"]:
        raise bad_input("decision_id", f"{shown(decision_id)} is a preview; expected one decided without `preview`")
    if not record["answer"]["offers"]:
        raise bad_input("decision_id", f"{shown(decision_id)} has no offers; there is nothing to send")
    return record


def _question(record: Mapping[str, Any]) -> Question:
    asked = record["request"]
    return Question(
        customer_id=record["answer"]["customer_id"],
        channel=asked["channel"],
        placement=asked["placement"],
        limit=asked["limit"],
        location_id=asked["location_id"],
        product_id=asked["product_id"],
        cart=tuple(asked["cart"]),
    )


def _reasons(
    offer: Mapping[str, Any], decision: Decision, decision_id: str, denied: Reasons
) -> Iterable[dict[str, Any]]:
    """What holds back the offer, with the product that it was decided with; `denied` holds back all."""
    offer_id = offer["offer_id"]
    screened = next((each for each in decision.screened if each.offer.offer_id == offer_id), None)
    if screened is None:
        reasons: Iterable[Reason] = [Reason("outside_validity", "catalog", None, "an offer of the catalog")]
    elif screened.open:
        reasons = dict(screened.passed_over).get(offer["product_id"] or "", ())
        if screened.product_id != offer["product_id"] and not reasons:
            reasons = [Reason("terms_conflict", "product", screened.product_id, offer["product_id"], None, decision_id)]
    else:
        reasons = screened.reasons
    told = [*denied, *(reason for reason in reasons if reason not in denied)]
    return ({"offer_id": offer_id, **reason_told(reason)} for reason in told)


def _sent(at: float, decision_id: str, offer_id: str) -> dict[str, Any]:
    reason = Reason("contact_limit", "handed_over", moment(at), "once", None, decision_id)
    return {"offer_id": offer_id, **reason_told(reason)}


def _against(reasons: Iterable[dict[str, Any]]) -> dict[str, Any]:
    found = list(reasons)
    return {"valid": False, "reasons": found} if found else {"valid": True}
