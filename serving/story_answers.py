"""The wire, going out: the shape of a customer's story, for the API's description and for typed clients.

As in `answers`, nothing is checked against it on the way out; `story` writes exactly this.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from serving.answers import HeldId, OfferShown, SignalAge

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class StoryProduct(BaseModel):
    """A product by id and, where the catalog has it, by name."""

    product_id: str
    name: str | None


class StoryOrder(BaseModel):
    """An order as it stands; `products` are those that have not been bought again since."""

    order_id: str
    placed_at: Moment | None
    status: str
    status_at: Moment
    channel: str | None
    location_id: str | None
    units: int
    refunded_units: int
    products: list[StoryProduct]


class StoryReturn(BaseModel):
    """A return under way."""

    order_id: str
    since: Moment
    reason: str | None
    products: list[StoryProduct]


class StoryCase(BaseModel):
    """An open support case."""

    case_id: str
    opened_at: Moment
    reason: str | None
    channel: str | None
    order_id: str | None


class StoryPromise(BaseModel):
    """What was promised."""

    promise_id: str
    text: str
    made_at: Moment
    due_at: Moment
    kept_at: Moment | None
    overdue: bool
    order_id: str | None


class StoryCheckout(BaseModel):
    """A checkout that failed, with no order since."""

    at: Moment
    reason: str
    channel: str | None
    order_id: str | None
    cart_id: str | None


class StoryLine(StoryProduct):
    """A line of the cart, on whichever device it was put in."""

    quantity: int
    added_at: Moment
    age_s: float
    channel: str | None
    device: str | None
    cart_id: str | None


class StoryCart(BaseModel):
    """What has been put in and not bought yet."""

    lines: list[StoryLine]
    checkout_since: Moment | None


class StoryLooked(StoryProduct):
    """A product looked at lately."""

    last_at: Moment


class StoryConsent(BaseModel):
    """One word of the customer."""

    purpose: str
    channel: str | None
    granted: bool
    since: Moment


class StoryHabits(BaseModel):
    """Where and when the customer is to be met."""

    preferred_channel: str | None
    preferred_hour: int | None
    last_seen: dict[str, Moment]
    loyalty_tier: str | None
    home_location_id: str | None


class StoryContact(BaseModel):
    """When customer and service last spoke."""

    at: Moment
    channel: str | None
    reason: str | None
    case_id: str


class StoryResponse(BaseModel):
    """What the customer did with an offer."""

    at: Moment
    channel: str | None
    offer_id: str | None
    response: str | None
    decision_id: str | None


class StoryContacts(BaseModel):
    """The last contact, and the latest responses."""

    last: StoryContact | None
    responses: list[StoryResponse]


class StoryOffer(BaseModel):
    """An offer of a recent decision."""

    offer_id: str
    product_id: str | None
    title: str | None


class StoryDecision(BaseModel):
    """A recent decision; `held_back` counts its suppressed offers."""

    decision_id: str
    decided_at: Moment
    channel: str
    placement: str
    fallback: str | None
    offers: list[StoryOffer]
    held_back: int


class Story(BaseModel):
    """The answer to `GET /customers/{customer_id}`: what an agent needs at one glance."""

    customer_id: str
    as_of: Moment
    ids: list[HeldId]
    last_order: StoryOrder | None
    orders: list[StoryOrder]
    open_returns: list[StoryReturn]
    open_cases: list[StoryCase]
    promises: list[StoryPromise]
    checkout_failed: StoryCheckout | None
    cart: StoryCart
    looked_at: list[StoryLooked]
    consent: list[StoryConsent]
    habits: StoryHabits
    contacts: StoryContacts
    recent_decisions: list[StoryDecision]
    churn_risk: float | None
    next_best_offers: list[OfferShown]
    preview_id: str
    signals: dict[str, SignalAge]
