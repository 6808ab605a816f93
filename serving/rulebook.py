"""The rulebook: every number of the policy, read from `rulebook.yaml` and checked. What the rules do is in `rules`."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PrivateAttr, WithJsonSchema

from features import checked_yaml
from features.sentences import shown
from features.tables import known_zone
from features.vocabulary import KEEP_DAYS, OFFER_KINDS, OUTBOUND

Days = Annotated[float, Field(ge=0, le=KEEP_DAYS)]
OfferKind = Annotated[str, checked_yaml.OneOf(OFFER_KINDS)]
Kinds = tuple[OfferKind, ...]
FEEDS = ("profile", "stock", "cases", "consent")
"""The signals that a rulebook may say something of."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _minutes(value: Any) -> int:
    """`21:00` as minutes since midnight. A number is refused: `21` may mean the hour or the minute."""
    match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"is {shown(value, quote=True)}; expected a time of the day such as `21:00`")
    return int(match[1]) * 60 + int(match[2])


def _clock(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02}"


_CLOCK = {"type": "string", "pattern": "^([01]?[0-9]|2[0-3]):[0-5][0-9]$"}
TimeOfDay = Annotated[
    int, Field(ge=0, lt=1440), BeforeValidator(_minutes), PlainSerializer(_clock), WithJsonSchema(_CLOCK)
]
TimeZone = Annotated[str, AfterValidator(known_zone)]


class Window(checked_yaml.Checked):
    """For how many days a past event holds an offer back; offer kinds and categories may have a window of their own.

    Where both have one, the longer counts.
    """

    days: Days = 0.0
    kinds: dict[OfferKind, Days] = {}
    categories: dict[str, Days] = {}

    def days_for(self, kind: str, category: str | None = None) -> float:
        own = self.categories.get(category) if category is not None and self.categories else None
        days = self.kinds.get(kind)
        if own is None:
            return self.days if days is None else days
        return own if days is None else max(own, days)

    @cached_property
    def longest(self) -> float:
        """More than which `days_for` never says."""
        return max(self.days, *self.kinds.values(), *self.categories.values(), 0.0)


class RecentlyPurchased(checked_yaml.Checked):
    same_product: Window = Window(days=30)
    same_style: Window = Window(days=30)
    same_category: Window = Window(days=14)


class Replenishment(checked_yaml.Checked):
    usual_trips: int = Field(3, ge=2)
    unknown_interval_days: Days = 7.0


class Scope(checked_yaml.Checked):
    """For how many days a return for one reason holds back the product, its style and its category."""

    same_product: Days
    same_style: Days
    same_category: Days


class RecentlyReturned(checked_yaml.Checked):
    """What a return holds back; `by_reason` by a word of its reason, the first that fits."""

    same_product: Window = Window(days=90)
    same_style: Window = Window(days=90)
    same_category: Window = Window(days=30)
    by_reason: dict[str, Scope] = {}


class OpenReturn(checked_yaml.Checked):
    same_product: bool = True
    same_style: bool = True
    same_category: bool = True


class TooManyReturns(checked_yaml.Checked):
    """Who sends back more than this share of what they buy, from so many orders on."""

    share: float = Field(0.5, gt=0, le=1)
    orders: int = Field(3, ge=1)
    lets_through: Kinds = ("service_recovery",)


class Stock(checked_yaml.Checked):
    minimum: int = Field(1, ge=1)


class ReserveInStore(checked_yaml.Checked):
    """What is sold out online is offered in the nearest shop within so many kilometres. 0: never."""

    max_km: float = Field(30.0, ge=0, le=20_100)
    minimum: int = Field(1, ge=1)


class Care(checked_yaml.Checked):
    """What is let through while the customer waits for us; all else is held back."""

    lets_through: Kinds = ("service_recovery",)


class CheckoutFailed(checked_yaml.Checked):
    hours: float = Field(24.0, ge=0, le=KEEP_DAYS * 24)
    lets_through: Kinds = ("cart_recovery", "service_recovery")


class Consent(checked_yaml.Checked):
    """How a customer stands who has said nothing. By e-mail, sms and push marketing always needs a granted consent."""

    personalisation: Literal["until_refused", "when_granted"] = "until_refused"
    profiling: Literal["until_refused", "when_granted"] = "until_refused"
    personal_kinds: Kinds = ("cross_sell", "replenishment", "cart_recovery", "win_back", "loyalty")


class QuietHours(checked_yaml.Checked):
    """When nobody is to be contacted, by the clock and calendar of where the customer is. Both times alike: never."""

    start: TimeOfDay = Field(21 * 60, json_schema_extra={"default": "21:00"})
    end: TimeOfDay = Field(8 * 60, json_schema_extra={"default": "8:00"})
    rest_days: tuple[Annotated[str, checked_yaml.OneOf(WEEKDAYS)], ...] = ()


class InCart(checked_yaml.Checked):
    """What may be offered of a product that is in the cart."""

    lets_through: Kinds = ("cart_recovery",)


class AlreadyRedeemed(checked_yaml.Checked):
    """Offers of these kinds are for once."""

    kinds: Kinds = ("promotion", "win_back", "loyalty", "service_recovery")


class BelowMargin(checked_yaml.Checked):
    """An accepted offer must earn at least `minimum`, before returns; null: no such limit."""

    minimum: float | None = None
    lets_through: Kinds = ("service_recovery",)


