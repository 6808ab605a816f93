"""`python -m serving`: decide for an audience, replay the log, export or erase a customer, check the rulebook, demo.

Exit codes: 0 done, 1 the thing checked does not hold, 2 bad arguments or input with one sentence on stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from features.sentences import FileProblem
from features.terminal import OneSentence, drafted, refuse, told_plainly, writable
from features.vocabulary import CHANNELS, PLACEMENTS
from features.workspace import open_workspace

app = typer.Typer(
    cls=OneSentence, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
book = typer.Typer(cls=OneSentence, no_args_is_help=True, help="Check the rulebook.")
app.add_typer(book, name="rulebook")
err = Console(stderr=True)

NOTHING_TO_COMPARE = "has no answer to compare with; `--out FILE` writes what comes out"
Json = Annotated[bool, typer.Option("--json", help="print the figures as JSON")]


def _kinds() -> tuple[type[Exception], ...]:
    from features.database import DatabaseProblem

    return FileProblem, DatabaseProblem


def told(figures: dict[str, Any], as_json: bool) -> None:
    print(json.dumps(figures) if as_json else ", ".join(f"{name} {value}" for name, value in figures.items()))


@app.command()
def decide(
    audience: Annotated[Path, typer.Option(help="csv or parquet with a column customer_id")],
    channel: Annotated[str, typer.Option(help=f"one of {', '.join(CHANNELS)}")],
    placement: Annotated[str, typer.Option(help=f"one of {', '.join(PLACEMENTS)}")],
    out: Annotated[Path, typer.Option(help="the parquet file to write")],
    limit: Annotated[int, typer.Option(min=1, max=20, help="offers a customer at most")] = 3,
    location_id: Annotated[str | None, typer.Option(help="the shop, for the channel store")] = None,
    as_json: Json = False,
) -> None:
    """Decide for every customer of an audience file; one row per offer, or one row without offer."""
    from serving.audience import AudienceProblem, decide_audience, read_audience
    from serving.engine import Engine
    from serving.question import Question

    if channel not in CHANNELS:
        refuse(f"channel: `{channel}` is unknown; expected one of {', '.join(CHANNELS)}")
    if placement not in PLACEMENTS:
        refuse(f"placement: `{placement}` is unknown; expected one of {', '.join(PLACEMENTS)}")
    began = time.monotonic()
    writable("out", out)
    with told_plainly(lambda: (*_kinds(), AudienceProblem)):
        customer_ids = read_audience(audience)
        engine = Engine.open(open_workspace())
    try:
        with _progress() as progress:
            task = progress.add_task("deciding", total=len(customer_ids))
            summary = decide_audience(
                engine.decisions,
                customer_ids,
                lambda customer_id: Question(customer_id, channel, placement, limit, location_id=location_id),
                time.time,
                out,
                lambda count: progress.advance(task, count),
                engine.resolver.customer,
            )
    finally:
        engine.close()
    summary.seconds = round(time.monotonic() - began, 1)
    told(
        {
            "customers": summary.customers,
            "offers": summary.offers,
            "without_offer": summary.without_offer,
            "errors": summary.errors,
            "seconds": summary.seconds,
            **({"held_back": dict(summary.held_back.most_common())} if summary.without_offer else {}),
        },
        as_json,
    )


@app.command()
def replay(
    since: Annotated[str | None, typer.Option(help="only decisions made at or after this time (RFC 3339)")] = None,
    out: Annotated[Path | None, typer.Option(help="write what comes out to this file, an answer a line")] = None,
    as_json: Json = False,
) -> None:
    """Decide the log again; every decision must come out byte for byte the same."""
    from serving.replay import replay as run

    moment = _moment(since)
    if out:
        writable("out", out)
    with told_plainly(_kinds):
        workspace = open_workspace()
    found, problems = Counter[str](decisions=0, same=0, different=0, erased=0), []
    with ExitStack() as stack:
        file = stack.enter_context(stack.enter_context(drafted(out)).open("wb")) if out else None
        progress = stack.enter_context(_progress())
        task = progress.add_task("replaying", total=None)
        for each in run(workspace, moment, lambda: found.update(erased=1)):
            progress.advance(task)
            problem = each.problem or (None if each.compared or file else NOTHING_TO_COMPARE)
            if each.decision_id is None:
                found["unreadable"] += 1
            else:
                found["decisions"] += 1
                found["different" if problem else "same" if each.compared else "not_compared"] += 1
            if problem:
                problems.append(f"{each.name}: {problem}")
            if file and each.answer:
                file.write(each.answer + b"\n")
    for sentence in problems:
        print(sentence, file=sys.stderr)
    told(found, as_json)
    raise typer.Exit(1 if problems else 0)


@book.command("check")
def check_rulebook(file: Annotated[Path | None, typer.Argument(help="by default the workspace's own")] = None) -> None:
    """Say with line and suggestion what is wrong with a rulebook, and with the workspace's offers under it."""
    from features.catalog import load_catalog
    from serving import rulebook
    from serving.policy_check import findings

    with told_plainly(_kinds):
        workspace = open_workspace()
    path = file or workspace.file("rulebook.yaml")
    if path.is_dir() or not path.exists():
        refuse(f"rulebook: `{path}` {'is a folder' if path.is_dir() else 'does not exist'}; expected a YAML file")
    try:
        loaded = rulebook.load(path)
        found = findings(loaded, load_catalog(workspace), time.time(), path.name)
    except FileProblem as problem:
        print(problem, file=sys.stderr)
        raise typer.Exit(1) from None
    for each in found:
        print(f"{'note: ' if each.note else ''}{each.problem}", file=sys.stderr)
    if not all(each.note for each in found):
        raise typer.Exit(1)
    print(f"{path.name}: {loaded.version} is fine")


