"""Segment's routes as a client of theirs sees them; what a message means is tested elsewhere."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import orjson
import pytest
from fakes import Face
from test_http import errors, problem

from features.vocabulary import SIGNALS
from serving import feeds


@pytest.fixture
def face() -> Iterator[Face]:
    with Face() as face:
        yield face


@pytest.mark.parametrize("kind", ["track", "identify", "alias", "group", "page", "screen"])
def test_every_kind_of_message_has_its_route_and_the_browsers_short_one(face: Face, kind: str) -> None:
    for route in (kind, kind[0]):
        answer = face.post(f"/v1/{route}", {"messageId": route, "type": "nonsense"})
        assert answer.json() == {"success": True}
    assert [message["type"] for message in face.engine.ingested] == [kind, kind]


def test_the_short_routes_are_the_browser_sdks() -> None:
    from serving.http_events import BATCH, SINGLE

    assert {name for name in (*SINGLE, *BATCH) if len(name) == 1} == set("tiagpsb")


def test_a_duplicate_is_a_success_too(face: Face) -> None:
    for _ in range(2):
        assert face.post("/v1/track", {"messageId": "m1", "event": "x"}).json() == {"success": True}
    assert len(face.engine.ingested) == 1


def test_a_refused_message_is_a_400_that_names_the_field(face: Face) -> None:
    assert errors(face.post("/v1/track", {"event": "Bad"})) == {"properties.quantity": "got `-1`; expected at least 0"}


@pytest.mark.parametrize("route", ["batch", "b", "import"])
def test_a_batch_keeps_the_good_ones_and_tells_of_the_others_by_index(face: Face, route: str) -> None:
    messages = [
        {"type": "track", "messageId": "m1"},
        {"type": "track", "messageId": "m2", "event": "Bad"},
        "nonsense",
        {"type": "track", "messageId": "m1"},
        {"type": "track", "messageId": "m3", "properties": {"text": "x" * 32_768}},
        {"type": "track", "messageId": "m4"},
    ]
    assert face.post(f"/v1/{route}", {"batch": messages, "sentAt": "2026-11-20T10:00:00Z"}).json() == {
        "success": True,
        "stored": 2,
        "duplicates": 1,
        "rejected": [
            {"index": 1, "messageId": "m2", "problem": "properties.quantity: got `-1`; expected at least 0"},
            {"index": 2, "messageId": None, "problem": "message: got `nonsense`; expected an object"},
            {"index": 4, "messageId": "m3", "problem": "message: has 32826 bytes; expected at most 32768"},
        ],
    }
    assert [message["messageId"] for message in face.engine.ingested] == ["m1", "m4"]
    assert face.engine.sent_at == "2026-11-20T10:00:00Z"


def test_an_empty_batch_is_no_error(face: Face) -> None:
    counts = {"success": True, "stored": 0, "duplicates": 0, "rejected": []}
    assert face.post("/v1/batch", {"batch": []}).json() == counts


@pytest.mark.parametrize(
    ("body", "field", "sentence"),
    [
        ({}, "batch", "is missing; expected a list of messages"),
        ({"batch": {"type": "track"}}, "batch", "got `{…}`; expected a list of messages"),
        ({"batch": [], "sentAt": 5}, "sentAt", "got `5`; expected a time such as 2026-11-20T10:00:00Z"),
    ],
)
def test_a_batch_that_is_none_is_refused_as_a_whole(face: Face, body: object, field: str, sentence: str) -> None:
    assert errors(face.post("/v1/batch", body)) == {field: sentence}


def test_a_batchs_context_is_that_of_each_message_unless_it_has_its_own(face: Face) -> None:
    shared = {"channel": "web", "device": {"type": "ios"}}
    messages = [{"messageId": "c1"}, {"messageId": "c2", "context": {"channel": "app"}}]
    face.post("/v1/batch", {"batch": messages, "context": shared})
    assert [message["context"] for message in face.engine.ingested] == [shared, shared | {"channel": "app"}]


def test_bodies_may_be_gzipped_and_of_any_content_type(face: Face) -> None:
    raw = gzip.compress(orjson.dumps({"batch": [{"type": "track", "messageId": "z1"}]}))
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain"}
    assert face.post("/v1/batch", raw, headers=headers).json()["stored"] == 1
    for broken in (raw[:-5], raw + b"more", b"no gzip"):
        assert "gzip" in errors(face.post("/v1/batch", broken, headers=headers))["body"]


def test_a_gzip_bomb_stays_small(face: Face) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    problem(face.post("/v1/batch", bomb, headers={"Content-Encoding": "gzip"}), 413)


def test_a_single_message_of_more_than_32_kb_is_too_large(face: Face) -> None:
    problem(face.post("/v1/track", {"event": "x", "properties": {"text": "x" * 33_000}}), 413)
    spaced = orjson.dumps({"event": "x"}) + b" " * 40_000
    assert face.post("/v1/track", spaced).status_code == 200


def test_the_demos_feeds_let_every_signal_be_heard(face: Face) -> None:
    face.post("/v1/batch", {"batch": feeds.alive()})
    assert [message["properties"] for message in face.engine.ingested] == [{"signal": signal} for signal in SIGNALS]
