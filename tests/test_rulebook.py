"""The rulebook's file, its page, and what is said of a file that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from features.sentences import FileProblem
from features.vocabulary import REASONS
from features.workspace import PROJECT, Workspace
from serving import rulebook
from serving.rules import RULES

SHIPPED = PROJECT / "serving/rulebook.yaml"
PAGE = (PROJECT / "docs/rulebook.md").read_text()
BOOK = rulebook.load(SHIPPED)


def entries() -> dict[str, str]:
    """The page's entry of each rule."""
    parts = re.split(r"^- \*\*`([a-z_.]+)`\*\*", PAGE, flags=re.MULTILINE)
    return {name: " ".join(text.split("\n\n")[0].split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_rule_has_an_entry_on_the_page_with_its_reasons_and_an_example() -> None:
    told = entries()
    assert list(told) == [rule.name for rule in sorted(RULES, key=lambda rule: list(told).index(rule.name))]
    for rule in RULES:
        reasons = told[rule.name].split(")")[0]
        assert {word for word in re.findall(r"`([a-z_]+)`", reasons) if word in REASONS} == set(rule.codes)
        assert "Example: " in told[rule.name]


def numbers() -> Iterator[tuple[str, str]]:
    """Every `path.in.the.rulebook`: figure of the page."""
    yield from re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`(?: \(\w\))?(?::| \() ?([\d.,]+)", " ".join(PAGE.split()))


@pytest.mark.parametrize(("path", "figure"), sorted(set(numbers())))
def test_a_number_on_the_page_is_that_of_the_shipped_rulebook(path: str, figure: str) -> None:
    value = BOOK.model_dump()
    for name in path.split("."):
        value = value[name]
    if isinstance(value, dict):
        value = next(iter(value.values()))
    told = {value.split(":")[0]} if path == "quiet_hours" else {f"{value:g}", f"{value}"}
    assert figure.rstrip(".,").replace(",", "") in told


def test_the_page_tells_numbers_at_all() -> None:
    assert len(set(numbers())) >= 20


def leaves(model: type[BaseModel], at: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner is not rulebook.Window:
            yield from leaves(inner, f"{at}{name}.")
        else:
            yield f"{at}{name}"


def test_every_section_and_weight_of_the_rulebook_is_on_the_page() -> None:
    assert [name for name in rulebook.Rulebook.model_fields if f"`{name}" not in PAGE] == []
    weighed = [path for path in leaves(rulebook.Arbitration, "arbitration.") if f"`{path}" not in PAGE]
    assert weighed == []


def test_the_shipped_file_says_what_an_empty_one_would_have_left_open() -> None:
    assert set(yaml.safe_load(SHIPPED.read_text())) == set(rulebook.Rulebook.model_fields)


def test_the_shipped_file_fits_the_published_schema() -> None:
    schema = json.loads((PROJECT / "docs/rulebook.schema.json").read_text())
    assert schema == rulebook.rulebook_schema(), "write serving.rulebook.rulebook_schema() to docs/rulebook.schema.json"
    document = yaml.load(SHIPPED.read_text(), Loader=yaml.BaseLoader)
    jsonschema.Draft202012Validator.check_schema(schema)
    document = _numbers(document)
    jsonschema.validate(document, schema)


def _numbers(value):
    """Figures as numbers; BaseLoader reads texts, as times of the day are."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if value in ("true", "false"):
        return value == "true"
    return json.loads(value) if re.fullmatch(r"\d+(\.\d+)?", value) else value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("recently_purchsed: {}", "1: unknown field `recently_purchsed`; did you mean `recently_purchased`?"),
        ("quiet_hours:\n  start: 25:00", "2: `start` is `25:00`; expected a time of the day such as `21:00`"),
        ("quiet_hours: {start: 21}", "1: `start` is `21`; expected a time of the day such as `21:00`"),
        ("quiet_hours: {end: 8.30}", "1: `end` is `8.3`; expected a time of the day such as `21:00`"),
        ("quiet_hours: {end: null}", "1: `end` is empty; expected a time of the day such as `21:00`"),
        (
            "timezone: Europe/Berln",
            "1: `timezone` is `Europe/Berln`, which is no time zone; did you mean `Europe/Berlin`?",
        ),
        ("recently_returned:\n  same_product: {days: 731}", "2: `days` is `731`; expected 730 or less"),
        ("open_case: {lets_through: [service]}", "1: unknown value `service` for `lets_through`; did you mean"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(workspace: Workspace, text: str, sentence: str) -> None:
    path = workspace.home / "rulebook.yaml"
    path.write_text(text)
    with pytest.raises(FileProblem) as caught:
        rulebook.load(path)
    assert f"rulebook.yaml:{sentence}" in str(caught.value)


def test_a_window_may_have_others_for_kinds_and_categories_and_the_longer_counts() -> None:
    window = rulebook.Window(days=30, kinds={"cross_sell": 60}, categories={"tents": 365, "socks": 1})
    assert window.days_for("promotion") == 30
    assert window.days_for("promotion", "socks") == 1
    assert window.days_for("cross_sell", "socks") == 60
    assert window.days_for("cross_sell", "tents") == 365
