"""Rules on what the customer has sent back, is sending back, and how often.

Why it came back decides what is held back: for `size` the style's other sizes stay open, a gift says little about
taste. The rulebook's `by_reason` says so by a word of the reason; any other reason has the usual windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from features import returns
from features.profiles import RETURN_ID, RETURN_REASON, RETURNED
from features.vocabulary import Offer, Product
from serving.facts import moment
from serving.rulebook import Scope
from serving.rules.case import Case, Held, Reason, Reasons, reason, within

CODE = "recently_returned"
Return = tuple[float, str, str]
"""When, why (lower case), and the message that said so."""


def same_product(case: Case, offer: Offer, product: Product) -> Reasons:
    entry = case.facts.items.get("p:" + product.product_id)
    if entry is None or not entry[RETURNED]:
        return ()
    came = (entry[RETURNED], entry[RETURN_REASON].lower(), entry[RETURN_ID])
    return reason(CODE, "same_product", _longest(case, offer.kind, product.category, "same_product", [came]), product)


def same_style(case: Case, offer: Offer, product: Product) -> Reasons:
    """Another size of the style came back."""
    if not product.parent_id or not case.returned:
        return ()
    came = [
        (each.at, each.reason, each.evidence)
        for each in case.returned
        if each.style == product.parent_id and each.product_id != product.product_id
    ]
    return reason(CODE, "same_style", _longest(case, offer.kind, product.category, "same_style", came), product)


def same_category(case: Case, offer: Offer, product: Product) -> Reasons:
    if not product.category:
        return ()
    key = (CODE, offer.kind, product.category)
    if key not in case.shared:
        case.shared[key] = _category(case, offer.kind, product.category)
    return reason(CODE, "same_category", case.shared[key], product)


def _category(case: Case, kind: str, category: str) -> Held | None:
    """The last return of the category, and the last one of each product in it: each may have another reason."""
    entry = case.facts.items.get("c:" + category)
    came = [(each.at, each.reason, each.evidence) for each in case.returned if each.category == category]
    if entry is not None and entry[RETURNED]:
        came.append((entry[RETURNED], entry[RETURN_REASON].lower(), entry[RETURN_ID]))
    return _longest(case, kind, category, "same_category", came)


def _longest(case: Case, kind: str, category: str | None, what: str, came: Iterable[Return]) -> Held | None:
    """Of several returns the one that holds back longest."""
    found: Held | None = None
    rule = case.book.recently_returned
    for at, why, evidence in came:
        scope = scope_of(why, rule.by_reason)
        days = getattr(scope, what) if scope else getattr(rule, what).days_for(kind, category)
        held = within(case, at, evidence, days)
        if held is not None and (found is None or (held.until, held.evidence) > (found.until, found.evidence)):
            found = held
    return found


def scope_of(why: str, by_reason: Mapping[str, Scope]) -> Scope | None:
    """What the rulebook says of a return for this reason: of the first of its words that the reason holds."""
    words = set(re.findall(r"[^\W_]+", why))
    return next((scope for word, scope in by_reason.items() if word.lower() in words), None)


def open_return(case: Case, offer: Offer, product: Product) -> Reasons:
    """Until the return is closed: its products; and their styles and categories, unless the reason says otherwise."""
    rule, found = case.book.open_return, []
    for back in case.open_returns:
        scope = scope_of((back.reason or "").lower(), case.book.recently_returned.by_reason)
        if product.product_id in back.product_ids:
            level = "same_product" if rule.same_product else None
        else:
            level = _shared_with(case, product, back.product_ids, rule.same_style, rule.same_category, scope)
        if level is not None:
            limit = f"return of order {back.order_id} closed"
            told = (moment(back.since), limit, None, back.evidence, product.product_id)
            found.append(Reason("open_return", level, *told))
    return found


def _shared_with(
    case: Case, product: Product, back: Iterable[str], same_style: bool, same_category: bool, scope: Scope | None
) -> str | None:
    """The closest thing that a product shares with one that is on its way back, and that holds it back."""
    others = [case.product(product_id) for product_id in back]
    styles = {each.parent_id for each in others} if same_style and (scope is None or scope.same_style) else ()
    if product.parent_id and product.parent_id in styles:
        return "same_style"
    categories = {each.category for each in others} if same_category and (scope is None or scope.same_category) else ()
    return "same_category" if product.category and product.category in categories else None


def too_many(case: Case, offer: Offer) -> Reasons:
    """Who sends back too large a share of what they buy. The share changes with orders and returns alone."""
    rule = case.book.too_many_returns
    if offer.kind in rule.lets_through or not many(case):
        return ()
    return (Reason("too_many_returns", "share", round(returns.share(case.facts.profile), 6), rule.share),)


def many(case: Case) -> bool:
    """Whether the customer has sent back more than the rulebook's share, of enough orders."""
    rule = case.book.too_many_returns
    return returns.share(case.facts.profile) > rule.share and case.features["orders"] >= rule.orders
