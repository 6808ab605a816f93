"""The stories that ship beside the rulebook, told to the engine."""

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from features.catalog import load_catalog, shipped_catalog
from features.sentences import FileProblem
from features.workspace import PROJECT, Workspace
from serving import golden, rulebook
from serving.golden_stories import Ask, Expected, Happened, Made, Shown, Story

BOOK = rulebook.load(PROJECT / "serving" / "rulebook.yaml")
WHOLE = {
    "story": "everything that a story can say",
    "now": "2026-11-20T10:00:00Z",
    "ask": {"channel": "web", "placement": "home", "limit": 3, "location_id": "online", "cart": ["table-oak-180"]},
    "history": [
        {"event": "$identify", "at": "2026-11-01T10:00:00Z", "traits": {"email": "a@example.com"}, "through": "web"},
        {
            "event": "Order Completed",
            "at": "2026-11-18T10:00:00Z",
            "as": "1042",
            "device": "d1",
            "order_id": "o1",
            "products": [{"product_id": "table-oak-180", "quantity": 1, "price": 499.0}],
        },
    ],
    "stock": {"table-oak-180": 3},
    "shops": {"berlin-mitte": {"table-oak-180": 2}},
    "shops_age_s": {"berlin-mitte": 5.0},
    "used": {"table-welcome": [1, 1]},
    "churn": 0.5,
    "propensity": {"table-welcome": 0.1},
    "return_risk": {"table-oak-180": 0.1},
    "rulebook": {"terms_conflict": {"days": 3}, "quiet_hours": {"start": "21:00"}},
    "offers": [
        {
            "offer_id": "own",
            "kind": "promotion",
            "product_ids": ["table-oak-180"],
            "valid_from": "2026-01-01",
            "valid_until": "2027-01-01",
            "value": {"margin": 5.0},
        }
    ],
    "feeds_age_s": {"stock": 10.0},
    "contacts": [{"channel": "email", "at": "2026-11-19T10:00:00Z", "kinds": ["promotion"]}],
    "dismissals": ["2026-11-19T10:00:00Z"],
    "carried": [{"offer_id": "own", "product_id": "table-oak-180", "discount": 1.0}],
    "expect": {"first": [], "held": {}, "fallback": None},
}
ODD = (5, -1e300, "x", "", True, None, [], [[]], {}, {"x": []}, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")

CASES = PROJECT / "serving" / "cases"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("shipped"))
    book = rulebook.load(workspace.file("rulebook.yaml"))
    return list(golden.run(CASES, load_catalog(workspace), book))


def test_every_story_ends_as_it_should(outcomes):
    assert len(outcomes) >= 25
    assert {o.story: o.differences for o in outcomes if o.differences} == {}


def test_a_story_of_anything_else_is_refused_with_its_file_and_line_and_never_breaks(tmp_path):
    catalog, told, refused = shipped_catalog(), 0, 0
    assert outcome_of(WHOLE, tmp_path, catalog) is None
    for where in places(WHOLE):
        for odd in ODD:
            sentence = outcome_of(put(WHOLE, where, odd), tmp_path, catalog)
            told, refused = told + (sentence is None), refused + (sentence is not None)
            assert sentence is None or sentence.startswith("own.yaml:"), (where, odd, sentence)
    assert told > 50
    assert refused > 300


@pytest.mark.parametrize(
    ("where", "odd", "sentence"),
    [
        (("carried", 0, "offer_id"), "nowhere", "`nowhere` is no offer; expected one of `offers.yaml` or of the story"),
        (("rulebook", "terms_conflict"), {"dys": 3}, "unknown field `dys`; did you mean `days`?"),
        (("history", 1, "order_id"), None, "`Order Completed` cannot be: properties.order_id"),
        (
            ("history", 1, "event"),
            "Order Complete",
            "`Order Complete` changes nothing; did you mean `Order Completed`?",
        ),
        (("expect",), {}, "`expect` names nothing; expected something that must come out"),
        (("offers", 0, "lever"), True, "`lever` is `true`; expected a number"),
        (("ask", "channel"), "wbe", "unknown value `wbe` for `channel`; did you mean `web`?"),
    ],
)
def test_a_story_that_cannot_be_told_says_why(where, odd, sentence, tmp_path):
    assert sentence in outcome_of(put(WHOLE, where, odd), tmp_path, shipped_catalog())


def outcome_of(story: dict[str, Any], folder, catalog) -> str | None:
    """What is said against the story; None where it could be told."""
    (folder / "own.yaml").write_text(json.dumps({"stories": [story]}, indent=1))
    try:
        list(golden.run(folder, catalog, BOOK))
    except FileProblem as problem:
        return str(problem)
    return None


def places(value: Any, here: tuple[int | str, ...] = ()) -> Iterator[tuple[int | str, ...]]:
    """Where something stands in `value`, at every depth."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, below in inside:
        yield (*here, name)
        yield from places(below, (*here, name))


def put(story: dict[str, Any], where: tuple[int | str, ...], value: Any) -> dict[str, Any]:
    """The story with `value` in that place."""
    story = copy.deepcopy(story)
    inside: Any = story
    for part in where[:-1]:
        inside = inside[part]
    inside[where[-1]] = value
    return story


# --------------------------------------------------------------------------------------------- docs/stories.md

PAGE = (PROJECT / "docs" / "stories.md").read_text()
MODELS = {
    "field of a story": Story,
    "field of `ask`": Ask,
    "field of a line": Happened,
    "field of a contact": Made,
    "field of an offer carried": Shown,
    "field of `expect`": Expected,
}


@pytest.mark.parametrize("heading", MODELS)
def test_the_page_names_every_field_of_a_story_and_no_other(heading):
    rows = PAGE.split(f"| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    fields = MODELS[heading].model_fields
    assert sorted(told) == sorted(field.alias or name for name, field in fields.items())


def test_the_story_of_the_page_ends_as_it_says(tmp_path):
    (tmp_path / "page.yaml").write_text(PAGE.split("```yaml\n")[1].split("```")[0])
    assert [outcome.differences for outcome in golden.run(tmp_path, shipped_catalog(), BOOK)] == [()]
