"""The rule by which a model may replace a simple baseline. Pure; what competes and on what is in `selection`.

A family passes that beats every simple baseline outside the noise: the paired gain in log loss, customers
resampled, is above zero at its lower bound, and its AUROC is higher too. Log loss decides because it is a
proper score of the probabilities that serving multiplies by money, and because it sees a real gain with fewer
customers than a difference of AUROCs does. If no family passes, the best baseline is what gets registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.evaluate import Resampled

CONFIDENCE = 0.95
"""One-sided: a gain that is none passes so as not to be told from noise in 5 cases of 100."""


def bound(resampled: Resampled, name: str, rival: str) -> float:
    """The gain in log loss over `rival` that is exceeded with CONFIDENCE."""
    return float(np.quantile(resampled.loss[rival] - resampled.loss[name], 1.0 - CONFIDENCE))


def passes(name: str, baselines: Sequence[str], auroc: Mapping[str, float], resampled: Resampled) -> bool:
    return all(bound(resampled, name, rival) > 0.0 and auroc[name] > auroc[rival] for rival in baselines)
