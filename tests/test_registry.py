"""The registry: a run with everything about it, versions by name, promotion and the way back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from test_models import customers, dataset

from features.scorer import Scorer
from features.workspace import Workspace
from training.datasets import Dataset
from training.models import fit
from training.plots import shap_summary
from training.promotion import promote, rollback
from training.registry import NoSuchVersion, Registry, Version, summary
from training.selection import Verdict, choose
from training.tasks import CHURN, Settings

SETTINGS = Settings(trees=20, resamples=20)
SHOPPER = "shopper-"
"""What every customer's id begins with, and nothing else does."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    made = dataset(CHURN, *customers(900))
    made.frame["customer_id"] = SHOPPER + made.frame["customer_id"]
    return made


@pytest.fixture(scope="module")
def verdict(data: Dataset) -> Verdict:
    return choose(CHURN, data, SETTINGS)


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory, verdict: Verdict, data: Dataset
) -> tuple[Workspace, Registry, list[Version]]:
    """A registry with three versions of one model."""
    home = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = Workspace(home)
        for name, value in workspace.environment().items():
            patch.setenv(name, value)
        registry = Registry(workspace)
        versions = [
            registry.record(CHURN, verdict, data, 5e8, SETTINGS, "python -m training train churn") for _ in "123"
        ]
    return workspace, registry, versions


