"""The notebooks: run on small data, committed without outputs, and nothing is defined in them."""

from __future__ import annotations

import ast
import json
import warnings
from pathlib import Path

import journey
import pytest
from typer.testing import CliRunner

from features.workspace import PROJECT, Workspace
from training.__main__ import app

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.xdist_group("notebooks")


def cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text("utf-8"))["cells"]


def sources(notebook: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small journey with a small champion for each task."""
    small = ("--param", "trees=20", "--param", "resamples=20", "--param", "families=lightgbm")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = journey.make(tmp_path_factory.mktemp("notebooks") / "home")
        for task in ("churn", "propensity"):
            for command in (["train", task, *small], ["promote", task]):
                done = CliRunner().invoke(app, command)
                assert done.exit_code == 0, done.output
    return workspace


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_profiles", "02_models", "03_decisions"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs_and_defines_nothing(notebook: Path) -> None:
    for cell in cells(notebook):
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    defined = [node for source in sources(notebook) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    assert defined == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_on_small_data(notebook: Path, trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for name, value in trained.environment().items():
        monkeypatch.setenv(name, value)
    names = run(notebook)
    if notebook.stem == "01_profiles":
        assert names["differing"].empty
    if notebook.stem == "03_decisions":
        assert len(names["shown"]["offers"]) > 0


def run(notebook: Path) -> dict:
    """The cells in one namespace, as a kernel would, pictures drawn to nowhere; the names at the end."""
    import matplotlib

    matplotlib.use("Agg")
    names: dict = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, source in enumerate(sources(notebook), 1):
            exec(compile(source, f"{notebook.stem}, code cell {number}", "exec"), names)
        matplotlib.pyplot.close("all")
    return names
