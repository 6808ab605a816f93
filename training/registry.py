"""The only door to MLflow: a run with all that was tried, a registered version, and where each version's files are.

Which version is at work is the alias `champion`; moving it and handing the model over to serving is
`promotion`. MLflow and its files stay inside the workspace: its database and `mlartifacts`.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.scorer import Scorer
from features.workspace import Workspace
from training.datasets import Dataset
from training.models import Fitted, library_model
from training.selection import Verdict
from training.tasks import Settings, Task

PORTABLE = "portable"
CHAMPION, PREVIOUS = "champion", "previous"
REQUIREMENTS = ("lightgbm", "numpy", "pandas", "scikit-learn", "cloudpickle")
SCHEMA_ROWS = 1_000
"""So many rows tell MLflow the schema of the data; the digest is of all of them."""
COMPARED = 3
"""How many models a picture shows."""


class NoSuchVersion(Exception):
    """A version that the registry does not have, in one sentence."""


@dataclass(frozen=True, slots=True)
class Version:
    """One registered model: its number as text, and the run that made it."""

    task: Task
    version: str
    run_id: str


def write_portable(fitted: Fitted, folder: Path) -> None:
    """The form that scores without this package: `model.json`, and `booster.txt` where there are trees."""
    (folder / "model.json").write_text(json.dumps(fitted.content, indent=1), "utf-8")
    if fitted.booster is not None:
        (folder / "booster.txt").write_text(fitted.booster, "utf-8")


def _make_database(workspace: Workspace) -> None:
    """MLflow's SQLite database, whole or not at all: MLflow takes seconds to make it and cannot go on with half."""
    path = workspace.home / "mlflow.db"
    if path.exists() or workspace.environment()["MLFLOW_TRACKING_URI"] != f"sqlite:///{path}":
        return
    import sqlalchemy as sa
    from mlflow.store.db.utils import _initialize_tables

    workspace.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.home, prefix=".mlflow-") as draft:
        engine = sa.create_engine(f"sqlite:///{draft}/mlflow.db")
        _initialize_tables(engine)
        engine.dispose()
        with suppress(FileExistsError):  # another process was first
            os.link(f"{draft}/mlflow.db", path)


