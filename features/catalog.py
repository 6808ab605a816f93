"""Products, locations and offers of a workspace: read, checked against each other, ready to be asked.

A workspace's own `offers.yaml`, `products.parquet|csv` and `locations.parquet|csv` win over the shipped
examples. What a file may hold is in `offers` and `tables`. A catalog is made once and never changed;
everything that a decision asks of it is worked out at load.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from features.checked_yaml import FileProblem, Problem
from features.offers import offers_schema, read_offers
from features.sentences import suggestion
from features.tables import LocationRow, ProductRow, read_locations, read_products
from features.vocabulary import PLACEMENTS, Location, Offer, Product
from features.workspace import Workspace

__all__ = ["Catalog", "CatalogProblem", "files_of", "load_catalog", "offers_schema", "read_catalog", "schemas"]


class CatalogProblem(FileProblem):
    """What is wrong in offers, products and locations, all of it."""


@dataclass(frozen=True, eq=False)
class Catalog:
    """What can be offered, sold, and where. Compared by identity: `version` tells contents apart."""

    products: Mapping[str, Product] = field(default_factory=dict, repr=False)
    locations: Mapping[str, Location] = field(default_factory=dict, repr=False)
    offers: Mapping[str, Offer] = field(default_factory=dict, repr=False)
    version: str = "sha256:" + hashlib.sha256().hexdigest()
    warnings: tuple[Problem, ...] = ()
    """What is allowed but probably not meant, such as an offer over a product that is gone."""
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """The files as they were read, by name: `version` is made of exactly these bytes."""

    def __post_init__(self) -> None:
        by_category: dict[str, list[str]] = {}
        sizes: dict[str, list[str]] = {}
        for product_id, product in self.products.items():
            if product.category:
                by_category.setdefault(product.category, []).append(product_id)
            if product.parent_id:
                sizes.setdefault(product.parent_id, []).append(product_id)
        of_category = {category: tuple(ids) for category, ids in by_category.items()}
        over = {
            offer.offer_id: offer.product_ids or of_category.get(offer.category or "", ())
            for offer in self.offers.values()
        }
        about: dict[str, list[str]] = {}
        for offer_id, product_ids in over.items():
            for product_id in product_ids:
                about.setdefault(product_id, []).append(offer_id)
        index = {
            "_all": tuple(sorted(self.offers.values(), key=lambda offer: offer.offer_id)),
            "_of_category": of_category,
            "_sizes": {style: tuple(ids) for style, ids in sizes.items()},
            "_over": over,
            "_shops": tuple(each for each in self.locations.values() if each.kind == "shop"),
            "_near": {},
            "_foreign": {},
            "_having": {},
            "valid": _valid(self.offers.values()),
            "budgeted": tuple(sorted(offer.offer_id for offer in self.offers.values() if offer.budget)),
            "_about": {product_id: tuple(sorted(ids)) for product_id, ids in about.items()},
        }
        for name, value in index.items():
            object.__setattr__(self, name, value)

    _all: tuple[Offer, ...] = field(init=False, repr=False)
    _of_category: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)
    _sizes: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)
    _over: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)
    _about: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)
    budgeted: tuple[str, ...] = field(init=False, repr=False)
    """The ids of the offers with a budget."""
    valid: tuple[float, float] = field(init=False, repr=False)
    """From when until when all offers are: from the last to begin to the first to end."""
    _foreign: dict[tuple[str | None, ...], frozenset[str]] = field(init=False, repr=False)
    _having: dict[str, frozenset[str]] = field(init=False, repr=False)
    _shops: tuple[Location, ...] = field(init=False, repr=False)
    _near: dict[str, tuple[tuple[float, str], ...]] = field(init=False, repr=False)

    def candidates(self, channel: str, placement: str) -> tuple[Offer, ...]:
        """All offers by id: one that is foreign to the channel or placement is held back by a rule that says so."""
        return self._all

    def foreign_to(self, channel: str, placement: str, market: str | None) -> frozenset[str]:
        """The ids of the offers that are meant for another channel, placement or market."""
        here = (channel, placement, market)
        found = self._foreign.get(here)
        if found is None:
            found = self._foreign[here] = frozenset(
                offer.offer_id
                for offer in self._all
                if (offer.channels and channel not in offer.channels)
                or (offer.placements and placement not in offer.placements)
                or (offer.markets and market not in offer.markets)
            )
        return found

    def having(self, name: str) -> frozenset[str]:
        """The ids of the offers that have this, such as `eligibility` or `budget`."""
        found = self._having.get(name)
        if found is None:
            found = self._having[name] = frozenset(o.offer_id for o in self._all if getattr(o, name))
        return found

    def offers_of(self, product_id: str) -> tuple[str, ...]:
        """The ids of the offers over this product, by itself or by its category."""
        return self._about.get(product_id, ())

    def products_of(self, offer: Offer) -> tuple[str, ...]:
        """The ids that the offer is over: its own, known or not, or all known ones of its category.

        Empty for an offer that is over no product (`loyalty`), and for a category that has none.
        """
        found = self._over.get(offer.offer_id)
        return found if found is not None else offer.product_ids or self.products_in(offer.category or "")

    def shops_near(self, location_id: str) -> Sequence[tuple[float, str]]:
        """`(kilometres, location_id)` of every shop that says where it is, the nearest to that location first."""
        found = self._near.get(location_id)
        if found is None:
            home = self.locations.get(location_id)
            measured = [] if home is None else [(_km(home, shop), shop.location_id) for shop in self._shops]
            found = self._near[location_id] = tuple(sorted((km, each) for km, each in measured if km is not None))
        return found

    def products_in(self, category: str) -> tuple[str, ...]:
        """The ids of a category's products, in the file's order."""
        return self._of_category.get(category, ())

    def sizes_of(self, style_id: str) -> tuple[str, ...]:
        """The ids of the products that are sizes of this style."""
        return self._sizes.get(style_id, ())


def _valid(offers: Iterable[Offer]) -> tuple[float, float]:
    times = [(offer.valid_from, offer.valid_until) for offer in offers]
    return max((each[0] for each in times), default=-math.inf), min((each[1] for each in times), default=math.inf)


EARTH_KM = 6371.0


def _km(one: Location, other: Location) -> float | None:
    """The great-circle distance; None where one of them does not say where it is."""
    if None in (one.latitude, one.longitude, other.latitude, other.longitude):
        return None
    here, there = math.radians(one.latitude or 0.0), math.radians(other.latitude or 0.0)
    east = math.radians((other.longitude or 0.0) - (one.longitude or 0.0))
    half = math.sin((there - here) / 2) ** 2 + math.cos(here) * math.cos(there) * math.sin(east / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schemas of `offers.yaml` and of one row of the tables, as published in `docs/NAME.schema.json`."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    tables = {"products": ProductRow.model_json_schema(), "locations": LocationRow.model_json_schema()}
    return {"offers": offers_schema(), **{name: {**dialect, **schema} for name, schema in tables.items()}}


def files_of(workspace: Workspace) -> tuple[Path, Path, Path]:
    """The offers, products and locations files in force: the workspace's own, else the shipped ones."""
    return workspace.file("offers.yaml"), _table(workspace, "products"), _table(workspace, "locations")


