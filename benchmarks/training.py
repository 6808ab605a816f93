"""What an honest evaluation costs: `train propensity`'s competition beside one plain fit on the same matrix.

Ours is `selection.choose`: baselines and three families over as-of folds, calibration, two hundred resamples, the
winner refitted. Plain is what a tutorial does: LightGBM's classifier on 70 % of the rows, drawn by chance, and one
AUROC on the rest. Making the matrix is in neither; both get the rows of the same customers, drawn by chance.
"""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks import sizes, stand
from benchmarks.sizes import Work
from features.store import ProfileStore
from features.workspace import Workspace
from training import learning, selection
from training.datasets import Dataset, last_heard
from training.tasks import PROPENSITY

SIZES, QUICK_SIZES = (27_000, 145_000, 780_000), (9_000, 27_000)
"""Rows, or all where there are fewer."""
ROUNDS = 1
PLAIN = "plain LightGBM fit"


def main(workspace: Workspace, console: Console, quick: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        copy = stand.copied(workspace, Path(folder) / "home")
        many = QUICK_SIZES if quick else SIZES
        whole = sizes.run(copy, __name__, "labelled", 0)
        ways = {name: lambda size, name=name: sizes.run(copy, __name__, name, size) for name in (PLAIN, "ours")}
        found = sizes.in_turns(ways, many, ROUNDS)
    said = f"all {whole.rows:,} rows with their features made before in {whole.seconds:.0f} s"
    console.print(sizes.table(f"propensity: the competition; {said}", "rows", found, PLAIN))


def labelled(workspace: Workspace, _: int) -> Work:
    """The labelled rows of the whole log, some of them kept in the workspace for each size."""
    store, newest = ProfileStore(workspace), last_heard(workspace)
    if newest is None:
        raise ValueError(f"`{workspace.home}` holds no events; run `make demo` first")

    def make() -> int:
        data = learning.labelled(workspace, store, PROPENSITY, newest, lambda *_: None)
        for size in {*SIZES, *QUICK_SIZES}:
            keep(workspace, data, size)
        return len(data.frame)

    return make


def keep(workspace: Workspace, data: Dataset, rows: int) -> None:
    """Keep so many rows of the data, of whole customers but for the last."""
    customers = data.frame["customer_id"].unique()
    turn = dict(zip(np.random.default_rng(1).permutation(customers), range(len(customers)), strict=True))
    order = data.frame["customer_id"].map(turn).to_numpy()
    chosen = np.zeros(len(order), bool)
    chosen[np.argsort(order, kind="stable")[:rows]] = True
    _file(workspace, rows).write_bytes(pickle.dumps(data.part(chosen)))


def _kept(workspace: Workspace, rows: int) -> Dataset:
    data: Dataset = pickle.loads(_file(workspace, rows).read_bytes())
    return data


def _file(workspace: Workspace, rows: int) -> Path:
    return workspace.home / f"propensity-{rows}.pickle"


def ours(workspace: Workspace, rows: int) -> Work:
    data = _kept(workspace, rows)

    def make() -> int:
        selection.choose(PROPENSITY, data, PROPENSITY.settings)
        return len(data.frame)

    return make


def plain(workspace: Workspace, rows: int) -> Work:
    import lightgbm
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import train_test_split

    data = _kept(workspace, rows)

    def make() -> int:
        known, held, label, truth = train_test_split(data.rows, data.label, test_size=0.3, random_state=1)
        model = lightgbm.LGBMClassifier(n_estimators=PROPENSITY.settings.trees, n_jobs=1, verbose=-1)
        roc_auc_score(truth, model.fit(known, label).predict_proba(held)[:, 1])
        return len(data.frame)

    return make


JOBS = {PLAIN: plain, "ours": ours, "labelled": labelled}
