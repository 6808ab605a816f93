"""The wire, going in: the requests that callers may send, each field checked.

The sentences for what is wrong are made in `wire`; the shapes going out stand in `answers`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from features.vocabulary import CHANNELS, PLACEMENTS, RESPONSES
from serving import wire
from serving.problems import Problem, bad_input, shown

LONGEST_ID = 255
MOST_OFFERS = 20
MOST_CUSTOMERS = 1_000
MOST_IN_CART = 500

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")


def _is_time(text: str) -> str:
    try:
        if _TIME.fullmatch(text) and seconds_of(text) is not None:
            return text
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError("time", "no time")


def seconds_of(text: str) -> float:
    """Epoch seconds of an RFC 3339 time."""
    return datetime.fromisoformat(text.upper()).timestamp()


AN_ID = f"a text of 1 to {LONGEST_ID} characters, not all blank, no control ones"
_AN_ID = r"[^\x00-\x1f\x7f]*[^\x00-\x1f\x7f\s][^\x00-\x1f\x7f]*"


def is_id(text: str) -> bool:
    """Whether a text may be an id: of a customer in a path or a file, which no model checks."""
    return len(text) <= LONGEST_ID and re.fullmatch(_AN_ID, text) is not None


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=f"^{_AN_ID}$"),
    Field(examples=["1042"]),
]
Time = Annotated[str, AfterValidator(_is_time), Field(json_schema_extra={"format": "date-time"})]
Channel = Literal["web", "app", "email", "sms", "push", "call_centre", "store"]
Placement = Literal["home", "product", "cart", "newsletter", "message", "agent"]
Kind = Literal["shown", "clicked", "accepted", "dismissed"]
Limit = Annotated[int, Field(ge=1, le=MOST_OFFERS)]

EXPECTED: Mapping[str, str] = {
    "channel": f"one of {', '.join(CHANNELS)}",
    "placement": f"one of {', '.join(PLACEMENTS)}",
    "kind": f"one of {', '.join(RESPONSES)}",
    "limit": f"a whole number from 1 to {MOST_OFFERS}",
    "cart": f"a list of at most {MOST_IN_CART} product ids",
    "cart[]": f"a product id: {AN_ID}",
    "preview": "true or false",
    "explain": "true or false",
    "customers": f"a list of at most {MOST_CUSTOMERS} objects, each with a customer_id or an anonymous_id",
    "customers[]": "an object with a customer_id or an anonymous_id",
    "occurred_at": "a time by RFC 3339 such as 2026-11-20T10:00:00Z",
} | dict.fromkeys(
    [
        "customer_id",
        "anonymous_id",
        "location_id",
        "product_id",
        "continue_from",
        "request_id",
        "decision_id",
        "offer_id",
        "response_id",
    ],
    AN_ID,
)
"""Per field, what is expected of it; every error about the field says so."""


class Request(BaseModel):
    """Unknown fields are refused by name, and nothing is converted: `"3"` is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DecideRequest(Request):
    """Ask for the next best offers for one customer, in one channel and placement."""

    customer_id: Id | None = None
    anonymous_id: Id | None = None
    channel: Channel
    placement: Placement
    limit: Limit = 3
    location_id: Id | None = None
    product_id: Id | None = None
    cart: Annotated[list[Id], Field(max_length=MOST_IN_CART, default_factory=list, json_schema_extra={"default": []})]
    continue_from: Id | None = None
    request_id: Id | None = None
    preview: bool = False
    explain: bool = False

    discreet: ClassVar[bool] = False
    """Whether the answer names the customer by the anonymous id that was asked about, and by no other."""

    def asked_by_a_page(self) -> DecideRequest:
        """This question as one whose answer anybody may read."""
        return _DiscreetRequest.model_construct(**dict(self))

    @model_validator(mode="after")
    def _names_somebody(self) -> DecideRequest:
        if self.customer_id is None and self.anonymous_id is None:
            raise PydanticCustomError("nobody", "nobody")
        return self


class _DiscreetRequest(DecideRequest):
    discreet: ClassVar[bool] = True


OF_ONE_CUSTOMER = tuple(name for name in DecideRequest.model_fields if name not in ("channel", "placement", "limit"))


class DecideBatchRequest(Request):
    """Ask for up to 1,000 customers at once, all in one channel and placement."""

    customers: Annotated[list[Any], Field(max_length=MOST_CUSTOMERS)]
    channel: Channel
    placement: Placement
    limit: Limit = 3


class RespondRequest(Request):
    """Say what the customer did with an offer of a decision. The same `response_id` counts once."""

    decision_id: Id
    offer_id: Id
    kind: Kind
    response_id: Id
    occurred_at: Time | None = None

    @property
    def occurred_at_s(self) -> float | None:
        """`occurred_at` in epoch seconds."""
        return None if self.occurred_at is None else seconds_of(self.occurred_at)


class Refused(NamedTuple):
    """A customer of a batch who cannot be decided for; stands among the answers as `{"customer_id", "error"}`."""

    customer_id: str | None
    problem: Problem

    def body(self) -> dict[str, Any]:
        return {"customer_id": self.customer_id, "error": self.problem.body()}


def entries(request: DecideBatchRequest) -> list[DecideRequest | Refused]:
    """The customers of a batch as single requests, in order; a bad one is refused by itself and spoils no other."""
    shared = {"channel": request.channel, "placement": request.placement, "limit": request.limit}
    return [_entry(number, entry, shared) for number, entry in enumerate(request.customers)]


def _entry(number: int, entry: Any, shared: Mapping[str, Any]) -> DecideRequest | Refused:
    place = f"customers[{number}]"
    if not isinstance(entry, Mapping):
        return Refused(None, bad_input(place, f"got {shown(entry)}; expected {EXPECTED['customers[]']}"))
    given = entry.get("customer_id")
    customer_id = given if isinstance(given, str) and len(given) <= LONGEST_ID else None
    for name in shared:
        if name in entry:
            problem = f"belongs to the whole batch; say `{name}` beside `customers`"
            return Refused(customer_id, bad_input(f"{place}.{name}", problem))
    try:
        return DecideRequest.model_validate({**entry, **shared})
    except ValidationError as error:
        return Refused(customer_id, wire.problem_of(error, EXPECTED, OF_ONE_CUSTOMER, f"{place}."))
