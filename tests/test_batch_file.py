"""Ten thousand messages with duplicates and broken ones among them, by file and over HTTP: both land exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from fakes import Face
from typer.testing import CliRunner

from features import database, profiles
from features.__main__ import app
from features.events import EventLog
from features.workspace import Workspace
from tests.homes import at_home

MESSAGES, DUPLICATES, BROKEN = 10_000, 1_000, 500
CUSTOMERS = 40
AT_ONCE = 500
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)

REASONS: Sequence[tuple[dict[str, Any] | bytes, str]] = (
    ({"userId": None}, "userId: is missing; expected a userId or an anonymousId"),
    ({"timestamp": "yesterday"}, "timestamp: is `yesterday`; expected a time in RFC 3339"),
    ({"timestamp": "1970-01-01T00:00:00Z"}, "timestamp: `1970-01-01T00:00:00Z` lies before 1990"),
    ({"type": "tracked"}, "type: is `tracked`; expected one of track,"),
    ({"properties": {"products": []}}, "properties.order_id: is missing;"),
    ({"properties": {"order_id": "o", "products": [{"product_id": "p", "quantity": -1}]}},
     "properties.products[0].quantity: is `-1`; expected a whole number of at least 1"),
    ({"userId": "u" * 300}, "userId: `uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu…` has 300 characters"),
    ({"messageId": ["m"]}, "messageId: `['m']` is no text"),
    (b'{"type": "track", "userId": "7", "event": "Order Completed", "timestamp": "2024-01-01", '
     b'"properties": {"order_id": "o", "products": [{"product_id": "p", "price": NaN}]}}',
     "properties.products[0].price: is `nan`; expected an amount of money"),
    (b"null", "`null`; expected an object"),
)  # fmt: skip
"""What a broken message has instead of a good one's, or all of it; and how the sentence about it goes."""


def good(number: int) -> dict[str, Any]:
    """The message of that number, of one of several kinds."""
    customer = f"c{number % CUSTOMERS}"
    line = {"product_id": f"p{number % 41}", "quantity": 1 + number % 3, "price": 2.5}
    order = {"order_id": f"o{number}", "products": [line]}
    kinds: list[dict[str, Any]] = [
        {"type": "track", "event": "Order Completed", "properties": order},
        {"type": "track", "event": "Completed Order", "properties": {"orderId": f"o{number}", "products": [line]}},
        {"type": "track", "event": "Product Viewed", "properties": line},
        {"type": "track", "event": "Order Refunded", "properties": order},
        {"type": "identify", "anonymousId": f"a{number % CUSTOMERS}", "traits": {"plan": "gold"}},
        {"type": "page", "name": "Home", "anonymousId": f"a{number % CUSTOMERS}", "userId": None},
    ]
    at = BEGIN + timedelta(minutes=17 * number)
    stamped = {"userId": customer, "messageId": f"m{number}", "timestamp": at.isoformat()}
    return {**stamped, **kinds[number // CUSTOMERS % len(kinds)]}


def lines() -> Iterator[tuple[bytes, str | None]]:
    """Each message as JSON, with how the sentence about it goes where it is broken."""
    broken = duplicates = fresh = 0
    for number in range(MESSAGES):
        if number % 20 == 7:
            change, reason = REASONS[broken % len(REASONS)]
            broken += 1
            if isinstance(change, bytes):
                yield change, reason
            else:
                yield orjson.dumps({**good(0), "messageId": f"broken-{broken}", **change}), reason
        elif number % 10 == 3:
            yield orjson.dumps(good(duplicates * 7 % fresh)), None
            duplicates += 1
        else:
            yield orjson.dumps(good(fresh)), None
            fresh += 1
    assert (broken, duplicates) == (BROKEN, DUPLICATES)


EXPECTED = {number: reason for number, (_, reason) in enumerate(lines()) if reason is not None}
STORED = MESSAGES - DUPLICATES - BROKEN


def rows(workspace: Workspace) -> list[tuple[Any, ...]]:
    """What the log holds, but for when it became known."""
    columns = database.events.c
    chosen = (columns.message_id, columns.name, columns.occurred_at, columns.user_id, columns.anonymous_id,
              columns.customer_id, columns.body)  # fmt: skip
    with database.reading(database.connect(workspace)) as connection:
        return [tuple(row) for row in connection.execute(sa.select(*chosen).order_by(columns.message_id))]


def ingested(workspace: Workspace) -> None:
    path = workspace.home / "batch.ndjson"
    path.write_bytes(b"".join(line + b"\n" for line, _ in lines()))
    result = CliRunner().invoke(app, ["ingest", "segment", "--path", str(path), "--json"])
    summary = orjson.loads(result.stdout)
    assert (summary["stored"], summary["duplicates"], summary["rejected"]) == (STORED, DUPLICATES, BROKEN)
    said = {one["line"] - 1: one["problem"] for one in summary["rejected_lines"]}
    assert said.keys() == EXPECTED.keys()
    assert [(number, said[number]) for number, reason in EXPECTED.items() if reason not in said[number]] == []
    assert f"line {min(EXPECTED) + 1}: " in result.stderr


def sent(workspace: Workspace) -> None:
    from serving.engine import Engine

    messages = [line for line, _ in lines()]
    stored = duplicates = 0
    said: dict[int, str] = {}
    with Face(Engine.open(workspace)) as face:
        for start in range(0, MESSAGES, AT_ONCE):
            raw = b'{"batch":[' + b",".join(messages[start : start + AT_ONCE]) + b"]}"
            answer = face.post("/v1/batch", raw)
            assert answer.status_code == 200, answer.text
            found = answer.json()
            stored, duplicates = stored + found["stored"], duplicates + found["duplicates"]
            indexes = [one["index"] for one in found["rejected"]]
            assert indexes == sorted(indexes)
            said |= {start + one["index"]: one["problem"] for one in found["rejected"]}
    assert (stored, duplicates) == (STORED, DUPLICATES)
    assert said.keys() == EXPECTED.keys()
    assert [(number, said[number]) for number, reason in EXPECTED.items() if reason not in said[number]] == []


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Workspace]]:
    """The same messages taken in from a file, and in chunks over HTTP."""
    folder = tmp_path_factory.mktemp("batch")
    made = []
    for name, take in (("file", ingested), ("http", sent)):
        home: Path = folder / name
        home.mkdir()
        workspace = Workspace(home)
        with at_home(workspace):
            take(workspace)
        made.append(workspace)
    yield made[0], made[1]
    for workspace in made:
        database.connect(workspace).dispose()


def test_both_ways_store_every_good_message_once_and_list_every_broken_one(both: tuple[Workspace, Workspace]) -> None:
    by_file, by_http = (rows(workspace) for workspace in both)
    assert [row[0] for row in by_file] == sorted(f"m{number}" for number in range(STORED))
    assert by_file == by_http


def test_the_live_profile_is_the_fold_of_the_files_history(both: tuple[Workspace, Workspace]) -> None:
    by_file, by_http = (database.connect(workspace) for workspace in both)
    with database.reading(by_file) as history, database.reading(by_http) as live:
        stored = {row.customer_id: (row.state, row.items) for row in live.execute(sa.select(database.profiles))}
        folded = {
            customer_id: profiles.pack(profiles.fold_all(event for _, event in events))
            for customer_id, events in EventLog().all_by_customer(history)
        }
    assert len(folded) == CUSTOMERS
    assert {name: stored[name] for name in folded} == folded
    assert all(profiles.unpack(*stored[name]).state == {} for name in stored.keys() - folded.keys())
