"""`python -m training`: train, promote, go back, score. Only the command line is here."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from features.offers import moment
from features.sentences import suggestion
from features.workspace import Workspace, open_workspace
from training.tasks import TASKS, Settings, Task

app = typer.Typer(
    help="What we learn: models trained, promoted, asked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="TASK", help="propensity, churn or returns")]
AsOf = Annotated[str | None, typer.Option(help="Use nothing that was not known then; a bare date is 00:00 UTC.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as one line of JSON.")]
Told = Callable[[str, int, int], None]


@app.command()
def train(
    task: Name,
    as_of: AsOf = None,
    param: Annotated[list[str] | None, typer.Option(help="name=value; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let the families compete on what was known, and register the winner. Nothing is promoted."""
    with _told_plainly():
        asked = _task(task)
        settings = asked.settings.with_(dict(_assignment(text) for text in param or ()))
        at = _as_of(as_of)
        workspace = open_workspace()
        with _progress() as told:
            summary = _train(workspace, asked, settings, at, told)
    _print(summary, as_json)


def _train(workspace: Workspace, task: Task, settings: Settings, at: float | None, told: Told) -> dict[str, Any]:
    told("opening the feature store", 0, 1)
    from features.store import ProfileStore
    from training import datasets, registry, selection

    at = at if at is not None else datasets.newest_event(workspace)
    if at is None:
        raise datasets.NoLabels(f"`{workspace.home}` holds no events; run `python -m features ingest` first")
    store = ProfileStore(workspace)
    told("opening the feature store", 1, 1)
    if task.per_exposure:
        from features.catalog import load_catalog

        catalog = load_catalog(workspace, ended=True)
        data = datasets.propensity_dataset(workspace, store, catalog, at, task.columns, told)
    elif task.per_line:
        from training import lines

        data = lines.returns_dataset(workspace, store, at, task.columns, task.service, told)
    else:
        told("features as known then", 0, 1)
        data = datasets.churn_dataset(workspace, store, at, task.columns, task.service)
        told("features as known then", 1, 1)
    store.close()
    verdict = selection.choose(task, data, settings, _as_one("models compete", told))
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
    with _told_plainly():
        asked, workspace = _task(task), open_workspace()
        from training import promotion
        from training.registry import Registry

        pointer = promotion.promote(workspace, Registry(workspace), asked, version)
    _print(pointer, as_json)


@app.command()
def rollback(task: Name, as_json: AsJson = False) -> None:
    """Go back to the champion before."""
    with _told_plainly():
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
    with _told_plainly():
        asked = _task(task)
        at = _as_of(as_of)
        of_pairs = asked.per_exposure or asked.per_line
        if of_pairs and (pairs is None or as_of is not None):
            _refuse(f"score {task} takes `--pairs FILE.parquet` with a column as_of, and no `--as-of`")
        if not of_pairs and (pairs is not None or at is None):
            _refuse(f"score {task} takes `--as-of T`, and no `--pairs`")
        workspace = open_workspace()
        with _progress() as told:
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

    store = ProfileStore(workspace)
    told("opening model and feature store", 1, 1)
    if asked is not None and task.per_line:
        scores = scoring.score_lines(workspace, store, task, scorer, asked, told)
    elif asked is not None:
        scores = scoring.score_pairs(workspace, store, scorer, asked, told)
    else:
        assert at is not None
        scores = scoring.score_customers(workspace, store, task, scorer, at)
    store.close()
    out.parent.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(out, index=False)
    return {"task": task.name, "version": found.version, "rows": len(scores), "out": str(out)}


# --------------------------------------------------------------------------------------- arguments


def _task(name: str) -> Task:
    if name not in TASKS:
        _refuse(f"unknown task `{name}`; {suggestion(name, TASKS)}")
    return TASKS[name]


def _as_of(text: str | None) -> float | None:
    try:
        return None if text is None else moment(text)
    except ValueError as error:
        _refuse(f"--as-of {error}")


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        _refuse(f"--param is `{text}`; expected name=value, such as trees=300")
    return name.strip(), value.strip()


# ---------------------------------------------------------------------------------------- printing


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise typer.Exit(2)


@contextmanager
def _told_plainly() -> Iterator[None]:
    """What is wrong with the input, in its own words and without a traceback; a mistake of ours keeps its own."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as problem:
        from features.offline import NotBuilt
        from features.scorer import ScorerProblem
        from features.sentences import FileProblem
        from training.datasets import NoLabels
        from training.registry import NoSuchVersion
        from training.scoring import BadPairs
        from training.tasks import BadSetting

        kinds = (OSError, NotBuilt, FileProblem, ScorerProblem, NoLabels, NoSuchVersion, BadPairs, BadSetting)
        if not isinstance(problem, kinds):
            raise
        _refuse(str(problem))


@contextmanager
def _progress() -> Iterator[Told]:
    """One line a step on stderr: a bar where somebody watches, else a line when it begins and when it is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bars:
        steps: dict[str, Any] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bars.add_task(step, total=total)
            bars.update(steps[step], completed=done, total=total)

        yield told


def _lines() -> Told:
    begun: dict[str, float] = {}

    def told(step: str, done: int, total: int) -> None:
        if step not in begun:
            begun[step] = time.monotonic()
            print(f"{step} …", file=sys.stderr, flush=True)
        if done >= total:
            print(f"{step}: {time.monotonic() - begun[step]:.1f} s", file=sys.stderr, flush=True)

    return told


def _as_one(name: str, told: Told) -> Told:
    """Many steps shown as one."""
    return lambda _, done, total: told(name, done, total)


def _print(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(orjson.dumps(summary).decode())
        return
    table = Table(show_header=False, box=None)
    for name, value in summary.items():
        values = value.items() if isinstance(value, dict) else [(name, value)]
        for each, figure in values:
            table.add_row(str(each), _figure(figure))
    Console().print(table)


def _figure(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    app()
