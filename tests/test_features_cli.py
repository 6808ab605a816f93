"""`python -m features`: what it prints, and with which exit code it ends."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from features import commerce, database
from features.__main__ import app
from features.events import EventLog
from features.workspace import Workspace


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def message(message_id: str, name: str, properties: dict[str, Any] | None = None, **rest: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": name,
        "userId": "u1",
        "messageId": message_id,
        "timestamp": "2026-01-03T00:00:00Z",
        "properties": properties or {},
        **rest,
    }


def order(message_id: str, quantity: int = 1, **rest: Any) -> dict[str, Any]:
    products = [{"product_id": "p1", "quantity": quantity, "price": 2.0}]
    return message(message_id, "Order Completed", {"order_id": message_id, "products": products}, **rest)


def written(path: Path, *lines: dict[str, Any] | str) -> Path:
    texts = [line if isinstance(line, str) else orjson.dumps(line).decode() for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


def rows(workspace: Workspace, table: sa.Table) -> list[Any]:
    with database.reading(database.connect(workspace)) as connection:
        return list(connection.execute(sa.select(table)).all())


def test_a_history_is_stored_and_the_bad_lines_are_told(workspace: Workspace, tmp_path: Path) -> None:
    path = written(tmp_path / "h.ndjson", order("m1"), "nonsense", order("m2", -1), "", "[1]", order("m3"))
    result = run("ingest", "segment", "--path", path)
    assert result.exit_code == 0
    for line in (
        "line 2: is no JSON: ",
        "line 3: properties.products[0].quantity: is `-1`; expected a whole number of at least 1\n",
        "line 5: is `[1]`; expected an object\n",
    ):
        assert line in result.stderr
    assert [row.message_id for row in rows(workspace, database.events)] == ["m1", "m3"]


def test_the_same_history_again_stores_nothing(workspace: Workspace, tmp_path: Path) -> None:
    path = written(tmp_path / "h.ndjson", order("m1"), order("m2"))
    run("ingest", "segment", "--path", path)
    result = run("ingest", "segment", "--path", path, "--json")
    found = orjson.loads(result.stdout)
    assert result.exit_code == 0
    assert (found["stored"], found["duplicates"], found["rejected"]) == (0, 2, 0)


def test_a_packed_history_is_unpacked_and_one_cut_off_keeps_what_came_before(
    workspace: Workspace, tmp_path: Path
) -> None:
    content = b"".join(orjson.dumps(order(f"m{number}")) + b"\n" for number in range(5_000))
    whole = gzip.compress(content)
    path = tmp_path / "h.ndjson.gz"
    path.write_bytes(whole[: len(whole) // 2])
    result = run("ingest", "segment", "--path", path, "--json")
    found = orjson.loads(result.stdout)
    assert result.exit_code == 0
    assert 0 < found["stored"] < 5_000
    assert found["rejected_lines"][0]["problem"].startswith("cannot be unpacked")
    path.write_bytes(whole)
    assert orjson.loads(run("ingest", "segment", "--path", path, "--json").stdout)["stored"] == 5_000 - found["stored"]


def test_a_line_too_long_is_refused_and_the_next_one_kept(workspace: Workspace, tmp_path: Path) -> None:
    path = written(tmp_path / "h.ndjson", "x" * 3_000_000, order("m1"))
    found = orjson.loads(run("ingest", "segment", "--path", path, "--json").stdout)
    assert (found["stored"], found["rejected_lines"][0]["line"]) == (1, 1)


def test_identities_stock_and_feeds_are_taken_in(workspace: Workspace, tmp_path: Path) -> None:
    device = {"userId": None, "anonymousId": "a1"}
    path = written(
        tmp_path / "h.ndjson",
        message("m1", "Product Viewed", {"product_id": "p1"}, **device),
        {"type": "identify", "userId": "u1", "anonymousId": "a1", "messageId": "m2", "timestamp": "2026-01-04"},
        message("m3", "Product Viewed", {"product_id": "p2"}, **device),
        message("m4", "Stock Updated", {"product_id": "p1", "quantity": 4}, userId=None),
        message("m5", "Stock Reserved", {"product_id": "p1", "quantity": 1}, userId=None, timestamp="2026-01-05"),
    )
    for _ in range(2):  # the second time a reservation must not count again
        assert run("ingest", "segment", "--path", path).exit_code == 0
    with database.reading(database.connect(workspace)) as connection:
        assert [event.message_id for event in EventLog().of_customer(connection, "u1")] == ["m1", "m3", "m2"]
    (shelf,) = rows(workspace, database.stock)
    assert (shelf.quantity, shelf.reserved, shelf.location_id) == (4, 1, "online")
    assert {(row.signal, row.location_id) for row in rows(workspace, database.feeds)} == {
        ("profile", ""),
        ("stock", "online"),
    }


def test_a_history_may_end_now(workspace: Workspace, tmp_path: Path) -> None:
    path = written(tmp_path / "h.ndjson", order("m1"), order("m2", timestamp="2026-01-01T00:00:00Z"))
    result = run("ingest", "segment", "--path", path, "--ending", "now", "--json")
    last, first = (row.occurred_at for row in rows(workspace, database.events))
    assert last - first == pytest.approx(2 * 86_400)
    assert orjson.loads(result.stdout)["shift_s"] == pytest.approx(last - 1_767_398_400)


def test_a_later_file_is_shifted_as_the_first_one_was(workspace: Workspace, tmp_path: Path) -> None:
    first = written(tmp_path / "1.ndjson", order("m1", timestamp="2026-01-15T00:00:00Z"))
    later = written(tmp_path / "2.ndjson", order("m2", timestamp="2026-01-01T00:00:00Z"))
    alone = written(tmp_path / "3.ndjson", order("m3", timestamp="2026-01-02T00:00:00Z"))
    assert run("ingest", "segment", "--path", tmp_path / "none.ndjson", "--ending", "now").exit_code == 2
    assert run("ingest", "segment", "--path", written(tmp_path / "0.ndjson", "x")).exit_code == 2
    run("ingest", "segment", "--path", first, "--ending", "now")
    shown = run("ingest", "segment", "--path", later, "--ending", "now").stdout
    assert "times shifted as the first time" in shown
    assert orjson.loads(run("ingest", "segment", "--path", alone, "--json").stdout)["shift_kept"]
    at = {row.message_id: row.occurred_at for row in rows(workspace, database.events)}
    assert at["m1"] - at["m2"] == pytest.approx(14 * 86_400)
    assert at["m1"] - at["m3"] == pytest.approx(13 * 86_400)


def test_files_after_one_at_its_own_times_keep_their_own_times(workspace: Workspace, tmp_path: Path) -> None:
    run("ingest", "segment", "--path", written(tmp_path / "1.ndjson", order("m1")))
    path = written(tmp_path / "2.ndjson", order("m2", timestamp="2026-01-01T00:00:00Z"))
    found = orjson.loads(run("ingest", "segment", "--path", path, "--ending", "now", "--json").stdout)
    assert (found["shift_s"], found["shift_kept"]) == (0.0, True)


def test_a_promise_is_due_as_long_after_it_was_made_in_a_history_that_ends_now(
    workspace: Workspace, tmp_path: Path
) -> None:
    promise = {"promise_id": "1", "text": "a new leg"}
    path = written(
        tmp_path / "h.ndjson",
        message("m1", "Promise Made", {**promise, "due": "2026-01-13T02:00:00+02:00"}),
        message("m2", "Promise Made", {**promise, "due": "soon"}),
        message("m3", "Note", {"due": "2026-01-13"}),
    )
    result = run("ingest", "segment", "--path", path, "--ending", "now", "--json")
    made, note = rows(workspace, database.events)
    due = commerce.moment_of(orjson.loads(made.body)["due"], "due")
    assert due - made.occurred_at == pytest.approx(10 * 86_400, abs=0.01)
    assert orjson.loads(note.body)["due"] == "2026-01-13"
    (refused,) = orjson.loads(result.stdout)["rejected_lines"]
    assert (refused["line"], "is `soon`" in refused["problem"]) == (2, True)


COMMANDS = [("build",), ("parity",), ("renew",), ("identity", "show", "x"), ("identity", "undo", "x"), ("ingest", "x")]


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("taken", "taken` cannot be made (file exists); expected a folder to write in"),
        ("taken/below", "taken/below` cannot be made (not a directory); expected a folder to write in"),
        ("50%20off", "50%20off` has `%20` in its name; expected a folder of another name"),
        ("what?", "what?` has `?` in its name; expected a folder of another name"),
    ],
)
def test_a_workspace_that_can_be_none_is_exit_code_2_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], name: str, sentence: str
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv("ONESTORY_HOME", str(tmp_path / name))
    path = written(tmp_path / "h.ndjson", order("m1"))
    result = run(*(("ingest", "segment", "--path", path) if command[0] == "ingest" else command))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert sentence in result.stderr
    assert [each.name for each in tmp_path.iterdir() if each.name not in ("taken", "h.ndjson")] == []


@pytest.mark.parametrize("command", [each for each in COMMANDS if each[0] != "renew"], ids="-".join)
def test_a_database_that_cannot_be_opened_is_exit_code_2_and_a_sentence(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ONESTORY_DATABASE_URL", "bogus://x")
    path = written(tmp_path / "h.ndjson", order("m1"))
    result = run(*(("ingest", "segment", "--path", path) if command[0] == "ingest" else command))
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("database: cannot be opened (Can't load plugin")
    assert "Traceback" not in result.output


def test_no_address_is_left_anywhere_in_the_workspace(workspace: Workspace, tmp_path: Path) -> None:
    traits = {"email": "ann@shop.example", "phone": "0170 1234567"}
    path = written(
        tmp_path / "h.ndjson", {"type": "identify", "userId": "u1", "traits": traits, "timestamp": "2026-01-04"}
    )
    assert run("ingest", "segment", "--path", path).exit_code == 0
    for file in workspace.home.rglob("*"):
        if file.is_file():
            assert b"ann@shop" not in file.read_bytes()
            assert b"1234567" not in file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ingest", "segment"), "ingest segment needs a file; add `--path FILE.ndjson`"),
        (("ingest", "segment", "--path", "nowhere.ndjson"), "`nowhere.ndjson` cannot be read: no such file"),
        (("ingest", "completejourney", "--path", "x"), "ingest completejourney takes no --path (got `x`)"),
        (("ingest", "completejourney", "--ending", "later"), "--ending is `later`; expected `now`"),
        (("ingest", "compleatjourney"), "compleatjourney"),
        (("parity", "--sample", "0"), "--sample"),
    ],
)
def test_bad_arguments_are_exit_code_2_and_a_sentence(
    workspace: Workspace, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def test_a_file_of_nothing_but_bad_lines_is_exit_code_2(workspace: Workspace, tmp_path: Path) -> None:
    result = run("ingest", "segment", "--path", written(tmp_path / "h.ndjson", "{}"))
    assert result.exit_code == 2
    assert "line 1: type: is missing; expected one of track" in result.stderr
    assert "could be stored" in result.stderr


def test_a_broken_catalog_is_told_with_its_line(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.home / "offers.yaml").write_text("offers:\n- offr_id: x\n")
    result = run("ingest", "segment", "--path", written(tmp_path / "h.ndjson", order("m1")))
    assert result.exit_code == 2
    assert "offers.yaml:2: unknown field `offr_id`" in result.stderr


def test_renewing_a_workspace_without_demo_offers_renews_none(workspace: Workspace) -> None:
    result = run("renew", "--json")
    assert (result.exit_code, orjson.loads(result.stdout)) == (0, {"renewed": 0})
