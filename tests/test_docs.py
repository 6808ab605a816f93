"""The pages under docs say what the code does: routes, fields, events, commands, variables, features, links.

`python tests/test_docs.py` writes docs/features.md anew.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from pydantic import BaseModel

from features import commerce, intake, steps
from features import segment as segment_module
from features.affinity import AFFINITY_FEATURES, OFFER_FEATURES
from features.catalog import load_catalog
from features.events import check
from features.offers import OfferEntry
from features.pairs import MOMENT_FEATURES
from features.product_history import LINE_FEATURES
from features.profiles import FEATURES
from features.segment import parse
from features.tables import LocationRow, ProductRow
from features.vocabulary import FALLBACKS, REASONS, EventProblem
from features.workspace import Workspace
from serving import (
    answers,
    counters,
    erasure,
    export,
    golden,
    http_customers,
    http_events,
    openapi,
    problems,
    rulebook,
    schemas,
    story_answers,
)
from serving.golden_stories import Story as GoldenStory
from serving.keys import needed
from serving.story_answers import Story

PROJECT = Path(__file__).resolve().parent.parent
PAGES = (
    "http",
    "shop",
    "integrate",
    "clients",
    "events",
    "identity",
    "files",
    "commands",
    "features",
    "suppression",
    "stories",
)
ROOMS = ("features", "training", "serving")
LONGEST_LINE = 140
RECEIVED = 1_800_000_000.0

_CODE = re.compile(r"`([^`]+)`")
Row = list[str]


def page(name: str) -> str:
    return (PROJECT / f"docs/{name}.md").read_text()


def tables(text: str) -> Iterator[tuple[Row, list[Row]]]:
    """Every table of a page: its header, and its rows."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("|"):
            header, _, *rows = [line, *takewhile(lambda each: each.startswith("|"), lines)]
            yield cells(header), [cells(row) for row in rows]


def cells(row: str) -> Row:
    return [cell.strip() for cell in row.strip("|").split("|")]


def table(name: str, header: str) -> list[Row]:
    """The rows of the one table of that page whose first column is called so."""
    (rows,) = [rows for head, rows in tables(page(name)) if head[0] == header]
    return rows


def coded(rows: list[Row], column: int = 0) -> list[str]:
    """What stands in backticks in that column."""
    return [word for row in rows for word in _CODE.findall(row[column])]


def said(name: str) -> set[str]:
    """What stands in backticks anywhere on the page, examples apart."""
    return set(_CODE.findall(re.sub(r"```.*?```|``.*?``", "", page(name), flags=re.DOTALL)))


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), flags=re.MULTILINE | re.DOTALL)


def sections(name: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^## ", page(name), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        yield heading, text


# ------------------------------------------------------------------------------------- every page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_begins_with_what_it_is_for_and_has_no_long_lines(name: str) -> None:
    lines = page(name).splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].startswith("This page ")
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


WITH_LINKS = ("README.md", *(f"docs/{path.name}" for path in sorted((PROJECT / "docs").glob("*.md"))))


