"""Links learnt from messages that have just been stored: kept, and what they change carried out.

Of many messages that say the same only those are kept that say it earlier than another one, by when it happened or
by when it was known; when a pair is taken back, the log is asked for what was said of it later. The result depends
on the set of messages alone, whatever their order and batches. Folding profiles anew is the business of `intake`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from features import database, driver
from features.events import event_of
from features.links import ALIAS, LOGIN, LOGIN_SEEN, USER, Link, Pair, links_of, owned_by
from features.ownership import ALIASED, events_of, give, link_of, links_at, owners_of, touch
from features.partition import Graph, closure, moved
from features.vocabulary import ANONYMOUS, Event

RELEARNT_AT_ONCE = 5_000
_table = database.links


@dataclass(slots=True)
class Learnt:
    """What a batch of messages changed: ids that moved (with their customer now), and whose events are others now."""

    owners: dict[str, str] = field(default_factory=dict)
    customers: set[str] = field(default_factory=set)


def learn(connection: sa.Connection, stored: Sequence[tuple[Event, int]], at_once: bool = False) -> Learnt:
    """Take in the links of events just stored (with their seq), and move the events of ids that changed hands.

    The result depends on the set of all events alone: neither on their order nor on how they were batched. `at_once`:
    raises NotAtOnce where they say anything new.
    """
    links = [link for event, seq in stored for link in links_of(event, seq)]
    links += _seen(connection, stored, links)
    if not links:
        return Learnt()
    kept = _kept(connection, {link.pair.one for link in links})
    aliases = {event.message_id for event, _ in stored if event.name == "$alias"}
    news = _news(links, kept, aliases)
    if at_once and news:
        raise driver.NotAtOnce
    again = [link for link in news if link.undone]
    if again:
        news += _news(_said_again(connection, again), kept, set())
    newest = connection.scalar(sa.select(sa.func.max(_table.c.known_at)))
    _insert(connection, news)
    return settle(connection, news, any(link.known_at < (newest or 0.0) for link in news))


def settle(connection: sa.Connection, news: Collection[Link], late: bool) -> Learnt:
    """Bring `owners` and the log in line with the links, of which `news` have just come or gone.

    Where they are `late`, known to us before others that are there, past moments are changed for all around them.
    """
    learnt = Learnt()
    if not news:
        return learnt
    graph = Graph(lambda node: links_at(connection, node))
    before = _Owners(connection)
    learnt.owners = moved(graph, news, before.of)
    touched: set[str] = set()
    for node, after in learnt.owners.items():
        customer_id = before.of(node)
        touched |= {customer_id, after, owned_by(node)}
        if give(connection, node, customer_id, after):
            learnt.customers |= {customer_id, after}
    if late:
        touched.update(map(owned_by, _everybody(graph, news)))
    touch(connection, touched)
    return learnt


def learn_from_log(engine: sa.Engine) -> None:
    """Learn the links of a log that was written before links were kept: its `identities` knew anonymous ids alone."""
    log, former = database.events, sa.Table("identities", sa.MetaData())
    if not sa.inspect(engine).has_table(former.name):
        return
    with database.transaction(engine) as connection:
        database.in_turn(connection)
        seq = 0
        while rows := connection.execute(
            sa.select(log).where(log.c.seq > seq).order_by(log.c.seq).limit(RELEARNT_AT_ONCE)
        ).all():
            learn(connection, [(event_of(row), row.seq) for row in rows])
            seq = rows[-1].seq
        former.drop(connection, checkfirst=True)


class _Owners:
    def __init__(self, connection: sa.Connection):
        self._connection, self._known = connection, dict[str, str]()

    def of(self, node: str) -> str:
        if node not in self._known:
            self._known.update(owners_of(self._connection, [node]))
        return self._known[node]


def _insert(connection: sa.Connection, links: Collection[Link]) -> None:
    if links:
        rows = [
            {
                **link.pair._asdict(),
                "message_id": link.message_id,
                "occurred_at": link.occurred_at,
                "known_at": link.known_at,
                "seq": link.seq,
                "undone": link.undone,
            }
            for link in links
        ]
        connection.execute(database.insert(connection, _table).on_conflict_do_nothing(), rows)


def _kept(connection: sa.Connection, ones: Collection[str]) -> dict[tuple[str, ...], list[Link]]:
    kept: dict[tuple[str, ...], list[Link]] = {}
    for chunk in database.chunks(sorted(ones)):
        for row in connection.execute(sa.select(_table).where(_table.c.one.in_(chunk))):
            link = link_of(row)
            kept.setdefault(_same(link.pair), []).append(link)
    return kept


def _same(pair: Pair) -> tuple[str, ...]:
    """What only the earliest word counts of: a pair, or all logins of one anonymous id."""
    return pair[:2] if pair.kind == LOGIN else pair


def _news(links: Iterable[Link], kept: dict[tuple[str, ...], list[Link]], always: Collection[str]) -> list[Link]:
    """Those of `links` that say more than what is kept does, added to it: earlier, known earlier, or taking back."""
    news = []
    for link in sorted(links, key=lambda link: (link.key, link.known)):
        mine = kept.setdefault(_same(link.pair), [])
        if not link.undone and link.message_id not in always and any(_outdoes(each, link, mine) for each in mine):
            continue
        mine.append(link)
        news.append(link)
    return news


def _outdoes(one: Link, other: Link, mine: Collection[Link]) -> bool:
    """Whether `one` says all that `other` does, at every moment: earlier, known before, and never taken back."""
    if one.pair == other.pair and one.message_id == other.message_id:
        return True
    if one.undone or one.key > other.key or one.known > other.known:
        return False
    return not any(each.undone and each.pair == one.pair and each.key >= one.key for each in mine)


def _said_again(connection: sa.Connection, undone: Collection[Link]) -> Iterator[Link]:
    """What the log says of pairs that were taken back: what was outdone until now may count from now on."""
    wanted = {_same(link.pair) for link in undone}
    owners = owners_of(connection, {link.pair.one for link in undone})
    log = database.events
    for node, customer_id in owners.items():
        theirs = (
            events_of(node, customer_id) if node.startswith(USER) else (log.c.anonymous_id == node.partition(":")[2],)
        )
        for row in connection.execute(sa.select(log).where(*theirs)):
            yield from (link for link in links_of(event_of(row), row.seq) if _same(link.pair) in wanted)


def _seen(connection: sa.Connection, stored: Sequence[tuple[Event, int]], links: Sequence[Link]) -> Iterator[Link]:
    """That an alias's previous id is known as a login: from these events, or for a new alias from the log."""
    log = database.events.c
    users = {USER + event.user_id for event, _ in stored if event.user_id}
    new = {link.pair.other for link in links if link.pair.kind == ALIAS}
    aliased = new.union(other for (other,) in driver.of_ids(connection, ALIASED, sorted(users)))
    for event, seq in stored:
        if event.user_id and USER + event.user_id in aliased:
            yield _login_seen(event, seq)
    for node, customer_id in owners_of(connection, new).items():
        theirs = sa.select(database.events).where(*events_of(node, customer_id))
        row = connection.execute(theirs.order_by(log.known_at, log.seq).limit(1)).one_or_none()
        if row is not None:
            yield _login_seen(event_of(row), row.seq)


def _login_seen(event: Event, seq: int) -> Link:
    node = f"{USER}{event.user_id}"
    return Link(Pair(LOGIN_SEEN, node, node), event.occurred_at, event.message_id, event.known_at, seq)


def _everybody(graph: Graph, links: Iterable[Link]) -> set[str]:
    """Every login and anonymous id that links of any kind, through whatever they share, lead to."""
    found = reached(graph, (node for link in links for node in link.pair[1:]))
    return {node for node in found if node.startswith((USER, ANONYMOUS))}


def reached(graph: Graph, nodes: Iterable[str]) -> set[str]:
    """Every id of any kind that links lead to, through whatever is shared."""
    return closure(nodes, lambda node: (end for link in graph.links(node) for end in link.pair[1:]))
