"""The ids of a customer: whose an id is, which ids and merges a customer has and why, and taking them back.

The door for everybody else; the rule is in `partition`, what messages say in `links`, the tables in `ownership`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from features import database
from features.learning import Learnt, learn, reached, settle
from features.links import DEVICE, KEYS, LOGIN_SEEN, UNLINK, USER, Link, node_of, owned_by
from features.ownership import OWNED_BY, Resolver, customer_of, links_at, owners_of, touch
from features.partition import Graph, Partition, timeline
from features.vocabulary import ANONYMOUS, EventProblem

__all__ = [
    "Id",
    "Learnt",
    "Merge",
    "Resolver",
    "customer_of",
    "forget",
    "ids_of",
    "ids_of_many",
    "learn",
    "links_around",
    "merges_of",
    "names_and_ids_of",
    "names_of",
    "owners_of",
    "undoing",
]


@dataclass(frozen=True, slots=True)
class Id:
    """One id of a customer, and what says so: the kind of link and its message; of the customer's own, nothing.

    Of an e-mail, phone, loyalty number or device, `reason` is the kind of id that had it: `login` or `anonymous`.
    """

    customer_id: str
    id: str
    kind: str
    reason: str | None = None
    message_id: str | None = None
    occurred_at: float | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """One id that changed hands: when we knew it, by which kind of link (`undone`: taken back) and message."""

    id: str
    before: str
    after: str
    known_at: float
    reason: str | None
    message_id: str | None


def ids_of(connection: sa.Connection, id_: str) -> list[Id]:
    """Every id of the customer whom `id_` (a login, or `anonymous:<id>`) is; the first one is the customer's name."""
    return _ids(connection, *_held(connection, id_))


def names_of(connection: sa.Connection, id_: str) -> list[str]:
    """The customer whom `id_` is, and what this customer's other logins and anonymous ids are called by themselves."""
    return _names(*_held(connection, id_))


def names_and_ids_of(connection: sa.Connection, id_: str) -> tuple[list[str], list[Id]]:
    """Both, of one reading."""
    customer_id, nodes = _held(connection, id_)
    return _names(customer_id, nodes), _ids(connection, customer_id, nodes)


def _held(connection: sa.Connection, id_: str) -> tuple[str, list[str]]:
    """The customer whom `id_` is, and the ids that are this customer's beside the own one, in their order."""
    customer_id = owners_of(connection, [node_of(id_)])[node_of(id_)]
    return customer_id, [row.id for row in connection.execute(OWNED_BY, {"ids": [customer_id]})]


def _names(customer_id: str, nodes: list[str]) -> list[str]:
    return list(dict.fromkeys([customer_id, *map(owned_by, nodes)]))


def _ids(connection: sa.Connection, customer_id: str, nodes: list[str]) -> list[Id]:
    graph = Graph(lambda node: links_at(connection, node))
    here = Partition(graph)
    found, shared = [], dict[str, Id]()
    for node in [node_of(customer_id), *nodes]:
        if _is_a_previous_login(graph, node):
            continue
        reason = None if owned_by(node) == customer_id else here.why(node)
        kind, value = ("login", owned_by(node)) if node.startswith(USER) else ("anonymous", node.partition(":")[2])
        key, pair = reason or ((None, None), None)
        found.append(Id(customer_id, value, kind, pair.kind if pair else None, key[1], key[0]))
        for (at, message_id), pair in graph.live(node):
            if pair.kind in (*KEYS, DEVICE):
                shared.setdefault(
                    pair.other, Id(customer_id, pair.other.partition(":")[2], pair.kind, kind, message_id, at)
                )
    return found + [shared[node] for node in sorted(shared)]


def ids_of_many(connection: sa.Connection, customer_ids: Collection[str]) -> dict[str, list[str]]:
    """Per customer every login and anonymous id that means this customer, the one asked for first."""
    found = {customer_id: [customer_id] for customer_id in customer_ids}
    for chunk in database.chunks(list(found)):
        for row in connection.execute(OWNED_BY, {"ids": chunk}):
            found[row.customer_id].append(owned_by(row.id))
    return found


def _is_a_previous_login(graph: Graph, node: str) -> bool:
    """An alias names an id without its kind; once that is known as a login, it is no anonymous id as well."""
    same = USER + node.partition(":")[2]
    return node.startswith(ANONYMOUS) and any(pair.kind == LOGIN_SEEN for _, pair in graph.live(same))


def merges_of(connection: sa.Connection, id_: str) -> list[Merge]:
    """Every time an id became this customer's or left, in the order of knowing, with its reason."""
    customer_id = owners_of(connection, [node_of(id_)])[node_of(id_)]
    names = {customer_id, id_}
    return [
        Merge(
            id=owned_by(move.node),
            before=move.before,
            after=move.after,
            known_at=move.known[0] / 1e6,
            reason=None if move.why is None else "undone" if move.why.undone else move.why.pair.kind,
            message_id=move.why.message_id if move.why else None,
        )
        for move in timeline(links_around(connection, [node_of(name) for name in names]))
        if names & {move.before, move.after, owned_by(move.node)}
    ]


def links_around(connection: sa.Connection, nodes: Iterable[str]) -> list[Link]:
    """Every link of any time that these ids lead to, through whatever they share."""
    graph = Graph(lambda node: links_at(connection, node))
    around = reached(graph, nodes)
    return list({(link.pair, link.message_id): link for node in around for link in graph.links(node)}.values())


def undoing(connection: sa.Connection, id_: str, now: float, for_good: bool = False) -> dict[str, Any]:
    """The record of the event that parts a login or anonymous id from the customer it was merged into.

    It takes back what was said until `now`; `for_good`: also what will be said. Raises EventProblem where there is
    nothing to take back.
    """
    node = node_of(id_)
    here = Partition(Graph(lambda each: links_at(connection, each)))
    pairs = here.ties(node)
    if not pairs:
        raise EventProblem("id", f"`{id_}` is tied to no other; expected a login or `anonymous:<id>` that was merged")
    name = hashlib.sha256(orjson.dumps([list(map(list, pairs)), now])).hexdigest()[:32]
    body = {"links": [list(pair) for pair in pairs], "for_good": for_good}
    return {"message_id": f"unlink-{name}", "name": UNLINK, "occurred_at": now, "body": body}


def forget(connection: sa.Connection, customer_id: str) -> Learnt:
    """Delete every link and id of a customer; what became of others by it (a crowded key may join again)."""
    mine = [
        node_of(customer_id),
        *connection.scalars(sa.select(database.owners.c.id).where(database.owners.c.customer_id == customer_id)),
    ]
    links = database.links
    gone = [link for node in mine for link in links_at(connection, node)]
    for node in mine:
        connection.execute(sa.delete(links).where((links.c.one == node) | (links.c.other == node)))
        connection.execute(sa.delete(database.owners).where(database.owners.c.id == node))
    touch(connection, {customer_id, *map(owned_by, mine)})
    return settle(connection, gone, late=True)
