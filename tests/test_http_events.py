"""Segment's routes as a client of theirs sees them; what a message means is tested elsewhere."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from fakes import Face, FakeEngine
from test_http import errors, problem

from features.intake import Receipt
from features.vocabulary import SIGNALS
from serving import feeds, gathering, http_events
from serving.http_events import A_REQUEST, MOST_WAITING, THREADS
from serving.ports import Arrived


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


# ------------------------------------------------------------------------------------ what clients need


def test_an_error_has_the_two_keys_without_which_rudderstacks_client_tries_a_refused_batch_again() -> None:
    with Face(write_keys=("wk",)) as face:
        for answer in (
            face.post("/v1/batch", {"batch": 1}, key="wk"),
            face.post("/v1/batch", {"batch": []}, key="other"),
            face.post("/v1/batch", {"batch": []}),
            face.get("/v1/nowhere"),
        ):
            body = answer.json()
            assert (body["code"], body["message"]) == (body["type"].rpartition(":")[2], body["detail"])
        assert "code" not in face.post("/decide", {}, key="wk").json()


def test_the_browser_client_is_told_to_send_here_whatever_its_key() -> None:
    with Face(write_keys=("wk",)) as face:
        for key in ("wk", "any other"):
            answer = face.get(f"/v1/projects/{key}/settings", headers={"Host": "shop.example:8080"})
            assert answer.headers["access-control-allow-origin"] == "*"
            ours = {"apiKey": key, "apiHost": "shop.example:8080/v1", "protocol": "http", "addBundledMetadata": False}
            assert answer.json() == {"integrations": {"Segment.io": ours}, "metrics": {"sampleRate": 0}}
        refused = face.get("/v1/projects/wk/settings", headers={"Host": "shop.example/other?"})
        assert errors(refused) == {"Host": "got `shop.example/other?`; expected the address of this service"}


def test_what_is_no_json_but_what_clients_write_spoils_neither_the_batch_nor_itself(face: Face) -> None:
    messages = (rb'{"messageId":"n1","properties":{"a":NaN}}', rb'{"messageId":"n2","properties":{"t":"cut \ud83d"}}')
    assert face.post("/v1/batch", b'{"batch":[' + b",".join(messages) + b"]}").json()["stored"] == 2
    assert face.engine.ingested[1]["properties"] == {"t": "cut \ufffd"}


@pytest.mark.parametrize("depth", [250, 300, 900])
def test_nesting_beyond_reason_is_refused_by_message(face: Face, depth: int) -> None:
    deep = b'{"event":"x","messageId":"d","context":' + b"[" * depth + b"]" * depth + b"}"
    answer = face.post("/v1/batch", b'{"batch":[' + deep + b',{"messageId":"fine"}]}').json()
    assert (answer["stored"], answer["rejected"]) == (
        (2, []) if depth < 254 else (1, [{"index": 0, "messageId": "d", "problem": TOO_DEEP}])
    )
    assert face.post("/v1/track", deep).status_code == (200 if depth < 254 else 400)


TOO_DEEP = "message: is nested hundreds of levels deep; expected at most 50"


# --------------------------------------------------------------------------------------------- overload


class Stuck(FakeEngine):
    """Takes nothing in until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.takes_at_once = False
        self.go, self.waiting = threading.Event(), threading.Semaphore(0)

    def ingest(self, messages: Sequence[Mapping[str, Any]], received_at: float, sent_at: str | None) -> list[Receipt]:
        self.waiting.release()
        assert self.go.wait(20)
        return list(super().ingest(messages, received_at, sent_at))


def batch(size: int, name: str) -> dict[str, Any]:
    return {"batch": [{"messageId": f"{name}-{number}"} for number in range(size)]}


def test_who_comes_when_the_queue_is_full_is_told_when_to_come_again_and_nobody_else() -> None:
    engine = Stuck()
    most = MOST_WAITING // 3 - A_REQUEST
    with Face(engine) as face, ThreadPoolExecutor(4) as threads:
        taken = [threads.submit(face.post, "/v1/batch", batch(most, str(number))) for number in range(3)]
        for _ in range(THREADS):
            assert engine.waiting.acquire(timeout=20)
        refused = until_refused(face)
        assert refused.headers["retry-after"] == "2"
        assert refused.headers["access-control-expose-headers"] == "retry-after"
        assert problem(refused, 429)["detail"] == "too many messages are waiting; try again in 2 seconds"
        assert face.post("/decide", {"customer_id": "1", "channel": "web", "placement": "home"}).status_code == 200
        engine.go.set()
        assert [each.result().json()["stored"] for each in taken] == [most] * 3
        assert face.post("/v1/track", {"messageId": "later"}).status_code == 200


