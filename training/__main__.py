"""`python -m training`: train, promote, go back, score. Only the command line is here."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from features.offers import moment
from features.sentences import suggestion
from features.terminal import OneSentence, Told, progress, refuse, table, told_plainly
from features.workspace import Workspace, open_workspace
from training.tasks import TASKS, Settings, Task

app = typer.Typer(
    cls=OneSentence,
    help="What we learn: models trained, promoted, asked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="TASK", help="propensity, churn or returns")]
AsOf = Annotated[str | None, typer.Option(help="Use nothing that was not known then; a bare date is 00:00 UTC.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as one line of JSON.")]


@app.command()
def train(
    task: Name,
    as_of: AsOf = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let the families compete on what was known, and register the winner. Nothing is promoted."""
    with told_plainly(_kinds):
        asked = _task(task)
        settings = asked.settings.with_(dict(_assignment(text) for text in param or ()))
        at = _as_of(as_of)
        workspace = open_workspace()
        with progress() as told:
            summary = _train(workspace, asked, settings, at, told)
    _print(summary, as_json)


def _train(workspace: Workspace, task: Task, settings: Settings, at: float | None, told: Told) -> dict[str, Any]:
    told("opening the feature store", 0, 1)
    from features.store import ProfileStore
    from training import datasets, learning, registry

    heard = datasets.last_heard(workspace, at)
    if heard is None:
        known = "" if at is None else " that were known then"
        raise datasets.NoLabels(f"`{workspace.home}` holds no events{known}; run `python -m features ingest` first")
    at = heard
    _build_lacking(workspace, told)
    store = ProfileStore(workspace)
    told("opening the feature store", 1, 1)
    data, verdict = learning.learn(workspace, store, task, settings, at, told)
    store.close()
    told("recording the run", 0, 1)
    command = shlex.join(["python", "-m", "training", *sys.argv[1:]])
    version = registry.Registry(workspace).record(task, verdict, data, at, settings, command)
    told("recording the run", 1, 1)
    return dict(registry.summary(version, verdict, data, at))


@app.command()
def promote(
    task: Name,
    version: Annotated[str, typer.Option(help="A number, or latest.")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Make a version the champion and hand it over to serving."""
    with told_plainly(_kinds):
        asked, workspace = _task(task), open_workspace()
        from training import promotion
        from training.registry import Registry

        pointer = promotion.promote(workspace, Registry(workspace), asked, version)
    _print(pointer, as_json)


@app.command()
def rollback(task: Name, as_json: AsJson = False) -> None:
    """Go back to the champion before."""
    with told_plainly(_kinds):
        asked, workspace = _task(task), open_workspace()
        from training import promotion
        from training.registry import Registry

        pointer = promotion.rollback(workspace, Registry(workspace), asked)
    _print(pointer, as_json)


@app.command()
def score(
    task: Name,
    out: Annotated[Path, typer.Option(help="The parquet file to write.")],
    as_of: AsOf = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Parquet: customer_id, as_of, offer_id[, channel, placement] or product_id[, quantity, price]."
        ),
    ] = None,
    version: Annotated[str, typer.Option(help="A number, latest or champion.")] = "latest",
    as_json: AsJson = False,
) -> None:
    """Score every customer known at --as-of (churn), or the pairs of a file (propensity, returns)."""
    with told_plainly(_kinds):
        asked = _task(task)
        at = _as_of(as_of)
        of_pairs = asked.per_exposure or asked.per_line
        if of_pairs and (pairs is None or as_of is not None):
            refuse(f"score {task} takes `--pairs FILE.parquet` with a column as_of, and no `--as-of`")
        if not of_pairs and (pairs is not None or at is None):
            refuse(f"score {task} takes `--as-of T`, and no `--pairs`")
        workspace = open_workspace()
        with progress() as told:
            summary = _score(workspace, asked, at, pairs, version, out, told)
    _print(summary, as_json)


def _score(
    workspace: Workspace, task: Task, at: float | None, pairs: Path | None, version: str, out: Path, told: Told
) -> dict[str, Any]:
    told("opening model and feature store", 0, 1)
    from training import scoring
    from training.registry import Registry

    asked = scoring.read_pairs(pairs) if pairs is not None else None
    registry = Registry(workspace)
    found = registry.find(task, version)
    scorer = registry.scorer(found)
    from features.store import ProfileStore

    _build_lacking(workspace, told)
    store = ProfileStore(workspace)
    told("opening model and feature store", 1, 1)
    scores = scoring.scores(workspace, store, task, scorer, at, asked, told)
    store.close()
    out.parent.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(out, index=False)
    return {"task": task.name, "version": found.version, "rows": len(scores), "out": str(out)}


def _build_lacking(workspace: Workspace, told: Told) -> None:
    """Profiles as known at past moments may be behind the log, as after `features ingest`. Raises NotBuilt."""
    from features import offline
    from features.build import build_lacking

    offline.demand_built(workspace)
    build_lacking(workspace, told)


# --------------------------------------------------------------------------------------- arguments


def _task(name: str) -> Task:
    if name not in TASKS:
        refuse(f"unknown task `{name}`; {suggestion(name, TASKS)}")
    return TASKS[name]


def _as_of(text: str | None) -> float | None:
    try:
        at = None if text is None else moment(text)
    except ValueError as error:
        refuse(f"--as-of {error}")
    if at is not None and at > time.time():
        refuse(f"--as-of is `{text}`, which is to come; expected a time that has passed")
    return at


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        refuse(f"--param is `{text}`; expected name=value, such as trees=300")
    return name.strip(), value.strip()


# ---------------------------------------------------------------------------------------- printing


def _kinds() -> tuple[type[Exception], ...]:
    from features.database import DatabaseProblem
    from features.offline import NotBuilt
    from features.scorer import ScorerProblem
    from features.sentences import FileProblem
    from training.datasets import NoLabels
    from training.registry import NoSuchVersion
    from training.scoring import BadPairs
    from training.tasks import BadSetting

    return NotBuilt, DatabaseProblem, FileProblem, ScorerProblem, NoLabels, NoSuchVersion, BadPairs, BadSetting


def _print(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(summary).decode())
        return
    rows = [
        (str(each), _figure(figure))
        for name, value in summary.items()
        for each, figure in (value.items() if isinstance(value, dict) else [(name, value)])
    ]
    table(rows)


def _figure(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    app()
