"""The service under `bentoml serve`, as a process of its own with workers of its own."""

from __future__ import annotations

import gc
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from processes import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers over an engine that decides nothing, with keys."""
    keys = {"ONESTORY_SERVER_KEYS": "sk", "ONESTORY_WRITE_KEYS": "wk"}
    with serving(tmp_path_factory.mktemp("served"), 2, "served_fake:Fake", keys) as running:
        yield running


def test_a_bentoml_client_sends_the_flat_body_as_one_dictionary(server: Server) -> None:
    with warnings.catch_warnings(action="ignore"):
        ask_as_bentoml_does(server.url)
        gc.collect()  # the client leaves a folder behind, and warns when that goes


def ask_as_bentoml_does(url: str) -> None:
    import bentoml

    with bentoml.SyncHTTPClient(url, token="sk") as client:
        ask = {"channel": "web", "placement": "home"}
        assert client.decide({"customer_id": "1", **ask})["customer_id"] == "1"
        batch = client.decide_batch({"customers": [{"customer_id": "1"}, {}], **ask})["decisions"]
        assert batch[0]["decision_id"] == "d1"
        assert batch[1]["error"]["status"] == 400
        response = {"decision_id": "d1", "offer_id": "o1", "kind": "shown", "response_id": "r1"}
        assert client.respond(response) == {"recorded": True, "duplicate": False}


def test_metrics_of_any_worker_count_all_of_them(server: Server) -> None:
    def decisions() -> float:
        text = httpx.get(f"{server.url}/metrics", auth=("sk", "")).text
        found = re.search(r'onestory_decisions_total\{channel="email",fallback=""\} (\S+)', text)
        return float(found[1]) if found else 0.0

    body = {"customer_id": "1", "channel": "email", "placement": "newsletter"}
    for _ in range(20):  # a connection each, so that both workers get some
        assert httpx.post(f"{server.url}/decide", json=body, auth=("sk", "")).status_code == 200
    assert [decisions() for _ in range(6)] == [20.0] * 6


def test_it_listens_on_this_machine_only_and_says_nothing_of_keys(server: Server) -> None:
    httpx.get(f"{server.url}/metrics", auth=("hush-wrong", ""))
    text = server.log.read_text()
    assert "http://127.0.0.1:" in text
    assert "hush-wrong" not in text
    assert not re.search(r"\b(sk|wk)\b", text)


def test_an_empty_workspace_answers_with_a_fallback_and_not_with_an_error(tmp_path: Path) -> None:
    with serving(tmp_path / "empty") as running:
        body = {"customer_id": "nobody", "channel": "web", "placement": "home"}
        answer = httpx.post(f"{running.url}/decide", json=body)
        assert answer.status_code == 200
        assert answer.json()["fallback"] is not None
