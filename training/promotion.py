"""Making a version the one at work, and going back: aliases in MLflow, a copy in the Bento store, a pointer file.

The pointer file is what serving reads; it is renamed into place last, so that whoever reads it finds the
model there. Nothing is trained or judged here.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from typing import Any

from features.scorer import Scorer
from features.workspace import Workspace
from training.registry import CHAMPION, PREVIOUS, NoSuchVersion, Registry, Version
from training.tasks import Task


def promote(workspace: Workspace, registry: Registry, task: Task, version: str = "latest") -> dict[str, Any]:
    """Make this version the champion; the one before is remembered as `previous`. What the pointer file says."""
    return _install(workspace, registry, registry.find(task, version))


def rollback(workspace: Workspace, registry: Registry, task: Task) -> dict[str, Any]:
    """Make the previous champion the champion again; a second rollback undoes the first."""
    registry.find(task)
    before = registry.alias(task, PREVIOUS)
    if before is None:
        raise NoSuchVersion(f"`{task.name}` has no champion before this one; nothing to go back to")
    return _install(workspace, registry, before)


def _install(workspace: Workspace, registry: Registry, version: Version) -> dict[str, Any]:
    task, now = version.task, registry.alias(version.task, CHAMPION)
    pointer = {
        "task": task.name,
        "version": version.version,
        "tag": hand_over(workspace, registry, version),
        "run_id": version.run_id,
        "feature_service": task.service,
        "model_name": task.model_name,
    }
    if now is not None and now.version != version.version:
        registry.set_alias(now, PREVIOUS)
    registry.set_alias(version, CHAMPION)
    workspace.champions.mkdir(parents=True, exist_ok=True)
    draft = workspace.champions / f".{task.name}.{os.getpid()}"
    draft.write_text(json.dumps(pointer, indent=1), "utf-8")
    draft.replace(workspace.champions / f"{task.name}.json")
    return pointer


def hand_over(workspace: Workspace, registry: Registry, version: Version) -> str:
    """Copy the version's portable form into the Bento store, if it is not there yet; its tag."""
    os.environ.update(workspace.environment())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bentoml
        import lightgbm
        from bentoml._internal.models import ModelStore  # the public calls keep the first BENTOML_HOME they met

        folder = workspace.home / "bentoml" / "models"
        folder.mkdir(parents=True, exist_ok=True)
        store = ModelStore(folder)
        tag = f"{version.task.model_name}:v{version.version}-{version.run_id[:8]}"
        try:
            return str(bentoml.models.get(tag, _model_store=store).tag)
        except bentoml.exceptions.NotFound:
            pass
        told = {
            "task": version.task.name,
            "version": version.version,
            "run_id": version.run_id,
            "feature_service": version.task.service,
        }
        context = bentoml.models.ModelContext("onestory", {"lightgbm": lightgbm.__version__})
        with registry.portable(version) as portable:
            Scorer.load(portable)  # what serving could not open must not get there
            with bentoml.models.create(
                tag,
                module="features.scorer",
                labels=told,
                metadata=told,
                signatures={},
                context=context,
                _model_store=store,
            ) as model:
                for path in sorted(portable.iterdir()):
                    shutil.copy(path, model.path_of(path.name))
        return str(model.tag)
