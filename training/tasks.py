"""What each model is asked, and of which columns: the tasks, their settings and the simple baselines they must beat.

Only plain values; how a model is fitted is in `models`. The sign of a column says which way the field
insists that it pulls: +1 more of it, more likely; −1 less; a model may not learn the opposite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from features.offer_index import OFFER_FEATURES
from features.pairs import MOMENT_FEATURES
from features.product_history import LINE_FEATURES
from features.sentences import suggestion


class BadSetting(ValueError):
    """A parameter of training that does not exist or makes no sense, in one sentence."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a data scientist may change with `--param name=value`."""

    families: str = "logistic,lightgbm,blend"
    """which families compete, beside the baselines"""
    trees: int = 200
    leaves: int = 7
    learning_rate: float = 0.06
    smallest_leaf: int = 60
    l2: float = 10.0
    """LightGBM's ridge on leaf values"""
    inverse_penalty: float = 1.0
    """the logistic regression's C"""
    blend_weight: float = 0.5
    """LightGBM's share of the blend's log-odds"""
    validation_share: float = 0.3
    """how much of the matured labels, the latest, validates"""
    validation_folds: int = 2
    """in how many as-of folds, each by models of what was known when it began"""
    most_negatives: int = 60_000
    """of more rows without the event than this a sample is fitted, weighed accordingly"""
    resamples: int = 200
    """bootstrap samples behind each interval"""
    seed: int = 7

    def with_(self, assignments: Mapping[str, str]) -> Settings:
        """These settings with some changed, from text."""
        kinds = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        changed: dict[str, Any] = {}
        for name, text in assignments.items():
            if name not in kinds:
                raise BadSetting(f"unknown parameter `{name}`; {suggestion(name, kinds)}")
            try:
                changed[name] = kinds[name](text)
            except ValueError as error:
                raise BadSetting(f"parameter {name} is `{text}`; expected {_KINDS[kinds[name]]}") from error
        made = replace(self, **changed)
        made.check()
        return made

    def check(self) -> None:
        unknown = [family for family in self.competing if family not in ("logistic", "lightgbm", "blend")]
        if unknown:
            raise BadSetting(f"unknown family `{unknown[0]}`; expected some of logistic,lightgbm,blend")
        for name in ("trees", "leaves", "smallest_leaf", "most_negatives", "resamples"):
            if getattr(self, name) < 2:
                raise BadSetting(f"parameter {name} is `{getattr(self, name)}`; expected at least 2")
        if self.validation_folds < 1:
            raise BadSetting(f"parameter validation_folds is `{self.validation_folds}`; expected at least 1")
        for name in ("learning_rate", "inverse_penalty"):
            if not getattr(self, name) > 0:
                raise BadSetting(f"parameter {name} is `{getattr(self, name)}`; expected more than 0")
        for name in ("validation_share", "blend_weight"):
            if not 0 < getattr(self, name) < 1:
                raise BadSetting(f"parameter {name} is `{getattr(self, name)}`; expected a share between 0 and 1")

    @property
    def competing(self) -> tuple[str, ...]:
        return tuple(family.strip() for family in self.families.split(",") if family.strip())


_KINDS = {int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True, slots=True)
class Task:
    """One model: its name in the registry, the feature service behind it, its columns and baselines."""

    name: str
    model_name: str
    service: str
    signs: Mapping[str, int]
    """Every column, in order, with its sign (0: either way)."""
    baselines: Mapping[str, tuple[str, ...]]
    """Logistic regressions over very few columns, by name."""
    per_exposure: bool
    """Whether rows belong together: the offers of one campaign that a customer was sent at one moment."""
    per_line: bool = False
    """Whether a row is a product on an order; else, and without exposures, a row is a customer at a moment."""
    groups: int = 1
    """Above 1: the same customers come at many moments, so nobody is scored in validation by a model that saw them."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings of this task that differ from the usual ones."""

    @property
    def unit(self) -> str:
        """What is counted where rows that belong together count as one."""
        return "send" if self.per_exposure else "line" if self.per_line else "customer"

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.signs)

    @property
    def settings(self) -> Settings:
        return replace(Settings(), **self.defaults)


