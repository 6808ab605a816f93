"""`offers.yaml`: its fields, checked, as the offers of the vocabulary; and its JSON Schema.

Whether the products, categories and markets that an offer names exist is looked at in `catalog`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from features import placeholders
from features.checked_yaml import Checked, FileProblem, OneOf, Problem, Text, Texts, as_text, parse
from features.eligibility import condition_schema, problem_of
from features.sentences import shown
from features.vocabulary import CHANNELS, OFFER_KINDS, PLACEMENTS, Budget, Offer, Value

NAME = "offers.yaml"
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2}))?")


def moment(value: Any) -> float:
    """An RFC 3339 time, or a date (00:00 UTC of it), in epoch seconds."""
    text = str(value)
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ValueError(
            f"is `{text}`; expected RFC 3339 such as `2026-11-20T10:00:00Z`, or a date for 00:00 UTC of it"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


_ANY_TIME = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
Moment = Annotated[float, BeforeValidator(moment), WithJsonSchema(_ANY_TIME)]
Id = Annotated[str, Field(min_length=1, max_length=255), BeforeValidator(as_text)]
Money = Annotated[float, Field(ge=0)]


def _placements(value: Any) -> Any:
    if value is True:
        return list(PLACEMENTS)
    if value is False or value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"is {shown(value, quote=True)}; expected true, or a list of placements")
    return value


_PLACEMENTS_OR_ALL = {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"enum": list(PLACEMENTS)}}]}
Fallback = Annotated[
    tuple[Annotated[str, OneOf(PLACEMENTS)], ...], BeforeValidator(_placements), WithJsonSchema(_PLACEMENTS_OR_ALL)
]


class Worth(Checked):
    """What an accepted offer is worth, in the workspace's currency."""

    margin: Money = Field(0.0, description="money earned when the offer is accepted")
    cost: Money = Field(0.0, description="money spent on contacting")
    discount: Money = Field(0.0, description="money given away when the offer is accepted")


class Limit(Checked):
    """How often all customers together may accept the offer; a day is UTC's."""

    total: int | None = Field(None, ge=1, description="ever")
    daily: int | None = Field(None, ge=1, description="on one day (UTC)")

    @field_validator("daily")
    @classmethod
    def _within_the_total(cls, daily: int | None, info: ValidationInfo) -> int | None:
        total = info.data.get("total")
        if daily is not None and total is not None and daily > total:
            raise ValueError(f"is `{daily}`, more than `total` (`{total}`); expected at most that")
        return daily


class Treatment(Checked):
    """The offer's content for one channel; placeholders such as `{product.name}` are filled in."""

    title: Text | None = None
    body: Text | None = None
    image_url: Text | None = None
    url: Text | None = None

    @field_validator("title", "body", "image_url", "url")
    @classmethod
    def _known_placeholders(cls, text: str | None) -> str | None:
        problem = placeholders.problem_of(text) if text else None
        if problem is not None:
            raise ValueError(problem)
        return text

    def names(self) -> list[str]:
        """The placeholders in its texts."""
        return [name for text in self.model_dump(exclude_none=True).values() for name in placeholders.names_in(text)]


