"""All Feast objects: entities, views, the on-demand view over `derive`, and the feature services.

Feast imports this file by itself (`feast -c features apply`), under its bare name and before it knows
our packages: at module level it imports feast and the standard library only. What a feature means is in
`profiles`; who reads and writes the stores is in `store`.

Views have no TTL (Feast enforces it offline only). Offline, a view is a folder of parquet parts under
`ONESTORY_HOME/offline`, each row stamped with the moment at which we knew; `build` writes them.

| view | keyed by | online | offline |
|---|---|---|---|
| `profile` | customer | the state and its `seq` | the state after everything known at that moment, one row per change |
| `last_seen` | customer | all entries, packed | as of the last build only: not for point-in-time joins |
| `last_seen_history` | customer, item | – | one narrow row per change of an entry |
| `stock` | product, location | sellable quantity | one row per change |
| `customer_features` | customer | what `profiles.derive` makes of the state at `as_of` | the same function |
"""

from __future__ import annotations

import hashlib
import inspect
import os
from typing import Any, NamedTuple

from feast import Entity, FeatureService, FeatureView, Field, FileSource, OnDemandFeatureView, RequestSource, ValueType
from feast.types import Bool, Bytes, Float64, Int64, String

ENTRY_FIELDS = {
    "last_at": Float64,
    "first_at": Float64,
    "trips": Int64,
    "decayed_trips": Float64,
    "decayed_spend": Float64,
    "last_id": String,
    "returned_at": Float64,
    "return_id": String,
    "return_reason": String,
}
"""The positions of an entry of `profiles.Profile.items`, in their order, by name."""


def derive_features(inputs: dict[str, Any]) -> dict[str, Any]:
    """Every customer feature of a batch: `profiles.derive` of each `state` at its `as_of`.

    A state that is missing or cannot be read gives NaN for all features. Feast rebuilds this function
    from its source text, without the globals of this module, hence the imports inside; and it calls it
    with nonsense once at `apply`.
    """
    import math

    import orjson

    from features.profiles import FEATURES, Profile, derive

    columns: dict[str, list[float]] = {name: [] for name in FEATURES}
    for state, as_of in zip(inputs["state"], inputs["as_of"], strict=True):
        try:
            values = derive(Profile(orjson.loads(state), {}) if state else None, float(as_of))
            row = [float(values[name]) for name in FEATURES]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            row = [math.nan] * len(columns)
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return columns


def feature_fields() -> list[Field]:
    """Every name of `profiles.FEATURES` as a Float64 field.

    What each means goes into the view's tags: Feast compares fields with what it infers from a trial
    run, descriptions included, and an inferred field has none.
    """
    return [Field(name=name, dtype=Float64) for name in meanings()]


def meanings() -> dict[str, str]:
    """Every feature with what it means. Imported here, not above: see the first docstring."""
    from features.profiles import FEATURES

    return dict(FEATURES)


def fingerprint() -> str:
    """Other names or meanings, another text."""
    return hashlib.sha256(repr(meanings()).encode()).hexdigest()[:12]


class Views(NamedTuple):
    profile: FeatureView
    last_seen: FeatureView
    last_seen_history: FeatureView
    stock: FeatureView
    customer_features: OnDemandFeatureView


class Services(NamedTuple):
    churn: FeatureService
    propensity: FeatureService
    returns: FeatureService
    decision: FeatureService


customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING, description="a shopper")
product = Entity(name="product", join_keys=["product_id"], value_type=ValueType.STRING, description="can be sold")
location = Entity(
    name="location", join_keys=["location_id"], value_type=ValueType.STRING, description="a shop, a warehouse, `online`"
)
item = Entity(
    name="item", join_keys=["item"], value_type=ValueType.STRING, description="p:<product_id> or c:<category>"
)


def views(home: str) -> Views:
    """The views over the workspace at `home`: an absolute path, Feast takes others from the working directory."""

    def view(name: str, entities: list[Entity], fields: dict[str, Any], description: str, online: bool) -> FeatureView:
        keys = [Field(name=entity.join_key, dtype=String) for entity in entities]
        return FeatureView(
            name=name,
            entities=entities,
            ttl=None,
            schema=[*keys, *(Field(name=field, dtype=kind) for field, kind in fields.items())],
            source=FileSource(
                name=f"{name}_file", path=f"{home}/offline/{name}.parquet", timestamp_field="event_timestamp"
            ),
            online=online,
            description=description,
        )

    profile = view(
        "profile", [customer], {"state": Bytes, "seq": Int64}, "state of a customer after all that was known then", True
    )
    return Views(
        profile=profile,
        last_seen=view(
            "last_seen",
            [customer],
            {"items": Bytes, "items_seq": Int64},
            "last purchase and return per product and category, packed; offline as of the last build only",
            True,
        ),
        last_seen_history=view(
            "last_seen_history",
            [customer, item],
            {**ENTRY_FIELDS, "present": Bool},
            "one entry of last_seen, one row per change; not present: a correction removed it",
            False,
        ),
        stock=view("stock", [product, location], {"quantity": Int64}, "sellable units", True),
        customer_features=OnDemandFeatureView(
            name="customer_features",
            entities=[customer],
            sources=[
                profile[["state"]],
                RequestSource(name="moment", schema=[Field(name="as_of", dtype=Float64, description="epoch seconds")]),
            ],
            schema=feature_fields(),
            mode="python",
            udf=derive_features,
            udf_string=inspect.getsource(derive_features),
            # Feast takes an on-demand view for unchanged whose features alone have changed; a description it compares
            description=f"features/profiles.py: derive(state, as_of); features {fingerprint()}",
            tags=meanings(),
        ),
    )


def services(views: Views) -> Services:
    """What each reader asks for. All but `decision` join at any past moment (`as_of` beside `event_timestamp`).

    `propensity` takes the customer's features from here; its customer × offer columns are made by
    `affinity` from the entries, which `store.profiles_at` gives for any past moment. So does `returns`, whose
    columns of customer × product are made by `product_history` from everybody's events. `decision` is what
    a decision reads of its customer, online. Stock is in none of them: it is keyed by product and location.
    """
    return Services(
        churn=FeatureService(name="churn", features=[views.customer_features], description="model inputs: churn"),
        propensity=FeatureService(
            name="propensity",
            features=[views.customer_features],
            description="model inputs: customer part of propensity",
        ),
        returns=FeatureService(
            name="returns",
            features=[views.customer_features],
            description="model inputs: customer part of return risk",
        ),
        decision=FeatureService(
            name="decision",
            features=[views.profile, views.last_seen, views.customer_features],
            description="what a decision reads of its customer; online only",
        ),
    )


def everything(home: str) -> list[Any]:
    """All objects for the workspace at `home`, for `FeatureStore.apply`."""
    found = views(home)
    return [customer, product, location, item, *found, *services(found)]


if "ONESTORY_HOME" in os.environ:  # Feast looks for objects among the names of this module
    profile, last_seen, last_seen_history, stock, customer_features = _views = views(os.environ["ONESTORY_HOME"])
    churn, propensity, returns, decision = services(_views)
