"""What a built bento takes along besides the source: the champions of the workspace.

`bentoml build` copies source, and models it only names. Here the champions go into the bento itself, pointer
files and models into its `src/champions/`, so that it decides wherever it is taken. (Not into its
`models/`: on saving, BentoML moves those to its store.) Where they are found again is in `scoring`; no
model is opened or judged here.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from bentoml.images import Image

from features.workspace import Workspace, open_workspace
from serving.scoring import COLUMNS, model_folder, pointer_file, read_pointer


class BentoImage(Image):
    """BentoML's description of the bento's image; once it is frozen into the bento, the champions are in there too."""

    def freeze(self, bento_fs: Path, *arguments: Any, **options: Any) -> Any:
        frozen = super().freeze(bento_fs, *arguments, **options)
        workspace = open_workspace()
        for task in pack(workspace, Path(bento_fs)):
            sys.stderr.write(
                f"bento: built without a model for `{task}`, as none is promoted in `{workspace.home}`; "
                f"run `python -m training promote {task}` and build again to have it inside\n"
            )
        return frozen


def pack(workspace: Workspace, bento: Path) -> list[str]:
    """Copy the champions into the bento that is being built in this folder; the tasks that have none.

    Return risk is not among those: where nothing was ever sent back there is none to train.
    """
    missing = []
    for task in COLUMNS:
        pointer = read_pointer(workspace, task)
        if pointer is None:
            missing += [task] if task != "returns" else []
            continue
        inside = bento / "src" / "champions"
        name, _, version = pointer["tag"].partition(":")
        shutil.copytree(model_folder(workspace, pointer["tag"]), inside / name / version, dirs_exist_ok=True)
        shutil.copy(pointer_file(workspace, task), inside)
    return missing
