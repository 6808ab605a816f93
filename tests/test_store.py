"""Feast through its only door: profiles written and read online, and what was known at any past moment."""

from __future__ import annotations

import ast
import math
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import build, database, moments, profiles
from features.events import EventLog
from features.history import micros
from features.ownership import touch
from features.profile_now import StoreDown
from features.profiles import Profile
from features.store import REPOSITORY, ProfileStore
from features.vocabulary import Event
from features.workspace import Workspace

NOON = 1_790_000_000.0


@pytest.fixture
def store(applied: tuple[Workspace, ProfileStore]) -> ProfileStore:
    return applied[1]


@pytest.fixture
def online(applied: tuple[Workspace, ProfileStore]) -> Iterator[sqlite3.Connection]:
    """The online store's own file, as only a test may open it."""
    connection = sqlite3.connect(applied[0].home / "online.db", isolation_level=None)
    yield connection
    connection.close()


def order(customer: str, number: int, occurred_at: float, known_at: float, *products: str) -> Event:
    lines = [{"product_id": product, "quantity": 2, "price": 1.25, "category": "x"} for product in products]
    body = {"order_id": str(number), "products": lines}
    return Event(f"m{number}", "Order Completed", occurred_at, known_at, user_id=customer, body=body)


def written(store: ProfileStore, customer: str, seq: int, *events: Event) -> Profile:
    profile = profiles.fold_all(events)
    store.write([(customer, seq, NOON, *profiles.pack(profile))])
    return profile


def same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


# ------------------------------------------------------------------------------------- the hot path


def test_a_profile_is_read_as_it_was_written_with_its_sequence(store: ProfileStore) -> None:
    profile = written(store, "ann", 41, order("ann", 1, NOON, NOON, "a", "b"))
    now = store.read("ann")
    assert now is not None
    assert (now.profile, now.seq) == (profile, 41)
    later = written(store, "ann", 42, order("ann", 1, NOON, NOON, "a", "b"), order("ann", 2, NOON + 1, NOON + 1, "c"))
    assert store.read_many(["ann", "nobody", "ann"]).keys() == {"ann"}
    assert store.read_many(["ann"])["ann"].profile == later


def test_rows_lie_online_as_feast_itself_lays_them_out(store: ProfileStore, online: sqlite3.Connection) -> None:
    def rows() -> list[list[tuple[object, ...]]]:
        views = ("profile", "last_seen", "stock")
        return [online.execute(f"SELECT * FROM onestory_{view} ORDER BY 1, 2").fetchall() for view in views]

    def write(seq: int) -> list[list[tuple[object, ...]]]:
        written(store, "laid", seq, order("laid", 1, NOON, NOON, "a"))
        store.write_stock([("a", "online", 4, seq)])
        return rows()

    ours, store._rows, kept = write(51), None, store._rows  # without it, as every store that is not SQLite
    by_feast = write(52), write(51)
    store._rows = kept
    assert by_feast[0] != ours
    assert by_feast[1] == ours


def test_an_unknown_customer_has_no_profile(store: ProfileStore) -> None:
    assert store.read("nobody") is None


def test_customers_with_any_characters_are_kept_apart(store: ProfileStore) -> None:
    names = ["é", "e\u0301", "a b", "a\nb", "'", "0", "00", "x" * 255]
    for seq, name in enumerate(names):
        written(store, name, seq, order(name, seq, NOON + seq, NOON, "a"))
    found = store.read_many(names)
    assert [found[name].seq for name in names] == list(range(len(names)))


def test_a_store_opened_elsewhere_sees_a_write_at_once(applied: tuple[Workspace, ProfileStore]) -> None:
    other = ProfileStore(applied[0])
    written(applied[1], "bob", 7, order("bob", 1, NOON, NOON, "a"))
    now = other.read("bob")
    other.close()
    assert now is not None
    assert now.seq == 7


def test_rows_of_two_different_writes_are_never_joined(store: ProfileStore, online: sqlite3.Connection) -> None:
    written(store, "torn", 1, order("torn", 1, NOON, NOON, "a"))
    online.execute("CREATE TABLE kept AS SELECT * FROM onestory_last_seen")
    written(store, "torn", 2, order("torn", 1, NOON, NOON, "a", "b"))
    online.execute("INSERT OR REPLACE INTO onestory_last_seen SELECT * FROM kept")
    online.execute("DROP TABLE kept")
    with pytest.raises(StoreDown, match="the rows of customer `torn` do not belong together"):
        store.read("torn")
    written(store, "torn", 3, order("torn", 1, NOON, NOON, "a", "b"))
    assert store.read("torn") is not None


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", "text", None, b"\x1a\x02{]"])
def test_a_row_that_cannot_be_read_is_a_store_that_is_down(
    store: ProfileStore, online: sqlite3.Connection, garbage: object
) -> None:
    written(store, "garbled", 1, order("garbled", 1, NOON, NOON, "a"))
    online.execute(
        "UPDATE onestory_profile SET value = ? WHERE feature_name = 'state' AND instr(entity_key, ?)",
        (garbage, b"garbled"),
    )
    with pytest.raises(StoreDown):
        store.read("garbled")
    written(store, "garbled", 2, order("garbled", 1, NOON, NOON, "a"))