class OfferEntry(Checked):
    """One next best action that we may take."""

    offer_id: Id
    kind: Annotated[str, OneOf(OFFER_KINDS)]
    group: Id | None = Field(None, description="what the offer belongs to, such as a campaign")
    product_ids: Texts = Field((), description="the products it is over, the most popular first")
    category: Id | None = Field(None, description="instead of product_ids: all products of this category")
    channels: tuple[Annotated[str, OneOf(CHANNELS)], ...] = Field((), description="absent: all")
    placements: tuple[Annotated[str, OneOf(PLACEMENTS)], ...] = Field((), description="absent: all")
    markets: Texts = Field((), description="markets of locations; absent: all")
    valid_from: Moment = Field(description="from this time on; a bare date is 00:00 UTC")
    valid_until: Moment = Field(description="up to this time; a bare date is 00:00 UTC, when that day begins")
    eligibility: Any = Field(None, description="who may ever get it")
    exclusive_group: Id | None = Field(None, description="of one such group at most one offer is shown")
    value: Worth = Worth()
    lever: float = Field(1.0, ge=0, description="the marketer's own factor on the priority")
    budget: Limit | None = None
    fallback: Fallback = Field((), description="true, or placements: shown there only when nothing else is")
    treatments: dict[Annotated[str, OneOf(CHANNELS)], Treatment] = Field(
        {}, description="by channel; absent: the product's name"
    )

    @field_validator("product_ids", "channels", "placements", "markets", "treatments", "value", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any, info: ValidationInfo) -> Any:
        return {} if value is None and info.field_name in ("treatments", "value") else () if value is None else value

    @field_validator("eligibility")
    @classmethod
    def _a_condition(cls, eligibility: Any) -> Any:
        problem = None if eligibility is None else problem_of(eligibility)
        if problem is not None:
            raise ValueError(f"holds no condition: {problem}")
        return eligibility

    @field_validator("treatments")
    @classmethod
    def _of_a_product(cls, treatments: dict[str, Treatment], info: ValidationInfo) -> dict[str, Treatment]:
        if not info.data.get("product_ids") and not info.data.get("category"):
            asked = [name for each in treatments.values() for name in each.names() if name.startswith("product.")]
            if asked:
                raise ValueError(f"has `{{{asked[0]}}}`, but the offer is over no product; name one, or leave it out")
        return treatments

    @field_validator("category")
    @classmethod
    def _one_of_the_two(cls, category: str | None, info: ValidationInfo) -> str | None:
        if category is not None and info.data.get("product_ids"):
            raise ValueError("is given beside `product_ids`; expected one of the two")
        return category

    @field_validator("valid_until")
    @classmethod
    def _after_its_begin(cls, valid_until: float, info: ValidationInfo) -> float:
        valid_from = info.data.get("valid_from", valid_until)
        if valid_until < valid_from:
            raise ValueError(
                f"is `{_when(valid_until)}`, before `valid_from` (`{_when(valid_from)}`); expected a later time"
            )
        return valid_until


class OffersFile(Checked):
    """All next best actions that may be taken: the file `offers.yaml`."""

    offers: tuple[OfferEntry, ...] = Field(description="one entry an offer; its `offer_id` is unique")

    @field_validator("offers", mode="before")
    @classmethod
    def _none_yet(cls, value: Any) -> Any:
        return () if value is None else value


def read_offers(name: str, content: bytes) -> tuple[dict[str, Offer], dict[str, int]]:
    """The offers in `content`, ordered by id, and the line of each; FileProblem for all that is wrong."""
    document = parse(name, content, bare="offers")
    entries = document.check(OffersFile).offers
    lines: dict[str, int] = {}
    found: dict[str, Offer] = {}
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        line = document.line(("offers", index))
        first = lines.setdefault(entry.offer_id, line)
        if entry.offer_id in found:
            text = f"offer `{entry.offer_id}` is given twice; first in line {first}"
            problems.append(document.problem(("offers", index, "offer_id"), text))
        found[entry.offer_id] = offer_of(entry)
    if problems:
        raise FileProblem(problems)
    return dict(sorted(found.items())), lines


def offer_of(entry: OfferEntry) -> Offer:
    """The offer that a checked entry describes."""
    return Offer(
        offer_id=entry.offer_id,
        kind=entry.kind,
        product_ids=tuple(dict.fromkeys(entry.product_ids)),
        category=entry.category,
        group=entry.group,
        channels=entry.channels,
        placements=entry.placements,
        markets=entry.markets,
        valid_from=entry.valid_from,
        valid_until=entry.valid_until,
        eligibility=entry.eligibility,
        exclusive_group=entry.exclusive_group,
        value=Value(entry.value.margin, entry.value.cost, entry.value.discount),
        lever=entry.lever,
        budget=Budget(entry.budget.total, entry.budget.daily) if entry.budget else None,
        fallback=frozenset(entry.fallback),
        treatments={channel: each.model_dump(exclude_none=True) for channel, each in entry.treatments.items()},
    )


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def offers_schema() -> dict[str, Any]:
    """The JSON Schema of `offers.yaml`."""
    schema = OffersFile.model_json_schema()
    schema["$defs"]["Condition"] = condition_schema("#/$defs/Condition")
    eligibility = schema["$defs"]["OfferEntry"]["properties"]["eligibility"]
    eligibility["anyOf"] = [{"$ref": "#/$defs/Condition"}, {"type": "null"}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
