"""The screen: every rule applied to every candidate, every reason kept, not only the first.

So a decision can say completely why an offer was held back and when it will be free again. Rules only hold
back: their order never matters, and one more never opens an offer. The rules themselves are in `rules`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from features.catalog import Catalog
from features.vocabulary import Offer
from serving.rules import MOMENT, OFFER, TERMS, Asked, Case, Reason, Rule, table
from serving.rules.touched import Touched


@dataclass(frozen=True, slots=True)
class Screened:
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
    """Every candidate with every reason that holds it back, in the order given; the offers must be the catalog's own.

    An offer over several products is held back only when none of them is open; it shows the open one
    of best affinity. The time at which it is free again is, per product, the latest of its reasons'
    (None if any is None), over several products the earliest of theirs.
    """
    known, shared = _candidates_of(case.catalog), _Shared(case)
    return [_screened(case, known[offer.offer_id], shared) for offer in offers]


class _Open(dict[str | None, Screened]):
    """The offer, open with a product, and nothing else to say; by product, made when first asked for."""

    def __init__(self, offer: Offer):
        super().__init__()
        self._offer = offer

    def __missing__(self, product_id: str | None) -> Screened:
        found = self[product_id] = Screened(self._offer, product_id)
        return found


class _Candidate:
    """What of an offer's screen depends on no customer: worked out once for a catalog."""

    __slots__ = ("has_products", "offer", "offer_id", "open", "sort")

    def __init__(self, offer: Offer):
        self.offer, self.offer_id = offer, offer.offer_id
        self.has_products = bool(offer.product_ids or offer.category)
        self.sort = (offer.kind, self.has_products, offer.eligibility is None, offer.earns_by_product)
        """Rules of the moment say the same of all offers of a sort, and the same rules on terms are asked of them."""
        self.open = _Open(offer)


_kept: list[tuple[Catalog, dict[str, _Candidate]]] = []


def _candidates_of(catalog: Catalog) -> dict[str, _Candidate]:
    """By offer id, for the last few catalogs."""
    for kept, found in _kept:
        if kept is catalog:
            return found
    candidates = {offer_id: _Candidate(offer) for offer_id, offer in catalog.offers.items()}
    _kept[:] = [*_kept[-3:], (catalog, candidates)]
    return candidates


class _Said(NamedTuple):
    """What is said alike of offers of one sort: by the rules of the moment, and of each product. And what they are
    asked about its terms; mostly nothing."""

    of_moment: tuple[Reason, ...]
    of_products: dict[str, tuple[Reason, ...]]
    terms: Asked


