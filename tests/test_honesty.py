"""Point-in-time honesty of all three models: what is known after T changes no score at T, and a look ahead is caught.

The same market is built three times: as it was, without anything known after T, and with all that shuffled. Each
task is then learnt as of T and asked about T, as the commands do it, and the scores are compared to the last bit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import market
import pandas as pd
import pytest

from features import build, database
from features.events import EventLog
from features.store import ProfileStore
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace
from training import lines
from training.learning import learn
from training.scoring import scores
from training.tasks import TASKS, Task

T = market.BEGIN + 300 * DAY_S
LATE_S = 6 * DAY_S
"""So much later than it happened some of it becomes known."""


def quiet(*_: object) -> None:
    pass


def history() -> Iterator[Event]:
    """The market, where some soap comes back and every ninth order is heard of late."""
    draw = random.Random(5)
    for number, event in enumerate(market.history()):
        late = LATE_S if event.name == "Order Completed" and number % 9 == 0 else 0.0
        yield replace(event, known_at=event.known_at + late)
        sold = event.body.get("products", [{}])[0]
        often = 0.7 if str(event.user_id)[-1] in "02468" else 0.1
        if str(sold.get("product_id")).startswith("soap") and draw.random() < often:
            at = event.occurred_at + round(draw.uniform(2, 40), 3) * DAY_S
            body = {"order_id": event.body["order_id"], "products": [sold], "reason": "return"}
            yield Event(f"back-{event.message_id}", "Order Refunded", at, at, event.user_id, channel="web", body=body)


def shuffled(events: Sequence[Event]) -> list[Event]:
    """The same names and times of knowing; who it was, when and what is dealt out anew."""
    draw = random.Random(8)
    found = []
    for name in sorted({event.name for event in events}):
        ours = [event for event in events if event.name == name]
        dealt = draw.sample(ours, len(ours))
        found += [
            replace(event, user_id=other.user_id, body=other.body, occurred_at=min(other.occurred_at, event.known_at))
            for event, other in zip(ours, dealt, strict=True)
        ]
    return found


@pytest.fixture(scope="module")
def markets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Workspace]]:
    """As it was; nothing known after T; all that shuffled."""
    everything = list(history())
    before, after = ([e for e in everything if (e.known_at <= T) is known] for known in (True, False))
    assert len(after) > 100 and any(event.occurred_at < T for event in after)
    made = []
    with pytest.MonkeyPatch.context() as patch:
        for name, events in (("whole", after), ("deleted", []), ("shuffled", shuffled(after))):
            workspace = Workspace(tmp_path_factory.mktemp(name) / "home")
            for variable, value in workspace.environment().items():
                patch.setenv(variable, value)
            workspace.home.mkdir()
            market.fill(workspace, until=-1.0)
            known = sorted([*before, *events], key=lambda event: (event.known_at, event.message_id))
            with database.transaction(database.connect(workspace)) as connection:
                EventLog().append_many(connection, [(event, event.user_id) for event in known])
            build.build(workspace)
            made.append(workspace)
        yield made
    for workspace in made:
        database.connect(workspace).dispose()


def asked(task: Task) -> pd.DataFrame | None:
    customers = [f"c{number:03}" for number in range(market.CUSTOMERS)]
    if task.per_exposure:
        items, name = [f"campaign-230-{category}" for category in market.CATEGORIES], "offer_id"
    elif task.per_line:
        items, name = ["soap-0", "soap-1", "tea-0"], "product_id"
    else:
        return None
    rows = [(customer, item, T) for customer in customers for item in items]
    return pd.DataFrame(rows, columns=["customer_id", name, "as_of"])


def answers(workspace: Workspace, opened: Callable[[Workspace], ProfileStore]) -> dict[str, bytes]:
    """Per task the bits of the scores at T of a model trained as of T."""
    store, found = opened(workspace), {}
    for task in TASKS.values():
        settings = replace(task.settings, trees=20, resamples=20)
        _, verdict = learn(workspace, store, task, settings, T, quiet)
        said = scores(workspace, store, task, verdict.fitted.scorer, T, asked(task), quiet)
        if not task.per_exposure and not task.per_line:  # who is known only later gets no row
            assert len(said) == len(set(said["customer_id"])) > 50
        assert said["score"].nunique() > 10
        found[task.name] = said["score"].to_numpy().tobytes()
    store.close()
    return found


def dishonest(markets: Sequence[Workspace], opened: Callable[[Workspace], ProfileStore] = ProfileStore) -> set[str]:
    """The check: the tasks whose scores at T depend on what was known only after T."""
    given = [answers(workspace, opened) for workspace in markets]
    return {name for name in TASKS if len({each[name] for each in given}) > 1}


class Ahead(ProfileStore):
    """A store that looks ten days ahead: the features are those of a profile that nobody had yet."""

    def historical(self, entity_df: pd.DataFrame, service_name: str) -> pd.DataFrame:
        found = super().historical(entity_df.assign(as_of=entity_df["as_of"] + 10 * DAY_S), service_name)
        return found.assign(as_of=entity_df["as_of"].to_numpy())

    def profiles_at(self, pairs: pd.DataFrame) -> pd.DataFrame:
        found = super().profiles_at(pairs.assign(as_of=pairs["as_of"] + 10 * DAY_S))
        return found.assign(as_of=found["as_of"] - 10 * DAY_S)


def test_what_is_known_after_t_changes_no_score_at_t(markets: list[Workspace]) -> None:
    assert dishonest(markets) == set()


@pytest.mark.filterwarnings("ignore:invalid value encountered in log1p")  # days since what is to come are negative
def test_a_feature_that_looks_ahead_is_caught(markets: list[Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "JUST_BEFORE_S", -10 * DAY_S)  # return risk has columns of its own, beside the store's
    assert dishonest(markets[:2], Ahead) == set(TASKS)
