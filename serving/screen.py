"""The screen: every rule applied to every candidate, every reason kept, not only the first.

So a decision can say completely why an offer was held back and when it will be free again. Rules only hold
back: their order never matters, and one more never opens an offer. The rules themselves are in `rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from features.vocabulary import Offer
from serving import rules
from serving.contact_rules import contact_limit, terms
from serving.rules import Case, Reason

OFFER_RULES = (*rules.OFFER_RULES, (None, terms))
MOMENT_RULES = (*rules.MOMENT_RULES, contact_limit)


@dataclass(frozen=True, slots=True)
class Screened:
    """One candidate after the screen: open with a product to show, or held back with every reason.

    `passed_over` are the products of better affinity than the one that is open, each with what holds it back.
    """

    offer: Offer
    product_id: str | None = None
    reasons: tuple[Reason, ...] = ()
    retry_after: float | None = None
    passed_over: tuple[tuple[str, tuple[Reason, ...]], ...] = ()

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
        self._case = case
        self._seen: dict[tuple[str, str], tuple[Reason, ...]] = {}
        self._moment: dict[tuple[bool, bool, str], tuple[Reason, ...]] = {}

    def of_moment(self, offer: Offer) -> tuple[Reason, ...]:
        key = (self._case.has_products(offer), offer.eligibility is None, offer.kind)
        found = self._moment.get(key)
        if found is None:
            found = self._moment[key] = _applied(MOMENT_RULES, self._case, offer)
        return found

    def of_product(self, offer: Offer, product_id: str) -> tuple[Reason, ...]:
        key = (offer.kind, product_id)
        found = self._seen.get(key)
        if found is None:
            product = self._case.product(product_id)
            found = self._seen[key] = _applied(rules.rules_for(self._case, product), self._case, offer, product)
        return found


def _screened(case: Case, offer: Offer, shared: _Shared) -> Screened:
    asked = [rule for field, rule in OFFER_RULES if field is None or getattr(offer, field)]
    reasons = (*_applied(asked, case, offer), *shared.of_moment(offer))
    passed_over: list[tuple[str, tuple[Reason, ...]]] = []
    chosen: str | None = None
    for product_id in case.products_by_affinity(offer):
        held = shared.of_product(offer, product_id)
        if not held:
            chosen = product_id
            break
        passed_over.append((product_id, held))
    if case.has_products(offer) and chosen is None and not passed_over:
        reasons = (*reasons, Reason("stock_unknown", "products", 0, 1))  # a category that has no product
    if not reasons and (chosen is not None or not passed_over):
        return Screened(offer, chosen, passed_over=tuple(passed_over))
    times = [_latest(reasons)] if reasons else []
    if chosen is None and passed_over:
        per_product = [_latest(held) for _, held in passed_over]
        known = [at for at in per_product if at is not None]
        times.append(min(known) if known else None)
        reasons = (*reasons, *_merged(held for _, held in passed_over))
    retry_after = None if None in times else max(at for at in times if at is not None)
    return Screened(offer, None, reasons, retry_after, tuple(passed_over) if chosen is not None else ())


def _applied(applied: Iterable[rules.OfferRule] | Iterable[rules.ProductRule], *given: object) -> tuple[Reason, ...]:
    """What each rule yields; a rule that raises holds the offer back too, and says which one it was."""
    found: list[Reason] = []
    for rule in applied:
        try:
            found.extend(rule(*given))  # type: ignore[arg-type]
        except Exception as error:
            found.append(Reason("rule_error", rule.__name__, type(error).__name__, "a rule that does not fail"))
    return tuple(found)


def _latest(reasons: Sequence[Reason]) -> float | None:
    times = [reason.retry_after for reason in reasons]
    return None if None in times else max(at for at in times if at is not None)


def _merged(held: Iterable[tuple[Reason, ...]]) -> Iterable[Reason]:
    """Reasons over several products, one line for those that differ in nothing but the product."""
    first: dict[tuple[object, ...], Reason] = {}
    for reasons in held:
        for r in reasons:
            first.setdefault((r.code, r.rule, str(r.observed), r.limit, r.retry_after, r.evidence), r)
    return first.values()
