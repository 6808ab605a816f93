"""How many instructions an answer takes: the one figure that other work on the machine does not change.

Valgrind counts them, in a process of its own for each job; without Valgrind (Debian's package `valgrind`) nothing is
counted. Applications are called in process, as ASGI has it: sockets and the kernel are left out on all sides. The parts
of our answer are counted apart: reading the profile, deciding, and telling and logging what was decided.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks import decisions, stand
from benchmarks.servers import environment_of
from benchmarks.verdicts import Verdict
from features.workspace import PROJECT, Workspace, open_workspace

CANDIDATES, CALLS = 20, 20
ENDPOINTS = {
    "empty": "benchmarks.empty:Empty",
    "naive": "benchmarks.naive:Naive",
    "ours": "serving.service:NextBestAction",
}
PARTS = ("read", "decide", "tell")
VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet")


def main(workspace: Workspace, console: Console, quick: bool) -> list[Verdict]:
    if shutil.which("valgrind") is None:
        console.print("instructions: there is no `valgrind` on this machine, so none are counted", highlight=False)
        return []
    jobs = [each for each in (*ENDPOINTS, *PARTS) if not (quick and each == "naive")]
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        copy = stand.copied(workspace, Path(folder) / "home")
        stand.put(copy, stand.offers_of(workspace), CANDIDATES)
        if "naive" in jobs:
            decisions.prepare_naive(copy, stand.customers(copy))
        found = {job: _counted(copy, job, Path(folder) / job) for job in jobs}
    table = Table(title=f"instructions of an answer, {CANDIDATES} candidates")
    for heading in ("what", "thousands", "× empty"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for job, count in found.items():
        name = f"of ours: {job}" if job in PARTS else job
        table.add_row(name, f"{count / 1e3:,.0f}", f"{count / found['empty']:.2f}")
    console.print(table)
    return []


def _counted(workspace: Workspace, job: str, out: Path) -> float:
    """Instructions of one call of that job."""
    command = [*VALGRIND, f"--callgrind-out-file={out}", sys.executable, "-W", "ignore", "-m", __name__, job]
    done = subprocess.run(command, cwd=PROJECT, env=environment_of(workspace), capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"the job `{job}` ended with {done.returncode}: {done.stderr[-2_000:]}")
    told = re.search(r"^(?:summary|totals): (\d+)", out.with_name(f"{out.name}.1").read_text(), re.MULTILINE)
    if told is None:
        raise ValueError(f"`{out}.1` has no total; expected what Valgrind writes")
    return int(told[1]) / CALLS


def _control(*said: str) -> None:
    subprocess.run(["callgrind_control", *said, str(os.getpid())], stdout=subprocess.DEVNULL, check=True)


async def _asked(job: str, workspace: Workspace) -> None:
    """The application of that name, called so often with Valgrind counting, and as often before."""
    module, _, name = ENDPOINTS[job].partition(":")
    app = getattr(importlib.import_module(module), name).to_asgi()
    ready = asyncio.Event()
    begin = itertools.chain([{"type": "lifespan.startup"}])

    async def receive() -> Mapping[str, Any]:
        return next(begin, None) or await asyncio.Event().wait() or {}

    async def send(message: Mapping[str, Any]) -> None:
        ready.set()

    living = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
    await ready.wait()
    asks = [{"customer_id": each, "channel": "web", "placement": "home"} for each in stand.customers(workspace)[:CALLS]]
    if job == "ours":
        for signal in ("stock", "profile"):
            await _post(app, "/v1/track", {"userId": "bench", "event": "Feed Alive", "properties": {"signal": signal}})
    for ask in asks:
        await _post(app, "/decide", ask)
    _control("-i", "on")
    for ask in asks:
        await _post(app, "/decide", ask)
    _control("-d", job)
    living.cancel()


async def _post(app: Any, path: str, content: Mapping[str, Any]) -> None:
    """One request and its answer, as a server would pass them on. Raises ValueError where it is no 200."""
    body, answer = orjson.dumps(content), list[Mapping[str, Any]]()
    headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        answer.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "app": app,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    await app(scope, receive, send)
    if answer[0]["status"] != 200:
        raise ValueError(f"`{path}` answered {answer[0]['status']}: {answer[-1].get('body')!r}")


def _part(job: str, workspace: Workspace) -> None:
    """That part of ours for as many customers, its inputs made before Valgrind counts."""
    from serving.decide import decide
    from serving.engine import Engine
    from serving.question import Question

    engine, now = Engine.open(workspace), time.time()
    stand.feeds_alive(engine, now)
    ids = stand.customers(workspace)[:CALLS]

    def drafts() -> list[Any]:
        return [engine.desk.draft(Question(each, "web", "home"), each, now) for each in ids]

    def inputs() -> tuple[Callable[[Any], object], Sequence[Any]]:
        if job == "read":
            return engine.store.read, ids
        if job == "tell":
            return engine.desk.told, drafts()
        facts = [each.decision.facts for each in drafts()]
        fresh = [replace(each, profile=engine.store.read(each.customer_id or "").profile) for each in facts]
        return lambda seen: decide(seen, engine.policy), fresh

    for each in ids:
        engine.decision(Question(each, "web", "home"), now)
    work, rows = inputs()
    _control("-i", "on")
    for row in rows:
        work(row)
    _control("-d", job)


if __name__ == "__main__":
    if sys.argv[1] in ENDPOINTS:
        asyncio.run(_asked(sys.argv[1], open_workspace()))
    else:
        _part(sys.argv[1], open_workspace())
    sys.stdout.flush()
    os._exit(0)  # nobody waits for what a service does when it ends