def _table(workspace: Workspace, name: str) -> Path:
    candidates = (workspace.home / f"{name}.parquet", workspace.home / f"{name}.csv")
    return next((path for path in candidates if path.exists()), workspace.file(f"{name}.csv"))


def load_catalog(workspace: Workspace, ended: bool = False) -> Catalog:
    """The workspace's catalog; CatalogProblem with everything that is wrong in its files.

    With `ended`, the offers of the past in `offers_ended.yaml` are among its offers, for those who learn
    from them. A decision looks at `offers.yaml` alone: what is over for good is no candidate.
    """
    catalog = read_catalog(*files_of(workspace))
    archive = workspace.home / "offers_ended.yaml"
    if not ended or not archive.exists():
        return catalog
    past, _ = read_offers(archive.name, archive.read_bytes())
    return replace(catalog, offers=dict(sorted({**past, **catalog.offers}.items())))


def shipped_catalog() -> Catalog:
    """The catalog that ships with the project, whatever the workspace has."""
    return read_catalog(*(Path(__file__).parent / name for name in ("offers.yaml", "products.csv", "locations.csv")))


def read_catalog(offers: Path, products: Path, locations: Path) -> Catalog:
    """The catalog in these three files; CatalogProblem with everything that is wrong in them."""
    problems: list[Problem] = []
    contents: dict[str, bytes] = {}
    for path in (offers, products, locations):
        try:
            contents[path.name] = path.read_bytes()
        except OSError as error:
            problems.append(Problem(path.name, 0, "", f"`{path}` cannot be read: {(error.strerror or '?').lower()}"))
    if problems:
        raise CatalogProblem(problems)
    found_offers: dict[str, Offer] = {}
    lines: dict[str, int] = {}
    found_products: dict[str, Product] = {}
    found_locations: dict[str, Location] = {}
    try:
        found_offers, lines = read_offers(offers.name, contents[offers.name])
    except FileProblem as error:
        problems += error.problems
    try:
        found_products = read_products(products.name, contents[products.name])
    except FileProblem as error:
        problems += error.problems
    try:
        found_locations = read_locations(locations.name, contents[locations.name])
    except FileProblem as error:
        problems += error.problems
    if problems:
        raise CatalogProblem(problems)
    told = _Doubts(offers.name, products.name, locations.name, found_products, found_locations)
    warnings = tuple(
        Problem(offers.name, lines[offer_id], where, text)
        for offer_id, offer in found_offers.items()
        for where, text in told.about(offer)
    )
    version = _version(contents[path.name] for path in (offers, products, locations))
    return Catalog(found_products, found_locations, found_offers, version, warnings, contents)


