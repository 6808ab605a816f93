"""What every test gets: a workspace of its own under pytest's temporary folder, and never the real one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from features import database
from features.store import ProfileStore
from features.workspace import PROJECT, Workspace
from tests.homes import opened

os.environ["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir(), "onestory-tests-matplotlib"))  # fonts are found once
settings.register_profile("test", deadline=None, derandomize=True)
settings.register_profile("prove", deadline=None, max_examples=2_000)
settings.load_profile("test")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point everything that is written at run time into this test's folder, whatever the caller's shell says."""
    home = tmp_path / "home"
    for name in ("ONESTORY_DATABASE_URL", "MLFLOW_TRACKING_URI", "ONESTORY_WRITE_KEYS", "ONESTORY_SERVER_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)  # Feast's front door sets it for the whole process
    for name, value in Workspace(home).environment().items():
        monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def workspace(_home: Path) -> Iterator[Workspace]:
    """An empty workspace; ONESTORY_HOME points to it."""
    _home.mkdir()
    made = Workspace(_home)
    yield made
    if (_home / "onestory.db").exists():
        database.connect(made).dispose()


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, ProfileStore]]:
    """A workspace with Feast applied, which takes a second, for all tests of a file: each has customers of its own."""
    with opened(Workspace(tmp_path_factory.mktemp("home"))) as both:
        yield both


@pytest.fixture(scope="session")
def project() -> Path:
    """The root of the checkout."""
    return PROJECT
