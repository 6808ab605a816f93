"""A changed rulebook, catalog or champion reaches a worker that runs: loaded beside the old one, tried, swapped whole.

What is wrong with the new one keeps the old one at work, and is told once on stderr and under `/metrics`. A
file counts as changed when it looks different from before and the same as a look ago: nobody is caught writing. What
a decision began with it ends with, because it takes the policy once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from features import product_counts, profiles
from features.affinity import index_of
from features.catalog import Catalog, files_of, load_catalog
from features.vocabulary import CHANNELS, ONLINE, PLACEMENTS, Event
from features.workspace import PROJECT, Workspace
from serving import golden, rulebook
from serving.decide import Policy, answer, decide
from serving.facts import Facts
from serving.scoring import COLUMNS, load_models, pointer_file

Stamp = tuple[str, int, int, int] | None
Looks = Mapping[str, tuple[Stamp, ...]]
"""How the files of each part of a policy look from outside."""


class Refused(ValueError):
    """A new policy that must not be used, in one sentence."""


def open_policy(workspace: Workspace) -> Policy:
    """The policy that the workspace's files say; FileProblem names everything that is wrong with them."""
    catalog = load_catalog(workspace)
    index_of(catalog)  # half a second, which the first decision would wait for
    return Policy(catalog, rulebook.load(workspace.file("rulebook.yaml")), load_models(workspace))


class Swap:
    """Looks whether the policy has changed, and hands over the new one when it holds."""

    def __init__(
        self,
        workspace: Workspace,
        policy: Policy,
        done: Looks,
        take: Callable[[Policy], None],
        say: Callable[[str, bool], None],
    ):
        """`done` is how the files looked when `policy` was made of them."""
        self._workspace, self._policy, self._take, self._say = workspace, policy, take, say
        self._done = self._before = done

    def look(self) -> None:
        """Look once; whoever calls decides how often."""
        now = looks(self._workspace)
        settled, self._before = now == self._before, now
        if now == self._done or not settled:
            return
        try:
            new = self._loaded(now)
            try_out(self._workspace, new, self._policy.catalog)
        except Exception as problem:
            if looks(self._workspace) == now:  # else it is being changed again
                self._done = now
                self._say(f"not taken up, the old one stays: {problem}", False)
            return
        if looks(self._workspace) != now:
            return
        self._done = now
        old, self._policy = self._policy, new
        if new.versions != old.versions or new.models.counts != old.models.counts:
            self._take(new)
            told = (f"{name} {(version or 'none')[:19]}" for name, version in new.versions.items())
            self._say(f"taken up: {', '.join(told)}", True)

    def _loaded(self, now: Looks) -> Policy:
        """The new policy; a part whose files look as before is kept, since catalogs take long to load."""
        old, workspace = self._policy, self._workspace
        same = {part for part in now if now[part] == self._done[part]}
        return Policy(
            old.catalog if "catalog" in same else load_catalog(workspace),
            old.book if "rulebook" in same else rulebook.load(workspace.file("rulebook.yaml")),
            old.models if "models" in same else load_models(workspace),
        )


def looks(workspace: Workspace) -> Looks:
    return {
        "catalog": tuple(map(_stamp, files_of(workspace))),
        "rulebook": (_stamp(workspace.file("rulebook.yaml")),),
        "models": (
            *(_stamp(pointer_file(workspace, task)) for task in sorted(COLUMNS)),
            _stamp(product_counts.path_of(workspace)),
        ),
    }


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_mtime_ns, found.st_size, found.st_ino


# --------------------------------------------------------------------------------------------- trials


def try_out(workspace: Workspace, policy: Policy, at_work: Catalog) -> None:
    """Raise Refused unless the policy decides soundly everywhere, and its stories end as they should."""
    for problem in _unsound(policy, at_work):
        raise Refused(problem)
    folder = stories(workspace)
    for outcome in golden.run(folder, policy.catalog, policy.book) if folder else ():
        if outcome.differences:
            raise Refused(f"the story `{outcome.story}` ends otherwise: {outcome.differences[0]}")


def stories(workspace: Workspace) -> Path | None:
    """The folder of the stories that must hold: beside a rulebook of the workspace's own; the shipped ones where
    rulebook and catalog are the shipped ones too, about which they are."""
    files = (workspace.file("rulebook.yaml"), *files_of(workspace))
    if files[0].parent == workspace.home:
        return workspace.home / "cases"
    shipped = (PROJECT / "serving", PROJECT / "features")  # a workspace may lie in the project, too
    return files[0].parent / "cases" if all(path.parent in shipped for path in files) else None


def _unsound(policy: Policy, at_work: Catalog) -> Iterator[str]:
    if at_work.offers and not policy.catalog.offers:
        yield "offers: there are none left; expected at least one"
    for channel in CHANNELS:
        for placement in sorted(name for name, channels in PLACEMENTS.items() if channel in channels):
            for facts in _trials(channel, placement, policy):
                answer_ = answer(decide(facts, policy))
                where = f"in `{channel}`, `{placement}`"
                for each in answer_["suppressed"]:
                    if any(reason["code"] == "rule_error" for reason in each["reasons"]):
                        yield f"offer `{each['offer_id']}`: a rule failed {where}"
                for offer in answer_["offers"]:
                    chance = 0.0 if offer["propensity"] is None else offer["propensity"]
                    if not (0.0 <= chance <= 1.0 and math.isfinite(offer["priority"])):
                        yield f"offer `{offer['offer_id']}`: propensity {chance} {where}; expected 0 to 1"
                    risk = offer["worth"]["return_risk"] or 0.0
                    if not 0.0 <= risk <= 1.0:
                        yield f"offer `{offer['offer_id']}`: return risk {risk} {where}; expected 0 to 1"


def _trials(channel: str, placement: str, policy: Policy) -> Iterator[Facts]:
    """Two made-up customers in every channel and placement: one nobody knows, and one who has been here once."""
    now = 1_800_000_000.0
    visit = Event("trial", "Visited", now - 60.0, now - 60.0, user_id="trial")
    for profile in (None, profiles.fold_all([visit])):
        yield Facts(
            decision_id="trial",
            now=now,
            customer_id="trial",
            channel=channel,
            placement=placement,
            limit=20,
            location_id=ONLINE,
            profile=profile,
            feeds=dict.fromkeys(rulebook.FEEDS, now),
            counts=policy.models.counts,
        )
