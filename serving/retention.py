"""What is past goes: whole days of the decision log, contacts that no limit asks for, request ids of yesterday.

Every worker may prune at any time; what is gone already is no error.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from features import database
from features.vocabulary import DAY_S
from serving import packing, repeats, reservations


def prune_days(decisions: Path, now: float, days: int) -> list[str]:
    """Delete the days of the decision log that ended more than `days` days ago; which ones went."""
    first_kept = datetime.fromtimestamp(now - days * DAY_S, UTC).strftime("%Y-%m-%d")
    gone = [path for path in sorted(decisions.glob("????-??-??")) if path.name < first_kept]
    if gone:
        with packing.alone(decisions):  # nobody is erasing in them
            for path in gone:
                shutil.rmtree(path, ignore_errors=True)
    return [path.name for path in gone]


def prune_rows(engine: sa.Engine, now: float) -> int:
    """Delete rows of our database that nothing asks for any more; how many went."""
    with database.transaction(engine) as connection:
        return reservations.prune(connection, now) + repeats.prune(connection, now)
