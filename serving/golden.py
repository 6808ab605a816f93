"""Golden decisions: stories in YAML, each a customer, the stock and a moment, with what must come out.

`python -m serving rulebook test` runs those beside a rulebook, and the tests run those that ship in
`serving/cases`. A story says only what it is about; everything else is as on a quiet day: all products in
stock online and none in a shop, all feeds just heard of, no model. It may change the rulebook (`rulebook`), add or
replace offers (`offers`), and say what the models would (`churn`, `propensity`, by product `return_risk`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from features import checked_yaml, commerce, profiles
from features.catalog import Catalog
from features.events import check
from features.links import links_of, node_of, whose
from features.offers import OfferEntry, offer_of
from features.partition import Graph, Partition
from features.segment import hasher, parse
from features.signals import Level
from features.vocabulary import ONLINE, Event
from serving.decide import Policy, answer, decide
from serving.facts import Carried, Contact, Contacts, Dismissal, Facts, Promised, Shop
from serving.rulebook import FEEDS, Rulebook
from serving.scoring import Models

CUSTOMER = "1042"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ask(_Part):
    channel: str = "web"
    placement: str = "home"
    limit: int = 20
    location_id: str | None = None
    product_id: str | None = None
    cart: list[str] = []
    known: bool = True


class Expected(_Part):
    """What must come out. `first` are the first offers in order; `held` gives the codes per offer, all of them.

    `rules` and `evidence` are what the reasons name; `set_aside` the shop where an offer's product waits; `treatment`,
    `context_weight` and `value` are of offers shown; `log` compares fields of the answer as it is logged.
    """

    offers: list[str] | None = None
    first: list[str] = []
    shows: dict[str, str] = {}
    not_held: list[str] = []
    set_aside: dict[str, str | None] = {}
    treatment: dict[str, dict[str, str]] = {}
    context_weight: dict[str, float] = {}
    value: dict[str, float] = {}
    held: dict[str, list[str]] = {}
    rules: dict[str, list[str]] = {}
    evidence: dict[str, list[str]] = {}
    retry_after: dict[str, str | None] = {}
    passed_over: dict[str, list[str]] = {}
    fallback: str | None = None
    log: dict[str, Any] = {}


class Made(_Part):
    """A contact: handed over `at`, or only taken then, and given back at `until`."""

    channel: str
    at: AwareDatetime
    kinds: list[str] = ["promotion"]
    until: AwareDatetime | None = None


class Shown(_Part):
    """An offer that another channel has just shown, at other terms than the catalog's where it says so."""

    offer_id: str
    product_id: str | None = None
    discount: float | None = None


class Story(_Part):
    story: str
    now: AwareDatetime
    ask: Ask = Ask()
    history: list[dict[str, Any]] = []
    stock: dict[str, int | None] = {}
    shops: dict[str, dict[str, int]] = {}
    shops_age_s: dict[str, float] = {}
    used: dict[str, tuple[int, int]] = {}
    churn: float | None = None
    propensity: dict[str, float] = {}
    return_risk: dict[str, float] = {}
    rulebook: dict[str, Any] = {}
    offers: list[dict[str, Any]] = []
    feeds_age_s: dict[str, float | None] = {}
    contacts: list[Made] = []
    dismissals: list[AwareDatetime] = []
    carried: list[Shown] = []
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
    if story.offers:
        own = [offer_of(OfferEntry.model_validate(entry)) for entry in story.offers]
        offers = {**catalog.offers, **{offer.offer_id: offer for offer in own}}
        catalog = replace(catalog, offers=dict(sorted(offers.items())))
    if story.rulebook:
        book = Rulebook.model_validate(_merged(book.model_dump(), story.rulebook))
    models = _Given(risk=story.churn, chances=story.propensity, comes_back=story.return_risk)
    return answer(decide(_facts(story, catalog), Policy(catalog, book, models)))


@dataclass(frozen=True, slots=True)
class _Given(Models):
    """Models that say what the story says."""

    risk: float | None = None
    chances: Mapping[str, float] = field(default_factory=dict)
    comes_back: Mapping[str, float] = field(default_factory=dict)

    def propensities(self, *given: Any, **more: Any) -> Sequence[float | None]:
        _, _, offers, *_ = given
        return [self.chances.get(offer.offer_id) for offer in offers]

    def churn_risk(self, features: Mapping[str, float]) -> float | None:
        return self.risk

    def return_risks(self, facts: Facts, product_ids: Sequence[str | None], *given: Any) -> list[float | None]:
        return [self.comes_back.get(each or "") for each in product_ids]


