"""What the customer reads: the treatment of an offer for one channel, its placeholders filled in and escaped.

A text whose placeholder has no value is left out; a title is there always, if need be the product's name.
"""

from __future__ import annotations

from datetime import UTC, datetime

from features.placeholders import escaped, filled
from features.vocabulary import Location, Offer, Product


def treatment_of(
    offer: Offer, product: Product | None, location: Location | None, tier: str | None, channel: str
) -> dict[str, str]:
    """The offer's texts for `channel`; `location` is that of the decision, or where the product is set aside."""

    def value_of(name: str) -> str | None:
        what, _, field = name.partition(".")
        if name == "product.price":
            return None if product is None else f"{product.price:.2f}"
        if what == "product":
            return None if product is None else getattr(product, field)
        if name == "location.name":
            return None if location is None else location.name
        if name == "offer.valid_until":
            return datetime.fromtimestamp(offer.valid_until, UTC).date().isoformat()
        return tier if name == "customer.loyalty_tier" else f"{offer.value.discount:.2f}"

    texts = offer.treatments.get(channel, {})
    came = {field: filled(field, text, value_of, channel) for field, text in texts.items()}
    shown = {field: text for field, text in came.items() if text is not None}
    if "title" not in shown:
        shown["title"] = escaped(product.name if product else offer.offer_id, channel)
    return shown
