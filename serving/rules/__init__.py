"""The rules that hold an offer back, all in one table; what each does is in the room that its name begins with.

Rules only hold back: their order never matters and one more never opens an offer. `screen` applies them all; their
numbers come from `rulebook.yaml`, and docs/rulebook.md has a line for each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from features.vocabulary import Offer, Product
from serving.rules import (
    care,
    cart,
    consent,
    continuity,
    limits,
    offers,
    purchases,
    quiet_hours,
    returns,
    signals,
    stock,
    terms,
)
from serving.rules.case import Case, Reason, Reasons
from serving.rules.touched import ALIKE, TOUCHES

__all__ = ["MOMENT", "OFFER", "PRODUCT", "RULES", "TERMS", "Asked", "Case", "Reason", "Reasons", "Rule", "table"]

Asked = Sequence[Callable[..., Reasons]]

OFFER, MOMENT, PRODUCT, TERMS = "offer", "moment", "product", "terms"
"""What a rule looks at, and so how often it is asked: the offer; the customer and the moment, alike for all offers of
a kind with (without) products and conditions; a product, alike for all offers of a kind; its terms for a product."""


def _always(case: Case) -> bool:
    return True


def _any(case: Case) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It would say nothing, and so is not asked, where `concerns` is false, or what it `needs` is not there.

    Of OFFER rules `about` names the offers that it may say anything of (None: any), and `needs` is something of the
    offer. Of PRODUCT rules `needs` is how the product must be touched (see `touched`), and says all: they have no
    `concerns`.
    """

    name: str
    holds_back: Callable[..., Reasons]
    codes: tuple[str, ...]
    looks_at: str
    needs: str | None = None
    concerns: Callable[[Case], Any] = _always
    about: Callable[[Case], Collection[str] | None] = _any


