"""The screen: every rule applied to every candidate, every reason kept, not only the first.

So a decision can say completely why an offer was held back and when it will be free again. Rules only hold
back: their order never matters, and one more never opens an offer. The rules themselves are in `rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from features.vocabulary import Offer, Product
from serving import rules
from serving.rules import MOMENT, OFFER, PRODUCT, TERMS, Case, Reason, Reasons, Rule
from serving.rules.stock import set_aside

Asked = Sequence[Callable[..., Reasons]]


class Screened(NamedTuple):
    """One candidate after the screen: open with a product to show, or held back with every reason.

    `passed_over` are the products of better affinity than the one that is open, each with what holds it back.
    `set_aside` is the shop where the product shown waits for the customer, where it is sold out online.
    """

    offer: Offer
    product_id: str | None = None
    reasons: tuple[Reason, ...] = ()
    retry_after: float | None = None
    passed_over: tuple[tuple[str, tuple[Reason, ...]], ...] = ()
    set_aside: str | None = None

    @property
    def open(self) -> bool:
        return not self.reasons


def screen(case: Case, offers: Sequence[Offer]) -> list[Screened]:
    """Every candidate with every reason that holds it back, in the order given.

    An offer over several products is held back only when none of them is open; it shows the open one
    of best affinity. The time at which it is free again is, per product, the latest of its reasons'
    (None if any is None), over several products the earliest of theirs.
    """
    shared = _Shared(case)
    return [_screened(case, offer, shared) for offer in offers]


class _Shared:
    """Reasons that offers share: those of the moment, and those of a product for one offer kind."""

    def __init__(self, case: Case):
        self._case, self._items = case, case.facts.items
        self._of_offer = rules.asked(case, OFFER)
        self._suspects = _union(rule.about(case) for rule in self._of_offer)
        self._of_moment = _functions(rules.asked(case, MOMENT))
        self._of_terms = rules.asked(case, TERMS)
        self._of_product = rules.asked(case, PRODUCT)
        self._terms: dict[bool, Asked] = {}
        self._by_needs: dict[tuple[bool, bool, bool], Asked] = {}
        self._products: dict[tuple[str, str], tuple[Reason, ...]] = {}
        self._moments: dict[tuple[str, bool, bool], tuple[Reason, ...]] = {}

    def of_offer(self, offer: Offer) -> tuple[Reason, ...]:
        """What the offer's own rules and those of the moment say."""
        key = (offer.kind, bool(offer.product_ids or offer.category), offer.eligibility is None)
        of_moment = self._moments.get(key)
        if of_moment is None:
            of_moment = self._moments[key] = _applied(self._of_moment, self._case, offer)
        if self._suspects is not None and offer.offer_id not in self._suspects:
            return of_moment
        asked = [rule.holds_back for rule in self._of_offer if rule.needs is None or getattr(offer, rule.needs)]
        return _applied(asked, self._case, offer) + of_moment

    def of_product(self, offer: Offer, product_id: str) -> tuple[Reason, ...]:
        """What the rules say of one of the offer's products."""
        key = (offer.kind, product_id)
        found = self._products.get(key)
        if found is None:
            product = self._case.product(product_id)
            found = self._products[key] = _applied(self._asked(product), self._case, offer, product)
        return found

    def terms_of(self, offer: Offer) -> Asked:
        """The rules on the offer's terms for a product; mostly there are none to ask."""
        key = offer.earns_by_product
        found = self._terms.get(key)
        if found is None:
            needed = (each for each in self._of_terms if each.needs is None or getattr(offer, each.needs))
            found = self._terms[key] = _functions(needed)
        return found

    def _asked(self, product: Product) -> Asked:
        """The rules for which there is anything to see: the others would say nothing."""
        category, items = product.category, self._items
        key = (
            "p:" + product.product_id in items,
            category is not None and "c:" + category in items,
            product.parent_id is not None,
        )
        asked = self._by_needs.get(key)
        if asked is None:
            there = {name for name, has in zip(("bought", "category_bought", "style"), key, strict=True) if has}
            needed = [rule for rule in self._of_product if rule.needs is None or rule.needs in there]
            asked = self._by_needs[key] = _functions(needed)
        return asked


def _union(named: Iterable[Collection[str] | None]) -> set[str] | None:
    """All that are named together; None for any."""
    found: set[str] = set()
    for each in named:
        if each is None:
            return None
        found.update(each)
    return found


def _functions(asked: Iterable[Rule]) -> Asked:
    return [rule.holds_back for rule in asked]


def _screened(case: Case, offer: Offer, shared: _Shared) -> Screened:
    reasons, terms = shared.of_offer(offer), shared.terms_of(offer)
    passed_over: list[tuple[str, tuple[Reason, ...]]] = []
    chosen: str | None = None
    for product_id in case.products_by_affinity(offer):
        held = shared.of_product(offer, product_id)
        if terms:
            held += _applied(terms, case, offer, case.product(product_id))
        if not held:
            chosen = product_id
            break
        passed_over.append((product_id, held))
    if chosen is None and not passed_over and case.has_products(offer):
        reasons = (*reasons, Reason("stock_unknown", "products", 0, 1))  # a category that has no product
    if not reasons and (chosen is not None or not passed_over):
        return Screened(offer, chosen, (), None, tuple(passed_over), set_aside(case, chosen) if chosen else None)
    times = [_latest(reasons)] if reasons else []
    if chosen is None and passed_over:
        per_product = [_latest(held) for _, held in passed_over]
        known = [at for at in per_product if at is not None]
        times.append(min(known) if known else None)
        reasons = (*reasons, *_merged(held for _, held in passed_over))
    retry_after = None if None in times else max(at for at in times if at is not None)
    return Screened(offer, None, reasons, retry_after, tuple(passed_over) if chosen is not None else ())


def _applied(asked: Asked, *given: object) -> tuple[Reason, ...]:
    """What each rule says; a rule that raises holds the offer back too, and says which one it was."""
    found: list[Reason] = []
    for rule in asked:
        try:
            said = rule(*given)
            if said:
                found += said
        except Exception as error:
            found.append(Reason("rule_error", rule.__name__, type(error).__name__, "a rule that does not fail"))
    return tuple(found)


def _latest(reasons: Sequence[Reason]) -> float | None:
    times = [reason.retry_after for reason in reasons]
    return None if None in times else max(at for at in times if at is not None)


def _merged(held: Iterable[tuple[Reason, ...]]) -> Iterable[Reason]:
    """Reasons over several products: one for those that differ in nothing but the product, which names them all."""
    shared: dict[tuple[object, ...], list[Reason]] = {}
    for reasons in held:
        for r in reasons:
            shared.setdefault((r.code, r.rule, str(r.observed), r.limit, r.retry_after, r.evidence), []).append(r)
    for same in shared.values():
        products = tuple(r.product_id for r in same if r.product_id is not None)
        yield same[0] if len(same) == 1 else replace(same[0], product_ids=products)
