"""One request for a page of the shop: which window asks, what may be shown to it, and how its links are written.

`staff` says whether the caller may see a customer's data. Where keys are configured the list, product and search pages
need none, and hold nothing about anybody; all others ask for a server key (`serving.keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from features.catalog import Catalog
from features.vocabulary import Location
from serving.shop.backroom import Backroom, Engine, Knowledge
from serving.shop.window import Window


@dataclass(frozen=True)
class Visit:
    """What a page is made for."""

    engine: Engine
    backroom: Backroom
    window: Window
    query: Mapping[str, str]
    staff: bool
    write_key: str | None
    now: float

    @property
    def catalog(self) -> Catalog:
        return self.engine.policy.catalog

    def known(self) -> Knowledge:
        """What is known of the customer that the page is about: `customer`, else whoever is at the window."""
        return Knowledge(self.engine, self.window, self.now, self.query.get("customer"))

    def link(self, path: str = "", /, **query: Any) -> str:
        """The address of a page of the shop, for this window."""
        asked = {name: value for name, value in query.items() if value is not None}
        return f"/shop/{quote(path)}?{urlencode({'w': self.window.name, **asked})}"

    def about(self, customer_id: str) -> dict[str, str]:
        """The ids of a message about that customer."""
        if customer_id.startswith("anonymous:"):
            return {"anonymousId": customer_id.partition(":")[2]}
        return {"userId": customer_id}

    def tell(self, event: str, properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """A `track` message of this window's visitor."""
        ids = {"anonymousId": self.window.anonymous_id, "context": self.window.context}
        return {"type": "track", "event": event, "properties": dict(properties), **ids, **more}

    def of(
        self, customer_id: str, event: str, properties: Mapping[str, Any], context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A `track` message about a customer, from behind the counter; without `context` from this window."""
        said = {"type": "track", "event": event, "properties": dict(properties)}
        return {**said, "context": dict(context or self.window.context), **self.about(customer_id)}

    def my_store(self, customer_id: str, location_id: str) -> dict[str, Any]:
        """The visitor's word on which store is theirs."""
        ids = {"anonymousId": self.window.anonymous_id, **self.about(customer_id)}
        return {"type": "identify", "context": self.window.context, "traits": {"home_location_id": location_id}, **ids}

    def line(self, product_id: str, quantity: int = 1) -> dict[str, Any]:
        """A product as it stands in a message."""
        product = self.catalog.products.get(product_id)
        price = product.price if product else 0.0
        return {"product_id": product_id, "quantity": quantity, "price": price}

    def shelf(self, product_id: str, location_id: str, quantity: int) -> dict[str, Any]:
        """A `Stock Updated` message, which is about nobody."""
        level = {"product_id": product_id, "location_id": location_id, "quantity": quantity}
        return {"type": "track", "event": "Stock Updated", "properties": level}

    def taken(self, product_id: str, location_id: str, quantity: int, order_id: str) -> dict[str, Any]:
        """A `Stock Reserved` message: what is sold leaves the shelf until it is counted again."""
        level = {"product_id": product_id, "location_id": location_id, "quantity": quantity, "order_id": order_id}
        once = f"{order_id}-{location_id}-{product_id}"
        return {"type": "track", "event": "Stock Reserved", "properties": level, "messageId": once}

    def place(self, location_id: str) -> Location | None:
        return self.catalog.locations.get(location_id)
