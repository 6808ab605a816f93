"""Golden decisions: stories in YAML, each a customer, the stock and a moment, with what must come out.

`python -m serving rulebook test` runs those beside a rulebook, and the tests run those that ship in
`serving/cases`. A story says only what it is about; everything else is as on a quiet day: all products in
stock, all feeds just heard of, no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from features import checked_yaml, profiles
from features.catalog import Catalog
from features.events import check
from features.segment import parse
from features.signals import Level
from features.vocabulary import ONLINE
from serving.decide import Policy, answer, decide
from serving.facts import Facts
from serving.rulebook import Rulebook
from serving.scoring import Models


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ask(_Part):
    channel: str = "web"
    placement: str = "home"
    limit: int = 20
    location_id: str | None = None
    cart: list[str] = []
    known: bool = True


class Expected(_Part):
    """What must come out. `first` are the first offers in order; `held` gives the codes per offer, all of them."""

    offers: list[str] | None = None
    first: list[str] = []
    shows: dict[str, str] = {}
    held: dict[str, list[str]] = {}
    retry_after: dict[str, str | None] = {}
    passed_over: dict[str, list[str]] = {}
    fallback: str | None = None


class Story(_Part):
    story: str
    now: AwareDatetime
    ask: Ask = Ask()
    history: list[dict[str, Any]] = []
    stock: dict[str, int | None] = {}
    feeds_age_s: dict[str, float | None] = {}
    expect: Expected


class Stories(_Part):
    stories: Annotated[list[Story], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One story run: what was different from what it expects."""

    story: str
    differences: tuple[str, ...]


def run(folder: Path, catalog: Catalog, book: Rulebook) -> Iterator[Outcome]:
    """Every story of every YAML file in `folder`; checked_yaml.FileProblem for a file that cannot be read."""
    for path in sorted(folder.glob("*.yaml")):
        for story in checked_yaml.load(path, Stories).stories:
            yield Outcome(story.story, tuple(_differences(story, told(story, catalog, book))))


def told(story: Story, catalog: Catalog, book: Rulebook) -> dict[str, Any]:
    """The answer, with its whole trace, in the story's situation."""
    return answer(decide(_facts(story, catalog), Policy(catalog, book, Models())))


def _facts(story: Story, catalog: Catalog) -> Facts:
    now = story.now.timestamp()
    history = [{"event": "Visited", "at": "2019-01-01T00:00:00Z"}, *story.history]
    events = [_event(number, message, now, catalog) for number, message in enumerate(history)]
    location_id = story.ask.location_id or (None if story.ask.channel == "store" else ONLINE)
    levels = dict.fromkeys(catalog.products, 10) | story.stock
    ages = {"profile": 0.0, "stock": 0.0} | story.feeds_age_s
    location = catalog.locations.get(location_id or "")
    known = story.ask.known
    return Facts(
        decision_id="golden",
        now=now,
        customer_id="1042",
        channel=story.ask.channel,
        placement=story.ask.placement,
        limit=story.ask.limit,
        location_id=location_id,
        market=location.market if location else None,
        cart=tuple(story.ask.cart),
        profile=profiles.fold_all(events) if known else None,
        stock={p: Level(q, now, f"stock-{p}") for p, q in levels.items() if q is not None} if location_id else {},
        feeds={name: None if age is None else now - age for name, age in ages.items()},
    )


def _event(number: int, message: Mapping[str, Any], now: float, catalog: Catalog) -> Any:
    content = dict(message)
    name, at = content.pop("event"), content.pop("at")
    for line in content.get("products", ()):
        product = catalog.products.get(line["product_id"])
        if product is not None:
            line.setdefault("price", product.price)
            line.setdefault("category", product.category)
    envelope = {"type": "track", "messageId": f"event-{number}", "userId": "1042", "event": name, "timestamp": at}
    record = parse({**envelope, "properties": content}, now, None, lambda kind, value: value)
    return check({**record, "occurred_at": datetime.fromisoformat(at).timestamp()}, now)


def _differences(story: Story, came: Mapping[str, Any]) -> Iterable[str]:
    expected = story.expect
    shown = [offer["offer_id"] for offer in came["offers"]]
    if expected.offers is not None and shown != expected.offers:
        yield f"offers are {shown}; expected {expected.offers}"
    if shown[: len(expected.first)] != expected.first:
        yield f"offers begin with {shown[: len(expected.first)]}; expected {expected.first}"
    products = {offer["offer_id"]: offer["product_id"] for offer in came["offers"]}
    yield from _compared("product shown by", expected.shows, products)
    held = {each["offer_id"]: each for each in came["suppressed"]}
    codes = {offer_id: sorted({r["code"] for r in each["reasons"]}) for offer_id, each in held.items()}
    yield from _compared("reasons of", {o: sorted(each) for o, each in expected.held.items()}, codes)
    times = {offer_id: each["retry_after"] for offer_id, each in held.items()}
    yield from _compared("retry_after of", expected.retry_after, times)
    passed: dict[str, list[str]] = {}
    for each in came["passed_over"]:
        passed.setdefault(each["product_id"], []).extend(r["code"] for r in each["reasons"])
    yield from _compared("reasons passing over", expected.passed_over, passed)
    if came["fallback"] != expected.fallback and "fallback" in expected.model_fields_set:
        yield f"fallback is {came['fallback']}; expected {expected.fallback}"


def _compared(what: str, expected: Mapping[str, Any], came: Mapping[str, Any]) -> Iterator[str]:
    for name, value in expected.items():
        if came.get(name, "absent") != value:
            yield f"{what} `{name}`: {came.get(name, 'absent')}; expected {value}"
