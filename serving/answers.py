"""The wire, going out: the shapes of the answers, for the API's description and for typed clients.

The engine writes answers as bytes of exactly these shapes; they are not checked again on the way out.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class OfferShown(BaseModel):
    """One offer of a decision, with what its place in the ranking rests on."""

    rank: int
    offer_id: str
    kind: str
    product_id: str | None
    treatment: dict[str, str]
    fulfilment: dict[str, Any] | None
    priority: float
    propensity: float | None
    uplift: float | None
    value: float
    worth: dict[str, float | None]
    context_weight: float
    context: dict[str, float]
    lever: float
    selection_probability: float
    valid_until: str = Field(json_schema_extra={"format": "date-time"})


class SignalAge(BaseModel):
    """How long ago the feed of a signal last said anything."""

    age_s: float | None
    stale: bool


class ReasonShown(BaseModel):
    """One rule that holds an offer back, with the value it saw and its limit."""

    code: str
    rule: str
    observed: Any = None
    limit: Any = None
    retry_after: str | None = None
    evidence: Any = None
    product_id: str | None = None
    product_ids: list[str] | None = None


class SuppressedOffer(BaseModel):
    """An offer that is held back, and when it may come again."""

    offer_id: str
    retry_after: str | None
    reasons: list[ReasonShown]


class PassedOver(BaseModel):
    """A product of better affinity than the one that its offer shows, and what holds it back."""

    offer_id: str
    product_id: str
    reasons: list[ReasonShown]


class Decision(BaseModel):
    """The answer to `/decide`. `suppressed` and `passed_over` come with `explain: true` only."""

    decision_id: str
    customer_id: str
    channel: str
    placement: str
    decided_at: str = Field(json_schema_extra={"format": "date-time"})
    arm: str
    fallback: str | None
    continued_from: str | None
    offers: list[OfferShown]
    signals: dict[str, SignalAge]
    versions: dict[str, str | None]
    suppressed: list[SuppressedOffer] | None = None
    passed_over: list[PassedOver] | None = None


class ReasonNow(ReasonShown):
    """What speaks against sending a prepared offer now."""

    offer_id: str


class Confirmed(BaseModel):
    """The answer to `/decisions/{decision_id}/confirm`. `reasons` are there where it is not valid."""

    valid: bool
    reasons: list[ReasonNow] | None = None


class FieldProblem(BaseModel):
    """One field, and what is wrong with it."""

    field: str
    problem: str


class ProblemShown(BaseModel):
    """Every error answer, by RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem]


class RefusedCustomer(BaseModel):
    """A customer of a batch who could not be decided for."""

    customer_id: str | None
    error: ProblemShown


class DecisionBatch(BaseModel):
    """The answer to `/decide_batch`: one entry per customer asked for, in the same order."""

    decisions: list[Decision | RefusedCustomer]


class Decisions(BaseModel):
    """A `DecisionBatch` as BentoML's client must be told of it: of a typed union it would drop the refusals' errors."""

    decisions: list[dict[str, Any]]


class Recorded(BaseModel):
    """The answer to `/respond`."""

    recorded: bool
    duplicate: bool


class RejectedMessage(BaseModel):
    """A message of a batch that was refused; the others were taken."""

    index: int
    messageId: str | None  # noqa: N815 (Segment's name)
    problem: str


class Received(BaseModel):
    """The answer to a message, and to a batch with its counts."""

    success: bool
    stored: int | None = None
    duplicates: int | None = None
    rejected: list[RejectedMessage] | None = None


class HeldId(BaseModel):
    """One of the ids that mean a customer."""

    id: str
    kind: str
    reason: str | None
    message_id: str | None
    since: str | None


class HeldMerge(BaseModel):
    """One time that an id became this customer's, or left."""

    id: str
    before: str
    after: str
    known_at: str
    reason: str | None
    message_id: str | None


class Export(BaseModel):
    """The answer to `GET /customers/{customer_id}/export`: everything held."""

    customer_id: str
    exported_at: str = Field(json_schema_extra={"format": "date-time"})
    ids: list[HeldId]
    merges: list[HeldMerge]
    profile: dict[str, Any] | None
    events: list[dict[str, Any]]
    responses: list[dict[str, Any]]
    requests: list[dict[str, Any]]
    reservations: list[dict[str, Any]]
    dismissals: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    profiles_seen: list[dict[str, Any]]


class Erased(BaseModel):
    """The answer to `DELETE /customers/{customer_id}`: the receipt."""

    customer_id: str
    erased: Literal["now", "already"]
    erased_at: str = Field(json_schema_extra={"format": "date-time"})
    overwritten: bool
    counts: dict[str, int]