PROPENSITY = Task(
    name="propensity",
    model_name="onestory-propensity",
    service="propensity",
    signs={
        "days_since_order": 0,
        "orders_90d": 0,
        "spend_90d": 0,
        "basket_spend": 0,
        "discount_share": 0,
        "coupons_90d": 1,
        "coupons_365d": 1,
        "coupon_share": 1,
        "promotion_accepted": 1,
        "own_trips": 1,
        "own_trips_90d": 1,
        "own_trips_top": 1,
        "own_spend_90d": 1,
        "own_products": 1,
        "own_days_since": -1,
        "own_share": 1,
        "category_trips_90d": 1,
        "category_spend_90d": 1,
        "category_days_since": -1,
        "category_share": 0,
        "category_own": 1,
        "manufacturer_trips_90d": 1,
        "manufacturer_share": 0,
        "kin_trips_90d": 1,
        "kin_days_since": -1,
        "brand_fit": 0,
        "offer_products": 0,
        "offer_categories": 0,
        "offer_group_size": 0,
        **{name: 0 for name in OFFER_FEATURES if name.startswith("offer_is_")},
        **dict.fromkeys(MOMENT_FEATURES, 0),
    },
    baselines={
        "own product trips": ("own_trips_90d",),
        "coupons used": ("coupons_365d",),
        "own product trips, coupons used": ("own_trips_90d", "coupons_365d"),
    },
    per_exposure=True,
    defaults={"validation_share": 0.5},
)
"""Left out on purpose: times and prices of the offer, which the catalog knows only as of today, and counts of
what was sent or shown, which depend on the sender and not on the customer. Campaign type, discount depth, mailer and
display were tried and gained nothing: docs/decisions/0017."""

CHURN = Task(
    name="churn",
    model_name="onestory-churn",
    service="churn",
    signs={
        "days_since_order": 1,
        "gaps_overdue": 1,
        "expected_orders_90d": -1,
        "silence_chance_90d": 1,
        "orders": -1,
        "orders_7d": 0,
        "orders_30d": -1,
        "orders_90d": -1,
        "orders_365d": -1,
        "spend_30d": -1,
        "spend_90d": -1,
        "spend_365d": -1,
        "units_90d": 0,
        "lines_90d": 0,
        "gap_mean_days": 0,
        "gap_cv": 0,
        "days_since_first_order": 0,
        "distinct_products": -1,
        "distinct_categories": -1,
        "basket_spend": 0,
        "basket_lines": 0,
        "discount_share": 0,
        "coupon_share": 0,
        "return_rate": 0,
        "returned_spend_365d": 0,
    },
    baselines={
        "recency": ("days_since_order",),
        "frequency": ("orders_365d",),
        "expected orders": ("expected_orders_90d",),
        "recency, frequency, money": ("days_since_order", "orders_365d", "spend_365d"),
    },
    per_exposure=False,
    groups=3,
    defaults={
        "validation_share": 0.6,
        "validation_folds": 3,
        "inverse_penalty": 0.005,
        "trees": 60,
        "leaves": 4,
        "learning_rate": 0.05,
        "smallest_leaf": 200,
        "l2": 50.0,
    },
)
"""Few customers and columns that say nearly the same: plain models, strongly regularised, do best here."""

RETURNS = Task(
    name="returns",
    model_name="onestory-returns",
    service="returns",
    signs={
        **dict.fromkeys(LINE_FEATURES, 0),
        "product_return_rate": 1,
        "customer_line_return_rate": 1,
        "own_returned": 1,
        "orders": 0,
        "days_since_first_order": 0,
    },
    baselines={
        "product's own rate": ("product_return_rate",),
        "rates of product and customer": ("product_return_rate", "customer_line_return_rate"),
    },
    per_exposure=False,
    per_line=True,
)

TASKS: Mapping[str, Task] = {task.name: task for task in (PROPENSITY, CHURN, RETURNS)}
