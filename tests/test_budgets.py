"""How often an offer was accepted by all customers together: counted once, by the day it happened, seen by all."""

from __future__ import annotations

import threading

from features import budgets, database
from features.budgets import Used
from features.signals import Signals
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace

NOW = 1_795_000_000.0


def accepted(number: int, at: float = NOW, response: str = "accepted") -> Event:
    body = {"offer_id": "voucher", "response": response}
    return Event(f"m{number}", "Offer Responded", at, at, "1", None, "web", None, body)


def test_what_was_accepted_counts_for_its_day_whenever_it_is_heard_of(workspace: Workspace) -> None:
    engine = database.connect(workspace)
    signals = Signals(engine)
    with database.transaction(engine) as connection:
        budgets.note(connection, accepted(1), 1)
        budgets.note(connection, accepted(2), 2)
        budgets.note(connection, accepted(3, NOW - DAY_S), 3)
        budgets.note(connection, accepted(4, response="clicked"), 4)
    signals.refresh()
    assert signals.used("voucher", NOW) == Used(3, 2)
    assert signals.used("voucher", NOW - DAY_S) == Used(3, 1)
    assert signals.used("other", NOW) == Used(0, 0)
    with database.transaction(engine) as connection:
        budgets.note(connection, accepted(5), 5)
    signals.refresh()
    assert signals.used("voucher", NOW) == Used(4, 3)
    signals.close()


def test_many_at_once_lose_none(workspace: Workspace) -> None:
    engine = database.connect(workspace)

    def take(start: int) -> None:
        for number in range(start, start + 25):
            with database.transaction(engine) as connection:
                budgets.note(connection, accepted(number), number)

    threads = [threading.Thread(target=take, args=(1 + 25 * each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    signals = Signals(engine)
    assert signals.used("voucher", NOW) == Used(100, 100)
    signals.close()
