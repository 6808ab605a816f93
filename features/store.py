"""The only reader and writer of Feast: profiles and stock online, features online and as known at any past moment.

The hot path goes through the online store's own `online_read` and `online_write_batch` (0.1 and 0.2 ms a view;
Feast's front door costs 1.4 and 6 ms), on SQLite through `online_rows`, both views at once. Two rows make a profile,
one per view; both carry `seq`, so that a read between the two writes is noticed and repeated. Who may
write, and that an older state never follows a newer one, is the caller's business (`intake`, `build`): it holds the
customer's lock.

Online rows are stamped with their `seq`, not with a time: 2100-01-01 plus `seq` seconds. Redis drops a write
that is not newer than what it holds; times repeat and clocks step back, a sequence only rises. It also
keeps `feast materialize`, which stamps real times, from replacing live rows on Redis. On SQLite and
PostgreSQL it would put back the state of the last build: never needed here, mended by
`features build --whole`.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features import database, driver, moments, offline, online_rows
from features.light_feast import light_feast
from features.online_rows import SqliteRows, SqliteWriter
from features.profile_now import ProfileNow, StoreDown, belong_together, down_unless_at_once, opened
from features.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parent
READ_AT_ONCE = 500
TORN_READS = 20
"""How often a read that fell between the two writes of a profile is repeated before the store counts as down."""
_ERA = datetime(2100, 1, 1, tzinfo=UTC)


class ProfileStore:
    """Feast for one workspace. Importing Feast takes seconds: it happens here, not when this module is imported."""

    def __init__(self, workspace: Workspace):
        os.environ.update(workspace.environment())  # feature_store.yaml and definitions.py read ONESTORY_HOME
        with _quiet(), light_feast():
            from feast import FeatureStore
            from feast.infra.key_encoding_utils import serialize_entity_key
            from feast.infra.online_stores.helpers import compute_table_id, get_online_store_from_config
            from feast.protos.feast.types.EntityKey_pb2 import EntityKey
            from feast.protos.feast.types.Value_pb2 import Value

            from features import definitions

        self._workspace, self._key, self._value = workspace, EntityKey, Value
        self._key_bytes = serialize_entity_key
        workspace.home.mkdir(parents=True, exist_ok=True)
        self.feast = FeatureStore(repo_path=str(REPOSITORY))
        self._objects = definitions.everything(str(workspace.home))
        self._views = definitions.views(str(workspace.home))
        self._config = self.feast.config
        self._tables = {view.name: compute_table_id(self._config.project, view) for view in self._views[:-1]}
        self._customer_tables = [self._tables["profile"], self._tables["last_seen"]]
        # A connection of its own for writing: a reader on the writer's would see half-written rows.
        self._reader = get_online_store_from_config(self._config.online_store)
        self._writer = get_online_store_from_config(self._config.online_store)
        self._rows: SqliteRows | None = None
        self._turns: SqliteWriter | None = None
        self._reading, self._writing = threading.Lock(), threading.Lock()
        if self._config.online_store.type == "sqlite":
            connections = [store._get_conn(self._config) for store in (self._reader, self._writer)]
            online_rows.tune(connections)
            self._rows = SqliteRows(connections[0], self._customer_tables, Value.FromString)
            self._turns = SqliteWriter(connections[1], self._writing)
        if not self._applied_here():
            self.apply()

    def apply(self) -> None:
        """`feast apply`: register every object of definitions.py, and make the online tables."""
        with _quiet():
            self.feast.apply(self._objects)

    def _applied_here(self) -> bool:
        """Whether the registry knows our views and features, and where this workspace lies now, not where it was
        copied from."""
        known = {view.name: view.batch_source.path for view in self.feast.list_feature_views()}
        features = {view.name: view.description for view in self.feast.list_on_demand_feature_views()}
        if features.get(self._views.customer_features.name) != self._views.customer_features.description:
            return False
        return all(known.get(view.name) == view.batch_source.path for view in self._views[:-1])

    def close(self) -> None:
        for store in (self._reader, self._writer, self.feast._get_provider().online_store):
            connection = getattr(store, "_conn", None)
            if connection is not None:
                connection.close()
        if self._turns is not None:
            self._turns.close()

    # ------------------------------------------------------------------------------------- the hot path

    def read(self, customer_id: str) -> ProfileNow | None:
        """The customer's profile now; None if there is none. Raises StoreDown if the store does not give it."""
        return self.read_many([customer_id]).get(customer_id)

    def read_many(self, customer_ids: Iterable[str]) -> dict[str, ProfileNow]:
        """The profiles of those of `customer_ids` that have one."""
        wanted = list(dict.fromkeys(customer_ids))
        found: dict[str, ProfileNow] = {}
        for start in range(0, len(wanted), READ_AT_ONCE):
            chunk = wanted[start : start + READ_AT_ONCE]
            for _ in range(TORN_READS):
                chunk = self._read_whole(chunk, found)
                if not chunk:
                    break
            else:
                raise StoreDown(
                    f"the rows of customer `{chunk[0]}` do not belong together; run `python -m features build --whole`"
                )
        return found

    def _read_whole(self, customer_ids: list[str], found: dict[str, ProfileNow]) -> list[str]:
        """Read into `found`; give back the customers whose two rows were read from before and after a write."""
        keys = [self._customer_key(customer_id) for customer_id in customer_ids]
        try:
            with self._reading:
                states, lists = self._rows_of(keys)
        except Exception as error:
            raise StoreDown(f"the online store does not answer: {error}") from error
        torn = []
        for customer_id, state, items in zip(customer_ids, states, lists, strict=True):
            if belong_together(state, items):
                found[customer_id] = opened(customer_id, state, items)
            elif state or items:
                torn.append(customer_id)
        return torn

    def _rows_of(self, keys: list[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What the two views have of each key; nothing where there is no row."""
        if self._rows is not None:
            both = [self._rows.read(self._coded(key)) for key in keys]
            return [row if "seq" in row else {} for row in both], [row if "items_seq" in row else {} for row in both]
        states = self._reader.online_read(self._config, self._views.profile, keys, ["state", "seq"])
        lists = self._reader.online_read(self._config, self._views.last_seen, keys, ["items", "items_seq"])
        return [row or {} for _, row in states], [row or {} for _, row in lists]

    def write(self, rows: Iterable[tuple[str, int, float, bytes, bytes]], at_once: bool = False) -> None:
        """Put `(customer_id, seq, known_at, state, items)` online. The caller holds those customers' locks. `at_once`:
        raises NotAtOnce where that would wait for anybody."""
        written = []
        for customer_id, seq, _, state, items in rows:
            count = self._value(int64_val=seq)
            views = {
                "profile": {"state": self._value(bytes_val=state), "seq": count},
                "last_seen": {"items": self._value(bytes_val=items), "items_seq": count},
            }
            written.append((self._customer_key(customer_id), views, seq))
        self._write(written, at_once)

    @property
    def apart(self) -> bool:
        """Whether a state can be written without its entries."""
        return self._turns is not None

    def write_state(self, customer_id: str, seq: int, state: bytes, at_once: bool = False) -> bool:
        """Put a state online whose entries are there already; False where they are not. Otherwise as `write`."""
        assert self._turns is not None, "asked `apart` before"
        key, moment = self._coded(self._customer_key(customer_id)), _ERA + timedelta(seconds=seq)
        packed, count = self._value(bytes_val=state), self._value(int64_val=seq)
        with down_unless_at_once("profile"), self._turns.turn(at_once) as connection:
            return online_rows.write_state(connection, self._customer_tables, key, packed, count, moment)

    def _coded(self, key: Any) -> bytes:
        """The key as Feast's online stores write it."""
        return bytes(self._key_bytes(key, self._config.entity_key_serialization_version))

    def forget(self, customer_ids: Iterable[str]) -> int:
        """Take the customers' rows out of the online store; how many values that were. The caller holds their locks."""
        if self._config.online_store.type != "sqlite":
            raise StoreDown(
                f"the online store `{self._config.online_store.type}` cannot be told to forget; expected `sqlite`"
            )
        keys = [(self._coded(self._customer_key(each)),) for each in customer_ids]
        with self._writing:
            return online_rows.delete(self._writer._get_conn(self._config), self._customer_tables, keys)

    def without_leftovers(self) -> bool:
        """Whether what was deleted is gone from the online store's files, too."""
        with self._writing:
            return database.scoured(self._writer._get_conn(self._config).execute)

    def write_stock(self, rows: Iterable[tuple[str, str, int, int]], at_once: bool = False) -> None:
        """Put `(product_id, location_id, quantity, seq)` online."""
        written = []
        for product_id, location_id, quantity, seq in rows:
            key = self._entity({"product_id": product_id, "location_id": location_id})
            written.append((key, {"stock": {"quantity": self._value(int64_val=quantity)}}, seq))
        self._write(written, at_once)

    def _write(self, rows: Iterable[tuple[Any, Mapping[str, Mapping[str, Any]], int]], at_once: bool) -> None:
        """Put `(key, {view: {feature: value}}, seq)`s online; on SQLite all in one transaction."""
        stamped = [(key, views, _ERA + timedelta(seconds=seq)) for key, views, seq in rows]
        names = list(dict.fromkeys(name for _, views, _ in stamped for name in views))
        with down_unless_at_once("`, `".join(names)):
            if self._turns is not None:
                with self._turns.turn(at_once) as connection:
                    coded = ((self._coded(key), views, moment) for key, views, moment in stamped)
                    online_rows.write(connection, self._tables, coded)
                return
            if at_once:
                raise driver.NotAtOnce
            with self._writing:
                for name in names:
                    batch = [(key, dict(views[name]), moment, None) for key, views, moment in stamped]
                    self._writer.online_write_batch(self._config, getattr(self._views, name), batch, None)

    def _customer_key(self, customer_id: str) -> Any:
        return self._entity({"customer_id": customer_id})

    def _entity(self, keys: Mapping[str, str]) -> Any:
        return self._key(join_keys=list(keys), entity_values=[self._value(string_val=value) for value in keys.values()])

    # ------------------------------------------------------------------------------ through Feast's front door

    def online(self, customer_ids: Sequence[str], service_name: str, as_of: float) -> pd.DataFrame:
        """What the online store and `derive` make of a feature service at `as_of`, a row per customer, in order."""
        service = self.feast.get_feature_service(service_name)
        rows = {"customer_id": list(customer_ids), "as_of": [float(as_of)] * len(customer_ids)}
        return self.feast.get_online_features(features=service, entity_rows=rows).to_df()

    def historical(self, entity_df: pd.DataFrame, service_name: str) -> pd.DataFrame:
        """A feature service as known at past moments, in the rows and order of `entity_df`.

        `entity_df` has customer_id and as_of (epoch seconds), and any columns of its own; `event_timestamp`
        is added from as_of where it is missing.
        """
        offline.demand_built(self._workspace)
        return moments.joined(self.feast, entity_df, self.feast.get_feature_service(service_name))

    def historical_by_feast(self, entity_df: pd.DataFrame, service_name: str) -> pd.DataFrame:
        """The same by `get_historical_features`."""
        return self._by_feast(entity_df, self.feast.get_feature_service(service_name))

    def historical_entries(self, entity_df: pd.DataFrame) -> pd.DataFrame:
        """Entries of last-seen (customer_id, item, as_of) as known at past moments; not `present`: none."""
        return self._by_feast(entity_df, self._every_field(self._views.last_seen_history), moments.NARROW_AT_ONCE)

    def online_view(self, name: str, customer_ids: Sequence[str]) -> pd.DataFrame:
        """The stored fields of one view in the online store."""
        rows = [{"customer_id": customer_id} for customer_id in customer_ids]
        fields = self._every_field(getattr(self._views, name))
        return self.feast.get_online_features(features=fields, entity_rows=rows).to_df()

    def online_stock(self, shelves: Sequence[tuple[str, str]]) -> pd.DataFrame:
        """The sellable `quantity` of each `(product_id, location_id)` in the online store."""
        rows = [{"product_id": product_id, "location_id": location_id} for product_id, location_id in shelves]
        fields = self._every_field(self._views.stock)
        return self.feast.get_online_features(features=fields, entity_rows=rows).to_df()

    def historical_stock(self, shelves: Sequence[tuple[str, str]], as_of: float) -> pd.DataFrame:
        """The sellable `quantity` of each `(product_id, location_id)` as known at `as_of`."""
        import pandas as pd

        rows = pd.DataFrame(shelves, columns=["product_id", "location_id"]).assign(as_of=as_of)
        return self._by_feast(rows, self._every_field(self._views.stock), moments.NARROW_AT_ONCE)

    def _by_feast(self, entity_df: pd.DataFrame, features: Any, at_once: int = moments.FEAST_AT_ONCE) -> pd.DataFrame:
        offline.demand_built(self._workspace)
        return moments.by_feast(self.feast, entity_df, features, at_once)

    @staticmethod
    def _every_field(view: Any) -> list[str]:
        return [f"{view.name}:{field.name}" for field in view.features]

    def profiles_at(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """`pairs` (customer_id, as_of) with `state` and `items`: the profile of what was known at `as_of`, packed.

        None where nothing was known. The bytes are those that `profiles.pack` gives, and gave online then.
        """
        offline.demand_built(self._workspace)
        return moments.profiles_at(self.feast, self._workspace, pairs)

    def record_materialisation(self) -> None:
        """Tell Feast's registry, and so its UI, up to when the online rows have been written."""
        now = datetime.now(UTC)
        for view in self._views[:-1]:
            if view.online:
                self.feast.registry.apply_materialization(view, self.feast.project, now, now)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Feast's warning that on-demand views are experimental, and those of its libraries on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
