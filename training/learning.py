"""From a workspace to a verdict: the labelled rows of a task, and the competition over them. Nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable

from features.catalog import load_catalog
from features.store import ProfileStore
from features.workspace import Workspace
from training import datasets, lines, selection
from training.datasets import Dataset
from training.selection import Verdict
from training.tasks import Settings, Task

Progress = Callable[[str, int, int], None]


def learn(
    workspace: Workspace, store: ProfileStore, task: Task, settings: Settings, at: float, told: Progress
) -> tuple[Dataset, Verdict]:
    """The rows whose labels are known at `at`, and what came of the competition over them."""
    data = labelled(workspace, store, task, at, told)
    return data, selection.choose(task, data, settings, lambda _, done, total: told("models compete", done, total))


def labelled(workspace: Workspace, store: ProfileStore, task: Task, at: float, told: Progress) -> Dataset:
    if task.per_exposure:
        catalog = load_catalog(workspace, ended=True)
        return datasets.propensity_dataset(workspace, store, catalog, at, task.columns, told)
    if task.per_line:
        return lines.returns_dataset(workspace, store, at, task.columns, task.service, told)
    told("features as known then", 0, 1)
    data = datasets.churn_dataset(workspace, store, at, task.columns, task.service)
    told("features as known then", 1, 1)
    return data
