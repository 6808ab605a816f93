"""Decide the log again: every decision from its record must come out byte for byte the same.

A record holds what its decision saw; its versions name the rulebook, the catalog and the models it
decided by, of which the workspace keeps copies. A record of another engine version is compared in
meaning (which offers, in which order) instead of in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any

import orjson

from features import profiles
from features.product_counts import ProductCounts
from features.sentences import FileProblem
from features.workspace import Workspace
from serving import contact
from serving.decide import ENGINE_VERSION, Policy, answer, decide
from serving.facts import Carried, Facts, Promised
from serving.log_lines import Unreadable, read
from serving.scoring import Models, load_version
from serving.shelves import levels_of, shops_of
from serving.versions import kept_catalog, kept_rulebook

MODELS = ("propensity", "churn", "returns")
LONGEST = 300
"""Characters of an error that a problem quotes."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision made again: `problem` is None where it came out the same. `answer` is what came out, as JSON.

    `compared` is False for a record without an answer, such as one of a copy from which answers were stripped.
    What is altered so that not even its id can be read has its `place` in the log alone.
    """

    decision_id: str | None
    problem: str | None
    answer: bytes | None = None
    compared: bool = True
    place: str = ""

    @property
    def name(self) -> str:
        return f"decision `{self.decision_id}`" if self.decision_id else self.place


def replay(
    workspace: Workspace, since: float = 0.0, on_erased: Callable[[], None] = lambda: None
) -> Iterator[Replayed]:
    """Every decision of the log since that moment (epoch seconds), made again; `on_erased` hears of each erased one.

    Of what was altered, in the log or in what it needs, one problem each: the others are decided all the same.
    """
    policy_of = _failing_once(policies(workspace))
    for record in read(workspace.decisions, since, on_erased):
        if isinstance(record, Unreadable):
            yield Replayed(record.decision_id, f"cannot be read: {record.problem}", place=record.place)
        else:
            yield _replayed(record, policy_of)


def _replayed(record: Mapping[str, Any], policy_of: Callable[[Mapping[str, Any]], Policy]) -> Replayed:
    decision_id = record["decision_id"]
    try:
        decided = again(record, policy_of(record["versions"]))
        problem = _difference(record, decided) if "answer" in record else None
        return Replayed(decision_id, problem, orjson.dumps(decided), "answer" in record)
    except Exception as error:  # nobody can tell what an altered byte leads to, and the others want to be decided
        said = " ".join(str(error).split())[:LONGEST]
        kind = "" if isinstance(error, FileNotFoundError | FileProblem) else f"{type(error).__name__}: "
        return Replayed(decision_id, f"cannot be decided again: {kind}{said}")


def _failing_once(policy_of: Callable[[Mapping[str, Any]], Policy]) -> Callable[[Mapping[str, Any]], Policy]:
    """The same, but what cannot be opened is not tried again for every decision."""
    failed: dict[bytes, Exception] = {}

    def tried(versions: Mapping[str, Any]) -> Policy:
        key = orjson.dumps(versions)
        if key in failed:
            raise failed[key].with_traceback(None)
        try:
            return policy_of(versions)
        except Exception as error:
            failed[key] = error
            raise

    return tried


def again(record: Mapping[str, Any], policy: Policy) -> dict[str, Any]:
    """The answer that `policy` gives to what the record's decision saw."""
    return answer(decide(facts_of(record), policy))


def facts_of(record: Mapping[str, Any]) -> Facts:
    seen = record["facts"]
    profile = record["profile"]
    return Facts(
        decision_id=record["decision_id"],
        now=seen["now"],
        customer_id=seen["customer_id"],
        channel=seen["channel"],
        placement=seen["placement"],
        limit=seen["limit"],
        location_id=seen["location_id"],
        market=seen["market"],
        product_id=seen["product_id"],
        cart=tuple(seen["cart"]),
        profile=None if profile is None else profiles.from_log(profile),
        profile_missing=seen["profile_missing"],
        stock=levels_of(seen["stock"]),
        feeds=seen["feeds"],
        contacts=contact.from_json(seen.get("contacts", ((), ()))),
        carried=_carried(seen.get("carried")),
        seed=seen.get("seed", record["decision_id"]),
        shops=shops_of(seen.get("shops", {})),
        counts=_counts(seen.get("counts")),
        used={offer_id: (used[0], used[1]) for offer_id, used in seen.get("used", {}).items()},
    )


def _carried(seen: Mapping[str, Any] | None) -> Carried | None:
    if seen is None:
        return None
    offers = tuple(Promised(**each) for each in seen["offers"])
    return Carried(seen["decision_id"], seen["since"], offers, seen.get("until"))


def _counts(seen: Mapping[str, Any] | None) -> ProductCounts | None:
    return None if seen is None else ProductCounts.from_json(seen)


def policies(workspace: Workspace) -> Callable[[Mapping[str, Any]], Policy]:
    """A function from a record's `versions` to the policy they name, from the copies that the workspace keeps."""

    @lru_cache(maxsize=8)
    def open_policy(book: str, catalog: str, *versions: str | None) -> Policy:
        propensity, churn, returns = map(load_version, repeat(workspace), MODELS, versions)
        models = Models(propensity, churn, returns)
        return Policy(kept_catalog(workspace, catalog), kept_rulebook(workspace, book), models)

    def policy_of(versions: Mapping[str, Any]) -> Policy:
        return open_policy(versions["rulebook"], versions["catalog"], *map(versions.get, MODELS))

    return policy_of


def _difference(record: Mapping[str, Any], decided: Mapping[str, Any]) -> str | None:
    logged = record["answer"]
    if record["engine"] != ENGINE_VERSION:
        same = [o["offer_id"] for o in logged["offers"]] == [o["offer_id"] for o in decided["offers"]]
        return None if same else f"engine `{record['engine']}` offered others than engine `{ENGINE_VERSION}` does"
    if orjson.dumps(decided) == orjson.dumps(logged):
        return None
    field = next((name for name in decided if orjson.dumps(decided[name]) != orjson.dumps(logged.get(name))), "fields")
    return f"`{field}` came out different"
