"""Where everything written at run time lies: `ONESTORY_HOME`, and the names of the files in it.

Nothing here opens a database or a store; `environment()` says which variables Feast, BentoML and
MLflow need so that they too stay inside the workspace.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


_UNFIT = re.compile(r"%[0-9A-Fa-f]{2}|[?*\[]")
"""What means something else to databases, which are opened by URL, and to readers of Parquet, which take patterns."""


class NoWorkspace(OSError):
    """A folder that cannot be one, in one sentence."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """One folder that holds one retailer's data. Copy the folder and you have copied everything."""

    home: Path

    @property
    def database_url(self) -> str:
        return os.environ.get("ONESTORY_DATABASE_URL") or f"sqlite:///{self.home}/onestory.db"

    @property
    def offline(self) -> Path:
        return self.home / "offline"

    @property
    def decisions(self) -> Path:
        return self.home / "decisions"

    @property
    def continuity(self) -> Path:
        """Which decision each customer was shown last, for a day at most."""
        return self.home / "continuity"

    @property
    def versions(self) -> Path:
        """Content-addressed copies of every rulebook, catalog and model that a decision used."""
        return self.home / "versions"

    @property
    def champions(self) -> Path:
        return self.home / "champions"

    def file(self, name: str) -> Path:
        """The workspace's own `name` (`offers.yaml`, `rulebook.yaml`, …) if it has one, else the shipped one."""
        own = self.home / name
        return own if own.exists() else PROJECT / ("serving" if name == "rulebook.yaml" else "features") / name

    def secret(self) -> bytes:
        """The key under which e-mail addresses and phone numbers are hashed; made at first use."""
        path = self.home / "secret.key"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            self.home.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f"secret.key.{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_bytes(secrets.token_bytes(32))
            try:
                os.link(draft, path)  # the first of two processes wins, both read the winner's
            except FileExistsError:
                pass
            draft.unlink()
            return path.read_bytes()

    def environment(self) -> dict[str, str]:
        return {
            "ONESTORY_HOME": str(self.home),
            "BENTOML_HOME": str(self.home / "bentoml"),
            "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.home}/mlflow.db",
            "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR") or str(self.home / "matplotlib"),  # its list of fonts
            "BENTOML_DO_NOT_TRACK": "True",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "FEAST_USAGE": "False",
        }


def open_workspace(home: str | os.PathLike[str] | None = None) -> Workspace:
    """The workspace at `home`, else at `ONESTORY_HOME`, else `var/` in the project; exports its environment.

    Raises NoWorkspace where there can be none.
    """
    path = Path(home or os.environ.get("ONESTORY_HOME") or PROJECT / "var").resolve()
    if unfit := _UNFIT.search(str(path)):
        raise NoWorkspace(f"ONESTORY_HOME: `{path}` has `{unfit[0]}` in its name; expected a folder of another name")
    workspace = Workspace(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        reason = (problem.strerror or "?").lower()
        raise NoWorkspace(f"ONESTORY_HOME: `{path}` cannot be made ({reason}); expected a folder to write in") from None
    os.environ.update(workspace.environment())
    return workspace
