"""What a customer waits for from us: open support cases, promises, a checkout that failed; and the last contact.

Open cases and open promises are never left out: a case is forgotten only after 730 days, when the next one
begins, a promise not before its due date either. Of promises kept the latest MOST_KEPT stay, to be told. Of a
case's reason the first LONGEST_REASON characters are kept here, of a promise all that was promised.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from features.commerce import moment_of
from features.corrections import VOID
from features.profile_value import Profile
from features.vocabulary import CHANNELS, DAY_S, KEEP_DAYS, Event

MOST_KEPT = 20
LONGEST_REASON = 200
KEEP_S = KEEP_DAYS * DAY_S

FEATURES: Mapping[str, str] = {
    "open_cases": "support cases opened and not resolved",
    "days_since_contact": "days since a support case was last opened or resolved",
    "open_promises": "promises made and not kept yet",
    "promises_overdue": "those of them that are past due",
    "checkout_failed_hours": "hours since the last checkout failed; unknown where an order was completed since",
}


@dataclass(frozen=True, slots=True)
class Case:
    """An open support case. `evidence` is the message that opened it."""

    case_id: str
    opened_at: float
    reason: str | None
    channel: str | None
    order_id: str | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Promise:
    """What we promised. `kept_at` is None while it is open."""

    promise_id: str
    text: str
    made_at: float
    due_at: float
    kept_at: float | None
    order_id: str | None
    evidence: str

    def is_overdue(self, now: float) -> bool:
        return self.kept_at is None and self.due_at < now


@dataclass(frozen=True, slots=True)
class Contact:
    """When, how and why customer and service last spoke."""

    at: float
    channel: str | None
    reason: str | None
    case_id: str


@dataclass(frozen=True, slots=True)
class CheckoutFailure:
    """A checkout that failed, and no order was completed since."""

    at: float
    reason: str
    channel: str | None
    order_id: str | None
    cart_id: str | None
    evidence: str


def open_cases(profile: Profile | None) -> tuple[Case, ...]:
    """The cases that are open, the oldest first."""
    cases = [
        Case(key, one["at"], one["reason"] or None, one["channel"] or None, one["order_id"] or None, one["id"])
        for key, one in _of(profile, "cases").items()
    ]
    return tuple(sorted(cases, key=lambda case: (case.opened_at, case.case_id)))


def promises(profile: Profile | None) -> tuple[Promise, ...]:
    """All open promises and the latest kept ones, the one due first first."""
    found = [
        Promise(key, one["text"], one["made"], one["due"], one["kept"] or None, one["order_id"] or None, one["id"])
        for key, one in _of(profile, "promises").items()
        if one["made"]
    ]
    return tuple(sorted(found, key=lambda one: (one.due_at, one.promise_id)))


def last_contact(profile: Profile | None) -> Contact | None:
    last = _of(profile, "contact")
    return Contact(last["at"], last["channel"] or None, last["reason"] or None, last["case_id"]) if last else None


def failed_checkout(profile: Profile | None) -> CheckoutFailure | None:
    failed = _of(profile, "checkout_failed")
    if not failed:
        return None
    texts = (failed["channel"] or None, failed["order_id"] or None, failed["cart_id"] or None)
    return CheckoutFailure(failed["at"], failed["reason"], *texts, failed["id"])


def _of(profile: Profile | None, part: str) -> Mapping[str, Any]:
    return profile.state[part] if profile is not None and profile.state else {}


def fresh() -> dict[str, dict[str, Any]]:
    return {"cases": {}, "promises": {}, "contact": {}, "checkout_failed": {}}


def derive(state: Mapping[str, Any], as_of: float) -> dict[str, float]:
    due = [one["due"] for one in state["promises"].values() if one["made"] and not one["kept"]]
    contact, failed = state["contact"], state["checkout_failed"]
    return {
        "open_cases": float(len(state["cases"])),
        "days_since_contact": (as_of - contact["at"]) / DAY_S if contact else math.nan,
        "open_promises": float(len(due)),
        "promises_overdue": float(sum(at < as_of for at in due)),
        "checkout_failed_hours": (as_of - failed["at"]) / 3600.0 if failed else math.nan,
    }


# -------------------------------------------------------------------------------------------------- steps


def _opened(state: dict[str, Any], items: Any, event: Event) -> None:
    """Opened again while open: it stays as old as it is, what is new in the message counts."""
    cases, now = state["cases"], event.occurred_at
    for old in [key for key, case in cases.items() if now - case["at"] > KEEP_S]:
        del cases[old]
    case_id = event.body["case_id"]
    before = cases.get(case_id) or {"at": now, "id": event.message_id, "reason": "", "channel": "", "order_id": ""}
    said = {"reason": _reason(event), "channel": _channel(event), "order_id": event.body.get("order_id") or ""}
    cases[case_id] = {**before, **{key: text for key, text in said.items() if text}}
    _spoke(state, event, cases[case_id]["reason"])


def _resolved(state: dict[str, Any], items: Any, event: Event) -> None:
    case = state["cases"].pop(event.body["case_id"], None)
    _spoke(state, event, _reason(event) or (case["reason"] if case else ""))


def _spoke(state: dict[str, Any], event: Event, reason: str) -> None:
    case_id = event.body["case_id"]
    state["contact"] = {"at": event.occurred_at, "channel": _channel(event), "reason": reason, "case_id": case_id}


def _channel(event: Event) -> str:
    """The case's own channel; that of the message may be the help desk's."""
    own = event.body.get("channel")
    return own if own in CHANNELS else event.channel or ""


def _reason(event: Event) -> str:
    text = event.body.get("reason") or ""
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _promised(state: dict[str, Any], items: Any, event: Event) -> None:
    """Made again, as with another date: the later word counts. What is kept stays kept, however the times lie."""
    promises, now = state["promises"], event.occurred_at
    for old in [key for key, one in promises.items() if now - max(one["made"], one["due"], one["kept"]) > KEEP_S]:
        del promises[old]
    body, before = event.body, promises.get(event.body["promise_id"])
    promises[body["promise_id"]] = {
        "text": body["text"],
        "due": moment_of(body["due"], "due"),
        "made": before["made"] or now if before else now,
        "kept": before["kept"] if before else 0.0,
        "order_id": body.get("order_id") or (before["order_id"] if before else ""),
        "id": event.message_id,
    }


def _kept(state: dict[str, Any], items: Any, event: Event) -> None:
    promises, promise_id = state["promises"], event.body["promise_id"]
    one = promises.get(promise_id) or {"text": "", "due": 0.0, "made": 0.0, "kept": 0.0, "order_id": "", "id": ""}
    promises[promise_id] = {**one, "kept": one["kept"] or event.occurred_at}
    kept = sorted((other["kept"], key) for key, other in promises.items() if other["kept"])
    for _, key in kept[:-MOST_KEPT]:
        del promises[key]


def _failed(state: dict[str, Any], items: Any, event: Event) -> None:
    state["checkout_failed"] = {
        "at": event.occurred_at,
        "reason": _reason(event),
        "channel": event.channel or "",
        "order_id": event.body.get("order_id") or "",
        "cart_id": event.body.get("cart_id") or "",
        "id": event.message_id,
    }


def _paid(state: dict[str, Any], items: Any, event: Event) -> None:
    """Whichever order: who tries again mostly gets a new order, and perhaps a new cart."""
    state["checkout_failed"] = {}


STEPS = {
    "Support Case Opened": _opened,
    "Support Case Resolved": _resolved,
    "Promise Made": _promised,
    "Promise Kept": _kept,
    "Checkout Failed": _failed,
    "Order Completed": _paid,
    VOID: _paid,
}
