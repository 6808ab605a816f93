"""An audience file is read as it stands, and what cannot be read or written is told before anything is decided."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from features.workspace import Workspace
from serving.__main__ import app
from serving.audience import AudienceProblem, decide_audience, read_audience
from serving.question import Question


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"customer_id\nc1\n007\nNULL\n1.0\n", ["c1", "007", "NULL", "1.0"]),
        (b"customer_id,name\nc1,bob,\nc2,al,\n", ["c1", "c2"]),
        (b"name,customer_id\nbob,c1\nal\n\n", ["c1", ""]),
        (b'\xef\xbb\xbf"customer_id"\r\n"a,b"\r\n', ["a,b"]),
        (b"customer_id\rc1\rc2\r", ["c1", "c2"]),
        (b"customer_id\nc1\x00\n", ["c1\x00"]),
        (b"customer_id\n", []),
        (b"name, customer_id \nbob,c1\n", ["c1"]),
    ],
)
def test_a_csv_gives_the_ids_of_its_column(tmp_path: Path, content: bytes, ids: list[str]) -> None:
    (tmp_path / "who.csv").write_bytes(content)
    assert read_audience(tmp_path / "who.csv") == ids
    (tmp_path / "who.csv.gz").write_bytes(gzip.compress(content))
    assert read_audience(tmp_path / "who.csv.gz") == ids


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"customer_id,name\nc1,bob\nc2,al,3\n", "has 3 cells in line 3, but 2 columns; expected quotes around what"),
        (b"customer_id,name\nc1,bob,,\n", "has 4 cells in line 2, but 2 columns"),
        (b"id\nc1\n", "has the columns `id`; expected `customer_id`"),
        (b"customer_id;name\nc1;bob\n", "has the columns `customer_id;name`; expected `customer_id`"),
        (b"", "has the columns none; expected `customer_id`"),
        (b"customer_id,customer_id\nc1,c2\n", "has the column `customer_id` twice; expected it once"),
        (b'customer_id\n"c1\nc2\n', "cannot be read; expected csv or parquet (unexpected end of data)"),
        (b"customer_id\n\xfcn\xef\n", "is neither parquet nor text in UTF-8; expected one of them"),
        (b"PAR1 and nothing of the kind", "cannot be read; expected csv or parquet ("),
    ],
)
def test_a_file_that_is_no_audience_is_told_in_one_line(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "who.csv"
    path.write_bytes(content)
    with pytest.raises(AudienceProblem) as caught:
        read_audience(path)
    assert str(caught.value).startswith(f"audience: `{path}` {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array(["c1", None]), ["c1", ""]),
        (pa.array(["c1", "c2"]).dictionary_encode(), ["c1", "c2"]),
        (pa.array([b"c1", "日本".encode()]), ["c1", "日本"]),
        (pa.array([9007199254740993, None]), ["9007199254740993", ""]),
        (pa.array([7.0, 7.5]), ["7", "7.5"]),
        (pa.array([Decimal("7.00")]), ["7"]),
    ],
)
@pytest.mark.parametrize("name", ["who.parquet", "WHO.PARQUET", "who.pq", "who"])
def test_a_parquet_file_is_known_by_its_content(tmp_path: Path, column: pa.Array, ids: list[str], name: str) -> None:
    pq.write_table(pa.table({"customer_id": column}), tmp_path / name)
    assert read_audience(tmp_path / name) == ids


def test_customers_in_the_index_of_a_data_frame_are_read(tmp_path: Path) -> None:
    people = pd.DataFrame({"customer_id": ["c1", "c2"], "a": [1, 2]}).set_index("customer_id")
    people.to_parquet(tmp_path / "who.parquet")
    assert read_audience(tmp_path / "who.parquet") == ["c1", "c2"]


def test_a_csv_that_says_it_is_parquet_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "who.parquet").write_text("customer_id\n7\n")
    with pytest.raises(AudienceProblem, match="is no parquet file; expected csv or parquet"):
        read_audience(tmp_path / "who.parquet")


@pytest.mark.parametrize("column", [pa.array([b"\xff"]), pa.array([["c1"]]), pa.array([True])])
def test_what_is_no_id_is_refused_with_its_row(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"customer_id": column}), tmp_path / "who.parquet")
    with pytest.raises(AudienceProblem, match=r"has in row 1 the customer_id `.*`; expected text or a whole number"):
        read_audience(tmp_path / "who.parquet")


def test_of_an_audience_that_ends_in_an_error_no_file_is_left(tmp_path: Path) -> None:
    def broken(*_: object) -> list[dict[str, object]]:
        raise ZeroDivisionError

    def ask(customer_id: str) -> Question:
        return Question(customer_id, "web", "home")

    with pytest.raises(ZeroDivisionError):
        decide_audience(broken, ["c1"], ask, lambda: 0.0, tmp_path / "out.parquet", lambda _: None)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ command line


def told(workspace: Workspace, *arguments: str, **environment: str) -> str:
    """What a command says that is refused: one line, and nothing else."""
    done = CliRunner().invoke(app, arguments, env={**workspace.environment(), **environment})
    assert (done.exit_code, done.stdout) == (2, ""), done.exception
    (line,) = done.stderr.splitlines()
    return line


def arguments_of(command: Sequence[str], folder: Path) -> list[str]:
    (folder / "who.csv").write_text("customer_id\n7\n")
    names = {"WHO": str(folder / "who.csv"), "OUT": str(folder / "out")}
    return [names.get(part, part) for part in command]


WRITING = (
    ("export", "7", "--out", "OUT"),
    ("decide", "--audience", "WHO", "--channel", "web", "--placement", "home", "--out", "OUT"),
)
COMMANDS = (("replay",), ("rulebook", "check"), ("rulebook", "test"), ("erase", "7"), ("demo",), *WRITING)
OUT: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a folder": (lambda folder: folder, "is a folder; expected a file to write"),
    "below a file": (
        lambda folder: folder / "who.csv/out.parquet",
        "cannot be written (its folder is a file); expected a file in a folder that you may write to",
    ),
    "where no folder can be": (
        lambda _: Path("/proc/none/out"),
        "cannot be written (no such file or directory); expected a file in a folder that you may write to",
    ),
    "no file": (lambda _: Path("/dev/null"), "is no file; expected a file to write"),
}


@pytest.mark.parametrize("where", OUT)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_decided(
    workspace: Workspace, tmp_path: Path, where: str
) -> None:
    before = sorted(workspace.home.rglob("*"))
    out = OUT[where][0](tmp_path)
    for command in (("replay", "--out", "OUT"), *WRITING):
        arguments = arguments_of(command, tmp_path)
        assert told(workspace, *arguments[:-1], str(out)) == f"out: `{out}` {OUT[where][1]}"
    assert sorted(each for each in workspace.home.rglob("*") if each.name != "who.csv") == before


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_home_that_is_a_file_is_told_in_a_sentence(
    workspace: Workspace, tmp_path: Path, command: Sequence[str]
) -> None:
    home = tmp_path / "file"
    home.touch()
    said = told(workspace, *arguments_of(command, tmp_path), ONESTORY_HOME=str(home))
    assert said == f"ONESTORY_HOME: `{home}` cannot be made (file exists); expected a folder to write in"


@pytest.mark.parametrize("command", [("erase", "7"), *WRITING], ids=" ".join)
def test_a_database_that_cannot_be_opened_is_told_in_a_sentence(
    workspace: Workspace, tmp_path: Path, command: Sequence[str]
) -> None:
    arguments = arguments_of(command, tmp_path)
    assert told(workspace, *arguments, ONESTORY_DATABASE_URL="bogus://x").startswith("database: cannot be opened (")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("replya",), "unknown command `replya`; did you mean `replay`?"),
        (("rulebook", "chek"), "unknown command `chek`; did you mean `check`?"),
        (("export",), "missing argument `customer_id`"),
        (("decide",), "missing option `--audience`"),
        (("decide", "--limit", "21"), "invalid value for `--limit`; expected less than or equal to 20"),
        (("rulebook", "check", "/"), "rulebook: `/` is a folder; expected a YAML file"),
        (("replay", "--sinc", "x"), "unknown option `--sinc`; did you mean `--since`?"),
    ],
)
def test_a_mistyped_command_is_told_in_a_sentence(workspace: Workspace, command: Sequence[str], sentence: str) -> None:
    assert told(workspace, *command) == sentence
