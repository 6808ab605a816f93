"""The environment variables of the service, read once where it is composed.

Those of the workspace (`ONESTORY_HOME`, the database) belong to `features.workspace` and `features.database`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


class SettingsProblem(ValueError):
    """A variable that cannot be used, in one sentence. Never holds the value of a key."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set. With no key at all the service is open, to loopback only."""

    write_keys: tuple[str, ...] = field(default=(), repr=False)
    server_keys: tuple[str, ...] = field(default=(), repr=False)
    workers: int = 1
    retention_days: int = 365

    @property
    def is_open(self) -> bool:
        return not (self.write_keys or self.server_keys)

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings that `environment` (by default the process's) asks for."""
        variables = os.environ if environment is None else environment
        return cls(
            write_keys=_keys(variables, "ONESTORY_WRITE_KEYS"),
            server_keys=_keys(variables, "ONESTORY_SERVER_KEYS"),
            workers=_count(variables, "ONESTORY_WORKERS", default=1),
            retention_days=_count(variables, "ONESTORY_RETENTION_DAYS", default=365),
        )


def _keys(variables: Mapping[str, str], name: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in variables.get(name, "").split(",") if key.strip())
    if name in variables and variables[name].strip() and not keys:
        raise SettingsProblem(f"settings: `{name}` is set but names no key; expected keys, or no `{name}`")
    for number, key in enumerate(keys, start=1):
        if ":" in key or not key.isascii() or not key.isprintable():
            raise SettingsProblem(
                f"settings: key {number} of `{name}` cannot be sent as a Basic auth user; "
                "expected printable ASCII without a colon"
            )
    return keys


def _count(variables: Mapping[str, str], name: str, default: int) -> int:
    text = variables.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise SettingsProblem(f"settings: `{name}` is `{text[:40]}`; expected a whole number of at least 1")
    return int(text)
