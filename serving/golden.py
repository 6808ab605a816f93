"""Golden decisions: stories are told to the engine, and what comes out is compared with what they expect.

`python -m serving rulebook test` runs those beside a rulebook, a changed rulebook takes over only where they end as
they should, and the tests run those that ship in `serving/cases`. What a story may say is in `golden_stories`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from features import checked_yaml, commerce, profiles
from features.catalog import Catalog
from features.events import check
from features.links import links_of, node_of, whose
from features.offers import offer_of
from features.partition import Graph, Partition
from features.segment import hasher, parse
from features.sentences import FileProblem
from features.signals import Level
from features.steps import STEPS
from features.vocabulary import ONLINE, Event, EventProblem
from serving.decide import Policy, answer, decide
from serving.facts import Carried, Contact, Contacts, Dismissal, Facts, Promised, Shop
from serving.golden_stories import CUSTOMER, Happened, Made, Shown, Stories, Story
from serving.rulebook import FEEDS, Rulebook
from serving.scoring import Models

LONG_AGO = datetime(2019, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One story run: what was different from what it expects."""

    story: str
    differences: tuple[str, ...]


class Untold(ValueError):
    """What a story says cannot be; `where` in the story it stands."""

    def __init__(self, where: tuple[int | str, ...], sentence: str):
        super().__init__(sentence)
        self.where = where


def run(folder: Path, catalog: Catalog, book: Rulebook) -> Iterator[Outcome]:
    """Every story of every YAML file in `folder`; FileProblem names file and line of what cannot be told."""
    for path in sorted(folder.glob("*.yaml")):
        document = checked_yaml.parse(path.name, path.read_bytes())
        for position, story in enumerate(document.check(Stories).stories):
            here = ("stories", position)
            try:
                if not story.expect.model_fields_set:
                    raise Untold(("expect",), "`expect` names nothing; expected something that must come out")
                came = told(story, catalog, book)
            except Untold as wrong:
                raise FileProblem([document.problem((*here, *wrong.where), str(wrong))]) from None
            except ValidationError as error:
                raise FileProblem(document.refused(error, Rulebook, (*here, "rulebook"))) from None
            yield Outcome(story.story, tuple(_differences(story, came)))


def told(story: Story, catalog: Catalog, book: Rulebook) -> dict[str, Any]:
    """The answer, with its whole trace, in the story's situation.

    Raises Untold, and pydantic's ValidationError where the rulebook that it asks for is none.
    """
    if story.offers:
        own = [offer_of(entry) for entry in story.offers]
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
    events = list(_events(story, now, catalog))
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
        carried=Carried(
            "elsewhere", now, tuple(_promised(number, each, catalog) for number, each in enumerate(story.carried))
        )
        if story.carried
        else None,
    )


def _contact(number: int, made: Made) -> Contact:
    until = None if made.until is None else made.until.timestamp()
    return Contact(f"decision-{number}", made.channel, tuple(made.kinds), made.at.timestamp(), until)


def _promised(number: int, shown: Shown, catalog: Catalog) -> Promised:
    offer = catalog.offers.get(shown.offer_id)
    if offer is None:
        wrong = f"`{shown.offer_id}` is no offer; expected one of `offers.yaml` or of the story"
        raise Untold(("carried", number, "offer_id"), wrong)
    discount = offer.value.discount if shown.discount is None else shown.discount
    return Promised(shown.offer_id, shown.product_id, discount, offer.valid_until)


def _events(story: Story, now: float, catalog: Catalog) -> Iterator[Event]:
    """The history, after an `identify` of long ago that says nothing: who has a story is known."""
    named = Happened(event="$identify", at=min(LONG_AGO, story.now))
    for number, happened in enumerate((named, *story.history)):
        if number and happened.event not in STEPS and (meant := get_close_matches(happened.event, STEPS, 1, 0.8)):
            wrong = f"`{happened.event}` changes nothing; did you mean `{meant[0]}`?"
            raise Untold(("history", number - 1, "event"), wrong)
        try:
            yield _event(number, happened, now, catalog)
        except EventProblem as wrong:
            raise Untold(("history", number - 1), f"`{happened.event}` cannot be: {wrong}") from None


def _event(number: int, happened: Happened, now: float, catalog: Catalog) -> Event:
    """A line of the history as the event that it would be; EventProblem for what no event can say."""
    content = dict(happened.model_extra or {})
    context = {"channel": happened.through, "location_id": happened.location_id}
    said = {"type": "track", "event": happened.event}
    if happened.event == "$identify":
        said = {"type": "identify", **content}
    envelope = {"messageId": f"event-{number}", "timestamp": happened.at.isoformat(), "properties": content, **said}
    ids = {"userId": happened.login, "anonymousId": happened.device}
    envelope |= {name: id_ for name, id_ in ids.items() if id_}
    envelope["context"] = {key: value for key, value in context.items() if value}
    record = parse(envelope, now, None, hasher(b"golden"))
    event = check({**record, "occurred_at": happened.at.timestamp()}, now)
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
