"""The rulebook: every number of the policy, read from `rulebook.yaml` and checked. What the rules do is in `rules`."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from features import checked_yaml
from features.vocabulary import KEEP_DAYS, OFFER_KINDS, OUTBOUND

Days = Annotated[float, Field(ge=0, le=KEEP_DAYS)]
OfferKind = Annotated[str, checked_yaml.OneOf(OFFER_KINDS)]


class Window(checked_yaml.Checked):
    """For how many days a past event holds an offer back; `kinds` gives some offer kinds a window of their own."""

    days: Days = 0.0
    kinds: dict[OfferKind, Days] = {}

    def days_for(self, kind: str) -> float:
        return self.kinds.get(kind, self.days)


class RecentlyPurchased(checked_yaml.Checked):
    same_product: Window = Window(days=30)
    same_style: Window = Window(days=30)
    same_category: Window = Window(days=14)


class Replenishment(checked_yaml.Checked):
    usual_trips: int = Field(3, ge=2)
    unknown_interval_days: Days = 7.0


class RecentlyReturned(checked_yaml.Checked):
    same_product: Window = Window(days=90)
    same_category: Window = Window(days=30)


class OpenReturn(checked_yaml.Checked):
    same_product: bool = True
    same_category: bool = True


class Stock(checked_yaml.Checked):
    minimum: int = Field(1, ge=1)


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
    """What the moment is worth for one offer kind: base + churn × the customer's churn risk."""

    base: float = Field(1.0, ge=0)
    churn: float = Field(0.0, ge=0)


class Arbitration(checked_yaml.Checked):
    context_weights: dict[OfferKind, Weight] = {}
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

    recently_purchased: RecentlyPurchased = RecentlyPurchased()
    replenishment: Replenishment = Replenishment()
    recently_returned: RecentlyReturned = RecentlyReturned()
    open_return: OpenReturn = OpenReturn()
    stock: Stock = Stock()
    signals: dict[Annotated[str, checked_yaml.OneOf(("profile", "stock"))], Signal] = Field(default_factory=_signals)
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
