"""Conditions over the profile, as data."""

import math

import pytest

from features.eligibility import meets, problem_of

FEATURES = {"orders": 3.0, "days_since_order": 40.0, "return_rate": math.nan}


def of(field, operator, value):
    return {"field": field, "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        (of("orders", ">=", 3), True),
        (of("orders", ">", 3), False),
        (of("orders", "==", 3), True),
        ({"all": [of("orders", ">", 1), of("days_since_order", "<", 30)]}, False),
        ({"any": [of("orders", ">", 1), of("days_since_order", "<", 30)]}, True),
        ({"not": of("orders", ">", 1)}, False),
        (of("return_rate", "<", 0.5), False),
        (of("return_rate", "!=", 0.5), False),
        ({"field": "return_rate", "operator": "known"}, False),
        ({"not": {"field": "return_rate", "operator": "known"}}, True),
    ],
)
def test_conditions_compare_what_is_known(condition, met):
    assert problem_of(condition) is None
    assert meets(condition, FEATURES) is met


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (of("oders", ">", 1), "unknown field `oders`; did you mean `orders`?"),
        (of("orders", "=>", 1), "unknown operator `=>`; expected one of ==, !=, <, <=, >, >=, known"),
        (of("orders", ">", "many"), "its value is `many`; expected a number, as features are"),
        ({"all": []}, "`all` stands beside others or holds no list; expected `all: [condition, …]` alone"),
        ("orders > 3", "`orders > 3` is no condition; expected field, operator and value, or all, any, not"),
        (of(["orders"], ">", 1), "its field is a list; expected the name of a feature"),
        (of("orders", [">"], 1), "its operator is a list; expected one of ==, !=, <, <=, >, >=, known"),
        (of("orders", ">", {}), "its value is a mapping; expected a number, as features are"),
        ({**of("orders", ">", 1), "and": 1}, "unknown part `and`; expected field, operator, value"),
    ],
)
def test_a_wrong_condition_is_named(condition, problem):
    assert problem_of(condition) == problem
