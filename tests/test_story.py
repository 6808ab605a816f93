"""The promise of the README on real data and a real server: what just happened is known to the next decision."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path

import httpx
import journey
import psutil
import pytest
from processes import Server, serving

from features.workspace import PROJECT

pytestmark = pytest.mark.xdist_group("journey")
_number = count()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the small journey; copy it to change it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return journey.make(tmp_path_factory.mktemp("journey") / "home").home


@pytest.fixture(scope="module")
def server(made: Path) -> Iterator[Server]:
    with serving(made, workers=2) as running:
        alive(running.url)
        yield running


def alive(url: str) -> None:
    """The demo's feeds say that they are connected."""
    batch = [{"type": "track", "event": "Feed Alive", "properties": {"signal": name}} for name in ("stock", "profile")]
    for each in batch:
        each["messageId"] = f"alive-{next(_number)}-{time.time()}"
        each["userId"] = "feeds"
    assert httpx.post(f"{url}/v1/batch", json={"batch": batch}).json()["rejected"] == []


def decide(url: str, **more) -> dict:
    body = {"customer_id": journey.HOUSEHOLD, "channel": "web", "placement": "home", "explain": True} | more
    answer = httpx.post(f"{url}/decide", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def track(url: str, event: str, **properties) -> str:
    message_id = f"story-{next(_number)}-{time.time()}"
    body = {"userId": journey.HOUSEHOLD, "event": event, "messageId": message_id, "properties": properties}
    answer = httpx.post(f"{url}/v1/track", json=body)
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    return message_id


def held(decision: dict, product_id: str) -> dict[str, dict]:
    """What holds this product back, by reason code."""
    found = decision["suppressed"] + decision["passed_over"]
    return {
        r["code"]: r for each in found for r in each["reasons"] if product_id in (r["product_ids"] or [r["product_id"]])
    }


def shown(decision: dict) -> list[str]:
    return [offer["product_id"] for offer in decision["offers"]]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_two_workers_answer(server: Server) -> None:
    assert len({decide(server.url)["decision_id"].split("-")[1] for _ in range(40)}) == 2


def test_what_was_bought_is_offered_no_more_by_any_worker(server: Server) -> None:
    product = decide(server.url)["offers"][0]["product_id"]
    before = time.time()
    message_id = track(server.url, "Order Completed", order_id="s1", products=[{"product_id": product, "quantity": 1}])
    for _ in range(20):  # a connection each: the event went to one worker, these go to both
        decision = decide(server.url, limit=20)
        assert product not in shown(decision)
        reasons = held(decision, product)
        code = next(c for c in ("recently_purchased", "too_soon_to_replenish") if c in reasons)
        assert reasons[code]["evidence"] == message_id
        days = float(reasons[code]["limit"].split()[0])
        assert seconds(reasons[code]["retry_after"]) == pytest.approx(
            before + days * 86_400, abs=5 + 0.01 * days * 86_400
        )


def test_what_was_returned_is_offered_no_more(server: Server) -> None:
    product = decide(server.url)["offers"][0]["product_id"]
    track(server.url, "Order Completed", order_id="s2", products=[{"product_id": product, "quantity": 1}])
    message_id = track(server.url, "Order Refunded", order_id="s2")
    decision = decide(server.url, limit=20)
    assert product not in shown(decision)
    found = [r for each in decision["suppressed"] + decision["passed_over"] for r in each["reasons"]]
    returned = [r for r in found if (r["code"], r["rule"]) == ("recently_returned", "same_product")]
    mine = next(r for r in returned if product in (r["product_ids"] or [r["product_id"]]))
    assert mine["evidence"] == message_id
    assert mine["limit"] == "90 days"


def test_what_is_sold_out_goes_and_comes_back_with_the_stock(server: Server) -> None:
    product = decide(server.url)["offers"][0]["product_id"]
    stock = {"product_id": product, "location_id": "online"}
    message_id = track(server.url, "Stock Updated", **stock, quantity=0)
    decision = decide(server.url, limit=20)
    assert product not in shown(decision)
    assert held(decision, product)["out_of_stock"]["evidence"] == message_id
    track(server.url, "Stock Updated", **stock, quantity=7)
    assert decide(server.url)["offers"][0]["product_id"] == product


def test_of_a_batch_without_times_the_last_word_counts(server: Server) -> None:
    product = decide(server.url)["offers"][0]["product_id"]
    stock = {"product_id": product, "location_id": "online"}
    for last in (0, 5, 0, 7):
        levels = [{"type": "track", "event": "Stock Updated", "properties": stock | {"quantity": q}} for q in (3, last)]
        assert httpx.post(f"{server.url}/v1/batch", json={"batch": levels}).json()["rejected"] == []
        assert (product in shown(decide(server.url, limit=20))) is (last > 0)
        time.sleep(0.01)


def test_outbound_channels_need_a_consent(server: Server) -> None:
    decision = decide(server.url, channel="email", placement="newsletter")
    assert decision["offers"] == []
    assert all("no_consent" in {r["code"] for r in each["reasons"]} for each in decision["suppressed"])


def test_a_batch_answers_as_single_questions_do(server: Server) -> None:
    body = {
        "customers": [{"customer_id": journey.HOUSEHOLD}, {"customer_id": ""}],
        "channel": "web",
        "placement": "home",
    }
    first, second = httpx.post(f"{server.url}/decide_batch", json=body).json()["decisions"]
    assert [o["offer_id"] for o in first["offers"]] == [o["offer_id"] for o in decide(server.url)["offers"]]
    assert second["error"]["status"] == 400


def test_the_same_request_id_gives_the_same_decision_and_other_content_is_refused(server: Server) -> None:
    first = decide(server.url, request_id="r1")
    assert decide(server.url, request_id="r1") == first
    other = {"customer_id": journey.HOUSEHOLD, "channel": "app", "placement": "home", "request_id": "r1"}
    answer = httpx.post(f"{server.url}/decide", json=other)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "request_id")


