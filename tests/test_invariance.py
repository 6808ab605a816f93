"""After training: what a customer is called, and in which order one asks, changes no bit of any model's score."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import market
import pandas as pd
import pytest
from test_honesty import T, asked, history, quiet

from features import build, database
from features.events import EventLog
from features.scorer import Scorer
from features.store import ProfileStore
from features.workspace import Workspace
from training.learning import learn
from training.scoring import scores
from training.tasks import TASKS, Task

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
ASKED_IN_PAIRS = [task for task in TASKS.values() if task.per_exposure or task.per_line]


def renamed(customer_id: str) -> str:
    """Of another length and alphabet, and so that the order of all ids is turned round."""
    number = int(customer_id.removeprefix("c"))
    return f"{'zürich ' if number % 2 else 'Ω/'}{(market.CUSTOMERS - number) * 7_919}"


@pytest.fixture(scope="module")
def markets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Workspace]]:
    """The same market twice; in one of them everybody is called otherwise."""
    known = sorted((e for e in history() if e.known_at <= T), key=lambda event: (event.known_at, event.message_id))
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("theirs", "renamed"):
            workspace = made[name] = Workspace(tmp_path_factory.mktemp(name) / "home")
            for variable, value in workspace.environment().items():
                patch.setenv(variable, value)
            workspace.home.mkdir()
            market.fill(workspace, until=-1.0)
            events = [replace(e, user_id=renamed(str(e.user_id))) if name == "renamed" else e for e in known]
            with database.transaction(database.connect(workspace)) as connection:
                EventLog().append_many(connection, [(event, event.user_id) for event in events])
            build.build(workspace)
        yield made
    for workspace in made.values():
        database.connect(workspace).dispose()


@pytest.fixture(scope="module")
def models(markets: dict[str, Workspace]) -> dict[str, Scorer]:
    """One model a task, learnt from the market as it was: trees and logistic regression together where they may."""
    store, found = ProfileStore(markets["theirs"]), {}
    for task in TASKS.values():
        settings = replace(task.settings, trees=20, resamples=20)
        found[task.name] = learn(markets["theirs"], store, task, settings, T, quiet)[1].fitted.scorer
    store.close()
    return found


def said(workspace: Workspace, task: Task, scorer: Scorer, pairs: pd.DataFrame | None) -> pd.DataFrame:
    store = ProfileStore(workspace)
    try:
        return scores(workspace, store, task, scorer, T, pairs, quiet)
    finally:
        store.close()


@every_task
def test_renamed_customers_get_the_same_bits(
    markets: dict[str, Workspace], models: dict[str, Scorer], task: Task
) -> None:
    pairs = asked(task)
    others = pairs if pairs is None else pairs.assign(customer_id=pairs["customer_id"].map(renamed))
    before = said(markets["theirs"], task, models[task.name], pairs)
    after = said(markets["renamed"], task, models[task.name], others)
    if pairs is None:  # of every customer, in the order of their ids
        after = after.set_index("customer_id").loc[before["customer_id"].map(renamed)]
    assert before["score"].nunique() > 10 and len(before) == len(after)
    assert before["score"].to_numpy().tobytes() == after["score"].to_numpy().tobytes()


@pytest.mark.parametrize("task", ASKED_IN_PAIRS, ids=lambda task: task.name)
def test_a_question_in_another_order_gets_the_same_bits(
    markets: dict[str, Workspace], models: dict[str, Scorer], task: Task
) -> None:
    """Churn is asked of everybody in the order of their ids, which the renaming above turns round."""
    pairs = asked(task)
    assert pairs is not None
    order = random.Random(4).sample(range(len(pairs)), len(pairs))
    whole = said(markets["theirs"], task, models[task.name], pairs)["score"].to_numpy()
    turned = said(markets["theirs"], task, models[task.name], pairs.iloc[order])["score"].to_numpy()
    assert whole[order].tobytes() == turned.tobytes()
