"""kill -9 under load: what was acknowledged is there, once, and both stores agree. `make prove` kills 20 times."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from processes import Server, serving

from features import build, database
from features.parity import parity
from features.workspace import open_workspace

CUSTOMERS = 20


class Writer:
    """Sends orders in batches, or page views one by one, until it is stopped; remembers what was acknowledged."""

    def __init__(self, server: Server, name: str, acknowledged: set[str], at_once: int):
        self._url, self._name, self._acknowledged = server.url, name, acknowledged
        self._at_once = at_once
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=5) as client:
            while not self._stopped.is_set():
                batch = [self._message(number + offset) for offset in range(self._at_once)]
                path, body = ("/v1/track", batch[0]) if self._at_once == 1 else ("/v1/batch", {"batch": batch})
                try:
                    answer = client.post(path, json=body)
                except httpx.HTTPError:
                    continue  # killed: the same batch again, to whoever answers
                if answer.status_code == 200:
                    self._acknowledged |= {message["messageId"] for message in batch}
                    number += self._at_once

    def _message(self, number: int) -> dict:
        message_id = f"{self._name}-{number}"
        if self._at_once == 1:
            seen = {"event": "Product Viewed", "properties": {"product_id": f"p{number % 7}"}}
            return {"type": "track", "userId": f"c{number % CUSTOMERS}", "messageId": message_id, **seen}
        products = [{"product_id": f"p{number % 7}", "quantity": 1, "price": 2.5}]
        return {
            "type": "track",
            "event": "Order Completed",
            "userId": f"c{number % CUSTOMERS}",
            "messageId": message_id,
            "properties": {"order_id": message_id, "products": products},
        }


def kill_under_load(home: Path, times: int) -> None:
    acknowledged: set[str] = set()
    workspace = open_workspace(home)
    build.build(workspace)
    for number in range(times):
        with serving(home, workers=2) as server:
            sizes = enumerate((10, 10, 1, 1))
            writers = [Writer(server, f"w{number}-{each}", acknowledged, size) for each, size in sizes]
            time.sleep(1.0 + 0.1 * (number % 5))
            server.kill()
            for writer in writers:
                writer.stop()
    with serving(home):  # the start brings the online store level
        pass
    engine = database.connect(workspace)
    with database.reading(engine) as connection:
        stored = connection.scalars(sa.select(database.events.c.message_id)).all()
    assert len(acknowledged) > 20 * times
    assert acknowledged - set(stored) == set()
    assert len(stored) == len(set(stored))
    assert parity(workspace) == []
    engine.dispose()


def test_two_kills_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    kill_under_load(tmp_path / "home", 2)


@pytest.mark.prove
def test_proof_kills(tmp_path: Path) -> None:
    kill_under_load(tmp_path / "home", 20)