def test_a_response_counts_once_and_only_for_an_offer_of_its_decision(server: Server) -> None:
    decision = decide(server.url)
    body = {"decision_id": decision["decision_id"], "offer_id": decision["offers"][0]["offer_id"], "kind": "clicked"}
    answers = [httpx.post(f"{server.url}/respond", json=body | {"response_id": "c1"}).json() for _ in range(2)]
    assert answers == [{"recorded": True, "duplicate": False}, {"recorded": True, "duplicate": True}]
    wrong = httpx.post(f"{server.url}/respond", json=body | {"offer_id": "no-such", "response_id": "c2"})
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (400, "offer_id")
    nowhere = httpx.post(f"{server.url}/respond", json=body | {"decision_id": "no-such", "response_id": "c3"})
    assert nowhere.status_code == 404


def test_the_whole_record_of_a_decision_is_found_by_any_worker(server: Server) -> None:
    decision_id = decide(server.url, explain=False)["decision_id"]
    for _ in range(8):
        record = httpx.get(f"{server.url}/decisions/{decision_id}").json()
        assert record["answer"]["decision_id"] == decision_id
        assert record["answer"]["suppressed"]


def test_the_readme_is_true_when_pasted(server: Server, tmp_path: Path) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8").split("## For data scientists")[0]
    script = "set -e\n" + "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    script = script.replace("http://127.0.0.1:3000", server.url).replace("readme-1", f"readme-{tmp_path.name}")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for code in ("recently_returned", "is offered again", "open_return", "'reason': 'too big'"):
        assert code in done.stdout
    assert "out_of_stock" in done.stdout or "reserve_in_store" in done.stdout
    assert "recently_purchased" in done.stdout or "too_soon_to_replenish" in done.stdout


def test_workers_end_when_their_server_is_killed_and_free_its_port(made: Path, tmp_path: Path) -> None:
    home = shutil.copytree(made, tmp_path / "home", ignore=shutil.ignore_patterns("served.log"))
    with serving(home) as running:
        workers = running.workers()
        assert workers
        os.kill(running.pid, signal.SIGKILL)
        gone, alive_still = psutil.wait_procs(workers, timeout=10)
        assert (len(gone), alive_still) == (len(workers), [])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", int(running.url.rsplit(":", 1)[1])))


def test_what_was_acknowledged_survives_kill_9(made: Path, tmp_path: Path) -> None:
    home = shutil.copytree(made, tmp_path / "home", ignore=shutil.ignore_patterns("served.log"))
    with serving(home, workers=2) as running:
        alive(running.url)
        before = decide(running.url)
        product = before["offers"][0]["product_id"]
        lines = [{"product_id": product, "quantity": 1}]
        message_id = track(running.url, "Order Completed", order_id="k1", products=lines)
        running.kill()
    with serving(home, workers=2) as again:
        decision = decide(again.url, limit=20)
        assert product not in shown(decision)
        assert message_id in {reason["evidence"] for reason in held(decision, product).values()}
        record = httpx.get(f"{again.url}/decisions/{before['decision_id']}").json()
        assert record["answer"]["offers"] == before["offers"]
