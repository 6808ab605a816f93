"""The rooms' walls: who imports whom, which modules see no clock, and which one is the door to a library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
ROOMS = {"features": {"features"}, "training": {"training", "features"}, "serving": {"serving", "features"}}
SOURCES = sorted(path for room in ROOMS for path in (PROJECT / room).rglob("*.py"))

PURE = (
    "features/vocabulary.py",
    "features/decay.py",
    "features/entries.py",
    "features/corrections.py",
    *(f"features/{name}.py" for name in ("returns", "orders", "cart", "browsing", "care", "consent", "habits")),
    "features/reactions.py",
    "features/steps.py",
    "features/profiles.py",
    "features/affinity.py",
    "features/product_history.py",
    "features/sentences.py",
    "training/labels.py",
    *sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "serving/rules").glob("*.py")),
    "serving/screen.py",
    "serving/rulebook.py",
    "serving/worth.py",
    "serving/taken_up.py",
    "serving/treatments.py",
    "serving/arbitration.py",
    "serving/decide.py",
)
OUTSIDE = {
    *("time", "os", "random", "secrets", "uuid", "socket", "ssl", "subprocess", "asyncio", "threading"),
    *(
        "http",
        "urllib",
        "urllib3",
        "httpx",
        "requests",
        "sqlite3",
        "sqlalchemy",
        "duckdb",
        "feast",
        "bentoml",
        "mlflow",
    ),
    *("features.database", "features.store", "features.events", "features.workspace", "features.intake"),
}
CLOCKS = {"now", "utcnow", "today"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a source imports, wherever in it, as dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def test_the_rule_sees_every_form_of_import() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    from e.f import g as h\nif True:\n    import i as j\n"
    assert set(imports(ast.parse(source))) == {"a.b", "c.d", "e.f.g", "i"}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_from_training_and_serving_to_features_and_nowhere_else(room: str) -> None:
    ours = {*ROOMS, "tests", "benchmarks", "notebooks"}
    wrong = [
        f"{name_of(path)} imports {name}"
        for path in (PROJECT / room).rglob("*.py")
        for name in imports(ast.parse(path.read_text()))
        if name.split(".")[0] in ours - ROOMS[room]
    ]
    assert wrong == []


@pytest.mark.parametrize("module", PURE)
def test_what_decides_sees_no_clock_no_network_and_no_store(module: str) -> None:
    path = PROJECT / module
    if not path.exists():
        pytest.skip(f"{module} is not there yet")
    tree = ast.parse(path.read_text())
    names = {prefix for name in imports(tree) for prefix in _prefixes(name)}
    assert sorted(names & OUTSIDE) == []
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    clocks = [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in CLOCKS]
    assert clocks == []
    opened = [call.id for call in calls if isinstance(call, ast.Name) and call.id in ("open", "print", "input")]
    assert opened == []


def _prefixes(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def test_only_training_and_its_registry_know_mlflow() -> None:
    assert doors("mlflow") <= {"training/registry.py"}


def test_only_a_few_modules_know_feast() -> None:
    assert doors("feast") <= {"features/definitions.py", "features/store.py"}


def doors(library: str) -> set[str]:
    return {
        name_of(path)
        for path in SOURCES
        for name in imports(ast.parse(path.read_text()))
        if name.split(".")[0] == library
    }


def test_the_vocabulary_is_of_the_standard_library_only() -> None:
    tree = ast.parse((PROJECT / "features/vocabulary.py").read_text())
    assert {name.split(".")[0] for name in imports(tree)} <= sys.stdlib_module_names


def test_no_module_is_named_like_one_of_the_standard_library_or_like_a_drawer() -> None:
    names = {path.stem for path in SOURCES} - {"__init__", "__main__"}
    assert names & sys.stdlib_module_names == set()
    assert names & {"utils", "util", "helpers", "common", "misc"} == set()
