"""A customer's story: what an agent or a store employee needs at one glance. Pure.

The profile's rooms say what stands how (`features.orders`, `care`, `cart`, …); here it is put side by side, with
the names of products and the times as told. Nothing is decided and nothing is read here: `customers` does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from features import browsing, care, cart, consent, habits, orders, returns
from features.catalog import Catalog
from features.profiles import Profile
from features.vocabulary import Event
from serving.facts import moment

MOST_LOOKED_AT = 5


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one customer. `decisions` are in brief, `preview` is one that nobody was shown."""

    customer_id: str
    ids: Sequence[Mapping[str, Any]]
    profile: Profile
    responses: Sequence[Event] = ()
    decisions: Sequence[Mapping[str, Any]] = ()
    preview: Mapping[str, Any] = field(default_factory=dict)
    churn: float | None = None


def story(known: Known, catalog: Catalog, now: float) -> dict[str, Any]:
    """The story as the contract's JSON."""
    profile, last = known.profile, orders.latest(known.profile)
    told = [_order(order, catalog) for order in last]
    return {
        "customer_id": known.customer_id,
        "as_of": moment(now),
        "ids": list(known.ids),
        "last_order": told[0] if told else None,
        "orders": told,
        "open_returns": [_return(each, catalog) for each in returns.under_way(profile)],
        "open_cases": [_case(each) for each in care.open_cases(profile)],
        "promises": [_promise(each, now) for each in care.promises(profile)],
        "checkout_failed": _failed(care.failed_checkout(profile)),
        "cart": {
            "lines": [_line(each, catalog) for each in cart.of(profile, now)],
            "checkout_since": _moment(cart.checkout_since(profile)),
        },
        "looked_at": [
            {**_product(each.id, catalog), "last_at": moment(each.last_at)}
            for each in browsing.products(profile, now)[:MOST_LOOKED_AT]
        ],
        "consent": [_consent(each) for each in consent.consents(profile)],
        "habits": _habits(profile, now),
        "contacts": {
            "last": _contact(care.last_contact(profile)),
            "responses": [_response(each) for each in known.responses],
        },
        "recent_decisions": list(known.decisions),
        "churn_risk": known.churn,
        "next_best_offers": list(known.preview.get("offers", ())),
        "preview_id": known.preview.get("decision_id"),
        "signals": dict(known.preview.get("signals", {})),
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else moment(at)


def _product(product_id: str, catalog: Catalog) -> dict[str, Any]:
    product = catalog.products.get(product_id)
    return {"product_id": product_id, "name": product.name if product else None}


def _products(product_ids: Iterable[str], catalog: Catalog) -> list[dict[str, Any]]:
    return [_product(each, catalog) for each in product_ids]


def _order(order: orders.Order, catalog: Catalog) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "placed_at": _moment(order.placed_at),
        "status": order.status,
        "status_at": moment(order.status_at),
        "channel": order.channel,
        "location_id": order.location_id,
        "units": order.units,
        "refunded_units": order.refunded_units,
        "products": _products(order.product_ids, catalog),
    }


def _return(one: returns.OpenReturn, catalog: Catalog) -> dict[str, Any]:
    return {
        "order_id": one.order_id,
        "since": moment(one.since),
        "reason": one.reason,
        "products": _products(one.product_ids, catalog),
    }


def _case(case: care.Case) -> dict[str, Any]:
    return {
        "case_id": case.case_id,
        "opened_at": moment(case.opened_at),
        "reason": case.reason,
        "channel": case.channel,
        "order_id": case.order_id,
    }


def _promise(promise: care.Promise, now: float) -> dict[str, Any]:
    return {
        "promise_id": promise.promise_id,
        "text": promise.text,
        "made_at": moment(promise.made_at),
        "due_at": moment(promise.due_at),
        "kept_at": _moment(promise.kept_at),
        "overdue": promise.is_overdue(now),
        "order_id": promise.order_id,
    }


def _failed(failed: care.CheckoutFailure | None) -> dict[str, Any] | None:
    if failed is None:
        return None
    return {
        "at": moment(failed.at),
        "reason": failed.reason,
        "channel": failed.channel,
        "order_id": failed.order_id,
        "cart_id": failed.cart_id,
    }


def _line(line: cart.CartLine, catalog: Catalog) -> dict[str, Any]:
    return {
        **_product(line.product_id, catalog),
        "quantity": line.quantity,
        "added_at": moment(line.added_at),
        "age_s": round(line.age_s, 3),
        "channel": line.channel,
        "device": line.device,
        "cart_id": line.cart_id,
    }


def _consent(word: consent.Consent) -> dict[str, Any]:
    return {
        "purpose": word.purpose,
        "channel": word.channel,
        "granted": word.granted,
        "since": moment(word.since),
    }


def _habits(profile: Profile, now: float) -> dict[str, Any]:
    home = habits.home(profile, now)
    return {
        "preferred_channel": habits.preferred_channel(profile, now),
        "preferred_hour": habits.preferred_hour(profile, now),
        "last_seen": {channel: moment(at) for channel, at in habits.last_seen(profile).items()},
        "loyalty_tier": habits.loyalty_tier(profile),
        "home_location_id": home.location_id if home else None,
    }


def _contact(contact: care.Contact | None) -> dict[str, Any] | None:
    if contact is None:
        return None
    return {
        "at": moment(contact.at),
        "channel": contact.channel,
        "reason": contact.reason,
        "case_id": contact.case_id,
    }


def _response(event: Event) -> dict[str, Any]:
    return {
        "at": moment(event.occurred_at),
        "channel": event.channel,
        "offer_id": event.body.get("offer_id"),
        "response": event.body.get("response"),
        "decision_id": event.body.get("decision_id"),
    }
