"""The four real clients against a real service: what people have already works by changing its host."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import sqlalchemy as sa
from client_programs import browser, program, run_node, run_python, site
from processes import Server, serving

from features import database, profiles
from features.events import EventLog
from features.vocabulary import Event
from features.workspace import Workspace
from serving.http_events import A_REQUEST, MOST_WAITING

LONGEST_LOCK_S = 3.0  # of serving.service, which opens a workspace when it is imported

WITHIN_S = 120.0
IN_THE_PAGE = "cdnSettings"
FROM_THE_SERVICE = "cdnURL"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients") / "home"


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    """One worker, with keys."""
    with serving(home, environment={"ONESTORY_WRITE_KEYS": "wk", "ONESTORY_SERVER_KEYS": "sk"}) as running:
        yield running
    database.connect(Workspace(home)).dispose()


@pytest.fixture
def log(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Event]]:
    """What the service knows of a customer, in the order in which it happened."""
    engine = database.connect(Workspace(home))

    def of(customer_id: str) -> list[Event]:
        with database.reading(engine) as connection:
            return EventLog().of_customer(connection, customer_id)

    return of


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


class Visit:
    """A look at a page in the browser: what it asked for, whom, and what was wrong."""

    def __init__(self, tab: Any):
        self.asked: list[Any] = []
        self.answered: list[Any] = []
        self.errors: list[str] = []
        tab.on("request", lambda request: self.asked.append(request))  # Playwright marks what it is given
        tab.on("response", lambda response: self.answered.append(response))
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    @property
    def hosts(self) -> set[str | None]:
        return {urlsplit(request.url).hostname for request in self.asked}

    def posts(self) -> list[tuple[str, int]]:
        """Path and status of what was posted."""
        return [(urlsplit(one.url).path, one.status) for one in self.answered if one.request.method == "POST"]


def visit(html: str, done: Callable[[Visit], bool], what: str) -> Visit:
    """Open `html` in Chromium and stay until `done`."""
    with browser() as chromium, site(html) as url:
        tab = chromium.new_context().new_page()
        seen = Visit(tab)
        tab.goto(url)
        end = time.monotonic() + WITHIN_S
        while not done(seen):
            assert time.monotonic() < end, f"after {WITHIN_S:.0f} s: not yet {what}; {seen.errors} {seen.posts()}"
            tab.wait_for_timeout(50)
        tab.wait_for_timeout(100)  # the answer is on its way to the page
        return seen


# ---------------------------------------------------------------------------------------- one story


def test_four_clients_tell_one_story(home: Path, server: Server, log: Callable[[str], list[Event]]) -> None:
    seen = visit(
        program("html", FROM_THE_SERVICE, server.url),
        lambda _: len(log("1042")) == 4,
        "four messages",
    )
    assert seen.hosts == {"127.0.0.1"}
    assert seen.errors == []
    assert sorted(seen.posts()) == [("/v1/i", 200), ("/v1/p", 200), ("/v1/t", 200), ("/v1/t", 200)]
    run_node(server.url)
    run_python("rudderstack", server.url)
    run_python("segment", server.url)

    events = log("1042")
    events[5:7] = sorted(events[5:7], key=lambda event: event.name)  # sent within one millisecond
    assert [(event.name, event.channel, event.location_id) for event in events] == [
        ("$page", "web", None),
        ("Product Viewed", "web", None),
        ("Product Added", "web", None),
        ("$identify", "web", None),
        ("Order Completed", "web", None),
        ("$identify", None, None),
        ("Order Completed", "store", "berlin-mitte"),
        ("Return Requested", "call_centre", None),
    ]
    device = events[0].anonymous_id
    assert device is not None
    assert [event.anonymous_id for event in events] == [device] * 4 + [None] * 4
    assert events[2].body["cart_id"] == "cart-1"
    assert {"email", "plan"} & set(events[3].body["traits"]) == {"plan"}
    assert "jo@example.com" not in str(events)
    assert events[5].body == {"traits": {"loyalty_tier": "silver"}}
    assert all(abs(event.occurred_at - event.known_at) < WITHIN_S for event in events)

    state, items = stored(home, "1042")
    assert (state, items) == profiles.pack(profiles.fold_all(events))
    features = profiles.derive(profiles.unpack(state, items), events[-1].occurred_at)
    expected = {"orders": 2, "spend_30d": 899 + 4 * 149, "units_30d": 5, "open_returns": 1, "distinct_products": 2}
    assert {name: features[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert features["share_web"] == pytest.approx(features["share_store"], rel=1e-4)


def stored(home: Path, customer_id: str) -> tuple[bytes, bytes]:
    table = database.profiles
    with database.reading(database.connect(Workspace(home))) as connection:
        row = connection.execute(sa.select(table).where(table.c.customer_id == customer_id)).one()
    assert row.online_seq == row.seq
    return row.state, row.items


def test_the_browser_client_joins_its_device_by_an_alias_in_a_batch(
    server: Server, log: Callable[[str], list[Event]]
) -> None:
    seen = visit(
        program("html", IN_THE_PAGE, server.url, customer="2042"), lambda _: len(log("2042")) == 2, "a batch of two"
    )
    assert names(log("2042")) == ["Products Searched", "$alias"]
    assert (seen.hosts, seen.errors, seen.posts()) == ({"127.0.0.1"}, [], [("/v1/b", 200)])


# ----------------------------------------------------------------------------------------- overload


def test_clients_try_again_while_the_queue_is_full_and_the_database_locked(
    home: Path, server: Server, log: Callable[[str], list[Event]]
) -> None:
    """429 while there is no room in the queue, 503 for who has waited for the lock in vain; nothing gets lost."""
    unlock = threading.Event()
    with ThreadPoolExecutor(12) as threads, locked(home / "onestory.db", unlock):
        fillers = [threads.submit(insist, server.url, batch) for batch in filler(MOST_WAITING - A_REQUEST)]
        clients = [
            threads.submit(run_node, server.url, customer="3042"),
            threads.submit(run_python, "segment", server.url, customer="4042"),
            threads.submit(run_python, "rudderstack", server.url, customer="5042"),
        ]

        def done(seen: Visit) -> bool:
            if 429 in dict(seen.posts()).values() and time.monotonic() - started > LONGEST_LOCK_S + 1:
                unlock.set()
            return len(log("6042")) == 4

        started = time.monotonic()
        html = program("html", FROM_THE_SERVICE, server.url, customer="6042")
        seen = visit(html, done, "delivered")
        for client in clients:
            client.result()
        statuses = set().union(*(each.result() for each in fillers))
    assert {200, 503} <= statuses <= {200, 429, 503}
    assert {status for _, status in seen.posts()} >= {200, 429}
    assert any("x-retry-count" in answer.request.headers for answer in seen.answered if answer.status == 200)
    metrics = httpx.get(f"{server.url}/metrics", auth=("sk", "")).text
    assert 'onestory_events_total{outcome="postponed"}' in metrics

    assert names(log("3042")) == ["Order Completed"]
    assert names(log("4042")) == ["Return Requested"]
    assert sorted(names(log("5042"))) == ["$identify", "Order Completed"]
    assert sorted(names(log("6042"))) == ["$identify", "$page", "Product Added", "Product Viewed"]
    assert len(log("filler")) == sum(len(batch) for batch in filler(MOST_WAITING - A_REQUEST))


@contextmanager
def locked(path: Path, unlock: threading.Event) -> Iterator[None]:
    """Hold SQLite's write lock until told, from a thread of its own."""
    held = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            held.set()
            unlock.wait(WITHIN_S)
            lock.execute("ROLLBACK")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        unlock.set()
        thread.join()