def test_an_online_store_without_its_tables_is_down(workspace: Workspace) -> None:
    store = ProfileStore(workspace)
    connection = sqlite3.connect(workspace.home / "online.db")
    connection.execute("DROP TABLE onestory_profile")
    connection.close()
    with pytest.raises(StoreDown, match="does not answer: no such table"):
        store.read("ann")
    with pytest.raises(StoreDown, match="does not take `profile`, `last_seen`: no such table"):
        written(store, "ann", 1, order("ann", 1, NOON, NOON, "a"))
    store.close()


def test_a_profile_of_another_version_is_not_decided_by(store: ProfileStore) -> None:
    profile = profiles.fold_all([order("old", 1, NOON, NOON, "a")])
    profile.state["v"] = 1
    store.write([("old", 1, NOON, *profiles.pack(profile))])
    with pytest.raises(StoreDown, match="customer `old` is of another version; run `python -m features build`"):
        store.read("old")


# --------------------------------------------------------------------------- what was known, and when


def logged(workspace: Workspace, *events: Event) -> None:
    with database.transaction(database.connect(workspace)) as connection:
        touch(connection, connection.scalars(sa.select(database.events.c.customer_id).distinct()).all())
        connection.execute(sa.delete(database.events))
        for event in events:
            EventLog().append(connection, event, event.user_id)
    build.build_lacking(workspace)


def test_every_feature_has_the_same_bits_online_and_as_known_then(applied: tuple[Workspace, ProfileStore]) -> None:
    workspace, store = applied
    events = [order("ann", n, NOON + n * 86_400.123, NOON + n * 86_400.123, "a", "b") for n in range(5)]
    logged(workspace, *events)
    profile = written(store, "ann", 5, *events)
    as_of = NOON + 7.77 * 86_400
    expected = profiles.derive(profile, as_of)
    for service in ("churn", "propensity"):
        here = store.online(["ann", "nobody"], service, as_of)
        there = store.historical(pd.DataFrame({"customer_id": ["nobody", "ann"], "as_of": as_of}), service)
        assert list(there["customer_id"]) == ["nobody", "ann"]
        for name in profiles.FEATURES:
            assert same(number(here[name][0]), expected[name])
            assert same(number(there[name][1]), expected[name])
            assert math.isnan(number(here[name][1]))
            assert math.isnan(number(there[name][0]))


def number(value: float | None) -> float:
    """Feast gives None for NaN where a whole column is unknown."""
    return math.nan if value is None else float(value)


def test_the_decision_service_holds_what_a_decision_reads(store: ProfileStore) -> None:
    written(store, "ann", 5, order("ann", 1, NOON, NOON, "a"))
    row = store.online(["ann"], "decision", NOON + 1).iloc[0]
    now = store.read("ann")
    assert now is not None
    assert (row["state"], row["items"]) == profiles.pack(now.profile)
    assert (row["seq"], row["items_seq"], row["orders"]) == (5, 5, 1.0)


def test_rows_keep_their_order_and_their_own_columns(applied: tuple[Workspace, ProfileStore]) -> None:
    workspace, store = applied
    logged(workspace, *(order(str(n), n, NOON, NOON, "a") for n in range(40)))
    asked = pd.DataFrame({"customer_id": [str(n % 40) for n in range(100)], "as_of": NOON + 5, "label": range(100)})
    found = store.historical(asked, "churn")
    assert list(found["label"]) == list(range(100))
    assert list(found["customer_id"]) == list(asked["customer_id"])
    assert set(found["orders"]) == {1.0}


days = st.integers(0, 5).map(lambda day: NOON + day * 200 * 86_400.0)
histories = st.lists(
    st.tuples(st.sampled_from(["ann", "bob"]), days, days, st.lists(st.sampled_from("abc"), max_size=3)), max_size=8
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=histories, news=days)
def test_a_past_profile_is_the_fold_of_what_was_known_and_later_news_changes_nothing(
    applied: tuple[Workspace, ProfileStore], histories: list[tuple[str, float, float, list[str]]], news: float
) -> None:
    workspace, store = applied
    events = [
        order(customer, number, min(one, other), max(one, other), *products)
        for number, (customer, one, other, products) in enumerate(histories)
    ]
    pairs = pd.DataFrame(
        [(customer, NOON + day * 100 * 86_400.0) for day in range(11) for customer in ("bob", "nobody", "ann")],
        columns=["customer_id", "as_of"],
    )
    logged(workspace, *events)
    found = store.profiles_at(pairs)
    for customer, as_of, state, items in found.itertuples(index=False):
        known = [one for one in events if one.user_id == customer and micros(one.known_at) <= micros(as_of)]
        assert (state, items) == (profiles.pack(profiles.fold_all(known)) if known else (None, None))
    logged(workspace, *events, order("ann", 99, NOON - 1, news, "a"))
    again = store.profiles_at(pairs)
    before = (pairs["as_of"] < news) | (pairs["customer_id"] != "ann")
    pd.testing.assert_frame_equal(again[before], found[before])


