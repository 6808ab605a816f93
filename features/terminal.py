"""What the command lines say and how they end: progress, one sentence about what is wrong, a table of figures.

Shared by all three command lines; nothing is computed or stored here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from typer.core import TyperGroup

from features.sentences import suggestion

__all__ = ["OneSentence", "Told", "drafted", "progress", "refuse", "table", "told_plainly", "writable"]

Told = Callable[[str, int, int], None]
"""Told which step is being done, how much of it is done, and of how much."""
UsageError: Any = typer.BadParameter.__base__  # typer names this kind of its errors nowhere else


class OneSentence(TyperGroup):
    """A command line that says what is wrong with its arguments in one sentence, and ends with 2."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            done = super().main(*args, **{**options, "standalone_mode": False})
        except UsageError as problem:
            if type(problem).__name__ == "NoArgsIsHelpError":
                problem.show()
            else:
                typer.echo(_sentence(problem), err=True)
            sys.exit(2)
        except typer.Abort:
            sys.exit(1)
        sys.exit(done if isinstance(done, int) else 0)


def _sentence(problem: Any) -> str:
    if type(problem).__name__ == "NoSuchOption" and problem.ctx is not None:
        known = [name for each in problem.ctx.command.params for name in each.opts if name.startswith("--")]
        return f"unknown option `{problem.option_name}`; {suggestion(problem.option_name, known)}"
    text = " ".join(problem.format_message().split()).rstrip(".").replace("'", "`")
    text = text.replace(": Input should be ", "; expected ")  # pydantic's words, which typer passes on
    if text.startswith("No such command") and problem.ctx is not None:
        word = text.split("`")[1]
        return f"unknown command `{word}`; {suggestion(word, problem.ctx.command.commands)}"
    return text[:1].lower() + text[1:]


def refuse(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(2)


@contextmanager
def told_plainly(kinds: Callable[[], tuple[type[Exception], ...]]) -> Iterator[None]:
    """What is wrong with the input, in its own words and without a traceback; a mistake of ours keeps its own.

    `kinds` gives the errors that speak of the input; it is called only when something went wrong, because to know
    them may mean to import much.
    """
    try:
        yield
    except typer.Exit:
        raise
    except Exception as problem:
        if not isinstance(problem, (OSError, *kinds())):
            raise
        refuse(_unusable(problem) if isinstance(problem, OSError) else str(problem))


def _unusable(problem: OSError) -> str:
    if problem.filename is None or problem.strerror is None:
        return str(problem)
    return f"`{problem.filename}` cannot be used: {problem.strerror.lower()}; expected a place to read and write"


def writable(option: str, path: Path) -> None:
    """Refuse a file that could not be written in the end, before anything is done for it; its folder is made."""
    try:
        if path.exists() and not path.is_file():
            refuse(f"{option}: `{path}` is {'a folder' if path.is_dir() else 'no file'}; expected a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.part")
        probe.touch()
        probe.unlink()
    except OSError as problem:
        said = "its folder is a file" if isinstance(problem, FileExistsError) else (problem.strerror or "?").lower()
        refuse(f"{option}: `{path}` cannot be written ({said}); expected a file in a folder that you may write to")


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """A draft beside `path` that takes its place at the end; nothing is left of it if there is an error."""
    draft = path.with_name(f".{path.name}.part")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def progress() -> Iterator[Told]:
    """On stderr a bar for each step where somebody watches, else a line when it begins and when it is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        steps: dict[str, Any] = {}

        def told(step: str, done: int, total: int) -> None:
            if step not in steps:
                steps[step] = bars.add_task(step, total=total)
            bars.update(steps[step], completed=done, total=total)

        yield told


def _lines() -> Told:
    begun: dict[str, float] = {}

    def told(step: str, done: int, total: int) -> None:
        if step not in begun:
            begun[step] = time.monotonic()
            typer.echo(f"{step} …", err=True)
        if done >= total:
            count = f"{done:,} in " if total > 1 else ""
            typer.echo(f"{step}: {count}{time.monotonic() - begun[step]:.1f} s", err=True)

    return told


def table(rows: Iterable[tuple[str, str]]) -> None:
    """Names and figures on stdout."""
    made = Table(show_header=False)
    made.add_column()
    made.add_column(justify="right")
    for name, figure in rows:
        made.add_row(name, figure)
    Console().print(made)
