"""The built bento: what is in it, and that it serves from another folder with its models inside."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from processes import serving

from features.workspace import PROJECT, Workspace

MODEL = {"family": "constant", "columns": [], "population": 0.25, "calibration": None}


def promoted(workspace: Workspace, task: str) -> None:
    """What `python -m training promote` leaves behind for serving, by hand: the pointer, and the smallest model."""
    folder = workspace.home / "bentoml" / "models" / f"onestory-{task}" / "v7-0a1b2c3d"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"task": task, **MODEL}))
    (folder / "model.yaml").write_text(f"labels: {{task: {task}, version: '7'}}")
    workspace.champions.mkdir(parents=True, exist_ok=True)
    pointer = {"task": task, "version": "7", "tag": f"onestory-{task}:v7-0a1b2c3d"}
    (workspace.champions / f"{task}.json").write_text(json.dumps(pointer))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bento built over a workspace with a champion for propensity only, taken elsewhere; what the build said."""
    home = tmp_path_factory.mktemp("build") / "home"
    workspace = Workspace(home)
    promoted(workspace, "propensity")
    command = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
    variables = {**os.environ, **workspace.environment()}
    done = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (bento,) = (home / "bentoml" / "bentos" / "next_best_action").glob("*/")
    taken = tmp_path_factory.mktemp("elsewhere") / "bento"
    shutil.copytree(bento, taken)
    shutil.move(home / "bentoml", taken.parent / "store")  # as another machine's store, without its models
    shutil.rmtree(taken.parent / "store" / "models")
    shutil.rmtree(home)
    return taken, done.stderr


def test_it_holds_features_and_serving_and_not_training(built: tuple[Path, str]) -> None:
    source = built[0] / "src"
    rooms = {path.name for path in source.iterdir() if path.is_dir()}
    assert rooms == {"features", "serving", "champions"}
    for room in ("features", "serving"):
        packed = {path.relative_to(source) for path in (source / room).rglob("*.py")}
        assert packed == {path.relative_to(PROJECT) for path in (PROJECT / room).rglob("*.py")}
    assert (source / "features" / ".feastignore").exists()
    web = {path.relative_to(PROJECT) for path in (PROJECT / "serving").glob("**/web/*")}
    assert web and web <= {path.relative_to(source) for path in source.rglob("web/*")}


def test_the_build_says_which_task_has_no_champion(built: tuple[Path, str]) -> None:
    said = [line for line in built[1].splitlines() if line.startswith("bento: ")]
    assert len(said) == 1
    assert "without a model for `churn`" in said[0] and "`python -m training promote churn`" in said[0]


def test_it_serves_from_another_folder_with_its_model_inside(built: tuple[Path, str], tmp_path: Path) -> None:
    rulebook = built[0] / "src" / "serving" / "rulebook.yaml"
    rulebook.write_text(rulebook.read_text() + "# of this bento\n")  # so that its answers are told from the checkout's
    with serving(tmp_path / "home", 1, str(built[0]), {"PYTHONPATH": ""}, tmp_path) as running:
        body = {"customer_id": "nobody", "channel": "web", "placement": "home"}
        versions = httpx.post(f"{running.url}/decide", json=body).json()["versions"]
    assert versions["rulebook"] == "sha256:" + hashlib.sha256(rulebook.read_bytes()).hexdigest()
    assert (versions["propensity"], versions["churn"]) == ("7", None)


@pytest.mark.prove
def test_it_serves_by_its_tag_from_a_store(built: tuple[Path, str], tmp_path: Path) -> None:
    elsewhere = {"PYTHONPATH": "", "BENTOML_HOME": str(built[0].parent / "store")}
    with serving(tmp_path / "home", 1, "next_best_action:latest", elsewhere, tmp_path) as running:
        body = {"customer_id": "nobody", "channel": "web", "placement": "home"}
        versions = httpx.post(f"{running.url}/decide", json=body).json()["versions"]
    assert (versions["propensity"], versions["churn"]) == ("7", None)
