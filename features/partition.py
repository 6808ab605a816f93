"""Which ids are the same customer, as a pure function of the set of links: in whatever order they came.

`Partition(graph).customer(node)` is the rule; docs/identity.md says it in prose. `moved` bounds what a few new
links can change, so that live intake looks at a neighbourhood and not at everybody; `timeline` plays links in the
order of knowing, for history and for the record of merges. Where links are kept is the business of `identity`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from features.links import ALIAS, DEVICE, KEYS, LOGIN, LOGIN_SEEN, USER, Link, Pair, owned_by
from features.vocabulary import ANONYMOUS

MOST_LOGINS = 3
"""An e-mail, phone, loyalty number or device that more logins share is a household's, a shop's or made up: it joins
nobody. Counted over all links, so whether the fourth comes first or last makes no difference."""
MOST_ANONYMOUS = 20
"""The same for anonymous ids: what more of them have typed in joins none of them (the logins among it still)."""

Key = tuple[float, str]
Reason = tuple[Key, Pair]
Fetch = Callable[[str], Iterable[Link]]


class Graph:
    """Links by the ids they join. With `fetch`, an id's links are looked up when they are first asked for."""

    def __init__(self, fetch: Fetch | None = None):
        self._fetch = fetch
        self._links: dict[str, dict[Pair, list[Link]]] = {}
        self._live: dict[str, list[Reason]] = {}

    def add(self, link: Link) -> None:
        for node in {link.pair.one, link.pair.other}:
            self._links.setdefault(node, {}).setdefault(link.pair, []).append(link)
            self._live.pop(node, None)

    def at(self, node: str) -> dict[Pair, list[Link]]:
        if self._fetch is not None and node not in self._links:
            mine = self._links[node] = {}
            for link in self._fetch(node):
                mine.setdefault(link.pair, []).append(link)
        return self._links.get(node, {})

    def links(self, node: str) -> Iterator[Link]:
        return (link for links in self.at(node).values() for link in links)

    def live(self, node: str) -> list[Reason]:
        """The pairs of this id that hold, each with its earliest word that was not taken back, in that order."""
        if node not in self._live:
            found = ((_earliest(links), pair) for pair, links in self.at(node).items())
            self._live[node] = sorted((key, pair) for key, pair in found if key is not None)
        return self._live[node]

    def others(self, node: str, kind: str, of: str) -> list[str]:
        """The ids beginning with `of` that a pair of this kind joins to `node`."""
        ends = (pair.one if pair.other == node else pair.other for _, pair in self.live(node) if pair.kind == kind)
        return [end for end in ends if end.startswith(of)]


def _earliest(links: Iterable[Link]) -> Key | None:
    until = max((link.key for link in links if link.undone), default=None)
    return min((link.key for link in links if not link.undone and (until is None or link.key > until)), default=None)


def _kind(shared: str) -> str:
    return shared.partition(":")[0]


class Partition:
    """Whose each id is, as one graph has it. Make a new one when the graph has changed."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._customers: dict[str, str] = {}
        self._evidence: dict[str, Reason | None] = {}

    def customer(self, node: str) -> str:
        """The customer whom a login or an anonymous id is."""
        if node not in self._customers:
            group = closure([node], self.same_login) if node.startswith(USER) else self._same_visitor(node)
            if len(group) > 1:
                first = min(group, key=lambda each: (self._first(each), each))
                self._customers.update(dict.fromkeys(group, owned_by(first)))
            else:
                self._customers[node] = self._alone(node)
        return self._customers[node]

    def why(self, node: str) -> Reason | None:
        """The link that made this id another customer's, or its first one to them; None where it stands alone."""
        if node.startswith(USER):
            return next((reason for reason in self._merging(node) if self._leads_on(node, reason[1])), None)
        return self.evidence(node) or next((self._keys(node)), None)

    def ties(self, node: str) -> list[Pair]:
        """All links that tie this id to a customer who is not it alone."""
        if node.startswith(USER):
            return [pair for _, pair in self._merging(node) if self._leads_on(node, pair)]
        if self.evidence(node) is None and all(each == node for each in self.visitors(node)):
            return []
        tying = {LOGIN, DEVICE, *(pair.kind for _, pair in self._keys(node))}
        return [pair for _, pair in self._graph.live(node) if pair.kind in tying]

    # ----------------------------------------------------------------------------------------------- logins

    def joins(self, shared: str) -> bool:
        """Whether an e-mail, phone, loyalty number or device belongs to few enough logins to be a person's."""
        return len(self._graph.others(shared, _kind(shared), USER)) <= MOST_LOGINS

    def same_login(self, login: str) -> Iterator[str]:
        """The logins that are the same customer as this one, directly."""
        for _, pair in self._merging(login):
            if pair.kind == ALIAS:
                yield pair.one if pair.other == login else pair.other
            else:
                yield from self._graph.others(pair.other, pair.kind, USER)

    def _merging(self, login: str) -> Iterator[Reason]:
        for key, pair in self._graph.live(login):
            is_alias = pair.kind == ALIAS and any(each.kind == LOGIN_SEEN for _, each in self._graph.live(pair.other))
            if is_alias or (pair.kind in KEYS and self.joins(pair.other)):
                yield key, pair

    def _leads_on(self, login: str, pair: Pair) -> bool:
        return pair.kind == ALIAS or any(each != login for each in self._graph.others(pair.other, pair.kind, USER))

    def _first(self, node: str) -> tuple[float, str, bool]:
        """What makes one id of a group its name: who was linked first; of an alias's two, the new one."""
        if node.startswith(USER):
            words = [(*key, pair.kind == ALIAS and pair.other == node) for key, pair in self._merging(node)]
        else:
            words = [(*key, False) for key, _ in self._keys(node)]
        return min(words)

    # ------------------------------------------------------------------------------------------ anonymous ids

    def evidence(self, node: str) -> Reason | None:
        """The earliest sign of a login behind an anonymous id; only where it has no key of its own, its device's."""
        if node not in self._evidence:
            keys = list(self._keys(node))
            found = [self._login_of(node), *((key, pair) for key, pair in keys if self._holder(pair.other))]
            if not keys and found == [None]:
                found = [self._on_device(node)]
            self._evidence[node] = min((reason for reason in found if reason is not None), default=None)
        return self._evidence[node]

    def _alone(self, node: str) -> str:
        reason = None if node.startswith(USER) else self.evidence(node)
        if reason is None:
            return owned_by(node)
        pair = reason[1]
        login = pair.other if pair.kind == LOGIN else pair.one if pair.kind == DEVICE else self._holder(pair.other)
        return self.customer(login or node)

    def _login_of(self, node: str) -> Reason | None:
        return next((reason for reason in self._graph.live(node) if reason[1].kind == LOGIN), None)

    def _keys(self, node: str) -> Iterator[Reason]:
        for key, pair in self._graph.live(node):
            if pair.kind in KEYS and self.few(pair.other):
                yield key, pair

    def few(self, shared: str) -> bool:
        return self.joins(shared) and len(self._graph.others(shared, _kind(shared), ANONYMOUS)) <= MOST_ANONYMOUS

    def _holder(self, shared: str) -> str | None:
        """A login of the customer who has this key: its own, else that of the first visitor with it who logged in."""
        logins = self._graph.others(shared, _kind(shared), USER)
        if logins:
            return min(logins)
        visitors = (pair.one for _, pair in self._graph.live(shared) if pair.one.startswith(ANONYMOUS))
        return next((found[1].other for found in map(self._login_of, visitors) if found), None)

    def _on_device(self, node: str) -> Reason | None:
        """The earliest login on the devices of an anonymous id, of those that few enough logins share."""
        devices = [d for d in self._graph.others(node, DEVICE, DEVICE) if self.joins(d)]
        found = (reason for device in devices for reason in self._graph.live(device))
        return min((reason for reason in found if reason[1].one.startswith(USER)), default=None)

    def _same_visitor(self, node: str) -> set[str]:
        """The anonymous ids that one key joins while nobody has logged in."""
        if self.evidence(node) is not None:
            return {node}
        return closure([node], lambda each: (o for o in self.visitors(each) if self.evidence(o) is None))

    def visitors(self, node: str) -> Iterator[str]:
        """The anonymous ids that share a key with this one."""
        for _, pair in self._keys(node):
            yield from self._graph.others(pair.other, pair.kind, ANONYMOUS)


