"""Erasure by the real service: beside deciding workers, and through `kill -9`."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
from processes import serving
from test_erasure import DEVICE, HER, MARKS, files_with, her_story, others_story

from features.parity import parity
from features.workspace import Workspace
from serving.replay import replay

ASK = {"customer_id": HER, "channel": "web", "placement": "home"}
SAID = MARKS[2:]
"""What only her messages held; her ids come again with whoever asks for them."""


def tell(url: str, messages: list[dict]) -> None:
    assert httpx.post(f"{url}/v1/batch", json={"batch": messages}, timeout=60).json()["rejected"] == []


def consistent(workspace: Workspace) -> None:
    assert parity(workspace) == []
    assert [each.problem for each in replay(workspace) if each.problem] == []


def test_what_two_workers_decide_meanwhile_leaves_nothing_behind(workspace: Workspace) -> None:
    home = workspace.home
    with serving(home, workers=2) as server:
        tell(server.url, others_story() + her_story())
        stop, failures, answered = threading.Event(), list[str](), list[str]()

        def decide() -> None:
            while not stop.is_set():  # a connection each: they go to both workers
                answer = httpx.post(f"{server.url}/decide", json=ASK, timeout=60)
                answered.append(answer.json().get("decision_id", ""))
                if answer.status_code != 200:
                    failures.append(answer.text)

        askers = [threading.Thread(target=decide) for _ in range(3)]
        for asker in askers:
            asker.start()
        time.sleep(0.5)
        receipt = httpx.delete(f"{server.url}/customers/{HER}", timeout=60).json()
        time.sleep(0.2)
        stop.set()
        for asker in askers:
            asker.join()
        assert failures == []
        assert (receipt["erased"], receipt["counts"]["events"]) == ("now", 5)
        assert 0 < receipt["counts"]["decisions"] < len(answered)
        assert {word: files_with(home, word) for word in SAID} == {word: [] for word in SAID}
        assert httpx.get(f"{server.url}/decisions/{answered[0]}").json()["erased"] is True
        fresh = httpx.post(f"{server.url}/decide", json=ASK).json()
        assert fresh["fallback"] == "unknown_customer"
        assert httpx.delete(f"{server.url}/customers/{HER}", timeout=60).json()["overwritten"] is True
        assert {word: files_with(home, word) for word in MARKS} == {word: [] for word in MARKS}
        assert httpx.get(f"{server.url}/customers/anonymous:{DEVICE}/export").status_code == 404
    consistent(workspace)


def test_an_erasure_survives_kill_9(workspace: Workspace) -> None:
    _killed(workspace, delays_s=(0.02,))


@pytest.mark.prove
def test_an_erasure_survives_kill_9_many_times(workspace: Workspace) -> None:
    _killed(workspace, delays_s=tuple(number * 0.008 for number in range(12)))


def _killed(workspace: Workspace, delays_s: tuple[float, ...]) -> None:
    """Her story comes, is to be erased, and the server is killed so long after the question."""
    home = workspace.home
    for number, delay_s in enumerate(delays_s):
        with serving(home, workers=2) as server:
            tell(server.url, others_story())
            tell(server.url, [{**message, "messageId": f"{number}-{message['messageId']}"} for message in her_story()])
            for _ in range(10):
                httpx.post(f"{server.url}/decide", json=ASK, timeout=60)
            asked = threading.Thread(target=_ask, args=(server.url,))
            asked.start()
            time.sleep(delay_s)
            server.kill()
            asked.join()
        with serving(home, workers=2) as server:
            receipt = httpx.delete(f"{server.url}/customers/{HER}", timeout=60).json()
            assert receipt["erased"] in ("now", "already")
            assert {word: files_with(home, word) for word in MARKS} == {word: [] for word in MARKS}
    consistent(workspace)


def _ask(url: str) -> None:
    try:
        httpx.delete(f"{url}/customers/{HER}", timeout=60)
    except httpx.HTTPError:
        pass  # killed before it answered
