"""Copies of every rulebook and catalog that decided anything, by the hash of their content.

A decision's record names its versions; `replay` reads them back from here. Models keep their own copies,
in the Bento model store, by version.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from features.catalog import Catalog, load_catalog
from features.workspace import Workspace
from serving import rulebook

if TYPE_CHECKING:
    from serving.decide import Policy


def keep(workspace: Workspace, policy: Policy) -> None:
    """Copy the files of this policy, unless they are kept already."""
    _keep(folder_of(workspace, "rulebook", policy.book.version), {"rulebook.yaml": policy.book.content})
    _keep(folder_of(workspace, "catalog", policy.catalog.version), policy.catalog.contents)


def note_at_work(workspace: Workspace, policy: Policy) -> None:
    """This policy is sound: whoever starts while the files are broken decides by it."""
    draft = workspace.versions / f".at_work.{os.getpid()}"
    draft.write_text(json.dumps(policy.versions), "utf-8")
    draft.replace(workspace.versions / "at_work.json")


def at_work(workspace: Workspace) -> Mapping[str, str | None] | None:
    """The versions of the policy that was last found sound; None if there never was one."""
    try:
        found: Mapping[str, str | None] = json.loads((workspace.versions / "at_work.json").read_bytes())
    except FileNotFoundError:
        return None
    return found


def kept_catalog(workspace: Workspace, version: str) -> Catalog:
    """The catalog of that version; FileNotFoundError where no copy is kept."""
    folder = folder_of(workspace, "catalog", version)
    if not folder.exists():
        raise FileNotFoundError(f"catalog `{version}` is missing; expected its copy under versions/")
    return load_catalog(Workspace(folder))


def kept_rulebook(workspace: Workspace, version: str) -> rulebook.Rulebook:
    """The rulebook of that version; FileNotFoundError where no copy is kept."""
    path = folder_of(workspace, "rulebook", version) / "rulebook.yaml"
    if not path.exists():
        raise FileNotFoundError(f"rulebook `{version}` is missing; expected its copy under versions/")
    return rulebook.load(path)


def folder_of(workspace: Workspace, kind: str, version: str) -> Path:
    """Where the files of that version lie: `versions/rulebook-1a2b…`."""
    return workspace.versions / f"{kind}-{version.removeprefix('sha256:')}"


def _keep(folder: Path, contents: Mapping[str, bytes]) -> None:
    if folder.exists():
        return
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    draft.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (draft / name).write_bytes(content)
    try:
        draft.rename(folder)
    except OSError:  # another worker was first, with the same content
        shutil.rmtree(draft)