SILENT = ("signal_stale", "signal_missing")
RULES: tuple[Rule, ...] = (
    Rule("offers.validity", offers.validity, ("outside_validity",), OFFER, about=offers.maybe_over),
    Rule("offers.channel", offers.channel, ("wrong_channel",), OFFER, "channels", about=offers.foreign),
    Rule("offers.placement", offers.placement, ("wrong_placement",), OFFER, "placements", about=offers.foreign),
    Rule("offers.market", offers.market, ("wrong_market",), OFFER, "markets", about=offers.foreign),
    Rule("offers.eligibility", offers.eligibility, ("not_eligible",), OFFER, "eligibility", about=offers.conditional),
    Rule("offers.budget", offers.budget, ("offer_budget_spent",), OFFER, "budget", about=offers.budgeted),
    Rule("offers.dismissed", offers.dismissed, ("recently_dismissed",), OFFER, about=lambda case: case.dismissed),
    Rule("offers.redeemed", offers.redeemed, ("already_redeemed",), OFFER, about=lambda case: case.accepted),
    Rule(
        "signals.channel_of_placement",
        signals.channel_of_placement,
        ("wrong_placement",),
        MOMENT,
        None,
        signals.misplaced,
    ),
    Rule("signals.profile", signals.profile, SILENT, MOMENT, None, signals.profile_silent),
    Rule("signals.stock", signals.stock, SILENT, MOMENT, None, signals.stock_silent),
    Rule("signals.cases", signals.cases, SILENT, MOMENT, None, lambda case: case.demands("cases")),
    Rule("signals.consent", signals.consent, SILENT, MOMENT, None, lambda case: case.demands("consent")),
    Rule("consent.marketing", consent.marketing, ("no_consent",), MOMENT, None, lambda case: case.outbound),
    Rule("consent.personalisation", consent.personalisation, ("no_consent",), MOMENT, None, lambda c: not c.personal),
    Rule("quiet_hours.quiet_hours", quiet_hours.quiet_hours, ("quiet_hours",), MOMENT, None, lambda c: c.outbound),
    Rule("care.open_case", care.open_case, ("open_case",), MOMENT, None, lambda case: case.open_cases),
    Rule("care.broken_promise", care.broken_promise, ("promise_broken",), MOMENT, None, lambda c: c.broken_promises),
    Rule("care.failed_checkout", care.failed_checkout, ("checkout_failed",), MOMENT, None, lambda c: c.failed_checkout),
    Rule("returns.too_many", returns.too_many, ("too_many_returns",), MOMENT, None, returns.many),
    Rule("purchases.same_product", purchases.same_product, ("recently_purchased",), PRODUCT, "bought"),
    Rule("purchases.same_style", purchases.same_style, ("recently_purchased",), PRODUCT, "style_bought"),
    Rule("purchases.same_category", purchases.same_category, ("recently_purchased",), PRODUCT, "category_bought"),
    Rule("purchases.usual_interval", purchases.usual_interval, ("too_soon_to_replenish",), PRODUCT, "bought"),
    Rule("returns.same_product", returns.same_product, ("recently_returned",), PRODUCT, "bought"),
    Rule("returns.same_style", returns.same_style, ("recently_returned",), PRODUCT, "style_returned"),
    Rule("returns.same_category", returns.same_category, ("recently_returned",), PRODUCT, "category_returned"),
    Rule("returns.open_return", returns.open_return, ("open_return",), PRODUCT, "on_its_way_back"),
    Rule("stock.stock", stock.stock, ("out_of_stock", "stock_unknown"), PRODUCT, "not_in_stock"),
    Rule("cart.in_cart", cart.in_cart, ("in_cart",), PRODUCT, "in_cart"),
    Rule("terms.below_margin", terms.below_margin, ("below_margin",), OFFER, about=terms.earning_too_little),
    Rule("terms.below_margin_of_product", terms.below_margin_of_product, ("below_margin",), TERMS, "earns_by_product"),
    Rule("limits.contact_limit", limits.contact_limit, ("contact_limit",), MOMENT, None, lambda c: c.outbound),
    Rule("continuity.terms", continuity.terms, ("terms_conflict",), OFFER, about=continuity.carried),
    Rule("terms.promised", terms.promised, ("terms_conflict",), TERMS, None, lambda case: case.terms),
)
"""Every rule. Floor and exclusivity are arbitration's business."""


class _OfProduct(dict[int, tuple[Asked, bool]]):
    """By the ways in which a product is touched: the rules that have anything to see in it, and whether they say the
    same of all products of its category that are touched so; sorted out when first asked for."""

    def __init__(self, rules: Sequence[Rule]):
        super().__init__()
        self._rules = rules

    def __missing__(self, touches: int) -> tuple[Asked, bool]:
        asked = [rule for rule in self._rules if rule.needs is None or TOUCHES[rule.needs] & touches]
        alike = not touches & ~ALIKE and all(rule.needs is not None for rule in asked)
        found = self[touches] = (tuple(rule.holds_back for rule in asked), alike)
        return found


class Table:
    """The rules by what they look at, sorted out once."""

    def __init__(self, rules: Sequence[Rule]):
        self.rules = rules
        self._by = {sort: tuple(rule for rule in rules if rule.looks_at == sort) for sort in (OFFER, MOMENT, TERMS)}
        self.of_product = _OfProduct([rule for rule in rules if rule.looks_at == PRODUCT])

    def asked(self, case: Case, looks_at: str) -> list[Rule]:
        """The rules of that sort that have anything to see in this decision."""
        return [rule for rule in self._by[looks_at] if rule.concerns is _always or rule.concerns(case)]


_kept = [Table(RULES)]


def table() -> Table:
    """The table of RULES."""
    if _kept[0].rules is not RULES:
        _kept[0] = Table(RULES)
    return _kept[0]


def applied_to(rule: Rule, case: Case, offer: Offer, product: Product | None) -> Reasons:
    """What one rule says of an offer, or of one of its products."""
    return rule.holds_back(case, offer) if rule.looks_at in (OFFER, MOMENT) else rule.holds_back(case, offer, product)
