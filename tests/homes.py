"""Workspaces that outlive a test: the environment of this process points to one while it is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from features import database
from features.store import ProfileStore
from features.workspace import Workspace


@contextmanager
def at_home(workspace: Workspace) -> Iterator[Workspace]:
    """Whatever asks the environment finds this workspace; its database is closed in the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in workspace.environment().items():
            patch.setenv(name, value)
        yield workspace
    database.connect(workspace).dispose()


@contextmanager
def opened(workspace: Workspace) -> Iterator[tuple[Workspace, ProfileStore]]:
    """The same with its profiles, Feast applied."""
    with at_home(workspace):
        store = ProfileStore(workspace)
        yield workspace, store
        store.close()
