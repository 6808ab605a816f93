"""One pipeline: a history as Segment messages gives the same models and scores, to the last bit, as its source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from features import build, database
from features.offers import moment
from features.sources import onlineretail, retail, segment
from features.store import ProfileStore
from features.workspace import Workspace
from tests import retail_messages
from training.learning import learn
from training.scoring import scores
from training.tasks import TASKS, Task

T = moment("2011-09-01")
LATER = moment("2015-01-01")
SCORED_LINES = 20_000


def answers(workspace: Workspace, tasks: list[Task], published: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Per task the scores at T of a model trained as of T: of every customer, or of lines of the weeks after T."""
    build.build(workspace)
    store, found = ProfileStore(workspace), {}
    for task in tasks:
        _, verdict = learn(workspace, store, task, replace(task.settings, resamples=20), T, lambda *_: None)
        asked = None
        if task.per_line:
            asked = published[published["invoice_ts"] >= "2011-09-01"].dropna(subset=["customer_id"])[:SCORED_LINES]
            asked = asked[["customer_id", "stock_code", "invoice_ts"]]
            asked = asked.set_axis(["customer_id", "product_id", "as_of"], axis=1).reset_index(drop=True)
        found[task.name] = scores(workspace, store, task, verdict.fitted.scorer, T, asked)
    store.close()
    database.connect(workspace).dispose()
    return found


def compare(published: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: list[Task]) -> None:
    given = []
    for name in ("source", "messages"):
        workspace = Workspace(tmp_path / name)
        for variable, value in workspace.environment().items():
            monkeypatch.setenv(variable, value)
        workspace.home.mkdir()
        if name == "source":
            published.to_parquet(tmp_path / "lines.parquet")
            onlineretail.ingest(workspace, tmp_path / "lines.parquet")
        else:
            segment.ingest(workspace, retail_messages.write(published, tmp_path / "lines.ndjson"), LATER)
        given.append(answers(workspace, tasks, published))
    for task in tasks:
        source, messages = (each[task.name] for each in given)
        keys = [name for name in source if name != "score"]
        assert source[keys].equals(messages[keys])
        assert source["score"].nunique() > 20
        assert source["score"].to_numpy().tobytes() == messages["score"].to_numpy().tobytes()


def test_some_customers_as_messages_get_the_same_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = retail.load(retail_messages.data_file())
    few = retail_messages.some_customers(published, 150)
    compare(few, tmp_path, monkeypatch, [TASKS["churn"], TASKS["returns"]])


@pytest.mark.prove
def test_the_whole_year_as_messages_gets_the_same_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = retail.load(retail_messages.data_file())
    compare(published, tmp_path, monkeypatch, [TASKS["churn"], TASKS["returns"]])