class Signal(checked_yaml.Checked):
    """How old a feed may be, and what happens when it is older: hold back, ignore, or say so in `fallback`."""

    max_age_s: float = Field(gt=0)
    on_stale: Literal["suppress", "allow", "degrade"] = "suppress"


class ContactLimit(checked_yaml.Checked):
    """At most so many contacts in so many days: of one channel, of one offer kind, of both, or of all together."""

    channel: Annotated[str, checked_yaml.OneOf(sorted(OUTBOUND))] | None = None
    kind: OfferKind | None = None
    at_most: int = Field(ge=0)
    days: Annotated[float, Field(gt=0, le=KEEP_DAYS)]


class Quiet(checked_yaml.Checked):
    """So many dismissals within so many days, and we do not begin for `quiet_days` after the last of them."""

    dismissals: int = Field(3, ge=1)
    within_days: Annotated[float, Field(gt=0, le=KEEP_DAYS)] = 30.0
    quiet_days: Days = 14.0


class ContactPolicy(checked_yaml.Checked):
    """How often we may begin, and for how long a decision that is not sent yet holds its contact."""

    limits: tuple[ContactLimit, ...] = (
        ContactLimit(channel="email", at_most=2, days=7),
        ContactLimit(channel="sms", at_most=1, days=7),
        ContactLimit(channel="push", at_most=3, days=7),
        ContactLimit(at_most=3, days=7),
    )
    quiet_after: Quiet | None = Quiet()
    reserved_minutes: float = Field(60.0, gt=0, le=10_080)

    @property
    def longest_days(self) -> float:
        """How far back contacts and dismissals count at all."""
        quiet = self.quiet_after
        return max([limit.days for limit in self.limits] + ([quiet.within_days + quiet.quiet_days] if quiet else [0.0]))


class Continuity(checked_yaml.Checked):
    """For how long another channel goes on with the offers that one has shown; 0: it decides anew."""

    minutes: float = Field(30.0, ge=0, le=10_080)


class Weight(checked_yaml.Checked):
    """What the moment is worth for one offer kind: the sum of what applies."""

    base: float = Field(1.0, ge=0)
    churn: float = Field(0.0, ge=0, description="× churn risk")
    cart: float = Field(0.0, ge=0, description="× freshness of the cart, which halves in `cart_half_life_hours`")
    in_view: float = Field(0.0, ge=0, description="where the product shown is of the category of the one looked at")


class Arbitration(checked_yaml.Checked):
    propensity_exponent: float = Field(1.0, ge=0, le=4)
    context_weights: dict[OfferKind, Weight] = {}
    cart_half_life_hours: float = Field(6.0, gt=0)
    baseline_days: float = Field(14.0, ge=0, le=KEEP_DAYS)
    floor: float = Field(0.0, ge=0)
    per_category: int = Field(2, ge=1)
    exploration: float = Field(0.0, ge=0, le=1)


def _signals() -> dict[str, Signal]:
    return {
        "profile": Signal(max_age_s=86_400, on_stale="degrade"),
        "stock": Signal(max_age_s=900, on_stale="suppress"),
    }


class Rulebook(checked_yaml.Checked):
    """All numbers of the policy, as a marketer writes them."""

    timezone: TimeZone = "UTC"
    consent: Consent = Consent()
    quiet_hours: QuietHours = QuietHours()
    open_case: Care = Care()
    promise_broken: Care = Care()
    checkout_failed: CheckoutFailed = CheckoutFailed()
    recently_purchased: RecentlyPurchased = RecentlyPurchased()
    replenishment: Replenishment = Replenishment()
    recently_returned: RecentlyReturned = RecentlyReturned()
    open_return: OpenReturn = OpenReturn()
    too_many_returns: TooManyReturns = TooManyReturns()
    recently_dismissed: Window = Window(days=30)
    already_redeemed: AlreadyRedeemed = AlreadyRedeemed()
    stock: Stock = Stock()
    in_cart: InCart = InCart()
    reserve_in_store: ReserveInStore = ReserveInStore()
    terms_conflict: Window = Window(days=7)
    below_margin: BelowMargin = BelowMargin()
    signals: dict[Annotated[str, checked_yaml.OneOf(FEEDS)], Signal] = Field(default_factory=_signals)
    contact_policy: ContactPolicy = ContactPolicy()
    continuity: Continuity = Continuity()
    arbitration: Arbitration = Arbitration()
    _content: bytes = PrivateAttr(b"")

    @property
    def content(self) -> bytes:
        """The file that it was read from."""
        return self._content

    @cached_property
    def version(self) -> str:
        """The hash of that file."""
        return "sha256:" + hashlib.sha256(self._content).hexdigest()


def load(path: Path) -> Rulebook:
    """The rulebook in `path`; raises `checked_yaml.FileProblem` with line numbers and suggestions."""
    try:
        content = path.read_bytes()
    except OSError as error:
        said = f"`{path}` cannot be read: {(error.strerror or '?').lower()}; expected a YAML file"
        raise checked_yaml.FileProblem([checked_yaml.Problem(path.name, 0, "", said)]) from None
    if not content.strip():
        said = "the file is empty; expected a rulebook, or no file to take the shipped one"
        raise checked_yaml.FileProblem([checked_yaml.Problem(path.name, 0, "", said)])
    book = checked_yaml.parse(path.name, content).check(Rulebook)
    book._content = content
    return book


def rulebook_schema() -> dict[str, Any]:
    """The JSON Schema of `rulebook.yaml`, as published in docs/rulebook.schema.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Rulebook.model_json_schema()}