@pytest.fixture
def registered(
    recorded: tuple[Workspace, Registry, list[Version]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Workspace, Registry, list[Version]]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{recorded[0].home}/mlflow.db")
    return recorded


def test_no_run_holds_a_customer_so_nobody_need_be_erased_from_one(
    registered: tuple[Workspace, Registry, list[Version]], data: Dataset
) -> None:
    workspace, _, _ = registered
    files = [path for path in workspace.home.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert data.frame["customer_id"].str.startswith(SHOPPER).all()
    assert [path for path in files if SHOPPER.encode() in path.read_bytes()] == []


def test_a_run_holds_parameters_figures_pictures_and_the_command(
    registered: tuple[Workspace, Registry, list[Version]], verdict: Verdict
) -> None:
    workspace, registry, versions = registered
    run = registry._client.get_run(versions[0].run_id)
    assert run.data.params["trees"] == "20" and run.data.params["as_of"] == "1985-11-05T00:53:20Z"
    assert run.data.tags["feature_service"] == "churn"
    assert run.data.tags["command"] == "python -m training train churn"
    assert run.data.metrics["auroc"] == pytest.approx(verdict.chosen.figures["auroc"])
    assert run.data.metrics["auroc_gain_low"] <= run.data.metrics["auroc_gain_high"]
    folder = workspace.home / "mlartifacts" / "churn" / versions[0].run_id / "artifacts"
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "roc.png",
        "precision_recall.png",
        "calibration.png",
        "gain.png",
        "lift.png",
        *(["shap.png"] if verdict.fitted.booster else []),
    }
    card = (folder / "model_card.md").read_text("utf-8")
    assert "python -m training train churn" in card and f"**{verdict.chosen.name}**" in card
    assert all(f"## {part}" in card for part in ("Data", "Compared", "Slices", "Columns", "Limits", "Made by"))
    (lineage,) = run.inputs.dataset_inputs
    assert lineage.dataset.name.startswith("churn 1970-01-01") and "offline" in lineage.dataset.source
    assert len(pd.read_csv(folder / "comparison.csv")) == len(verdict.candidates)
    assert (folder / "portable" / "model.json").exists()


def test_the_shap_picture_shows_the_columns_that_matter_and_takes_unknown_values() -> None:
    rows, label = customers(300)
    rows[::5, 3] = np.nan
    booster = fit("lightgbm", CHURN, CHURN.columns, rows, label, SETTINGS).booster
    assert booster is not None
    (axes, *_) = shap_summary(booster, CHURN.columns, rows).axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert len(names) == 15 and {"gaps_overdue", "orders_90d"} <= set(names[-4:])


def test_the_logged_model_answers_probabilities_like_the_portable_one(
    registered: tuple[Workspace, Registry, list[Version]], verdict: Verdict
) -> None:
    _, registry, versions = registered
    rows = customers(40, seed=21)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        model = mlflow.pyfunc.load_model(f"models:/{CHURN.model_name}/{versions[0].version}")
        answers = model.predict(pd.DataFrame(rows, columns=list(CHURN.columns))[list(verdict.chosen.columns)])
    mine = registry.scorer(versions[0])
    np.testing.assert_allclose(
        np.asarray(answers)[:, 1], mine.predict(rows[:, mine.positions(CHURN.columns)]), atol=1e-9
    )


def test_versions_are_found_by_number_and_by_name(registered: tuple[Workspace, Registry, list[Version]]) -> None:
    _, registry, versions = registered
    assert [version.version for version in versions] == ["1", "2", "3"]
    assert registry.find(CHURN) == versions[2] and registry.find(CHURN, "1") == versions[0]
    with pytest.raises(NoSuchVersion, match="`churn` has no version `9`; expected latest, champion or one of 1, 2, 3"):
        registry.find(CHURN, "9")


def test_promotion_hands_over_remembers_the_one_before_and_can_be_taken_back(
    registered: tuple[Workspace, Registry, list[Version]],
) -> None:
    workspace, registry, versions = registered
    with pytest.raises(NoSuchVersion, match="has no champion yet"):
        registry.find(CHURN, "champion")
    with pytest.raises(NoSuchVersion, match="nothing to go back to"):
        rollback(workspace, registry, CHURN)
    assert promote(workspace, registry, CHURN, "1")["version"] == "1"
    assert promote(workspace, registry, CHURN)["version"] == "3"
    pointer = pointed(workspace)
    assert pointer == {
        "task": "churn",
        "version": "3",
        "tag": f"onestory-churn:v3-{versions[2].run_id[:8]}",
        "run_id": versions[2].run_id,
        "feature_service": "churn",
        "model_name": "onestory-churn",
    }
    assert registry.find(CHURN, "champion") == versions[2] and registry.alias(CHURN, "previous") == versions[0]
    promote(workspace, registry, CHURN, "3")
    assert registry.alias(CHURN, "previous") == versions[0], "promoting the champion again forgets nothing"
    assert rollback(workspace, registry, CHURN)["version"] == "1" == pointed(workspace)["version"]
    assert rollback(workspace, registry, CHURN)["version"] == "3" == pointed(workspace)["version"]


def test_what_was_handed_over_scores_like_what_was_registered(
    registered: tuple[Workspace, Registry, list[Version]],
) -> None:
    workspace, registry, versions = registered
    tag = promote(workspace, registry, CHURN, "2")["tag"]
    name, version = tag.split(":")
    folder = workspace.home / "bentoml" / "models" / name / version
    rows = customers(30, seed=5)[0]
    given, kept = Scorer.load(folder), registry.scorer(versions[1])
    positions = kept.positions(CHURN.columns)
    assert given.predict(rows[:, positions]).tobytes() == kept.predict(rows[:, positions]).tobytes()
    assert "task: churn" in (folder / "model.yaml").read_text()


def test_a_registry_without_models_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(NoSuchVersion, match="no model for `churn` yet; run `python -m training train churn`"):
        Registry(Workspace(tmp_path)).find(CHURN)


def test_a_run_speaks_for_itself_in_plain_values(verdict: Verdict, data: Dataset) -> None:
    said = summary(Version(CHURN, "4", "r"), verdict, data, 5e8)
    assert json.loads(json.dumps(said))["gate_passed"] is verdict.passed


def pointed(workspace: Workspace) -> dict[str, str]:
    found: dict[str, str] = json.loads((workspace.champions / "churn.json").read_bytes())
    return found


# ------------------------------------------------------------------------------- `mlflow models serve`


def question(data: Dataset) -> dict[str, object]:
    """Three rows as a caller of MLflow's scoring server sends them, one value unknown."""
    rows: list[list[float | None]] = data.rows[:3].tolist()
    rows[1][0] = None
    return {"dataframe_split": {"columns": list(data.columns), "data": rows}}


def probabilities(registry: Registry, version: Version, data: Dataset) -> np.ndarray:
    """What the portable form says to the same rows."""
    rows = data.rows[:3].copy()
    rows[1, 0] = np.nan
    scorer = registry.scorer(version)
    return scorer.predict(rows[:, scorer.positions(data.columns)])


def test_mlflows_scoring_server_answers_the_probabilities_of_the_portable_form(
    registered: tuple[Workspace, Registry, list[Version]], data: Dataset
) -> None:
    workspace, _, versions = registered
    registry = Registry(workspace)  # MLflow speaks to the registry opened last
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.pyfunc.scoring_server import init

        transport = httpx.ASGITransport(init(mlflow.pyfunc.load_model(f"models:/{CHURN.model_name}/1")))

        async def asked() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.post("/invocations", json=question(data))

        answer = asyncio.run(asked())
    assert answer.status_code == 200, answer.text
    predictions = np.array(answer.json()["predictions"])
    np.testing.assert_allclose(predictions.sum(axis=1), 1.0)
    np.testing.assert_allclose(predictions[:, 1], probabilities(registry, versions[0], data), rtol=1e-9)


@pytest.mark.prove
def test_mlflow_models_serve_answers_the_same_as_a_process_of_its_own(
    registered: tuple[Workspace, Registry, list[Version]], data: Dataset
) -> None:
    _, registry, versions = registered
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    model = f"models:/{CHURN.model_name}/1"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))},
    )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}/invocations", json=question(data), timeout=60)
                break
            except httpx.ConnectError:
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.3)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
    predictions = np.array(answer.json()["predictions"])
    np.testing.assert_allclose(predictions[:, 1], probabilities(registry, versions[0], data), rtol=1e-9)


def test_mlflows_database_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while MLflow makes its tables, a workspace would never have a registry again."""
    from mlflow.store.db import utils

    def killed(engine: sa.Engine) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("create table half (made integer)"))
        raise KeyboardInterrupt

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", killed)
        with pytest.raises(KeyboardInterrupt):
            Registry(Workspace(tmp_path / "home"))
    assert not (tmp_path / "home" / "mlflow.db").exists()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(NoSuchVersion):
        Registry(Workspace(tmp_path / "home")).find(CHURN)
