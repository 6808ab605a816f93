"""Whatever stands in `offers.yaml` or `rulebook.yaml`: it is taken, or told in sentences with their lines."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from features.eligibility import problem_of
from features.offers import offers_schema, read_offers
from features.sentences import FileProblem
from features.workspace import PROJECT, Workspace
from serving import rulebook
from serving.__main__ import app

ANYTHING: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 731, 0.5, 10**20, "", "x", "21:00", "2026-01-01", "web", "promotion", [], {}, [None],
    [1], ["x"], ["web"], [[]], [{}], {"x": 1}, {"home": True}, {"days": 5}, {"all": [1]}, {"not": []},
)  # fmt: skip
"""Every kind of JSON value, with some that fit somewhere."""
BUYERS = {"field": "orders", "operator": ">=", "value": 1}
OFFERS: dict[str, Any] = {
    "offers": [
        {
            "offer_id": "a",
            "kind": "promotion",
            "group": "g",
            "product_ids": ["p"],
            "channels": ["web"],
            "placements": ["home"],
            "markets": ["de"],
            "valid_from": "2026-01-01",
            "valid_until": "2026-12-31T23:59:59Z",
            "eligibility": {"all": [BUYERS, {"any": [BUYERS]}, {"not": {"field": "orders", "operator": "known"}}]},
            "exclusive_group": "e",
            "value": {"margin": 1.0, "cost": 0.1, "discount": 0.2},
            "lever": 1.0,
            "budget": {"total": 5, "daily": 2},
            "fallback": ["home"],
            "treatments": {"web": {"title": "t", "body": "b", "image_url": "i", "url": "u"}},
        }
    ]
}


def _book() -> dict[str, Any]:
    """The shipped rulebook as JSON has it."""
    texts = yaml.load((PROJECT / "serving/rulebook.yaml").read_text(), Loader=yaml.BaseLoader)
    return {**yaml.safe_load((PROJECT / "serving/rulebook.yaml").read_text()), "quiet_hours": texts["quiet_hours"]}


def read(name: str, document: Any, folder: Path) -> None:
    """As the service does at its start; FileProblem where it refuses."""
    content = json.dumps(document).encode()
    if name == "offers.yaml":
        read_offers(name, content)
    else:
        (folder / name).write_bytes(content)
        rulebook.load(folder / name)


def changes(document: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The document with a third of `ANYTHING` in each of its places, the whole of it first, and where that is."""
    for number, where in enumerate(_places(document)):
        for value in ANYTHING[number % 3 :: 3]:
            yield where, _put(document, where, value)


def _places(document: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield above
    inner = document if isinstance(document, dict) else dict(enumerate(document if isinstance(document, list) else ()))
    for name, value in inner.items():
        yield from _places(value, (*above, name))


def _put(document: Any, where: tuple[str | int, ...], value: Any) -> Any:
    if not where:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for part in where[:-1]:
        inner = inner[part]
    inner[where[-1]] = value
    return changed


@pytest.mark.parametrize("name", ["offers.yaml", "rulebook.yaml"])
def test_any_value_in_any_field_is_taken_or_told_with_its_line(name: str, tmp_path: Path) -> None:
    taken, told = 0, []
    for where, document in changes(OFFERS if name == "offers.yaml" else _book()):
        try:
            read(name, document, tmp_path)
            taken += 1
        except FileProblem as problem:
            told.append((where, str(problem)))
    assert [each for each in told if not each[1].startswith(f"{name}:")] == []
    assert taken > 20
    assert len(told) > 300


ABOVE_A_SCHEMA = {
    "offers.yaml": {"total", "daily", "valid_from", "valid_until"},  # one field against another, and days of a month
    "rulebook.yaml": {"timezone"},  # which zones there are, the machine knows
}


@pytest.mark.parametrize("name", ["offers.yaml", "rulebook.yaml"])
def test_what_the_schema_takes_is_taken(name: str, tmp_path: Path) -> None:
    published = json.loads((PROJECT / f"docs/{name.removesuffix('.yaml')}.schema.json").read_text())
    schema = jsonschema.Draft202012Validator(published)
    document = OFFERS if name == "offers.yaml" else _book()
    assert list(schema.iter_errors(document)) == []
    taken = 0
    for where, changed in changes(document):
        if schema.is_valid(changed) and ABOVE_A_SCHEMA[name].isdisjoint(where):
            taken += 1
            read(name, changed, tmp_path)
    assert taken > 20


@pytest.mark.parametrize(
    "condition",
    [
        {"field": "oders", "operator": ">", "value": 1},
        {"field": "orders", "operator": "=>", "value": 1},
        {"field": "orders", "operator": ">", "value": "many"},
        {"field": "orders", "operator": "known", "value": 1},
        {"field": "orders", "operator": ">"},
        {"field": "orders", "operator": ">", "value": 1, "and": 1},
        {"all": []},
        {"all": [BUYERS], "any": [BUYERS]},
        {"not": [BUYERS]},
        {"not": {"any": [{"all": [{}]}]}},
        "orders > 3",
    ],
)
def test_the_schema_knows_what_a_condition_is(condition: Any) -> None:
    schema = jsonschema.Draft202012Validator(offers_schema())
    assert problem_of(condition) is not None
    assert not schema.is_valid(_put(OFFERS, ("offers", 0, "eligibility"), condition))
    assert schema.is_valid(_put(OFFERS, ("offers", 0, "eligibility"), {"not": BUYERS}))
    gold = {"field": "loyalty_tier", "operator": ">=", "value": "gold"}
    assert schema.is_valid(_put(OFFERS, ("offers", 0, "eligibility"), gold))
    assert problem_of(gold) is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ('eligibility: {field: [orders], operator: ">=", value: 1}', "holds no condition: its field is a list"),
        ('eligibility: {field: orders, operator: [">="], value: 1}', "holds no condition: its operator is a list"),
        ("fallback: {home: true}", "is a mapping; expected true, or a list of placements"),
    ],
)
def test_the_command_lines_tell_a_wrong_offer_in_a_sentence(workspace: Workspace, fields: str, sentence: str) -> None:
    entry = "offers:\n- offer_id: a\n  kind: loyalty\n  valid_from: 2026-01-01\n  valid_until: 2027-01-01\n  "
    (workspace.home / "offers.yaml").write_text(entry + fields)
    (workspace.home / "who.csv").write_text("customer_id\n7\n")
    files = ["--audience", str(workspace.home / "who.csv"), "--out", str(workspace.home / "out.parquet")]
    for command in (["rulebook", "check"], ["decide", *files, "--channel", "web", "--placement", "home"]):
        done = CliRunner().invoke(app, command, env=workspace.environment())
        assert (done.exit_code, done.stdout) == (1 if command[0] == "rulebook" else 2, "")
        assert done.stderr == f"offers.yaml:6: `{fields.split(':')[0]}` {sentence}" + done.stderr.partition(sentence)[2]
