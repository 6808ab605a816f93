"""The house in order: words, sizes, addresses, lint and types."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from features import steps, vocabulary

PROJECT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 300


def tracked() -> list[Path]:
    """The files of the checkout that are the project's own: known to git, or would be if added now."""
    command = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        away = {".venv", "var", ".git", "__pycache__", "node_modules"}
        found = (path for path in PROJECT.rglob("*") if not away & set(path.relative_to(PROJECT).parts))
        return sorted(path for path in found if path.is_file())
    return [path for path in (PROJECT / name for name in listed) if path.is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def glossary_words() -> set[str]:
    rows = (PROJECT / "docs/glossary.md").read_text().splitlines()
    firsts = [row.split("|")[1] for row in rows if row.startswith("| `")]
    return {word for first in firsts for word in re.findall(r"`([^`]+)`", first)}


def test_the_glossary_has_every_closed_word_of_the_vocabulary_and_no_other() -> None:
    closed = {
        *vocabulary.REASONS,
        *vocabulary.OFFER_KINDS,
        *vocabulary.CHANNELS,
        *vocabulary.FALLBACKS,
        *vocabulary.RESPONSES,
    }
    assert glossary_words() == closed


def test_the_glossary_puts_every_placement_beside_its_channels() -> None:
    rows = (PROJECT / "docs/glossary.md").read_text().splitlines()
    cells = {
        row.split("|")[1].strip(" `"): set(re.findall(r"`([^`]+)`", row.split("|")[2])) for row in rows if "|" in row
    }
    for channel in vocabulary.CHANNELS:
        here = {placement for placement, channels in vocabulary.PLACEMENTS.items() if channel in channels}
        assert cells[channel] == here


def test_no_source_file_is_longer_than_a_room() -> None:
    rooms = [path for path in tracked() if path.suffix == ".py" and "tests" not in path.relative_to(PROJECT).parts]
    lengths = {path.relative_to(PROJECT).as_posix(): len(path.read_text().splitlines()) for path in rooms}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_every_source_file_says_first_what_happens_in_it() -> None:
    silent = [
        path.relative_to(PROJECT).as_posix()
        for path in tracked()
        if path.suffix == ".py" and not path.read_text().lstrip().startswith('"""')
    ]
    assert silent == []


ADDRESSES = {
    "a registry's address": "|".join(
        (r"pypi\." + "org/simple", r"files\.pythonhosted" + r"\.org", "--extra-" + "index", "file:" + "//")
    ),
    "a path of one machine": r"(?<![\w.~}])/(?:"
    + "|".join(("home/[a-z]", "Users/[A-Z]", "root/", "work/", "tmp/w", "opt/[a-z]"))
    + ")",
}


@pytest.mark.parametrize("what", ADDRESSES)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()[:100]}"
        for path in tracked()
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if re.search(ADDRESSES[what], line)
    ]
    assert found == []


def test_the_lock_file_pins_every_dependency_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[<>=~! ;]", each)[0].lower().replace("_", "-") for each in wanted}
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    pinned = {line.split("==")[0].split("[")[0] for line in lines if "==" in line}
    assert names - pinned == set()
    assert [line for line in lines if "==" not in line] == []
    assert "torch" not in pinned


def test_a_reason_stands_beside_every_dependency() -> None:
    lines = (PROJECT / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [")
    end = lines.index("[tool.setuptools.packages.find]")
    unexplained = [line.strip() for line in lines[start:end] if line.startswith('    "') and '",  # ' not in line]
    assert unexplained == []


def test_every_make_target_of_the_contract_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert {"install", "demo", "test", "prove", "check", "bench"} <= targets
    assert "exec make test" in (PROJECT / ".ci/run").read_text()


def test_the_demo_builds_again_where_a_former_version_made_the_profiles() -> None:
    assert f"step 3 built-{steps.VERSION} " in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize(
    "arguments", [("ruff", "check", "--quiet"), ("ruff", "format", "--check", "--quiet"), ("mypy",)]
)
def test_lint_and_types_are_clean(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
