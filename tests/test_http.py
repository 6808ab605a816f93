"""What a caller of the service sees: answers, errors, keys and CORS, with an engine that decides nothing."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import httpx
import orjson
import pytest
import sqlalchemy.exc
from fakes import Face

from features.profile_now import StoreDown
from serving.problems import Problem, not_now

ASK = {"customer_id": "1042", "channel": "web", "placement": "home"}
RESPONSE = {"decision_id": "d1", "offer_id": "o1", "kind": "clicked", "response_id": "r1"}
BATCH = {"customers": [{"customer_id": "1"}], "channel": "email", "placement": "newsletter"}


@pytest.fixture
def face() -> Iterator[Face]:
    with Face() as face:
        yield face


@pytest.fixture
def locked() -> Iterator[Face]:
    """A service with a key of each kind."""
    with Face(write_keys=("wk",), server_keys=("sk",)) as face:
        yield face


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an error answer, which must be one by RFC 9457."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert list(body)[:5] == ["type", "title", "status", "detail", "errors"]
    for_clients = {"code": body["type"].rpartition(":")[2], "message": body["detail"]}
    assert {name: body[name] for name in list(body)[5:]} in ({}, for_clients)
    assert body["status"] == status
    return body


def errors(answer: httpx.Response) -> dict[str, str]:
    return {error["field"]: error["problem"] for error in problem(answer, 400)["errors"]}


# ------------------------------------------------------------------------------------------- answers


def test_decide_answers_what_the_engine_wrote(face: Face) -> None:
    answer = face.post("/decide", ASK)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["customer_id"] == "1042"
    (asked,) = face.engine.asked
    assert (asked.limit, asked.cart, asked.explain, asked.anonymous_id) == (3, [], False, None)


def test_decide_takes_the_body_of_the_contract_with_its_nulls(face: Face) -> None:
    absent = dict.fromkeys(("anonymous_id", "location_id", "product_id", "continue_from", "request_id"))
    answer = face.post("/decide", {**ASK, **absent, "limit": 3, "cart": ["p1"], "preview": False, "explain": True})
    assert answer.status_code == 200


def test_decide_with_a_request_id_answers_the_same_way(face: Face) -> None:
    assert face.post("/decide", ASK | {"request_id": "q1"}).json()["decision_id"] == "d1"


def test_decide_batch_refuses_a_bad_customer_and_answers_the_others(face: Face) -> None:
    customers = [{"customer_id": "1"}, {"customer_id": "2", "cart": [3]}, "4", {"limit": 2}, {}]
    decisions = face.post("/decide_batch", BATCH | {"customers": customers}).json()["decisions"]
    assert [one["customer_id"] for one in decisions] == ["1", "2", None, None, None]
    assert [one.get("error", {}).get("detail") for one in decisions] == [
        None,
        "customers[1].cart[0]: got `3`; expected a product id: "
        "a text of 1 to 255 characters, not all blank, no control ones",
        "customers[2]: got `4`; expected an object with a customer_id or an anonymous_id",
        "customers[3].limit: belongs to the whole batch; say `limit` beside `customers`",
        "customers[4].customer_id: is missing; expected `customer_id` or `anonymous_id`",
    ]


def test_decide_batch_takes_a_thousand_customers_and_no_more(face: Face) -> None:
    assert (
        len(face.post("/decide_batch", BATCH | {"customers": [{"customer_id": "1"}] * 1000}).json()["decisions"])
        == 1000
    )
    answer = face.post("/decide_batch", BATCH | {"customers": [{}] * 1001})
    assert errors(answer)["customers"].startswith("got 1001 entries; expected a list of at most 1000")


def test_respond_records(face: Face) -> None:
    assert face.post("/respond", RESPONSE).json() == {"recorded": True, "duplicate": False}
    assert face.post("/respond", RESPONSE | {"occurred_at": "2026-11-20T10:00:00.5Z"}).status_code == 200
    assert face.engine.asked[-1].occurred_at_s == 1795168800.5


def test_a_logged_decision_can_be_read(face: Face) -> None:
    assert face.get("/decisions/d1").json()["decision_id"] == "d1"
    assert "`d2`" in problem(face.get("/decisions/d2"), 404)["detail"]


def test_a_customer_is_exported_and_erased(face: Face) -> None:
    answer = face.get("/customers/1042/export")
    assert (answer.headers["content-type"], answer.json()) == ("application/json", {"customer_id": "1042"})
    assert face.request("DELETE", "/customers/1042").json() == {"customer_id": "1042", "erased": "now"}


def test_a_story_is_told_for_the_channel_in_the_query(face: Face) -> None:
    told = {"customer_id": "1042", "channel": "call_centre", "location_id": None}
    assert face.get("/customers/1042").json() == told
    in_store = face.get("/customers/1042?channel=store&location_id=12")
    assert in_store.json() == told | {"channel": "store", "location_id": "12"}


@pytest.mark.parametrize(
    ("query", "field", "sentence"),
    [
        ("channel=web", "channel", "is `web`; expected one of call_centre, store"),
        ("chanel=store", "chanel", "is no known parameter; did you mean `channel`?"),
        ("location_id=", "location_id", "is ``; expected 1 to 255 characters"),
    ],
)
def test_a_storys_query_that_is_wrong_is_told_by_name(face: Face, query: str, field: str, sentence: str) -> None:
    assert errors(face.get(f"/customers/1042?{query}")) == {field: sentence}


@pytest.mark.parametrize(
    "customer_id",
    ["7", "anonymous:a-7", "a/b", "caf%C3%A9", "%E5%B1%B1%E3%80%80%E7%94%B0", "%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80"],
)
def test_a_customer_nobody_knows_is_a_404_by_any_id(face: Face, customer_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/export"), ("DELETE", "")):
        answer = face.request(method, f"/customers/{customer_id}{path}")
        assert unquote(customer_id) in problem(answer, 404)["detail"]


@pytest.mark.parametrize("customer_id", ["x" * 256, "a%00b", "%20%20", "%ff", "a%C3"])
def test_a_customer_id_that_is_none_is_refused(face: Face, customer_id: str) -> None:
    assert (
        "expected a text of 1 to 255 characters" in errors(face.get(f"/customers/{customer_id}/export"))["customer_id"]
    )


def test_a_customer_is_for_server_keys_only(locked: Face) -> None:
    for method, path in (("GET", ""), ("GET", "/export"), ("DELETE", "")):
        path = f"/customers/1042{path}"
        assert locked.request(method, path, key="sk").status_code == 200
        for key in ("wk", None):
            problem(locked.request(method, path, key=key), 401)


def test_a_prepared_decision_can_be_confirmed_with_no_body_or_an_empty_one(face: Face) -> None:
    for body in (b"", b"{}"):
        answer = face.post("/decisions/d1/confirm", body)
        assert (answer.status_code, answer.json()) == (200, {"valid": True})
    assert problem(face.post("/decisions/d2/confirm", b""), 404)
    assert problem(face.post("/decisions/d1/confirm", {"offer_id": "x"}), 400)["errors"][0]["field"] == "offer_id"


def test_readyz_tells_whether_the_engine_can_answer(face: Face) -> None:
    assert face.get("/readyz").status_code == 200
    face.engine.is_ready = False
    answer = face.get("/readyz")
    assert problem(answer, 503)["title"] == "Not now"
    assert answer.headers["retry-after"] == "1"
    assert [face.get(path).status_code for path in ("/healthz", "/livez")] == [200, 200]


def test_metrics_count_decisions_reasons_and_messages(face: Face) -> None:
    face.post("/decide", ASK)
    face.post("/v1/track", {"messageId": "metrics", "event": "Bad"})
    text = face.get("/metrics").text
    for line in (
        'onestory_decisions_total{channel="web",fallback=""}',
        'onestory_suppressed_total{reason="no_consent"}',
        'onestory_events_total{outcome="rejected"}',
        'onestory_answer_seconds_count{call="decide"}',
    ):
        assert line in text


def test_docs_describe_every_route_that_answers(face: Face) -> None:
    docs = face.get("/docs.json").json()
    assert docs["openapi"] == "3.1.0"
    for path, item in docs["paths"].items():
        for method in item:
            address = path.replace("{decision_id}", "d1").replace("{customer_id}", "1042")
            answer = face.request(method.upper(), address, content=b"{}")
            assert answer.status_code not in (404, 405), path
    references = {part.split('"')[0] for part in orjson.dumps(docs).decode().split('"#/components/schemas/')[1:]}
    assert references <= set(docs["components"]["schemas"])
    assert docs["paths"]["/decide_batch"]["post"]["security"] == [{"serverKey": []}]


# -------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"chanel": "web"}, "chanel", "is no known field; did you mean `channel`?"),
        ({"customer_id": None}, "customer_id", "is missing; expected `customer_id` or `anonymous_id`"),
        (
            {"customer_id": 7},
            "customer_id",
            "got `7`; expected a text of 1 to 255 characters, not all blank, no control ones",
        ),
        (
            {"customer_id": ""},
            "customer_id",
            "got ``; expected a text of 1 to 255 characters, not all blank, no control ones",
        ),
        (
            {"customer_id": " \u3000"},
            "customer_id",
            "got ` \u3000`; expected a text of 1 to 255 characters, not all blank, no control ones",
        ),
        (
            {"customer_id": "x" * 10_000},
            "customer_id",
            f"got `{'x' * 40}…` of 10000 characters; "
            "expected a text of 1 to 255 characters, not all blank, no control ones",
        ),
        (
            {"customer_id": "a\x00b"},
            "customer_id",
            "got `a\x00b`; expected a text of 1 to 255 characters, not all blank, no control ones",
        ),
        ({"channel": "wbe"}, "channel", "got `wbe`; did you mean `web`?"),
        ({"channel": None}, "channel", "got `null`; expected one of web, app, email, sms, push, call_centre, store"),
        ({"placement": "hoem"}, "placement", "got `hoem`; did you mean `home`?"),
        ({"limit": 0}, "limit", "got `0`; expected a whole number from 1 to 20"),
        ({"limit": 21}, "limit", "got `21`; expected a whole number from 1 to 20"),
        ({"limit": "3"}, "limit", "got `3`; expected a whole number from 1 to 20"),
        ({"limit": True}, "limit", "got `true`; expected a whole number from 1 to 20"),
        ({"limit": 2.5}, "limit", "got `2.5`; expected a whole number from 1 to 20"),
        ({"cart": "p1"}, "cart", "got `p1`; expected a list of at most 500 product ids"),
        (
            {"cart": ["p1", {"a": 1}]},
            "cart[1]",
            "got `{…}`; expected a product id: a text of 1 to 255 characters, not all blank, no control ones",
        ),
        ({"preview": 1}, "preview", "got `1`; expected true or false"),
    ],
)
def test_decide_names_the_field_what_came_and_what_was_expected(
    face: Face, change: dict[str, Any], field: str, sentence: str
) -> None:
    assert errors(face.post("/decide", ASK | change)) == {field: sentence}


@pytest.mark.parametrize("missing", ["channel", "placement"])
def test_decide_names_what_is_missing(face: Face, missing: str) -> None:
    found = errors(face.post("/decide", {name: value for name, value in ASK.items() if name != missing}))
    assert found[missing].startswith("is missing; expected one of ")


def test_every_error_of_a_body_is_told_at_once(face: Face) -> None:
    answer = face.post("/decide", {"customer_id": 1, "channel": "x", "limit": 0})
    assert list(errors(answer)) == ["customer_id", "channel", "placement", "limit"]
    assert answer.json()["detail"].endswith("(and 3 more)")


@pytest.mark.parametrize("path", ["/decide", "/decide_batch", "/respond", "/v1/track", "/v1/batch"])
@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is no JSON: "),
        (b'{"customer_id": ', "is no JSON: "),
        (b"[1, 2]", "got `[…]`; expected a JSON object"),
        (b'"text"', "got `text`; expected a JSON object"),
        (b"\xff\xfe", "is no JSON: "),
        (b"[" * 60_000, "is no JSON: "),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(face: Face, path: str, raw: bytes, said: str) -> None:
    assert errors(face.post(path, raw))["body"].startswith(said)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_no_json_number_is_refused(face: Face, number: bytes) -> None:
    assert "limit" in errors(face.post("/decide", orjson.dumps(ASK)[:-1] + b',"limit":' + number + b"}"))


@pytest.mark.parametrize(
    "time", ["2026-11-20", "2026-11-20T10:00:00", "2026-13-20T10:00:00Z", "1", "yesterday", 1795168800]
)
def test_respond_takes_times_by_rfc_3339_only(face: Face, time: object) -> None:
    found = errors(face.post("/respond", RESPONSE | {"occurred_at": time}))
    assert found == {"occurred_at": f"got `{time}`; expected a time by RFC 3339 such as 2026-11-20T10:00:00Z"}


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("/decide", 65_537),
        ("/respond", 65_537),
        ("/v1/track", 65_537),
        ("/v1/batch", 524_289),
        ("/decide_batch", 5_242_881),
    ],
)
def test_a_body_that_is_too_large_is_refused_announced_or_not(face: Face, path: str, size: int) -> None:
    raw = b" " * size
    assert "send less at once" in problem(face.post(path, raw), 413)["detail"]

    async def unannounced() -> Any:
        yield raw[:1000]
        yield raw[1000:]

    problem(face.request("POST", path, content=unannounced()), 413)
    problem(face.post(path, gzip.compress(raw), headers={"Content-Encoding": "gzip"}), 413)
    assert face.engine.asked == []


CONFIRM = "/decisions/20261122-744dde77-c3774f-7582e7cf/confirm"


def test_unknown_paths_and_methods_are_told_in_the_same_shape(face: Face) -> None:
    assert "`/nothing`" in problem(face.get("/nothing"), 404)["detail"]
    for method, path, allowed in (("GET", "/decide", "POST"), ("PUT", "/v1/track", "POST"), ("GET", CONFIRM, "POST")):
        answer = face.request(method, path)
        assert problem(answer, 405)["detail"] == f"`{path}` does not answer `{method}`; expected {allowed}"
        assert answer.headers["allow"] == allowed
    problem(face.post("/healthz"), 405)
    problem(face.post("/decide", b"x", headers={"Content-Type": "application/vnd.bentoml+pickle"}), 415)
    problem(face.post("/v1/track", b"x", headers={"Content-Encoding": "br"}), 415)


CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/decide", ASK),
    ("POST", "/decide", ASK | {"request_id": "q"}),
    ("POST", "/decide_batch", BATCH),
    ("POST", "/respond", RESPONSE),
    ("POST", "/v1/track", {"event": "x"}),
    ("POST", "/v1/batch", {"batch": [{"type": "track"}]}),
    ("GET", "/decisions/d1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_problem_raised_by_the_engine_is_the_answer(face: Face, method: str, path: str, body: Any) -> None:
    face.engine.failure = Problem(404, None, "no decision `d9`", [{"field": "decision_id", "problem": "is unknown"}])
    answer = problem(face.request(method, path, content=orjson.dumps(body)), 404)
    assert answer["errors"] == [{"field": "decision_id", "problem": "is unknown"}]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_a_busy_database_is_a_503_that_says_when_to_come_back(face: Face, method: str, path: str, body: Any) -> None:
    locked_out = sqlalchemy.exc.OperationalError("x", {}, Exception("database is locked"))
    for failure in (locked_out, StoreDown("the online store does not take `profile`"), not_now("starting")):
        face.engine.failure = failure
        answer = face.request(method, path, content=orjson.dumps(body))
        problem(answer, 503)
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_an_unforeseen_error_tells_nothing_but_is_logged(
    face: Face, caplog: pytest.LogCaptureFixture, method: str, path: str, body: Any
) -> None:
    face.engine.failure = RuntimeError("the secret is 42")
    answer = face.request(method, path, content=orjson.dumps(body))
    assert "42" not in answer.text
    assert problem(answer, 500)["detail"] == "something unexpected went wrong; the server's log says what"
    assert "the secret is 42" in caplog.text


# ---------------------------------------------------------------------------------------------- keys


def test_a_question_with_a_write_key_is_answered_discreetly(locked: Face) -> None:
    for key, discreet in (("wk", True), ("sk", False)):
        body = {"anonymous_id": "a1", "channel": "web", "placement": "home"}
        assert locked.request("POST", "/decide", key=key, content=orjson.dumps(body)).status_code == 200
        assert locked.engine.asked[-1].discreet is discreet


@pytest.mark.parametrize(
    ("method", "path", "body", "write_key_does"),
    [
        ("POST", "/v1/track", {"messageId": "k1", "event": "x"}, True),
        ("POST", "/v1/b", {"batch": []}, True),
        ("POST", "/respond", RESPONSE, True),
        ("POST", "/decide", {"anonymous_id": "a1", "channel": "web", "placement": "home"}, True),
        ("POST", "/decide", ASK, False),
        ("POST", "/decide", ASK | {"anonymous_id": "a1"}, False),
        ("POST", "/decide_batch", BATCH, False),
        ("GET", "/decisions/d1", None, False),
        ("GET", "/metrics", None, False),
        ("GET", "/docs.json", None, False),
        ("GET", "/schema.json", None, False),
        ("GET", "/customers/1", None, False),
    ],
)
def test_each_route_asks_for_its_key(locked: Face, method: str, path: str, body: Any, write_key_does: bool) -> None:
    def status(key: str | None) -> int:
        return locked.request(method, path, key=key, content=orjson.dumps(body)).status_code

    done = 404 if path == "/customers/1" else 200
    assert status("sk") == done
    assert status("wk") == (done if write_key_does else 401)
    assert (status(None), status("wrong")) == (401, 401)


@pytest.mark.parametrize("path", ["/", "/static_content/index.js"])
def test_bentomls_own_page_which_calls_third_parties_is_not_served(face: Face, path: str) -> None:
    assert problem(face.request("GET", path), 404)["title"] == "Not found"


def test_a_401_says_how_to_show_a_key(locked: Face) -> None:
    answer = locked.post("/decide", ASK)
    assert "expected a write key or a server key as user of Basic auth" in problem(answer, 401)["detail"]
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic c2s=:", "Digest sk", "sk", "Basic \xe9"])
def test_a_header_that_shows_no_key_is_a_401(locked: Face, header: str) -> None:
    expected = 200 if header == "Basic c2s=" else 401
    answer = locked.get("/metrics", headers={"Authorization": header.encode("latin-1")})
    assert answer.status_code == expected


def test_a_bearer_token_is_taken_as_bentoml_clients_send_it(locked: Face) -> None:
    assert locked.get("/metrics", headers={"Authorization": "Bearer sk"}).status_code == 200


def test_probes_need_no_key_from_anywhere() -> None:
    for settings in ({}, {"server_keys": ("sk",)}):
        with Face(host="203.0.113.9", **settings) as face:
            assert [face.get(path).status_code for path in ("/healthz", "/readyz", "/livez")] == [200, 200, 200]
            assert face.get("/widget.js").status_code == 200
            assert face.get("/shop").status_code == 303


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1", 200), ("127.8.8.8", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("203.0.113.9", 401), ("", 401)],
)
def test_without_keys_only_this_machine_is_answered(host: str, status: int) -> None:
    with Face(host=host) as face:
        answer = face.post("/decide", ASK)
        assert answer.status_code == status
        assert face.post("/v1/track", {"event": "x"}).status_code == status
        if status == 401:
            assert "ONESTORY_SERVER_KEYS" in problem(answer, 401)["detail"]


def test_a_browser_may_bring_its_write_key_in_the_message_which_is_then_forgotten(locked: Face) -> None:
    assert locked.post("/v1/t", {"event": "x", "writeKey": "wk", "messageId": "b1"}).status_code == 200
    body = {"writeKey": "wk", "batch": [{"type": "track", "messageId": "b2", "writeKey": "wk"}]}
    assert locked.post("/v1/batch", body).json()["stored"] == 1
    assert b"wk" not in orjson.dumps(locked.engine.ingested)
    problem(locked.post("/v1/t", {"event": "x", "writeKey": "no"}), 401)


# ---------------------------------------------------------------------------------------------- CORS


@pytest.mark.parametrize("path", ["/decide", "/respond", "/v1/track", "/v1/batch"])
def test_browsers_of_any_site_may_send_events_ask_and_respond(locked: Face, path: str) -> None:
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    allowed = locked.request("OPTIONS", path, headers=asked)
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == "*"
    assert {"authorization", "content-type", "x-retry-count"} <= set(
        allowed.headers["access-control-allow-headers"].split(", ")
    )
    assert allowed.headers["access-control-allow-methods"] == "POST"
    for key in (None, "wk"):
        answer = locked.post(path, {"nonsense": 1}, key=key, headers={"Origin": "https://shop.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-expose-headers"] == "retry-after"


@pytest.mark.parametrize("path", ["/decide_batch", "/decisions/d1", "/metrics", "/docs.json", "/readyz"])
def test_nothing_else_is_shown_to_other_sites(face: Face, path: str) -> None:
    for method in ("OPTIONS", "GET", "POST"):
        answer = face.request(method, path, content=b"{}", headers={"Origin": "https://shop.example"})
        assert not any(name.startswith("access-control") for name in answer.headers)
