"""A workspace in which customers may be written to, and many callers at once who try: for tests of contacts."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from features import build
from features.workspace import Workspace, open_workspace
from serving.engine import Engine
from serving.question import Question

THREADS = 4
LONG_AGO = 1_780_000_000.0
OFFERS = """\
offers:
  - {offer_id: hello, kind: loyalty, valid_from: 2020-01-01, valid_until: 2099-01-01, value: {margin: 5}}
  - {offer_id: sale, kind: promotion, valid_from: 2020-01-01, valid_until: 2099-01-01, value: {margin: 3}}
  - {offer_id: gift, kind: loyalty, valid_from: 2020-01-01, valid_until: 2099-01-01, value: {margin: 2}}
  - {offer_id: news, kind: loyalty, valid_from: 2020-01-01, valid_until: 2099-01-01, value: {margin: 1}}
"""


def opened(home: Path, offers: str = OFFERS) -> Engine:
    """An engine over those offers and nothing else."""
    return Engine.open(made(home, offers))


def agree(engine: Engine, *customer_ids: str, anew: str = "") -> None:
    """Everybody named has agreed to be written to, long ago; `anew`: by other messages than the first time."""
    said = {"type": "track", "event": "Consent Updated", "properties": {"purpose": "marketing", "granted": True}}
    who = [
        {"anonymousId": each.removeprefix("anonymous:")} if each.startswith("anonymous:") else {"userId": each}
        for each in customer_ids
    ]
    names = [f"{anew}consent-{name}" for name in customer_ids]
    messages = [{**said, **each, "messageId": name} for each, name in zip(who, names, strict=True)]
    for start in range(0, len(messages), 100):
        receipts = engine.ingest(messages[start : start + 100], LONG_AGO, None)
        assert all(each.stored for each in receipts)


def made(home: Path, offers: str = OFFERS) -> Workspace:
    workspace = open_workspace(home)
    if not (home / "offers.yaml").exists():
        (home / "offers.yaml").write_text(offers)
        (home / "products.csv").write_text("product_id,name,price\np,p,1\n")
        build.build(workspace)
    return workspace


def ask(customer_id: str = "c1", channel: str = "email", **more: Any) -> Question:
    placement = {"email": "newsletter", "sms": "message", "push": "message", "web": "home", "app": "home"}[channel]
    return Question(customer_id, channel, placement, **more)


def granted(answer: Any) -> bool:
    return bool(answer["offers"])


def race(home: Path, processes: int, rounds: int) -> Counter[str]:
    """How often each number of contacts was granted: a customer a round, asked for by all threads of all processes."""
    engine = opened(home)
    agree(engine, *(f"race-{number}" for number in range(rounds)))
    engine.close()
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes * THREADS)
    results = context.Queue()
    started = [context.Process(target=_race, args=(str(home), rounds, barrier, results)) for _ in range(processes)]
    for each in started:
        each.start()
    totals, errors = Counter[str](), Counter[str]()
    for _ in started:
        per_round, failed = results.get(timeout=3_600)
        totals.update(per_round)
        errors.update(failed)
    for each in started:
        each.join(30)
    assert errors == Counter()
    return Counter(str(totals[f"{number}"]) for number in range(rounds))


def _race(home: str, rounds: int, barrier: Barrier, results: Any) -> None:
    engine = opened(Path(home))
    counts, errors, lock = Counter[str](), Counter[str](), threading.Lock()

    def caller() -> None:
        for number in range(rounds):
            barrier.wait(120)
            try:
                got = granted(engine.decision(ask(f"race-{number}"), 1_790_000_000.0 + number))
            except Exception as error:
                with lock:
                    errors[repr(error)] += 1
            else:
                with lock:
                    counts[str(number)] += got

    threads = [threading.Thread(target=caller) for _ in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    engine.close()
    results.put((counts, errors))
