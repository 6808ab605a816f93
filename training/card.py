"""The model card: what a version is, how it was chosen and how good it is, as one page of Markdown. Writing only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from training.gate import CONFIDENCE
from training.selection import Verdict
from training.tasks import Task

FIGURES = ("auroc", "log_loss", "ece", "rate", "mean_score")
ASKED = {
    "churn": "Will a customer who ordered in the last 180 days order nothing in the next 90?",
    "propensity": "Will a customer accept this offer before it is over, when it is sent or shown?",
}
LIMITS = (
    "The figures come from time-ordered validation inside the training window, not from a test set; the model was "
    "then fitted again on all rows.",
    "What happened after the newest label is unknown to it: where the season turns, ranks hold better than levels.",
    "It predicts, it explains nothing: a high score is no evidence that an offer would change it.",
)


def model_card(task: Task, verdict: Verdict, window: Mapping[str, Any], command: str) -> str:
    """The page, from what the gate saw; `window` says when the data are from and how many."""
    if verdict.passed:
        gate = (
            f"`{verdict.chosen.name}` passed the gate: its gain in log loss over every baseline is at least "
            f"{_number(verdict.bound)} ({CONFIDENCE:.0%}, one-sided, customers resampled)."
        )
    else:
        gate = f"No family passed the gate: the baseline `{verdict.rival}` is registered."
    gain = verdict.intervals[verdict.chosen.name]["auroc_gain"]
    parts = [
        f"# {task.model_name}",
        ASKED.get(task.name, task.name),
        f"{gate} Its gain in AUROC over `{verdict.rival}`, the best baseline, lies in {_number(gain[0])} to "
        f"{_number(gain[1])} (95 %). Calibration: {verdict.chosen.calibration}.",
        "## Data",
        _table(("what", "value"), window.items()),
        "## Compared",
        _compared(verdict),
        "## Slices",
        _table(
            ("slice", "value", "rows", "rate", "mean score", "AUROC"),
            ([row[k] for k in ("slice", "value", "rows", "rate", "mean_score", "auroc")] for row in verdict.slices),
        ),
        "## Limits",
        "\n".join(f"- {limit}" for limit in LIMITS),
        "## Made by",
        f"```\n{command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _compared(verdict: Verdict) -> str:
    prefix = "" if "auroc" in verdict.chosen.figures else "pair_"
    rows = []
    for candidate in verdict.candidates:
        kind = "baseline" if candidate.baseline else "family"
        low, high = verdict.intervals[candidate.name]["auroc"]
        name = f"**{candidate.name}**" if candidate is verdict.chosen else candidate.name
        figures = [candidate.figures[prefix + figure] for figure in FIGURES]
        rows.append([name, kind, *figures, f"{_number(low)} to {_number(high)}"])
    return _table(("model", "", *(prefix + figure for figure in FIGURES), "AUROC, 95 %"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(head), ["---"] * len(head), *([_number(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4f}"
    return str(value)
