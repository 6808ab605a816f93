"""Eligibility: may this offer ever go to this customer? Conditions over the profile's features, as data.

A condition is `{field, operator, value}`, or `{all: […]}`, `{any: […]}`, `{not: …}` of conditions. A feature
that is unknown (NaN) meets no comparison; `known` asks for just that. The value of a feature that stands for an
order of names, such as the loyalty tier, may be such a name. There is no code in YAML.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from features.habits import TIERS
from features.profiles import FEATURES
from features.sentences import shown, suggestion

OPERATORS: Mapping[str, Callable[[float, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NAMES: Mapping[str, tuple[str, ...]] = {"loyalty_tier": TIERS}
"""Features that count the place in an order of names."""


def problem_of(condition: Any) -> str | None:
    """What is wrong with a condition, in one sentence; None if nothing is."""
    if not isinstance(condition, Mapping):
        return f"{shown(condition, quote=True)} is no condition; expected field, operator and value, or all, any, not"
    for name in ("all", "any"):
        if name in condition:
            parts = condition[name]
            if len(condition) != 1 or not isinstance(parts, list) or not parts:
                return f"`{name}` stands beside others or holds no list; expected `{name}: [condition, …]` alone"
            return next((problem for part in parts if (problem := problem_of(part))), None)
    if "not" in condition:
        return problem_of(condition["not"]) if len(condition) == 1 else "`not` stands beside others; expected it alone"
    field, sign = condition.get("field"), condition.get("operator")
    if not isinstance(field, str):
        return f"its field is {shown(field, quote=True)}; expected the name of a feature"
    if field not in FEATURES:
        near = get_close_matches(field, FEATURES, n=1)
        return f"unknown field `{field}`; " + (f"did you mean `{near[0]}`?" if near else "see the features in docs")
    if sign == "known":
        return None if set(condition) == {"field", "operator"} else "`known` takes no value"
    if not isinstance(sign, str):
        return f"its operator is {shown(sign, quote=True)}; expected one of {', '.join([*OPERATORS, 'known'])}"
    if sign not in OPERATORS:
        return f"unknown operator `{sign}`; expected one of {', '.join([*OPERATORS, 'known'])}"
    value, names = condition.get("value"), NAMES.get(field)
    if isinstance(value, str) and names:
        if value.lower() not in names:
            return f"unknown value `{value}` for `{field}`; {suggestion(value.lower(), names)}"
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return f"its value is {shown(value, quote=True)}; expected a number, as features are"
    extra = set(condition) - {"field", "operator", "value"}
    return f"unknown part `{min(extra)}`; expected field, operator, value" if extra else None


def condition_schema(itself: str) -> dict[str, Any]:
    """The JSON Schema of a condition; `itself` is where that will stand, for the conditions within."""

    def alone(**fields: Any) -> dict[str, Any]:
        return {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}

    field, sign, inner = {"enum": [*FEATURES]}, {"enum": [*OPERATORS]}, {"$ref": itself}
    several = {"type": "array", "items": inner, "minItems": 1}
    return {
        "description": "Whose features meet it: a comparison, what is known, or conditions together.",
        "anyOf": [
            alone(field=field, operator=sign, value={"type": "number"}),
            *(alone(field={"const": name}, operator=sign, value={"enum": [*names]}) for name, names in NAMES.items()),
            alone(field=field, operator={"const": "known"}),
            alone(all=several),
            alone(any=several),
            alone(**{"not": inner}),
        ],
    }


def meets(condition: Any, features: Mapping[str, float]) -> bool:
    """Whether a customer of these features meets a checked condition."""
    if "all" in condition:
        return all(meets(part, features) for part in condition["all"])
    if "any" in condition:
        return any(meets(part, features) for part in condition["any"])
    if "not" in condition:
        return not meets(condition["not"], features)
    value = features[condition["field"]]
    known = value == value
    if condition["operator"] == "known":
        return known
    limit = condition["value"]
    if isinstance(limit, str):
        limit = NAMES[condition["field"]].index(limit.lower())
    return known and OPERATORS[condition["operator"]](value, limit)