def test_a_copied_workspace_reads_its_own_files(workspace: Workspace) -> None:
    store = ProfileStore(workspace)
    logged(workspace, order("ann", 1, NOON, NOON, "a"))
    store.close()
    moved = Workspace(workspace.home.with_name("moved"))
    shutil.copytree(workspace.home, moved.home)
    shutil.rmtree(workspace.offline)
    other = ProfileStore(moved)
    found = other.historical(pd.DataFrame({"customer_id": ["ann"], "as_of": [NOON + 1]}), "churn")
    other.close()
    assert list(found["orders"]) == [1.0]


def test_a_workspace_made_before_a_feature_was_added_learns_of_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fewer = {name: what for name, what in profiles.FEATURES.items() if name != "orders"}
        patch.setattr(profiles, "FEATURES", fewer)
        ProfileStore(workspace).close()
    newer = ProfileStore(workspace)
    names = {field.name for field in newer.feast.get_on_demand_feature_view("customer_features").features}
    newer.close()
    assert names == set(profiles.FEATURES)


def test_a_workspace_that_was_never_built_says_so(workspace: Workspace) -> None:
    store = ProfileStore(workspace)
    with pytest.raises(ValueError, match="holds no profiles as known at past moments; run `python -m features build`"):
        store.profiles_at(pd.DataFrame({"customer_id": ["ann"], "as_of": [NOON]}))
    store.close()


def as_feast_has_it(store: ProfileStore, asked: pd.DataFrame, features: object) -> pd.DataFrame:
    """The official way to the same frame."""
    stamps = pd.to_datetime([micros(as_of) for as_of in asked["as_of"]], unit="us", utc=True)
    frame = asked.assign(event_timestamp=stamps.as_unit("us"), row=range(len(asked)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = store.feast.get_historical_features(entity_df=frame, features=features).to_df()
    return found.sort_values("row", ignore_index=True).drop(columns="row")


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories=histories)
def test_what_was_known_then_is_what_feast_itself_joins(
    applied: tuple[Workspace, ProfileStore], histories: list[tuple[str, float, float, list[str]]]
) -> None:
    workspace, store = applied
    past = [("ann", NOON, NOON, ["a"]), *histories]
    events = [
        order(customer, place, min(one, other), max(one, other), *products)
        for place, (customer, one, other, products) in enumerate(past)
    ]
    logged(workspace, *events)
    moments_ = [event.known_at + later for event in events for later in (-1e-6, 0.0, 1e-6)]
    asked = [(customer, as_of) for customer in ("bob", "ann", "nobody") for as_of in moments_]
    pairs = pd.DataFrame(asked, columns=["customer_id", "as_of"]).assign(label=range(len(asked)))
    for features in (["profile:state", "profile:seq"], store.feast.get_feature_service("churn")):
        found = moments.joined(store.feast, pairs, features)
        pd.testing.assert_frame_equal(found, as_feast_has_it(store, pairs, features)[list(found)])
    entries = pairs.assign(item=[("p:a", "c:x", "p:b")[place % 3] for place in range(len(pairs))])
    every = store._every_field(store._views.last_seen_history)
    found = moments.joined(store.feast, entries, every)
    pd.testing.assert_frame_equal(found, as_feast_has_it(store, entries, every)[list(found)])


# ---------------------------------------------------------------------------------- a standard Feast repo


def test_feast_itself_applies_lists_and_finds_only_the_definitions(workspace: Workspace) -> None:
    from feast.repo_operations import get_repo_files

    assert get_repo_files(REPOSITORY) == [REPOSITORY / "definitions.py"]
    feast = shutil.which("feast", path=str(Path(sys.executable).parent))
    assert feast is not None
    script = "import sys; from feast.cli.cli import cli\n" + "".join(
        f"cli(['-c', {str(REPOSITORY)!r}, *{words!r}], standalone_mode=False)\n"
        for words in (["apply"], ["feature-views", "list"], ["feature-services", "list"])
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=workspace.home, check=False
    )
    assert run.returncode == 0, run.stderr
    words = set(run.stdout.split())
    assert {"profile", "last_seen", "last_seen_history", "stock", "customer_features"} <= words
    assert {"churn", "propensity", "decision"} <= words


def test_the_definitions_import_feast_and_the_standard_library_only() -> None:
    tree = ast.parse((REPOSITORY / "definitions.py").read_text())
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names}
    assert {str(module).split(".")[0] for module in modules} <= {"feast", *sys.stdlib_module_names}


def test_opening_the_store_leaves_typeguard_as_it_was_and_feast_unwrapped() -> None:
    """In a process of its own: what is imported here already cannot be imported light."""
    script = (
        "import typeguard; before = typeguard.typechecked\n"
        "from features.light_feast import light_feast\n"
        "with light_feast():\n    import feast\n"
        "assert typeguard.typechecked is before\n"
        "assert feast.FeatureService.__init__.__code__.co_filename.endswith('feature_service.py')\n"
        "assert 'typeguard' not in ''.join(feast.FeatureService.__init__.__code__.co_names)\n"
        "feast.Entity(name='customer', join_keys=['customer_id'])\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
