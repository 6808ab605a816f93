"""The screen: every rule applied to every candidate, every reason kept, not only the first.

So a decision can say completely why an offer was held back and when it will be free again. Rules only hold
back: their order never matters, and one more never opens an offer. The rules themselves are in `rules`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from features.catalog import Catalog
from features.vocabulary import Offer
from serving.rules import MOMENT, OFFER, TERMS, Asked, Case, Reason, Rule, table
from serving.rules.touched import Touched


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
    known, shared = _candidates_of(case.catalog), _Shared(case)
    for offer in offers:
        if offer.offer_id not in known:
            known[offer.offer_id] = _Candidate(offer)
    return [_screened(case, known[offer.offer_id], shared) for offer in offers]


class _Candidate:
    """What of an offer's screen depends on no customer: worked out once for a catalog."""

    __slots__ = ("_opened", "earns_by_product", "has_products", "offer", "sort")

    def __init__(self, offer: Offer):
        self.offer = offer
        self.has_products = bool(offer.product_ids or offer.category)
        self.earns_by_product = offer.earns_by_product
        self.sort = (offer.kind, self.has_products, offer.eligibility is None)
        """Rules of the moment say the same of all offers of a sort."""
        self._opened: dict[str | None, Screened] = {}

    def opened(self, product_id: str | None) -> Screened:
        """The offer, open with that product, and nothing else to say."""
        found = self._opened.get(product_id)
        if found is None:
            found = self._opened[product_id] = Screened(self.offer, product_id)
        return found


_kept: list[tuple[Catalog, dict[str, _Candidate]]] = []


def _candidates_of(catalog: Catalog) -> dict[str, _Candidate]:
    """By offer id, for the last few catalogs."""
    for kept, found in _kept:
        if kept is catalog:
            return found
    candidates: dict[str, _Candidate] = {}
    _kept[:] = [*_kept[-3:], (catalog, candidates)]
    return candidates


class _Said(NamedTuple):
    """What is said alike of offers of one sort: by the rules of the moment, and of each product."""

    of_moment: tuple[Reason, ...]
    of_products: dict[str, tuple[Reason, ...]]


class _Shared:
    """What the rules say of more than one offer, and which of them have anything to say at all."""

    def __init__(self, case: Case):
        self._case, self._table, self._touched = case, table(), Touched(case)
        self._of_offer = [(rule, rule.about(case)) for rule in self._table.asked(case, OFFER)]
        self._suspects = _union(about for _, about in self._of_offer)
        self._of_moment = _functions(self._table.asked(case, MOMENT))
        of_terms = self._table.asked(case, TERMS)
        self.terms = {True: _functions(of_terms), False: _functions(rule for rule in of_terms if rule.needs is None)}
        """The rules on terms, by whether an offer earns what its product does; mostly there are none to ask."""
        self._said: dict[tuple[str, bool, bool], _Said] = {}
        self._of_products: dict[str, dict[str, tuple[Reason, ...]]] = {}

    def of_sort(self, candidate: _Candidate) -> _Said:
        """Products are judged by the offer's kind alone."""
        found = self._said.get(candidate.sort)
        if found is None:
            of_moment = _applied(self._of_moment, self._case, candidate.offer)
            of_products = self._of_products.setdefault(candidate.offer.kind, {})
            found = self._said[candidate.sort] = _Said(of_moment, of_products)
        return found

    def of_offer(self, offer: Offer) -> tuple[Reason, ...]:
        """What the offer's own rules say."""
        if self._suspects is not None and offer.offer_id not in self._suspects:
            return ()
        asked = [
            rule.holds_back
            for rule, about in self._of_offer
            if (about is None or offer.offer_id in about) and (rule.needs is None or getattr(offer, rule.needs))
        ]
        return _applied(asked, self._case, offer)

    def of_product(self, offer: Offer, product_id: str) -> tuple[Reason, ...]:
        """What the rules say of one of the offer's products."""
        product = self._case.product(product_id)
        return _applied(self._table.of_product(self._touched.by(product)), self._case, offer, product)


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


def _screened(case: Case, candidate: _Candidate, shared: _Shared) -> Screened:
    offer, said, terms = candidate.offer, shared.of_sort(candidate), shared.terms[candidate.earns_by_product]
    reasons, of_products = shared.of_offer(offer) + said.of_moment, said.of_products
    passed_over: list[tuple[str, tuple[Reason, ...]]] = []
    chosen: str | None = None
    for product_id in case.products_by_affinity(offer):
        held = of_products.get(product_id)
        if held is None:
            held = of_products[product_id] = shared.of_product(offer, product_id)
        if terms:
            held += _applied(terms, case, offer, case.product(product_id))
        if not held:
            chosen = product_id
            break
        passed_over.append((product_id, held))
    if chosen is None and not passed_over and candidate.has_products:
        reasons = (*reasons, Reason("stock_unknown", "products", 0, 1))  # a category that has no product
    if not reasons and (chosen is not None or not passed_over):
        place = case.set_aside.get(chosen) if chosen is not None else None
        if place is None and not passed_over:
            return candidate.opened(chosen)
        return Screened(offer, chosen, (), None, tuple(passed_over), place)
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
    found: tuple[Reason, ...] = ()
    for rule in asked:
        try:
            said = rule(*given)
            if said:
                found = (*found, *said)
        except Exception as error:
            found = (*found, Reason("rule_error", rule.__name__, type(error).__name__, "a rule that does not fail"))
    return found


def _latest(reasons: Sequence[Reason]) -> float | None:
    latest = 0.0
    for reason in reasons:
        at = reason.retry_after
        if at is None:
            return None
        latest = max(latest, at)
    return latest


def _merged(held: Iterable[tuple[Reason, ...]]) -> Iterable[Reason]:
    """Reasons over several products: one for those that differ in nothing but the product, which names them all."""
    shared: dict[tuple[object, ...], list[Reason]] = {}
    for reasons in held:
        for r in reasons:
            code, rule, observed, limit, retry_after, evidence, _, _ = r
            shared.setdefault((code, rule, str(observed), limit, retry_after, evidence), []).append(r)
    for same in shared.values():
        products = tuple(r.product_id for r in same if r.product_id is not None)
        yield same[0] if len(same) == 1 else same[0]._replace(product_ids=products)
