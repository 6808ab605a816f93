"""The rules that hold an offer back: each a small function that yields its reasons.

Rules only hold back: their order never matters and one more never opens an offer. `screen`
applies them all; their numbers come from `rulebook.yaml`. Nothing here knows a clock, a store or a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.affinity import Affinity
from features.catalog import Catalog
from features.eligibility import meets
from features.profiles import FIRST, LAST, LAST_ID, RETURN_ID, RETURNED, TRIPS
from features.vocabulary import DAY_S, OUTBOUND, PLACEMENTS, Offer, Product
from serving.continuity import carried_first
from serving.facts import Facts, later, moment
from serving.rulebook import Rulebook, Window


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one offer, or one of its products, is held back.

    `retry_after`: the moment (epoch seconds) at which this reason is gone; None when only an event can
    lift it. `product_id` is None for a reason that concerns the whole offer.
    """

    code: str
    rule: str
    observed: Any
    limit: Any
    retry_after: float | None = None
    evidence: str | tuple[str, ...] | None = None
    product_id: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule may look at: the facts of this decision, the rulebook's numbers and the catalog.

    `affinity` (the customer against the catalog) and `features` are worked out once for screen and scores.
    """

    facts: Facts
    book: Rulebook
    catalog: Catalog
    affinity: Affinity
    features: Mapping[str, float]

    def has_products(self, offer: Offer) -> bool:
        return bool(offer.product_ids or offer.category)

    def product(self, product_id: str) -> Product:
        """The product of that id; one that the catalog does not know has an id and nothing else."""
        return self.catalog.products.get(product_id) or Product(product_id, product_id)

    def siblings(self, product: Product) -> Sequence[str]:
        """All sizes of the product's style, itself among them."""
        return self.catalog.sizes_of(product.parent_id or "")

    def products_by_affinity(self, offer: Offer) -> Iterable[str]:
        return carried_first(self.facts.carried, offer, self.affinity.best_products(offer))


OfferRule = Callable[[Case, Offer], Iterable[Reason]]
ProductRule = Callable[[Case, Offer, Product], Iterable[Reason]]


# ------------------------------------------------------------------------------- rules on the offer


def validity(case: Case, offer: Offer) -> Iterable[Reason]:
    now = case.facts.now
    if now < offer.valid_from:
        yield Reason("outside_validity", "valid_from", moment(now), moment(offer.valid_from), offer.valid_from)
    elif now >= offer.valid_until:
        yield Reason("outside_validity", "valid_until", moment(now), moment(offer.valid_until))


def channel(case: Case, offer: Offer) -> Iterable[Reason]:
    if offer.channels and case.facts.channel not in offer.channels:
        yield Reason("wrong_channel", "channel", case.facts.channel, list(offer.channels))


def placement(case: Case, offer: Offer) -> Iterable[Reason]:
    if offer.placements and case.facts.placement not in offer.placements:
        yield Reason("wrong_placement", "placement", case.facts.placement, list(offer.placements))


def market(case: Case, offer: Offer) -> Iterable[Reason]:
    if offer.markets and case.facts.market not in offer.markets:
        yield Reason("wrong_market", "market", case.facts.market, list(offer.markets))


def eligibility(case: Case, offer: Offer) -> Iterable[Reason]:
    """A customer nobody knows meets no condition over the profile."""
    if offer.eligibility is not None and not meets(offer.eligibility, case.features):
        yield Reason("not_eligible", "eligibility", _observed(offer.eligibility, case.features), offer.eligibility)


def _observed(condition: Any, features: Mapping[str, float]) -> dict[str, float | None]:
    """The values of the fields that a condition names."""
    if "field" in condition:
        value = features[condition["field"]]
        return {condition["field"]: value if value == value else None}
    parts = [condition["not"]] if "not" in condition else next(iter(condition.values()))
    return {name: value for part in parts for name, value in _observed(part, features).items()}


# ----------------- rules on the moment, the same for every offer with (without) products and conditions


def channel_of_placement(case: Case, offer: Offer) -> Iterable[Reason]:
    channels = PLACEMENTS.get(case.facts.placement, frozenset())
    if case.facts.channel not in channels:
        yield Reason("wrong_placement", "channel_of_placement", case.facts.channel, sorted(channels))


def consent(case: Case, offer: Offer) -> Iterable[Reason]:
    if case.facts.channel in OUTBOUND:
        yield Reason("no_consent", "marketing", "not granted", "granted")


def profile_signal(case: Case, offer: Offer) -> Iterable[Reason]:
    if case.facts.profile_missing and needs_profile(case, offer):
        yield Reason("signal_missing", "profile", "no profile store", "a profile")
    elif case.facts.known:
        yield from _stale(case, "profile")


def stock_signal(case: Case, offer: Offer) -> Iterable[Reason]:
    if not case.has_products(offer) or case.facts.location_id is None:
        return
    if case.facts.feeds.get("stock") is None:
        yield Reason("signal_missing", "stock", "no message yet", "a stock feed", evidence=case.facts.location_id)
    else:
        yield from _stale(case, "stock")


def _stale(case: Case, signal: str) -> Iterable[Reason]:
    rule, age_s = case.book.signals.get(signal), case.facts.age_s(signal)
    if rule is not None and rule.on_stale == "suppress" and age_s is not None and age_s > rule.max_age_s:
        yield Reason("signal_stale", signal, f"{age_s:.0f} s old", f"{rule.max_age_s:.0f} s")


def needs_profile(case: Case, offer: Offer) -> bool:
    return case.has_products(offer) or offer.eligibility is not None