def filler(weight: int) -> list[list[dict[str, Any]]]:
    """Batches that fill the queue up to that weight."""
    sizes = [490] * (weight // 500) + [weight % 500 - A_REQUEST]
    return [
        [{"type": "track", "event": "X", "userId": "filler", "messageId": f"{batch}-{n}"} for n in range(size)]
        for batch, size in enumerate(sizes)
        if size > 0
    ]


def insist(url: str, batch: list[dict[str, Any]]) -> set[int]:
    """Send a batch again at once until it is taken; every status that was answered."""
    statuses: set[int] = set()
    with httpx.Client(base_url=url, auth=("wk", ""), timeout=30) as http:
        while 200 not in statuses:
            answer = http.post("/v1/batch", json={"batch": batch})
            statuses.add(answer.status_code)
            assert answer.status_code == 200 or int(answer.headers["retry-after"]) > 0
    return statuses


def test_a_wrong_key_is_told_and_not_tried_again(server: Server) -> None:
    started = time.monotonic()
    assert "no_key" in run_python("rudderstack", server.url, key="wrong")
    assert "no_key" in run_python("segment", server.url, key="wrong")
    assert time.monotonic() - started < 10
    assert orjson.loads(httpx.get(f"{server.url}/v1/projects/wrong/settings").content)  # tells nothing of keys
