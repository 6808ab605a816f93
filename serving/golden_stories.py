"""Golden stories: decisions told in YAML, each a customer, the stock and a moment, with what must come out.

What a story may say, and nothing of how it ends: that is `golden`. A story says only what it is about; everything
else is as on a quiet day: all products in stock online and none in a shop, all feeds just heard of, no model. It may
change the rulebook (`rulebook`), add or replace offers (`offers`), and say what the models would (`churn`,
`propensity`, by product `return_risk`).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, ConfigDict, Field

from features.checked_yaml import Checked, OneOf, Text
from features.offers import OfferEntry
from features.vocabulary import CHANNELS, OFFER_KINDS, PLACEMENTS

CUSTOMER = "1042"
"""The login of the customer who asks."""

Channel = Annotated[str, OneOf(CHANNELS)]


class Ask(Checked):
    channel: Channel = "web"
    placement: Annotated[str, OneOf(PLACEMENTS)] = "home"
    limit: int = Field(20, ge=1)
    location_id: Text | None = None
    product_id: Text | None = None
    cart: list[Text] = []
    known: bool = True


class Expected(Checked):
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


class Made(Checked):
    """A contact: handed over `at`, or only taken then, and given back at `until`."""

    channel: Channel
    at: AwareDatetime
    kinds: list[Annotated[str, OneOf(OFFER_KINDS)]] = ["promotion"]
    until: AwareDatetime | None = None


class Shown(Checked):
    """An offer that another channel has just shown, at other terms than the catalog's where it says so."""

    offer_id: Text
    product_id: Text | None = None
    discount: float | None = None


class Happened(Checked):
    """A line of the history; what it does not name here are the event's properties.

    `through` is the channel that it came through, `as` the login and `device` the anonymous id.
    """

    model_config = ConfigDict(extra="allow")

    event: Text
    at: AwareDatetime
    login: Text | None = Field(CUSTOMER, alias="as")
    device: Text | None = None
    through: Channel | None = None
    location_id: Text | None = None


class Story(Checked):
    story: Text
    now: AwareDatetime
    ask: Ask = Ask()
    history: list[Happened] = []
    stock: dict[str, int | None] = {}
    shops: dict[str, dict[str, int]] = {}
    shops_age_s: dict[str, float] = {}
    used: dict[str, tuple[int, int]] = {}
    churn: float | None = None
    propensity: dict[str, float] = {}
    return_risk: dict[str, float] = {}
    rulebook: dict[str, Any] = {}
    offers: list[OfferEntry] = []
    feeds_age_s: dict[str, float | None] = {}
    contacts: list[Made] = []
    dismissals: list[AwareDatetime] = []
    carried: list[Shown] = []
    expect: Expected


class Stories(Checked):
    stories: Annotated[list[Story], Field(min_length=1)]
