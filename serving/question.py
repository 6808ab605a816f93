"""One question to the engine that does not come over HTTP; there, `schemas.DecideRequest` has the same fields."""

from __future__ import annotations

from dataclasses import dataclass

from serving.schemas import DecideRequest


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks for what, where; the fields of `/decide`."""

    customer_id: str
    channel: str
    placement: str
    limit: int = 3
    anonymous_id: str | None = None
    location_id: str | None = None
    product_id: str | None = None
    cart: tuple[str, ...] = ()
    continue_from: str | None = None
    request_id: str | None = None
    preview: bool = False
    explain: bool = False


Ask = DecideRequest | Question
"""A question, from wherever it came."""
