"""What a rulebook and its offers mean together that nobody can have meant: `python -m serving rulebook check`.

Each file by itself is checked when it is read; here is what only both show: quiet hours without end, offers that
can never be shown, placements that stay empty. A finding names file and line and says what to do. Some are only
worth a note: they may be meant. Pure; time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from features import checked_yaml
from features.catalog import Catalog
from features.sentences import Problem, suggestion
from features.vocabulary import CHANNELS, PLACEMENTS, Offer
from serving.facts import moment
from serving.rulebook import WEEKDAYS, Rulebook
from serving.rules.terms import margin_of

SHORTEST_DAY = 60
"""Minutes a day in which one may be contacted, at least."""
WINDOWS = (
    ("recently_purchased", "same_product"),
    ("recently_purchased", "same_style"),
    ("recently_purchased", "same_category"),
    ("recently_returned", "same_product"),
    ("recently_returned", "same_style"),
    ("recently_returned", "same_category"),
    ("recently_dismissed",),
    ("terms_conflict",),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found; a `note` may be meant, anything else cannot."""

    problem: Problem
    note: bool = False


def findings(book: Rulebook, catalog: Catalog, now: float, file: str = "rulebook.yaml") -> list[Finding]:
    """Everything that is wrong or odd, by file and line; `file` is the rulebook's."""
    rules, offers = _Rules(book, file), _Offers(catalog)
    never = {offer.offer_id: why for offer in catalog.offers.values() if (why := _never(offer, catalog))}
    poor = {offer.offer_id: why for offer in catalog.offers.values() if (why := _loses(offer, book, catalog))}
    found = [
        *_quiet_hours(book, rules),
        *_words(book, rules),
        *_signals(book, rules),
        *_unknown_categories(book, catalog, rules),
        *(Finding(offers.problem(offer_id, f"can never be shown: {why}")) for offer_id, why in never.items()),
        *(Finding(offers.problem(offer_id, f"is never shown: {why}"), note=True) for offer_id, why in poor.items()),
        *_over(catalog, offers, now),
        *_placements(catalog, never | poor, offers),
        *_strangers(book, catalog, rules),
        *(Finding(warning, note=True) for warning in catalog.warnings),
    ]
    return sorted(found, key=lambda each: (each.problem.file, each.problem.line, each.note))


def _signals(book: Rulebook, rules: _Rules) -> Iterator[Finding]:
    """Naming some signals leaves the others out: how old those feeds are is then of no account."""
    for signal in ("profile", "stock"):
        if signal not in book.signals:
            text = f"`signals` does not name `{signal}`: that feed may then be of any age; the shipped rulebook has it"
            yield Finding(rules.problem(("signals",), text), note=True)


class _Rules:
    """The rulebook's file, to say where something stands in it."""

    def __init__(self, book: Rulebook, file: str):
        self._document = checked_yaml.parse(file, book.content or b"{}")

    def problem(self, where: tuple[str, ...], text: str) -> Problem:
        return self._document.problem(where, text)


class _Offers:
    """The offers' file, likewise."""

    def __init__(self, catalog: Catalog):
        name, content = next(iter(catalog.contents.items()), ("offers.yaml", b"offers: []"))
        self._name, document = name, checked_yaml.parse(name, content, bare="offers")
        entries = document.data.get("offers") or ()
        self._lines = {str(each["offer_id"]): document.line(("offers", at)) for at, each in enumerate(entries)}

    def problem(self, offer_id: str, text: str) -> Problem:
        return Problem(self._name, self._lines.get(offer_id, 0), offer_id, f"offer `{offer_id}` {text}")

    def of_file(self, text: str) -> Problem:
        return Problem(self._name, 0, "", text)


# --------------------------------------------------------------------------------------------- the rulebook


def _quiet_hours(book: Rulebook, rules: _Rules) -> Iterator[Finding]:
    quiet = book.quiet_hours
    if set(quiet.rest_days) == set(WEEKDAYS):
        text = "`rest_days` holds all seven days: nobody could ever be contacted; expected six at most"
        yield Finding(rules.problem(("quiet_hours", "rest_days"), text))
    open_minutes = (quiet.start - quiet.end) % 1440
    if 0 < open_minutes < SHORTEST_DAY:
        text = f"quiet hours leave {open_minutes} minutes a day; expected {SHORTEST_DAY} or more, or none at all"
        yield Finding(rules.problem(("quiet_hours", "start"), text))


def _words(book: Rulebook, rules: _Rules) -> Iterator[Finding]:
    for word in book.recently_returned.by_reason:
        if not word.isalnum():
            text = f"`{word}` is no single word, so no reason can have it; expected one such as `size`"
            yield Finding(rules.problem(("recently_returned", "by_reason", word), text))


def _unknown_categories(book: Rulebook, catalog: Catalog, rules: _Rules) -> Iterator[Finding]:
    known = dict.fromkeys(each.category for each in catalog.products.values() if each.category)
    for where in WINDOWS:
        window: Any = book
        for part in where:
            window = getattr(window, part)
        for category in window.categories:
            if category not in known:
                text = f"no product is of category `{category}`; {suggestion(category, known)}"
                yield Finding(rules.problem((*where, "categories", category), text))