@pytest.mark.parametrize("path", WITH_LINKS)
def test_every_link_points_to_something(path: str) -> None:
    text = re.sub(r"```.*?```", "", (PROJECT / path).read_text(), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (PROJECT / path).parent / file if file else PROJECT / path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ------------------------------------------------------------------------------------------ http.md


def test_every_route_is_on_the_page_with_the_key_it_asks_for() -> None:
    told: dict[tuple[str, str], str] = {}
    for row in table("http", "route"):
        first, *others = _CODE.findall(row[0])
        method, _, path = first.partition(" ")
        told.update({(method, each): row[1] for each in (path, *others)})
    probes = {("GET", path) for path in ("/docs.json", "/healthz", "/readyz", "/livez")}
    described = {(method.upper(), path) for path, item in openapi._paths().items() for method in item}
    assert set(told) == described | probes
    keys = {None: "none", "write": "write, server", "server": "server"}
    assert {route: keys[needed(route[1])] for route in told} == told


REQUESTS = {
    "field of `/decide`": schemas.DecideRequest,
    "field of `/decide_batch`": schemas.DecideBatchRequest,
    "field of `/respond`": schemas.RespondRequest,
}
ANSWERS: Mapping[str, tuple[type[BaseModel], ...]] = {
    "field of the answer": (answers.Decision,),
    "field of an offer": (answers.OfferShown,),
    "field of a signal": (answers.SignalAge,),
    "field of an offer held back": (answers.SuppressedOffer,),
    "field of a product passed over": (answers.PassedOver,),
    "field of a reason": (answers.ReasonShown,),
    "field of the batch's answer": (answers.DecisionBatch, answers.RefusedCustomer),
    "field of the response's answer": (answers.Recorded,),
    "field of the confirmation": (answers.Confirmed,),
    "field of a reason now": (answers.ReasonNow,),
    "field of the events' answer": (answers.Received,),
    "field of a rejected message": (answers.RejectedMessage,),
    "part of an export": (answers.Export,),
    "field of an id": (answers.HeldId,),
    "field of a merge": (answers.HeldMerge,),
    "field of a receipt": (answers.Erased,),
    "field of an error": (answers.ProblemShown,),
}


@pytest.mark.parametrize("header", REQUESTS)
def test_the_fields_of_a_request_are_those_of_its_model(header: str) -> None:
    fields = REQUESTS[header].model_fields
    rows = table("http", header)
    assert coded(rows) == list(fields)
    required = [name for row in rows for name in _CODE.findall(row[0]) if row[1] == "required"]
    assert required == [name for name, field in fields.items() if field.is_required() and name != "customers"]


@pytest.mark.parametrize("header", ANSWERS)
def test_every_field_of_an_answer_is_explained(header: str) -> None:
    wanted = {name for model in ANSWERS[header] for name in model.model_fields}
    assert wanted - set(coded(table("http", header))) == set()


def test_every_model_of_an_answer_is_on_the_page() -> None:
    models = {each for each in vars(answers).values() if isinstance(each, type) and issubclass(each, BaseModel)}
    told = {model for group in ANSWERS.values() for model in group}
    assert models - told - {BaseModel} == {answers.Decisions, answers.FieldProblem}
    assert set(answers.FieldProblem.model_fields) == {"field", "problem"}


def test_a_real_answer_has_the_fields_that_the_page_explains(workspace: Workspace) -> None:
    book = rulebook.load(PROJECT / "serving/rulebook.yaml")
    line = {"product_id": "table-oak-180", "quantity": 1}
    bought = {"event": "Order Completed", "at": "2026-10-20T10:00:00Z", "order_id": "o1", "products": [line]}
    story = GoldenStory.model_validate(
        {"story": "an old order", "now": "2026-11-10T10:00:00Z", "history": [bought], "expect": {}}
    )
    answer = golden.told(story, load_catalog(workspace), book)
    offers, held, passed = answer["offers"], answer["suppressed"], answer["passed_over"]
    assert offers
    assert held
    assert passed
    for header, came in {
        "field of the answer": answer,
        "field of an offer": offers[0],
        "field of a signal": answer["signals"]["stock"],
        "field of an offer held back": held[0],
        "field of a product passed over": passed[0],
        "field of a reason": held[0]["reasons"][0],
    }.items():
        assert sorted(coded(table("http", header))) == sorted(came)
    assert set(answer["signals"]) == set(book.signals)


def test_the_examples_of_requests_are_taken() -> None:
    models = {
        "/decide": schemas.DecideRequest,
        "/decide_batch": schemas.DecideBatchRequest,
        "/respond": schemas.RespondRequest,
    }
    seen = set()
    for block in blocks("http", "http"):
        head, _, body = block.partition("\n")
        method, address = head.split()
        path = address.partition("?")[0]
        seen.add(path)
        if method != "POST":
            continue
        if path in models:
            asked = models[path].model_validate_json(body)
            if isinstance(asked, schemas.DecideBatchRequest):
                assert not [each for each in schemas.entries(asked) if isinstance(each, schemas.Refused)]
            continue
        content = orjson.loads(body)
        kind = http_events.SINGLE.get(path.removeprefix("/v1/"))
        for message in [{**content, "type": kind}] if kind else content["batch"]:
            check(parse(message, RECEIVED, content.get("sentAt")), RECEIVED)
    assert seen == {*models, "/v1/track", "/v1/batch", "/customers/1042"}


def test_the_examples_of_answers_fit_their_models() -> None:
    models = (answers.Decision, answers.Confirmed, answers.Recorded, Story, answers.Erased, answers.ProblemShown)
    for model, text in zip(models, blocks("http", "json"), strict=True):
        content = orjson.loads(text)
        assert set(model.model_validate(content, strict=True).model_dump()) == set(content)


def test_every_part_of_a_story_is_on_the_page() -> None:
    assert coded(table("http", "part of a story")) == list(Story.model_fields)
    nested = {name for model in vars(story_answers).values() for name in getattr(model, "model_fields", ())}
    assert nested - said("http") == set()
    assert coded(table("http", "parameter")) == list(http_customers.QUERY)


def test_every_store_of_a_receipt_is_on_the_page() -> None:
    assert coded(table("http", "count")) == list(erasure.STORES)
    counts = orjson.loads(blocks("http", "json")[4])["counts"]
    assert list(counts) == list(erasure.STORES)
    assert tuple(answers.Export.model_fields)[2:] == export.NAMES


def test_closed_words_on_the_page_are_those_of_the_code() -> None:
    assert set(coded(table("http", "fallback"))) <= set(FALLBACKS)
    statuses = {int(row[0]): _CODE.findall(row[1])[0] for row in table("http", "status")}
    assert statuses == {status: kind for status, (kind, _) in problems.TITLES.items()}
    counted = set(re.findall(r'"(onestory_\w+)"', Path(counters.__file__).read_text()))
    assert {name.removesuffix("_total") for name in coded(table("http", "counter"))} == counted


# ---------------------------------------------------------------------------------------- events.md


def event_rows() -> Iterator[tuple[str, Row]]:
    for head, rows in tables(page("events")):
        if head[0] == "event":
            yield from ((name, row) for row in rows for name in _CODE.findall(row[0]))


def test_every_event_that_the_code_handles_is_on_the_page() -> None:
    handled = {
        *(name for name in steps.STEPS if "\0" not in name),  # the others are our own, see `corrections`
        *(commerce._CHECKS),
        *(intake.ABOUT_STOCK),
        *(segment_module.NEEDS_NOBODY),
        *(segment_module.RESPONSES),
        *(segment_module._NAMES),
        *(f"${kind}" for kind in segment_module.TYPES if kind != "track"),
        *("Order Cancelled", "Feed Alive"),
    }
    assert handled - said("events") == set()
    in_tables = [name for name, _ in event_rows()]
    assert sorted(in_tables) == sorted({*commerce._CHECKS, *segment_module.RESPONSES, "$identify", "$alias"})


class Watched(dict[str, Any]):
    """The properties of an event, and which of them were asked for."""

    def __init__(self, given: Mapping[str, Any]):
        super().__init__(given)
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)

    def setdefault(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().setdefault(key, default)


def properties_of(name: str) -> tuple[set[str], set[str]]:
    """What the checks of an event require, and all that they look at."""
    required, asked = set(), set()
    for each in commerce._CHECKS[name]:
        for given in ({}, {"product_id": "p", "sku": "p"}):
            body = Watched(given)
            try:
                each(body, "properties")
            except EventProblem as problem:
                if not given:
                    required.add(problem.field.rpartition(".")[2])
            asked |= body.asked
    return required, asked


@pytest.mark.parametrize("name", sorted(commerce._CHECKS))
def test_the_properties_of_an_event_are_those_that_are_checked(name: str) -> None:
    (row,) = [row for each, row in event_rows() if each == name]
    of_a_line = {word for rows in (table("events", "property"),) for word in coded(rows)} | {"sku"}
    required, asked = properties_of(name)
    assert set(_CODE.findall(row[1])) == required
    optional = set(_CODE.findall(row[2]))
    if "of a line" in row[2]:
        optional |= of_a_line - required
    assert required | optional == asked


def test_the_examples_of_events_are_taken() -> None:
    messages = [message for block in blocks("events", "json") for message in messages_in(block)]
    assert len(messages) > 10
    assert len({message["messageId"] for message in messages}) == len(messages)
    for message in messages:
        check(parse(message, RECEIVED, None, lambda kind, value: f"hash of {kind}"), RECEIVED)


def messages_in(block: str) -> list[dict[str, Any]]:
    """One message over several lines, or one a line."""
    try:
        return [orjson.loads(block)]
    except orjson.JSONDecodeError:
        return [orjson.loads(line) for line in block.splitlines()]


def test_the_sentence_shown_for_a_refusal_is_the_one_that_comes() -> None:
    message = {"type": "track", "messageId": "m", "event": "Stock Updated"}
    with pytest.raises(EventProblem) as refused:
        check(parse({**message, "properties": {"product_id": "p", "quantity": -1}}, RECEIVED), RECEIVED)
    assert f"``{refused.value}``" in page("events")


# ----------------------------------------------------------------------------------------- files.md


@pytest.mark.parametrize(
    ("heading", "model"), [("offers.yaml", OfferEntry), ("products", ProductRow), ("locations", LocationRow)]
)
def test_the_fields_of_a_file_are_those_of_its_model(heading: str, model: type[BaseModel]) -> None:
    _, rows = next(tables(dict(sections("files"))[heading]))
    assert sorted(coded(rows)) == sorted(model.model_fields)
    required = {name for row in rows for name in _CODE.findall(row[0]) if row[1] == "required"}
    assert required == {name for name, field in model.model_fields.items() if field.is_required()}


def test_the_example_of_offers_is_taken(workspace: Workspace) -> None:
    (example,) = blocks("files", "yaml")
    (workspace.home / "offers.yaml").write_text(example)
    catalog = load_catalog(workspace)
    assert (list(catalog.offers), catalog.warnings) == (["table-welcome"], ())


def test_every_environment_variable_is_on_the_page_and_no_other() -> None:
    sources = [path for room in ROOMS for path in (PROJECT / room).rglob("*") if path.suffix in (".py", ".yaml")]
    text = "\n".join(path.read_text() for path in [*sources, PROJECT / "Makefile"])
    used = set(re.findall(r"\bONESTORY_[A-Z_]+[A-Z]\b", text))
    told = {name for name in coded(table("files", "variable")) if name.startswith("ONESTORY_")}
    assert told == used


# -------------------------------------------------------------------------------------- commands.md


def test_every_make_target_is_on_the_page_and_no_other() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert coded(table("commands", "target")) == [f"make {target}" for target in phony.split()]
    settable = set(re.findall(r"^([A-Z]+) \?=", makefile, flags=re.MULTILINE))
    assert set(coded(table("commands", "variable"))) & settable == settable


@cache
def commands(room: str) -> dict[str, set[str]]:
    """Every command of a room, with its options (`--path`) and arguments (`SOURCE`)."""
    if importlib.util.find_spec(f"{room}.__main__") is None:
        pytest.skip(f"`python -m {room}` is not there yet")
    app: typer.Typer = importlib.import_module(f"{room}.__main__").app
    return dict(_walked(typer.main.get_command(app), f"python -m {room}"))


def _walked(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
    if hasattr(command, "commands"):
        for word, each in command.commands.items():
            yield from _walked(each, f"{name} {word}")
        return
    options = {max(each.opts, key=len) for each in command.params if each.param_type_name == "option"}
    arguments = {each.name.upper() for each in command.params if each.param_type_name == "argument"}
    yield name, (options | arguments) - {"--help"}


@pytest.mark.parametrize("room", ROOMS)
def test_every_command_is_on_the_page_with_its_options_and_no_other(room: str) -> None:
    told = {}
    for heading, text in sections("commands"):
        if heading.startswith(f"`python -m {room} "):
            _, rows = next(tables(text))
            told[heading.strip("`")] = {word.split()[0] for word in coded(rows)}
    assert told == commands(room)


# ------------------------------------------------------------------------------- rulebook.md, features.md


def reasons_in(module: str) -> set[str]:
    tree = ast.parse((PROJECT / f"serving/{module}").read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return texts & set(REASONS)


DECIDING = [f"rules/{path.name}" for path in sorted((PROJECT / "serving/rules").glob("*.py"))]


@pytest.mark.parametrize("module", [*DECIDING, "screen.py", "decide.py"])
def test_every_reason_that_is_ever_given_is_in_the_rulebooks_page(module: str) -> None:
    assert reasons_in(module) - said("rulebook") == set()


def features_page() -> str:
    """docs/features.md: every feature with its meaning, from the code."""
    parts = {
        "Of the customer": ("`features/profiles.py`; offers may set conditions on them (`eligibility`)", FEATURES),
        "Of customer and offer": ("`features/affinity.py`", AFFINITY_FEATURES),
        "Of the offer": ("`features/offer_index.py`", OFFER_FEATURES),
        "Of the moment": ("`features/pairs.py`; else 0", MOMENT_FEATURES),
        "Of a line": ("`features/product_history.py`, for return risk", LINE_FEATURES),
    }
    text = [
        "# Features\n",
        "This page lists every feature that models see; `python tests/test_docs.py` makes it from the code.\n",
        "All are float64; unknown is NaN. Churn uses those of the customer, propensity may use all.",
        "A sum that decays with a half-life of h days counts what is t days old with weight 2^(−t/h).",
    ]
    for heading, (source, features) in parts.items():
        text += [f"\n## {heading}\n", f"{len(features)} features, from {source}.\n", "| feature | means |", "|---|---|"]
        text += [f"| `{name}` | {meaning} |" for name, meaning in features.items()]
    return "\n".join(text) + "\n"


def test_the_page_of_features_is_made_from_the_code() -> None:
    assert page("features") == features_page(), "docs/features.md is out of date; run `python tests/test_docs.py`"


if __name__ == "__main__":
    (PROJECT / "docs/features.md").write_text(features_page())
