"""The promoted models, and one matrix for all open offers of a decision.

Models come from the Bento model store, by the pointer files that `promote` renames into place, and where
the workspace has none from the bento that serves (`bento` put them there); training is never imported.
The store is a folder for each model, so that reading it needs no BentoML. A row of the matrix is the
customer's features, the affinity between customer and offer, the offer's own features, and flags for
channel and placement; for return risk a row is a product: what became of it and of the customer's own lines, and the
customer's features. A model takes its columns by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from features.affinity import Affinity, index_of
from features.catalog import Catalog
from features.pairs import PAIR_COLUMNS, pair_rows
from features.product_counts import ProductCounts, load, of_customer, of_pair
from features.product_history import LINE_FEATURES
from features.profiles import FEATURES
from features.scorer import Scorer
from features.vocabulary import Offer
from features.workspace import PROJECT, Workspace
from serving.facts import Facts

Matrix = npt.NDArray[np.float64]
COLUMNS: Mapping[str, Sequence[str]] = {
    "propensity": PAIR_COLUMNS,
    "churn": tuple(FEATURES),
    "returns": (*LINE_FEATURES, *FEATURES),
}
"""The columns of the rows that each task is scored on."""
BUILT_IN = PROJECT / "champions"
"""The champions that a bento was built with; there is no such folder in a checkout."""


@dataclass(frozen=True, slots=True)
class Model:
    """One promoted model: its version in MLflow's registry, and the scorer over `columns`."""

    version: str
    scorer: Scorer
    positions: npt.NDArray[np.int64]

    def predict(self, rows: Matrix) -> list[float]:
        scores: list[float] = self.scorer.predict(rows.T.take(self.positions, axis=0).T).tolist()
        return scores


@dataclass(frozen=True, slots=True)
class Models:
    """The champions at work; None where none was promoted. `counts`: of products, for return risk alone."""

    propensity: Model | None = None
    churn: Model | None = None
    returns: Model | None = None
    counts: ProductCounts | None = None

    @property
    def versions(self) -> dict[str, str | None]:
        return {
            "propensity": self.propensity.version if self.propensity else None,
            "churn": self.churn.version if self.churn else None,
            "returns": self.returns.version if self.returns else None,
        }

    def propensities(
        self,
        facts: Facts,
        catalog: Catalog,
        offers: Sequence[Offer],
        features: Mapping[str, float],
        affinity: Affinity,
        profiled: bool = True,
    ) -> Sequence[float | None]:
        """P(accepted) per open offer, None without a model; for who is a stranger, or refuses profiling, as of all."""
        if not offers or self.propensity is None:
            return [None] * len(offers)
        if not (facts.known and profiled):
            return [self.propensity.scorer.population] * len(offers)
        rows = pair_rows(features.values(), affinity, index_of(catalog), offers, facts.channel, facts.placement)
        return self.propensity.predict(rows)

    def churn_risk(self, features: Mapping[str, float]) -> float | None:
        """The churn risk of a customer with these features; None without a model."""
        return self.churn.predict(np.array([list(features.values())]))[0] if self.churn else None

    def return_risks(
        self, facts: Facts, product_ids: Sequence[str | None], features: Mapping[str, float], profiled: bool = True
    ) -> list[float | None]:
        """P(comes back if this customer buys it now), per product; None without a model, and where there is no product.

        For who is a stranger, or refuses profiling, it goes by the product alone; where nothing was counted, by all.
        """
        asked = sorted({each for each in product_ids if each is not None})
        if self.returns is None or not asked:
            return [None] * len(product_ids)
        counts, profile = facts.counts, facts.profile if facts.known and profiled else None
        if counts is None:
            risks = dict.fromkeys(asked, self.returns.scorer.population)
        else:
            customer, usual = of_customer(profile), _usual_quantity(features) if profile else None
            rows = np.full((len(asked), len(COLUMNS["returns"])), np.nan)
            rows[:, : len(LINE_FEATURES)] = [
                counts.line(each, customer, of_pair(profile, each), usual) for each in asked
            ]
            if profile is not None:
                rows[:, len(LINE_FEATURES) :] = list(features.values())
            risks = dict(zip(asked, self.returns.predict(rows), strict=True))
        return [None if each is None else risks[each] for each in product_ids]


def _usual_quantity(features: Mapping[str, float]) -> float | None:
    """Units on a line of this customer's, of late; None where they have bought nothing."""
    lines = features["lines_365d"]
    return features["units_365d"] / lines if lines > 0.0 else None


def load_models(workspace: Workspace) -> Models:
    """The champions that the pointer files of the workspace name."""
    models = Models(
        propensity=_load(workspace, "propensity"),
        churn=_load(workspace, "churn"),
        returns=_load(workspace, "returns"),
    )
    return counted(workspace, models)


def counted(workspace: Workspace, models: Models) -> Models:
    """The models with what the last build counted of products, where one of them asks for it."""
    return replace(models, counts=load(workspace)) if models.returns else models


def load_version(workspace: Workspace, task: str, version: str | None) -> Model | None:
    """The model of that version in the registry, from the copies in the Bento store; None for None.

    Raises FileNotFoundError where no copy is kept.
    """
    if version is None:
        return None
    for store in _stores(workspace):
        for file in sorted(store.glob("*/*/model.yaml")):
            labels = yaml.safe_load(file.read_bytes()).get("labels") or {}
            if labels.get("task") == task and labels.get("version") == version:
                return _opened(version, file.parent, task)
    raise FileNotFoundError(f"{task} model of version `{version}` is missing; expected its copy in the Bento store")


def _load(workspace: Workspace, task: str) -> Model | None:
    pointer = read_pointer(workspace, task)
    if pointer is None:
        return None
    return _opened(str(pointer["version"]), model_folder(workspace, pointer["tag"]), task)


def _opened(version: str, folder: str | Path, task: str) -> Model:
    scorer = Scorer.load(folder)
    return Model(version, scorer, scorer.positions(COLUMNS[task]))


def model_folder(workspace: Workspace, tag: str) -> Path:
    """Where the model of that tag lies, such as `onestory-churn:v3-0a1b2c3d`; FileNotFoundError where it does not."""
    name, _, version = tag.partition(":")
    for store in _stores(workspace):
        if (store / name / version / "model.yaml").exists():
            return store / name / version
    raise FileNotFoundError(f"model `{tag}` is missing; expected it in the Bento store of `{workspace.home}`")


def _stores(workspace: Workspace) -> tuple[Path, Path]:
    """The workspace's own Bento store, and what is inside the bento that this code was built into, if it was."""
    return workspace.home / "bentoml" / "models", BUILT_IN


def pointer_file(workspace: Workspace, task: str) -> Path:
    """The workspace's own pointer to the champion of `task`, or else the one that this bento was built with."""
    own = workspace.champions / f"{task}.json"
    return own if own.exists() else BUILT_IN / own.name


def read_pointer(workspace: Workspace, task: str) -> Mapping[str, Any] | None:
    """What `promote` says is at work for `task`: its tag in the Bento store and its version; None if nothing is."""
    try:
        pointer: Mapping[str, Any] = json.loads(pointer_file(workspace, task).read_bytes())
    except FileNotFoundError:
        return None
    return pointer