def until_refused(face: Face) -> httpx.Response:
    """The third batch may still be on its way into the queue: what is not refused waits in it."""
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(face.post, "/v1/track", {"messageId": str(number)}) for number in range(8)]
        for answer in as_completed(asked, timeout=20):
            if answer.result().status_code == 429:
                face.engine.go.set()
                return answer.result()
    raise AssertionError("nobody was refused")


def test_a_batch_larger_than_the_queue_is_taken_when_nobody_else_waits(face: Face) -> None:
    assert face.post("/v1/batch", batch(MOST_WAITING + 1, "large")).json()["stored"] == MOST_WAITING + 1


def test_who_has_waited_too_long_is_told_to_come_again_and_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Stuck()
    with Face(engine) as face, ThreadPoolExecutor(THREADS) as threads:
        taken = [threads.submit(face.post, "/v1/track", {"messageId": str(number)}) for number in range(THREADS)]
        for _ in range(THREADS):
            assert engine.waiting.acquire(timeout=20)
        monkeypatch.setattr(http_events, "LONGEST_WAIT_S", -1.0)
        threading.Timer(0.3, engine.go.set).start()
        problem(face.post("/v1/track", {"messageId": "late"}), 429)
        assert [each.result().status_code for each in taken] == [200] * THREADS
    assert sorted(str(message["messageId"]) for message in engine.ingested) == [str(n) for n in range(THREADS)]


# --------------------------------------------------------------------------------------------- at once


class Watched(FakeEngine):
    """Notes in which way each message was taken in; what takes a while at once takes `long_s`."""

    def __init__(self, long_s: float = 0.0) -> None:
        super().__init__()
        self.ways: list[str] = []
        self.long_s = long_s
        self.rests: list[str] = []

    def ingest(self, messages: Sequence[Mapping[str, Any]], received_at: float, sent_at: str | None) -> list[Receipt]:
        self.ways.append(threading.current_thread().name)
        return list(super().ingest(messages, received_at, sent_at))

    def ingest_at_once(
        self, messages: Sequence[Arrived], now: float
    ) -> tuple[Sequence[Receipt | None], Callable[[], None] | None]:
        time.sleep(self.long_s)
        (receipts, _), name = super().ingest_at_once(messages, now), threading.current_thread().name
        return receipts, (lambda: self.rests.append(name)) if messages[0].content["messageId"] == "rest" else None


def one(face: Face, message_id: str, **more: Any) -> None:
    assert face.post("/v1/track", {"messageId": message_id, **more}).json() == {"success": True}


def test_a_single_message_is_taken_in_on_the_event_loop_and_no_other() -> None:
    engine = Watched()
    with Face(engine) as face:
        one(face, "m1")
        (loop,) = engine.ways
        face.post("/v1/batch", {"batch": [{"messageId": "m2"}]})
        time.sleep(0.05)
        one(face, "m3", text="x" * http_events.SMALL_MESSAGE)
    assert len(engine.ways) == 3
    assert loop not in engine.ways[1:]


def test_what_is_left_to_do_is_done_before_the_answer() -> None:
    engine = Watched()
    with Face(engine) as face:
        one(face, "rest")
    assert engine.rests == engine.ways


def test_those_that_come_together_are_taken_in_together_unless_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for most in (gathering.MOST_WAITING, 1):
        monkeypatch.setattr(gathering, "MOST_WAITING", most)
        engine = Watched(long_s=0.2)
        with Face(engine) as face, ThreadPoolExecutor(8) as threads:
            one(face, "alone")
            (loop,) = engine.ways
            list(threads.map(partial(one, face), map(str, range(8))))
        assert len(engine.ways) == 9
        assert (set(engine.ways) == {loop}) == (most > 1)


def test_what_cannot_be_taken_in_at_once_is_taken_in_later() -> None:
    engine = Watched()
    engine.takes_at_once = False
    with Face(engine) as face:
        one(face, "m1")
    assert len(engine.ingested) == len(engine.ways) == 1


def test_what_fails_at_once_is_told_as_ever_and_not_tried_again() -> None:
    engine = Watched()
    engine.failure = RuntimeError("broken")
    with Face(engine) as face:
        problem(face.post("/v1/track", {"messageId": "m1"}), 500)
    assert len(engine.ways) == 1