class _Shared:
    """What the rules say of more than one offer, and which of them have anything to say at all."""

    def __init__(self, case: Case):
        self._case, self._table, self._touched = case, table(), Touched(case)
        self._of_offer = [(rule, rule.about(case)) for rule in self._table.asked(case, OFFER)]
        self.suspects = _union(about for _, about in self._of_offer)
        """The ids of the offers that their own rules may say anything of; None: any."""
        self.products_of = case.products_by_affinity if case.carried else case.affinity.best_products
        self._of_moment = _functions(self._table.asked(case, MOMENT))
        self._terms = self._table.asked(case, TERMS)
        self.by_sort: dict[tuple[str, bool, bool, bool], _Said] = {}
        self._of_products: dict[str, dict[str, tuple[Reason, ...]]] = {}
        self._alike: dict[tuple[str, str | None, bool, int], tuple[Reason, ...]] = {}

    def of_sort(self, candidate: _Candidate) -> _Said:
        """Products are judged by the offer's kind alone."""
        of_moment = _applied(self._of_moment, self._case, candidate.offer)
        of_products = self._of_products.setdefault(candidate.offer.kind, {})
        terms = _functions(r for r in self._terms if r.needs is None or getattr(candidate.offer, r.needs))
        said = self.by_sort[candidate.sort] = _Said(of_moment, of_products, terms)
        return said

    def of_offer(self, offer: Offer) -> tuple[Reason, ...]:
        """What the offer's own rules say."""
        asked = [
            rule.holds_back
            for rule, about in self._of_offer
            if (about is None or offer.offer_id in about) and (rule.needs is None or getattr(offer, rule.needs))
        ]
        return _applied(asked, self._case, offer)

    def of_product(self, offer: Offer, product_id: str) -> tuple[Reason, ...]:
        """What the rules say of one of the offer's products. Where they say the same of others, it is said once: the
        reasons name the first that was asked for, until they are told (`_named`)."""
        product = self._case.product(product_id)
        touches = self._touched.by(product)
        asked, alike = self._table.of_product[touches]
        if not asked:
            return ()
        if not alike:
            return _applied(asked, self._case, offer, product)
        key = (offer.kind, product.category, product.replenishable, touches)
        found = self._alike.get(key)
        if found is None:
            found = self._alike[key] = _applied(asked, self._case, offer, product)
        return found


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
    offer, said = candidate.offer, shared.by_sort.get(candidate.sort) or shared.of_sort(candidate)
    reasons, of_products = said.of_moment, said.of_products
    if shared.suspects is None or candidate.offer_id in shared.suspects:
        reasons = shared.of_offer(offer) + reasons
    passed_over: list[tuple[str, tuple[Reason, ...]]] = []
    chosen: str | None = None
    for product_id in shared.products_of(offer):
        held = of_products.get(product_id)
        if held is None:
            held = of_products[product_id] = shared.of_product(offer, product_id)
        if said.terms:
            held += _applied(said.terms, case, offer, case.product(product_id))
        if not held:
            chosen = product_id
            break
        passed_over.append((product_id, held))
    if chosen is None and not passed_over and candidate.has_products:
        reasons = (*reasons, Reason("stock_unknown", "products", 0, 1))  # a category that has no product
    if not reasons and (chosen is not None or not passed_over):
        place = case.set_aside.get(chosen) if chosen is not None else None
        if place is None and not passed_over:
            return candidate.open[chosen]
        return Screened(offer, chosen, (), None, _named(passed_over), place)
    times = [_latest(reasons)] if reasons else []
    if chosen is None and passed_over:
        per_product = [_latest(held) for held in {id(held): held for _, held in passed_over}.values()]
        known = [at for at in per_product if at is not None]
        times.append(min(known) if known else None)
        reasons = (*reasons, *_merged(passed_over))
    retry_after = None if None in times else max(at for at in times if at is not None)
    return Screened(offer, None, reasons, retry_after, _named(passed_over) if chosen is not None else ())


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


def _named(passed_over: Iterable[tuple[str, tuple[Reason, ...]]]) -> tuple[tuple[str, tuple[Reason, ...]], ...]:
    """Each product's reasons in its own name."""
    return tuple(
        (product_id, tuple(r if r.product_id is None else r._replace(product_id=product_id) for r in held))
        for product_id, held in passed_over
    )


def _merged(passed_over: Sequence[tuple[str, tuple[Reason, ...]]]) -> Iterable[Reason]:
    """Reasons over several products: one for those that differ in nothing but the product, which names them all."""
    places: dict[int, list[int]] = {}
    for place, (_, held) in enumerate(passed_over):
        places.setdefault(id(held), []).append(place)  # what is said once of many products is looked at once
    shared: dict[tuple[object, ...], tuple[Reason, list[int]]] = {}
    for alike in places.values():
        for r in passed_over[alike[0]][1]:
            code, rule, observed, limit, retry_after, evidence, _, _ = r
            shared.setdefault((code, rule, str(observed), limit, retry_after, evidence), (r, []))[1].extend(alike)
    for r, of in shared.values():
        if r.product_id is None:
            yield r
            continue
        products = tuple([passed_over[place][0] for place in sorted(of)])
        yield r._replace(product_id=products[0], product_ids=products if len(products) > 1 else ())
