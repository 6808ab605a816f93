"""`python -m training`, as one types it: a small market trained, promoted, scored; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import market
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from features import database
from features.events import EventLog
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace
from tests.homes import at_home
from training.__main__ import app
from training.tasks import CHURN

LATE = "2026-03-01"
AT = market.BEGIN + 230 * DAY_S
QUICK = ["--param", "trees=20", "--param", "resamples=20"]


def run(home: Path, *arguments: str, code: int = 0) -> Any:
    """What the command prints on stdout, as JSON if it is; on stderr, if it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        environment = Workspace(home).environment()
        answer = CliRunner().invoke(app, list(arguments), env=environment)
    if answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == code, answer.stderr
    return json.loads(answer.stdout) if code == 0 else answer.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A market in which both models were trained once."""
    home = tmp_path_factory.mktemp("cli") / "home"
    with at_home(Workspace(home)):
        market.made(home)
        run(home, "train", "churn", *QUICK, "--json")
        run(home, "train", "propensity", *QUICK, "--json")
        yield home


def test_the_card_of_a_model_of_offers_tells_of_sends_too_and_names_every_column(home: Path) -> None:
    (path,) = (home / "mlartifacts" / "propensity").glob("*/artifacts/model_card.md")
    card = path.read_text("utf-8")
    assert "send_auroc_within" in card and "recall_at_3" in card
    version = json.loads((path.parent / "portable" / "model.json").read_text("utf-8"))
    assert all(f"`{name}`" in card for name in version["columns"])


def test_training_tells_what_was_chosen_and_promotes_nothing(home: Path) -> None:
    said = run(home, "train", "churn", "--as-of", LATE, *QUICK, "--param", "families=logistic", "--json")
    assert said["task"] == "churn" and int(said["version"]) > 1
    assert said["as_of"] == "2026-03-01T00:00:00Z"
    assert set(said["models"]) == {"logistic", *CHURN.baselines}
    assert 0.0 <= said["metrics"]["auroc"] <= 1.0
    assert not (home / "champions").exists()


def test_every_customer_known_then_gets_a_score(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    said = run(home, "score", "churn", "--as-of", LATE, "--out", str(out), "--json")
    scores = pd.read_parquet(out)
    assert list(scores.columns) == ["customer_id", "score"] and said["rows"] == len(scores)
    assert scores["customer_id"].tolist() == sorted(f"c{number:03}" for number in range(market.CUSTOMERS))
    assert scores["score"].between(0, 1).all() and scores["score"].nunique() > 10


def test_before_anybody_was_known_nobody_is_scored(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    assert run(home, "score", "churn", "--as-of", "2001-01-01", "--out", str(out), "--json")["rows"] == 0
    schema = pq.read_schema(out)
    assert {name: str(schema.field(name).type) for name in schema.names} == {"customer_id": "string", "score": "double"}


def test_pairs_keep_their_order_and_columns_and_a_stranger_gets_the_population_s(home: Path, tmp_path: Path) -> None:
    rows = [(f"c{n:03}", f"campaign-230-{category}", AT) for n in (7, 3) for category in market.CATEGORIES]
    pairs = pd.DataFrame([*rows, ("nobody", "campaign-80-tea", AT)], columns=["customer_id", "offer_id", "as_of"])
    asked, out = tmp_path / "pairs.parquet", tmp_path / "scores.parquet"
    pairs.assign(mine=1).to_parquet(asked)
    run(home, "score", "propensity", "--pairs", str(asked), "--out", str(out), "--json")
    scores = pd.read_parquet(out)
    assert scores[["customer_id", "offer_id", "as_of"]].equals(pairs)
    assert list(scores.columns) == ["customer_id", "offer_id", "as_of", "mine", "score"]
    said = run(home, "promote", "propensity", "--json")
    folder = home / "bentoml" / "models" / said["tag"].replace(":", "/")
    population = json.loads((folder / "model.json").read_text())["population"]
    assert scores["score"].iloc[-1] == population
    mixed = pairs.sample(frac=1, random_state=1)
    mixed.assign(as_of=pd.to_datetime(mixed["as_of"], unit="s", utc=True)).to_parquet(asked)
    run(home, "score", "propensity", "--pairs", str(asked), "--version", "champion", "--out", str(out), "--json")
    again = pd.read_parquet(out)["score"].to_numpy()
    assert again.tobytes() == scores["score"].to_numpy()[mixed.index].tobytes()


def test_promote_and_rollback_move_the_pointer(home: Path) -> None:
    first = run(home, "promote", "churn", "--version", "1", "--json")
    run(home, "train", "churn", *QUICK, "--json")
    second = run(home, "promote", "churn", "--json")
    assert first["version"] == "1" and int(second["version"]) > 1
    assert run(home, "rollback", "churn", "--json") == first
    assert json.loads((home / "champions" / "churn.json").read_text()) == first


REFUSED = [
    (["train", "chrun"], "unknown task `chrun`; did you mean `churn`?"),
    (["train", "churn", "--as-of", "soon"], "--as-of is `soon`; expected RFC 3339 such as `2026-11-20T10:00:00Z`"),
    (
        ["train", "churn", "--as-of", "2999-01-01"],
        "--as-of is `2999-01-01`, which is to come",
    ),
    (
        ["score", "churn", "--as-of", "2999-01-01", "--out", "x"],
        "--as-of is `2999-01-01`, which is to come",
    ),
    (["trian", "churn"], "unknown command `trian`; did you mean `train`?"),
    (["train"], "missing argument `TASK`"),
    (["train", "churn", "--asof", "2026-01-01"], "unknown option `--asof`; did you mean `--as-of`?"),
    (["train", "churn", "--param", "trees"], "--param is `trees`; expected name=value, such as trees=300"),
    (["train", "churn", "--param", "tree=3"], "unknown parameter `tree`; did you mean `trees`?"),
    (
        ["train", "returns"],
        "returns needs orders that are 60 days old by --as-of, some of whose products were refunded",
    ),
    (["promote", "returns"], "no model for `returns` yet; run `python -m training train returns`"),
    (["score", "returns", "--out", "x.parquet"], "score returns takes `--pairs FILE.parquet`"),
    (["train", "churn", "--as-of", "2025-07-01"], "churn needs orders over more than 90 days before --as-of"),
    (["promote", "churn", "--version", "99"], "`churn` has no version `99`; expected latest, champion or one of"),
    (["score", "churn", "--out", "x.parquet"], "score churn takes `--as-of T`, and no `--pairs`"),
    (["score", "propensity", "--out", "x.parquet"], "score propensity takes `--pairs FILE.parquet`"),
    (
        ["score", "propensity", "--pairs", "none.parquet", "--out", "x.parquet"],
        "cannot read `none.parquet`: no such file",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED, ids=[" ".join(a)[:40] for a, _ in REFUSED])
def test_what_makes_no_sense_is_refused_in_one_sentence(home: Path, arguments: list[str], sentence: str) -> None:
    assert run(home, *arguments, code=2).startswith(sentence)


BAD_PAIRS = [
    ({"offer_id": "campaign-80-tea", "as_of": 1.0}, "column `customer_id` is missing"),
    (
        {"customer_id": "c", "offer_id": "campaign-80-toa", "as_of": 1.0},
        "unknown offer `campaign-80-toa`; did you mean",
    ),
    (
        {"customer_id": "c", "offer_id": "no such", "as_of": 1.0},
        "unknown offer `no such`; expected one of the catalog's 16",
    ),
    ({"customer_id": None, "offer_id": "campaign-80-tea", "as_of": 1.0}, "customer_id is empty in a row"),
    ({"customer_id": b"c", "offer_id": "campaign-80-tea", "as_of": 1.0}, "customer_id is bytes; expected texts"),
    (
        {"customer_id": "c", "offer_id": "campaign-80-tea", "as_of": 1_750_000_000_000},
        "as_of is `1750000000000`; expected a time, or seconds",
    ),
    ({"customer_id": "c", "offer_id": "campaign-80-tea", "as_of": "noon"}, "as_of is `noon`; expected RFC 3339"),
    (
        {"customer_id": "c", "offer_id": "campaign-80-tea", "as_of": 1.0, "channel": "wap"},
        "unknown channel `wap`; did you mean `app`?",
    ),
]


@pytest.mark.parametrize(("row", "sentence"), BAD_PAIRS, ids=[sentence[:20] for _, sentence in BAD_PAIRS])
def test_pairs_that_cannot_be_scored_say_which_column(
    home: Path, tmp_path: Path, row: dict[str, object], sentence: str
) -> None:
    asked = tmp_path / "pairs.parquet"
    pd.DataFrame([row]).to_parquet(asked)
    refused = run(home, "score", "propensity", "--pairs", str(asked), "--out", str(tmp_path / "x"), code=2)
    assert refused.startswith(sentence)


def test_an_empty_workspace_says_what_to_do_first(tmp_path: Path) -> None:
    home = tmp_path / "empty"
    assert run(home, "train", "churn", code=2).endswith("run `python -m features ingest` first")
    assert run(home, "promote", "churn", code=2) == "no model for `churn` yet; run `python -m training train churn`"


def test_a_customer_is_the_same_as_text_as_number_and_as_pandas_index(home: Path, tmp_path: Path) -> None:
    bought = [{"product_id": "tea-0", "quantity": 1, "price": 9.0, "category": "tea"}]
    events = [
        Event(f"n-{n}", "Order Completed", AT - n, AT - n, "2375", body={"products": bought}) for n in range(1, 9)
    ]
    with database.transaction(database.connect(Workspace(home))) as connection:
        EventLog().append_many(connection, [(event, "2375") for event in events])  # not built: scoring builds it
    asked, out, found = tmp_path / "pairs.parquet", tmp_path / "scores.parquet", []
    for ids in (["2375", "x"], [2375, 1], [2375.0, 1.0]):
        pairs = pd.DataFrame({"customer_id": ids, "offer_id": "campaign-230-tea", "as_of": AT})
        for kept in (pairs, pairs.set_index("customer_id")):
            kept.to_parquet(asked)
            run(home, "score", "propensity", "--pairs", str(asked), "--out", str(out), "--json")
            found.append(tuple(pd.read_parquet(out)["score"]))
    assert len(set(found)) == 1
    assert found[0][0] != found[0][1]