def _strangers(book: Rulebook, catalog: Catalog, rules: _Rules) -> Iterator[Finding]:
    personal = book.consent.personal_kinds
    impersonal = [each for each in catalog.offers.values() if each.kind not in personal and each.eligibility is None]
    if book.consent.personalisation == "when_granted" and catalog.offers and not impersonal:
        text = "every offer is personal: who has not agreed to personalisation sees none; expected one kind less"
        yield Finding(rules.problem(("consent", "personal_kinds"), text), note=True)


# ------------------------------------------------------------------------------------------------ the offers


def _never(offer: Offer, catalog: Catalog) -> str | None:
    """Why this offer can never be shown, whoever asks; None if it can."""
    if not _places(offer):
        return "none of its `placements` belongs to one of its `channels`; name a placement of theirs"
    markets = {each.market for each in catalog.locations.values()}
    if offer.markets and not markets & set(offer.markets):
        return f"no location is of market {_listed(offer.markets)}; correct `markets`, or add a location"
    if offer.category is not None and not catalog.products_in(offer.category):
        return f"no product is of category `{offer.category}`; correct `category`, or add a product"
    contradiction = _contradiction(offer.eligibility)
    if contradiction is not None:
        return f"its `eligibility` wants {contradiction}; nobody is both"
    return None


def _loses(offer: Offer, book: Rulebook, catalog: Catalog) -> str | None:
    """Why this offer is worth too little to be shown, whoever asks."""
    products = [catalog.products.get(each) for each in catalog.products_of(offer)] or [None]
    earned = max(margin_of(offer, product) for product in products) - offer.value.discount - offer.value.cost
    margin = book.below_margin
    if margin.minimum is not None and offer.kind not in margin.lets_through and round(earned, 6) < margin.minimum:
        return f"it earns {earned:.2f} at best, below `below_margin.minimum` ({margin.minimum:g}); raise its value"
    best = earned * _highest_weight(offer, book) * offer.lever
    if best < book.arbitration.floor and not offer.fallback:
        floor = f"`arbitration.floor` ({book.arbitration.floor:g})"
        return f"its priority is {best:.2f} at best, below {floor}; raise its value"
    return None


def _places(offer: Offer) -> set[tuple[str, str]]:
    """Every placement and channel in which the offer may be shown."""
    return {
        (placement, channel)
        for placement in offer.placements or PLACEMENTS
        for channel in PLACEMENTS[placement]
        if channel in (offer.channels or CHANNELS)
    }


def _highest_weight(offer: Offer, book: Rulebook) -> float:
    weight = book.arbitration.context_weights.get(offer.kind)
    return 1.0 if weight is None else weight.base + weight.churn + weight.cart + weight.in_view


def _contradiction(condition: Any) -> str | None:
    """Two demands on one field that no value meets, of conditions that must all hold."""
    bounds: dict[str, tuple[float, float]] = {}
    for field, sign, value in _demands(condition):
        low, high = bounds.get(field, (-inf, inf))
        low = max(low, value) if sign in (">", ">=", "==") else low
        high = min(high, value) if sign in ("<", "<=", "==") else high
        bounds[field] = (low, high)
        if low > high:
            return f"`{field}` to be {low:g} or more and {high:g} or less"
        if low == high and sign in ("<", ">"):
            return f"`{field}` to be {low:g} and {sign} {value:g}"
    return None


def _demands(condition: Any) -> Iterator[tuple[str, str, float]]:
    if isinstance(condition, Mapping) and "all" in condition:
        for part in condition["all"]:
            yield from _demands(part)
    elif isinstance(condition, Mapping) and isinstance(condition.get("value"), int | float):
        yield condition["field"], condition["operator"], float(condition["value"])


def _over(catalog: Catalog, offers: _Offers, now: float) -> Iterator[Finding]:
    for offer in catalog.offers.values():
        if offer.valid_until <= now:
            text = f"is over since {moment(offer.valid_until)}; renew `valid_until`, or take it out"
            yield Finding(offers.problem(offer.offer_id, text), note=True)


def _placements(catalog: Catalog, never: Mapping[str, str], offers: _Offers) -> Iterator[Finding]:
    """Placements in which nothing can come: nothing is meant for them, or all that is can never be shown."""
    if not catalog.offers:
        yield Finding(offers.of_file("there are no offers: nothing is shown to anybody"), note=True)
        return
    for placement in PLACEMENTS:
        meant = [each for each in catalog.offers.values() if any(where == placement for where, _ in _places(each))]
        left = [each for each in meant if each.offer_id not in never]
        if meant and not left:
            named = _listed(each.offer_id for each in meant)
            text = f"placement `{placement}` stays empty: what is meant for it can never be shown ({named})"
            yield Finding(offers.of_file(text))
        elif not meant:
            yield Finding(offers.of_file(f"no offer is meant for placement `{placement}`"), note=True)
        groups = {each.exclusive_group for each in left}
        if len(left) > 1 and len(groups) == 1 and None not in groups:
            text = f"placement `{placement}` shows one offer at most: all are of the exclusive group `{groups.pop()}`"
            yield Finding(offers.of_file(text), note=True)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(f"`{each}`" for each in every[:5]) + (", …" if len(every) > 5 else "")
