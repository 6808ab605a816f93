"""How long a writer waits for another."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from features import database
from features.workspace import Workspace


def test_who_waits_at_most_so_long_for_the_lock_fails_then_and_not_later(workspace: Workspace) -> None:
    engine = database.connect(workspace)
    other = sa.create_engine(workspace.database_url)
    with database.transaction(engine):
        pass  # opens a connection that would wait for long, and that the pool keeps
    database.wait_at_most(engine, 0.2)
    with other.connect() as holder:
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(sa.exc.OperationalError, match="locked"), database.transaction(engine):
            pass
        assert 0.15 < time.monotonic() - started < 10
        holder.rollback()
    with database.transaction(engine) as connection:
        assert connection.scalar(sa.select(1)) == 1
    other.dispose()