def moved(graph: Graph, news: Collection[Link], before: Callable[[str], str]) -> dict[str, str]:
    """Every id that is another customer's than `before` said, now that `news` are in the graph, and whose it is now.

    Only what the news can reach is looked at: logins by keys and aliases; of their anonymous ids only where the
    logins themselves have moved; and what shares a key or a device with the news.
    """
    here, seeds, visitors = Partition(graph), set[str](), set[str]()
    for pair in {link.pair for link in news}:
        near = [pair.one, pair.other]
        if pair.kind in KEYS or pair.kind == DEVICE:
            near += graph.others(pair.other, pair.kind, "")
        visitors.update(node for node in near if node.startswith(ANONYMOUS))
        if pair.kind not in (LOGIN, DEVICE):
            seeds.update(node for node in near if node.startswith(USER))
    found = {login: here.customer(login) for login in closure(seeds, here.same_login)}
    found = {login: after for login, after in found.items() if before(login) != after}
    for login in found:
        visitors.update(graph.others(login, LOGIN, ANONYMOUS))
        for _, pair in graph.live(login):
            if pair.kind in KEYS or pair.kind == DEVICE:
                visitors.update(graph.others(pair.other, pair.kind, ANONYMOUS))
    for visitor in closure(visitors, here.visitors):
        if before(visitor) != (after := here.customer(visitor)):
            found[visitor] = after
    return found


def closure(start: Iterable[str], neighbours: Callable[[str], Iterable[str]]) -> set[str]:
    found, waiting = set(start), list(start)
    while waiting:
        for node in neighbours(waiting.pop()):
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


@dataclass(frozen=True, slots=True)
class Move:
    """One id that became another customer's, when that was known, and the link (or its taking back) that says why."""

    node: str
    before: str
    after: str
    known: tuple[int, int]
    why: Link | None


def timeline(links: Iterable[Link]) -> list[Move]:
    """Every change of whose an id is, in the order of knowing. Links known at the same microsecond count at once."""
    graph, owners, moves = Graph(), dict[str, str](), list[Move]()

    def owner(node: str) -> str:
        return owners.get(node, owned_by(node))

    for _, group in groupby(sorted(links, key=lambda link: link.known), key=lambda link: link.known[0]):
        news = list(group)
        for link in news:
            graph.add(link)
        now = Partition(graph)
        for node, after in sorted(moved(graph, news, owner).items()):
            moves.append(Move(node, owner(node), after, news[-1].known, _word(graph, now.why(node), news)))
            owners[node] = after
    return moves


def _word(graph: Graph, reason: Reason | None, news: list[Link]) -> Link | None:
    """The message behind a move: what was taken back, or the link that joins."""
    undone = next((link for link in news if link.undone), None)
    if undone is not None or reason is None:
        return undone
    key, pair = reason
    return next((link for link in graph.at(pair.one).get(pair, ()) if link.key == key and not link.undone), None)