def _version(contents: Iterable[bytes]) -> str:
    """One hash of the files' hashes, so that no byte can wander from one file to the next unnoticed."""
    return "sha256:" + hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in contents)).hexdigest()


class _Doubts:
    """What an offer names that the other files do not have."""

    def __init__(
        self,
        offers: str,
        products: str,
        locations: str,
        known_products: Mapping[str, Product],
        known_locations: Mapping[str, Location],
    ):
        self.products, self.locations = products, locations
        self.known = known_products
        self.categories = dict.fromkeys(each.category for each in known_products.values() if each.category)
        self.markets = dict.fromkeys(each.market for each in known_locations.values() if each.market)

    def about(self, offer: Offer) -> Iterator[tuple[str, str]]:
        name = f"offer `{offer.offer_id}`"
        gone = [product_id for product_id in offer.product_ids if product_id not in self.known]
        if gone:
            few = ", ".join(f"`{product_id}`" for product_id in gone[:3]) + (", …" if len(gone) > 3 else "")
            count = "1 product" if len(gone) == 1 else f"{len(gone)} products"
            text = f"{name} is over {count} that {self.products} does not have ({few}); not shown"
            yield "product_ids", text
        if offer.category is not None and offer.category not in self.categories:
            text = f"{name}: no product in {self.products} is of category `{offer.category}`"
            yield "category", f"{text}; {suggestion(offer.category, self.categories)}"
        for market in offer.markets:
            if market not in self.markets:
                text = f"{name}: no location in {self.locations} is of market `{market}`"
                yield "markets", f"{text}; {suggestion(market, self.markets)}"
        possible = {channel for placement in offer.placements for channel in PLACEMENTS[placement]}
        if offer.placements and offer.channels and not possible & set(offer.channels):
            text = "is shown nowhere: none of its `placements` belongs to one of its `channels`"
            yield "placements", f"{name} {text}"