class Registry:
    """MLflow for one workspace."""

    def __init__(self, workspace: Workspace):
        os.environ.update(workspace.environment())
        os.environ |= {"GIT_PYTHON_REFRESH": "quiet", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
        self._workspace = workspace
        with _quiet():
            import mlflow
            import mlflow.sklearn
            from mlflow.exceptions import MlflowException

            _make_database(workspace)
            self._mlflow, self._problem = mlflow, MlflowException
            mlflow.set_tracking_uri(workspace.environment()["MLFLOW_TRACKING_URI"])
            self._client = mlflow.MlflowClient()

    # ------------------------------------------------------------------------------------------- writing

    def record(
        self, task: Task, verdict: Verdict, data: Dataset, as_of: float, settings: Settings, command: str
    ) -> Version:
        """One run with everything about it, and its model as the newest version of the task's registered model."""
        from training import plots
        from training.card import model_card

        with _quiet(), tempfile.TemporaryDirectory() as scratch:
            mlflow = self._mlflow
            mlflow.set_experiment(experiment_id=self._experiment(task))
            with mlflow.start_run(run_name=f"{task.name} {verdict.chosen.name}") as run:
                window = _window(verdict, data, as_of)
                mlflow.log_params({**asdict(settings), **window, "chosen": verdict.chosen.name})
                mlflow.log_input(self._lineage(task, data, window), context="training")
                mlflow.log_metrics(_metrics(verdict))
                mlflow.set_tags(
                    {
                        "feature_service": task.service,
                        "family": verdict.chosen.family,
                        "gate": "passed" if verdict.passed else f"not passed: baseline `{verdict.rival}` registered",
                        "calibration": verdict.chosen.calibration,
                        "command": command,
                    }
                )
                mlflow.log_text(verdict.table().to_csv(index=False), "comparison.csv")
                mlflow.log_text(pd.DataFrame(verdict.slices).to_csv(index=False), "slices.csv")
                mlflow.log_text(model_card(task, verdict, window, command), "model_card.md")
                shown = [verdict.chosen, *(c for c in verdict.candidates if c is not verdict.chosen)][:COMPARED]
                drawn = plots.pictures(verdict.truth, {c.name: c.scores for c in shown}, task.unit)
                if verdict.fitted.booster is not None:
                    columns = [data.columns.index(name) for name in verdict.chosen.columns]
                    drawn["shap.png"] = plots.shap_summary(
                        verdict.fitted.booster, verdict.chosen.columns, data.rows[:, columns]
                    )
                for name, figure in drawn.items():
                    mlflow.log_figure(figure, f"plots/{name}")
                write_portable(verdict.fitted, Path(scratch))
                mlflow.log_artifacts(scratch, PORTABLE)
                info = self._log_model(task, verdict, data)
            return Version(task, str(info.registered_model_version), run.info.run_id)

    def _lineage(self, task: Task, data: Dataset, window: Mapping[str, Any]) -> Any:
        """What was learnt from, as MLflow names it: the feature service, the window, a digest of every row."""
        who = pd.util.hash_pandas_object(data.frame[["customer_id", "as_of"]], index=False).to_numpy()
        digest = sha256()
        for part in (data.rows, data.label, who):
            digest.update(np.ascontiguousarray(part).data)
        head = pd.DataFrame(data.rows[:SCHEMA_ROWS], columns=list(data.columns)).assign(label=data.label[:SCHEMA_ROWS])
        name = f"{task.service} {window['data_from']} to {window['data_until']}, {len(data.rows):,} rows"
        return self._mlflow.data.from_pandas(
            head, source=self._workspace.offline.as_uri(), targets="label", name=name, digest=digest.hexdigest()[:32]
        )

    def _experiment(self, task: Task) -> str:
        found = self._client.get_experiment_by_name(task.model_name)
        if found is not None:
            return str(found.experiment_id)
        place = (self._workspace.home / "mlartifacts" / task.name).as_uri()
        return str(self._client.create_experiment(task.model_name, artifact_location=place))

    def _log_model(self, task: Task, verdict: Verdict, data: Dataset) -> Any:
        names = list(verdict.chosen.columns)
        head = pd.DataFrame(data.rows[:50], columns=list(data.columns))[names]
        model = library_model(verdict.fitted)
        signature = self._mlflow.models.infer_signature(head, model.predict_proba(head))
        with redirect_stderr(io.StringIO()):  # it tells what it does there, whatever the level of its loggers
            return self._mlflow.sklearn.log_model(
                model,
                name="model",
                serialization_format="cloudpickle",  # skops, the default, refuses LightGBM's types
                signature=signature,
                pip_requirements=list(REQUIREMENTS),
                pyfunc_predict_fn="predict_proba",
                registered_model_name=task.model_name,
            )

    # ------------------------------------------------------------------------------------------- reading

    def find(self, task: Task, version: str = "latest") -> Version:
        """A version by number, `latest`, or alias (`champion`, `previous`). Raises NoSuchVersion."""
        with _quiet():
            known = self.versions(task)
            if not known:
                raise NoSuchVersion(f"no model for `{task.name}` yet; run `python -m training train {task.name}`")
            if version == "latest":
                return known[-1]
            if version in (CHAMPION, PREVIOUS):
                found = self.alias(task, version)
                if found is None:
                    raise NoSuchVersion(
                        f"`{task.name}` has no {version} yet; run `python -m training promote {task.name}`"
                    )
                return found
            for each in known:
                if each.version == version:
                    return each
        numbers = ", ".join(each.version for each in known[-10:])
        raise NoSuchVersion(f"`{task.name}` has no version `{version}`; expected latest, champion or one of {numbers}")

    def versions(self, task: Task) -> list[Version]:
        """All versions, oldest first."""
        found = self._client.search_model_versions(f"name = '{task.model_name}'")
        return sorted((Version(task, str(v.version), v.run_id) for v in found), key=lambda each: int(each.version))

    def alias(self, task: Task, name: str) -> Version | None:
        with _quiet():
            try:
                found = self._client.get_model_version_by_alias(task.model_name, name)
            except self._problem:
                return None
            return Version(task, str(found.version), found.run_id)

    def set_alias(self, version: Version, name: str) -> None:
        with _quiet():
            self._client.set_registered_model_alias(version.task.model_name, name, version.version)

    @contextmanager
    def portable(self, version: Version) -> Iterator[Path]:
        """The folder of a version's portable form, while the block runs."""
        with tempfile.TemporaryDirectory() as scratch:
            with _quiet():
                folder = self._client.download_artifacts(version.run_id, PORTABLE, scratch)
            yield Path(folder)

    def scorer(self, version: Version) -> Scorer:
        with self.portable(version) as folder:
            return Scorer.load(folder)


def _window(verdict: Verdict, data: Dataset, as_of: float) -> dict[str, Any]:
    moments = data.frame["as_of"]
    return {
        "as_of": _when(as_of),
        "data_from": _when(moments.min()),
        "data_until": _when(moments.max()),
        "validation_from": ", ".join(map(_when, verdict.begins)) or "a share of the customers",
        "rows": len(data.frame),
        "validated_rows": verdict.validated_rows,
        "events": int(data.label.sum()),
        "customers": int(data.frame["customer_id"].nunique()),
    }


def _metrics(verdict: Verdict) -> dict[str, float]:
    """Validation figures of the chosen model and of the best baseline, with intervals; MLflow takes no NaN."""
    found = dict(verdict.chosen.figures)
    for name, (low, high) in verdict.intervals[verdict.chosen.name].items():
        found |= {f"{name}_low": low, f"{name}_high": high}
    found["gain_bound"] = verdict.bound
    rival = next(candidate for candidate in verdict.candidates if candidate.name == verdict.rival)
    found |= {f"baseline_{name}": value for name, value in rival.figures.items()}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _when(moment: float) -> str:
    return datetime.fromtimestamp(float(moment), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def summary(version: Version, verdict: Verdict, data: Dataset, as_of: float) -> Mapping[str, Any]:
    """What a training run has to say for itself, as plain values."""
    return {
        "task": version.task.name,
        "version": version.version,
        "run_id": version.run_id,
        "chosen": verdict.chosen.name,
        "gate_passed": verdict.passed,
        "best_baseline": verdict.rival,
        **_window(verdict, data, as_of),
        "metrics": _metrics(verdict),
        "models": [candidate.name for candidate in verdict.candidates],
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without MLflow's chatter about migrations, versions and its own deprecations."""
    names = ("mlflow", "alembic", "mlflow.store.db.utils", "mlflow.sklearn", "mlflow.models")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
