"""Where the decisions are measured: a copy of the demo's workspace, with as many offers as a measurement wants."""

from __future__ import annotations

import copy
import random
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from features.vocabulary import SIGNALS
from features.workspace import Workspace

if TYPE_CHECKING:
    from serving.engine import Engine

LEFT_OUT = ("decisions", "continuity", "mlartifacts", "mlflow.db*", "*.db-wal", "*.db-shm", "versions", "demo")
CUSTOMERS = 200


def copied(workspace: Workspace, home: Path) -> Workspace:
    """A copy of what serving reads; databases as SQLite copies them, so that a running service may go on."""
    shutil.copytree(workspace.home, home, ignore=shutil.ignore_patterns(*LEFT_OUT, "*.db"))
    for path in workspace.home.glob("*.db"):
        if path.name != "mlflow.db":
            with sqlite3.connect(path) as source, sqlite3.connect(home / path.name) as target:
                source.backup(target)
    return Workspace(home)


def offers_of(workspace: Workspace) -> list[dict[str, Any]]:
    """The workspace's offers as its file has them."""
    return list(yaml.load(workspace.file("offers.yaml").read_bytes(), yaml.CSafeLoader)["offers"])


def put(workspace: Workspace, offers: list[dict[str, Any]], count: int) -> None:
    """Make the candidates `count`: every so-manieth of `offers`, or all and as many of them once more as it takes."""
    once = min(count, len(offers))
    chosen = [offers[position * len(offers) // once] for position in range(once)]
    for number in range(count - len(chosen)):
        again = copy.deepcopy(offers[number % len(offers)])
        again["offer_id"] += f"-{number // len(offers) + 2}"
        chosen.append(again)
    (workspace.home / "offers.yaml").write_text(yaml.dump({"offers": chosen}, Dumper=yaml.CSafeDumper))


def customers(workspace: Workspace) -> list[str]:
    """Some customers by chance, always the same ones: the frequent and the rare as they come."""
    with sqlite3.connect(workspace.home / "onestory.db") as connection:
        ids = [row[0] for row in connection.execute("SELECT customer_id FROM profiles ORDER BY customer_id")]
    logins = [each for each in ids if not each.startswith("anonymous:")]
    return random.Random(1).sample(logins, min(CUSTOMERS, len(logins)))


def feeds_alive(engine: Engine, now: float) -> None:
    """Every signal has just been heard of, so that nothing is held back because nobody spoke."""
    said = [
        {"type": "track", "event": "Feed Alive", "messageId": f"bench-{now}-{each}", "properties": {"signal": each}}
        for each in SIGNALS
    ]
    engine.ingest(said, now, None)