def _merged(whole: dict[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """`whole` with what `part` says, field by field."""
    return whole | {
        name: _merged(whole[name], value) if isinstance(value, Mapping) and isinstance(whole.get(name), dict) else value
        for name, value in part.items()
    }


def _facts(story: Story, catalog: Catalog) -> Facts:
    now = story.now.timestamp()
    history = [{"event": "Visited", "at": "2019-01-01T00:00:00Z"}, *story.history]
    events = [_event(number, message, now, catalog) for number, message in enumerate(history)]
    location_id = story.ask.location_id or (None if story.ask.channel == "store" else ONLINE)
    levels = dict.fromkeys(catalog.products, 10) | story.stock
    ages = dict.fromkeys(FEEDS, 0.0) | story.feeds_age_s
    location = catalog.locations.get(location_id or "")
    known = story.ask.known
    return Facts(
        decision_id="golden",
        now=now,
        customer_id=CUSTOMER,
        channel=story.ask.channel,
        placement=story.ask.placement,
        limit=story.ask.limit,
        location_id=location_id,
        market=location.market if location else None,
        product_id=story.ask.product_id,
        cart=tuple(story.ask.cart),
        profile=profiles.fold_all(_theirs(events)) if known else None,
        stock={p: Level(q, now, f"stock-{p}") for p, q in levels.items() if q is not None} if location_id else {},
        feeds={name: None if age is None else now - age for name, age in ages.items()},
        shops={
            place: Shop(
                now - story.shops_age_s.get(place, 0.0), {p: Level(q, now, f"{place}-{p}") for p, q in has.items()}
            )
            for place, has in story.shops.items()
        },
        used=story.used,
        contacts=Contacts(
            tuple(_contact(number, each) for number, each in enumerate(story.contacts, 1)),
            tuple(Dismissal(f"dismissal-{n}", at.timestamp()) for n, at in enumerate(story.dismissals, 1)),
        ),
        carried=Carried("elsewhere", now, tuple(_promised(each, catalog) for each in story.carried))
        if story.carried
        else None,
    )


def _contact(number: int, made: Made) -> Contact:
    until = None if made.until is None else made.until.timestamp()
    return Contact(f"decision-{number}", made.channel, tuple(made.kinds), made.at.timestamp(), until)


def _promised(shown: Shown, catalog: Catalog) -> Promised:
    offer = catalog.offers[shown.offer_id]
    discount = offer.value.discount if shown.discount is None else shown.discount
    return Promised(shown.offer_id, shown.product_id, discount, offer.valid_until)


def _event(number: int, message: Mapping[str, Any], now: float, catalog: Catalog) -> Event:
    """A line of the history as the event that it would be.

    `through` is the channel that it came through, `as` the login (by default `1042`) and `device` the anonymous id.
    """
    content = dict(message)
    who = {"userId": content.pop("as", CUSTOMER), "anonymousId": content.pop("device", None)}
    name, at = content.pop("event"), content.pop("at")
    context = {"channel": content.pop("through", None), "location_id": content.pop("location_id", None)}
    said = {"type": "identify", **content} if name == "$identify" else {"type": "track", "event": name}
    envelope = {"messageId": f"event-{number}", "timestamp": at, "properties": content, **said}
    envelope |= {name: id_ for name, id_ in who.items() if id_}
    envelope["context"] = {key: value for key, value in context.items() if value}
    record = parse(envelope, now, None, hasher(b"golden"))
    event = check({**record, "occurred_at": datetime.fromisoformat(at).timestamp()}, now)
    return replace(event, body=commerce.completed(event.name, dict(event.body), catalog))


def _theirs(events: Sequence[Event]) -> list[Event]:
    """Those of the customer who asks, under whatever ids."""
    graph = Graph()
    for link in (link for number, event in enumerate(events) for link in links_of(event, number)):
        graph.add(link)
    whose_is = Partition(graph).customer
    mine = whose_is(node_of(CUSTOMER))
    nodes = ((whose(event.user_id, event.anonymous_id), event) for event in events)
    return [event for node, event in nodes if node and whose_is(node) == mine]


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
    shown_though_held = [offer_id for offer_id in expected.not_held if offer_id in codes]
    if shown_though_held:
        yield f"held back: {shown_though_held}; expected them to be free"
    named = {offer_id: sorted({r["rule"] for r in each["reasons"]}) for offer_id, each in held.items()}
    yield from _compared("rules of", {o: sorted(each) for o, each in expected.rules.items()}, named)
    proof = {
        offer_id: sorted({one for r in each["reasons"] for one in _all(r["evidence"])})
        for offer_id, each in held.items()
    }
    yield from _compared("evidence of", {o: sorted(each) for o, each in expected.evidence.items()}, proof)
    offers = {offer["offer_id"]: offer for offer in came["offers"]}
    aside = {name: each["fulfilment"] and each["fulfilment"]["location_id"] for name, each in offers.items()}
    yield from _compared("shop that sets aside", expected.set_aside, aside)
    for part in ("treatment", "context_weight", "value"):
        yield from _compared(f"{part} of", getattr(expected, part), {name: offers[name][part] for name in offers})
    yield from _compared("field", expected.log, came)
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


def _all(evidence: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return evidence if isinstance(evidence, tuple) else (evidence,) if evidence else ()