@book.command("test")
def run_stories(file: Annotated[Path | None, typer.Argument(help="by default the workspace's own")] = None) -> None:
    """Run the stories in the folder `cases` beside a rulebook: the shipped ones over the shipped catalog, a
    workspace's own over its own."""
    from features.catalog import load_catalog, shipped_catalog
    from serving import golden, rulebook

    with told_plainly(_kinds):
        path = file or open_workspace().file("rulebook.yaml")
        shipped = path.resolve().parent == Path(golden.__file__).parent
        catalog = shipped_catalog() if shipped else load_catalog(open_workspace())
        outcomes = list(golden.run(path.parent / "cases", catalog, rulebook.load(path)))
    if not outcomes:
        refuse(f"rulebook: no stories in `{path.parent / 'cases'}`; expected *.yaml files")
    wrong = [outcome for outcome in outcomes if outcome.differences]
    for outcome in wrong:
        for difference in outcome.differences:
            print(f"{outcome.story}: {difference}", file=sys.stderr)
    print(f"{len(outcomes) - len(wrong)} of {len(outcomes)} stories end as they should")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def export(
    customer_id: Annotated[str, typer.Argument(help="any id of the customer")],
    out: Annotated[Path, typer.Option(help="the JSON file to write")],
) -> None:
    """Write everything held of one customer, as `GET /customers/{customer_id}/export` gives it."""
    from serving.export import export as pieces

    writable("out", out)
    with told_plainly(_kinds):
        found = pieces(open_workspace(), customer_id, time.time())
        if found is None:
            refuse(f"nothing is held of a customer `{customer_id}`")
        with drafted(out) as draft, draft.open("wb") as file:
            file.writelines(found)


@app.command()
def erase(
    customer_id: Annotated[str, typer.Argument(help="any id of the customer; all go")], as_json: Json = False
) -> None:
    """Erase one customer everywhere, as `DELETE /customers/{customer_id}` does; the service may run meanwhile."""
    from features.store import ProfileStore
    from serving.erasure import Eraser

    with told_plainly(_kinds):
        workspace = open_workspace()
        receipt = Eraser(workspace, ProfileStore(workspace)).erase(customer_id, time.time())
    if receipt is None:
        refuse(f"nothing is held of a customer `{customer_id}`")
    counts = receipt.pop("counts")
    told(receipt | ({"counts": counts} if as_json else counts), as_json)


@app.command()
def demo(port: Annotated[int, typer.Option(min=1, max=65535)] = 3000) -> None:
    """Serve on 127.0.0.1 and keep the demo's feeds running until Ctrl-C."""
    from serving.demo import run

    with told_plainly(_kinds):
        raise typer.Exit(run(port))


def _moment(text: str | None) -> float:
    if text is None:
        return 0.0
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        refuse(f"since: `{text}` is no time; expected RFC 3339 such as 2026-11-20T10:00:00Z")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True)


if __name__ == "__main__":
    app()