# ----------------------------------------------------------------------------- rules on one product


def purchased_product(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    if not product.replenishable:
        rule = case.book.recently_purchased.same_product
        yield from _within(case, offer, rule, "recently_purchased", "same_product", "p:" + product.product_id, product)


def purchased_style(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    """Another size of the style was bought. Sizes of one style share `parent_id`."""
    if product.replenishable or not product.parent_id:
        return
    rule = case.book.recently_purchased.same_style
    for sibling in case.siblings(product):
        if sibling != product.product_id:
            yield from _within(case, offer, rule, "recently_purchased", "same_style", "p:" + sibling, product)


def purchased_category(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    if not product.replenishable and product.category:
        rule = case.book.recently_purchased.same_category
        yield from _within(case, offer, rule, "recently_purchased", "same_category", "c:" + product.category, product)


def replenishable(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    """Not before the customer's usual interval between two purchases of the product has gone by."""
    entry = case.facts.items.get("p:" + product.product_id) if product.replenishable else None
    if entry is None or not entry[LAST]:
        return
    rule = case.book.replenishment
    if entry[TRIPS] >= rule.usual_trips:
        interval_s = max((entry[LAST] - entry[FIRST]) / (entry[TRIPS] - 1), DAY_S)
    else:
        interval_s = rule.unknown_interval_days * DAY_S
    again = later(entry[LAST], interval_s)
    if case.facts.now < again:
        yield Reason(
            "too_soon_to_replenish",
            "usual_interval",
            moment(entry[LAST]),
            f"{interval_s / DAY_S:.3g} days",
            again,
            entry[LAST_ID],
            product.product_id,
        )


def returned_product(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    rule = case.book.recently_returned.same_product
    yield from _within(
        case, offer, rule, "recently_returned", "same_product", "p:" + product.product_id, product, RETURNED, RETURN_ID
    )


def returned_category(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    if product.category:
        rule = case.book.recently_returned.same_category
        yield from _within(
            case,
            offer,
            rule,
            "recently_returned",
            "same_category",
            "c:" + product.category,
            product,
            RETURNED,
            RETURN_ID,
        )


def open_return(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    rule = case.book.open_return
    for order_id, back in case.facts.open_returns.items():
        observed, limit = moment(back["since"]), f"return of order {order_id} closed"
        if rule.same_product and product.product_id in back["products"]:
            yield Reason("open_return", "same_product", observed, limit, None, back["id"], product.product_id)
        if rule.same_category and product.category in back["categories"]:
            yield Reason("open_return", "same_category", observed, limit, None, back["id"], product.product_id)


def stock(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    location_id, product_id = case.facts.location_id, product.product_id
    if location_id is None:
        yield Reason("stock_unknown", "location", None, "a location_id", product_id=product_id)
        return
    level = case.facts.stock.get(product_id)
    if level is None:
        yield Reason("stock_unknown", "stock", None, case.book.stock.minimum, None, location_id, product_id)
    elif level.quantity < case.book.stock.minimum:
        told = (level.quantity, case.book.stock.minimum, None, level.message_id, product_id)
        yield Reason("out_of_stock", "stock", *told)


def in_cart(case: Case, offer: Offer, product: Product) -> Iterable[Reason]:
    if product.product_id in case.facts.cart:
        yield Reason("in_cart", "cart", product.product_id, "not in the cart", product_id=product.product_id)


def _within(
    case: Case,
    offer: Offer,
    window: Window,
    code: str,
    rule: str,
    item: str,
    product: Product,
    at: int = LAST,
    by: int = LAST_ID,
) -> Iterable[Reason]:
    entry = case.facts.items.get(item)
    if entry is None or not entry[at]:
        return
    days = window.days_for(offer.kind)
    gone = later(entry[at], days * DAY_S)
    if case.facts.now < gone:
        yield Reason(code, rule, moment(entry[at]), f"{days:g} days", gone, entry[by], product.product_id)


OFFER_RULES: tuple[tuple[str | None, OfferRule], ...] = (
    (None, validity),
    ("channels", channel),
    ("placements", placement),
    ("markets", market),
    ("eligibility", eligibility),
)
"""Each with the field of the offer that it looks at: an offer without it is nothing to the rule."""
MOMENT_RULES: tuple[OfferRule, ...] = (channel_of_placement, consent, profile_signal, stock_signal)
ALWAYS: tuple[ProductRule, ...] = (stock,)
IF_HELD: tuple[ProductRule, ...] = (purchased_product, replenishable, returned_product)
IF_CATEGORY_HELD: tuple[ProductRule, ...] = (purchased_category, returned_category)
IF_STYLE: tuple[ProductRule, ...] = (purchased_style,)
IF_OPEN_RETURN: tuple[ProductRule, ...] = (open_return,)
IF_CART: tuple[ProductRule, ...] = (in_cart,)
PRODUCT_RULES = (*ALWAYS, *IF_HELD, *IF_CATEGORY_HELD, *IF_STYLE, *IF_OPEN_RETURN, *IF_CART)


def rules_for(case: Case, product: Product) -> tuple[ProductRule, ...]:
    """Those of PRODUCT_RULES for which there is anything to see: the others would yield nothing."""
    items, facts = case.facts.items, case.facts
    return (
        *ALWAYS,
        *(IF_HELD if "p:" + product.product_id in items else ()),
        *(IF_CATEGORY_HELD if product.category and "c:" + product.category in items else ()),
        *(IF_STYLE if product.parent_id else ()),
        *(IF_OPEN_RETURN if facts.open_returns else ()),
        *(IF_CART if facts.cart else ()),
    )
