"""The model card: what a version is, how it was chosen and how good it is, as one page of Markdown. Writing only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from training.gate import CONFIDENCE
from training.selection import Verdict
from training.tasks import Task

FIGURES = ("auroc", "log_loss", "ece", "rate", "mean_score")
OFFERS = ("send_auroc_within", "recall_at_3", "pair_auroc", "pair_log_loss", "pair_rate", "pair_mean_score")
ASKED = {
    "churn": "Will a customer who ordered in the last 180 days order nothing in the next 90?",
    "propensity": "Will a customer accept this offer before it is over, when it is sent or shown?",
    "returns": "Will a line come back within 60 days, if this customer buys this product now?",
}
WINDOW = {
    "as_of": "made of what was known at",
    "data_from": "oldest row",
    "data_until": "newest row",
    "validation_from": "validated from",
    "rows": "rows",
    "validated_rows": "of these validated",
    "events": "rows with the event",
    "customers": "customers",
}
SENDS = (
    "A send is what one customer got of one campaign at one moment; its score is 1 − Π(1 − p) over its offers, and so "
    "it is calibrated and judged. Below: how customers are ranked within a campaign (AUROC), the offers within a send "
    "(recall at 3, campaigns of at most 100 offers), and single offers (pair), of whose rate the level claims nothing."
)
PULLS = {1: "more of it, more likely", -1: "more of it, less likely", 0: "either way"}
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
        ASKED[task.name],
        f"{gate} Its gain in AUROC over `{verdict.rival}`, the best baseline, lies in {_interval(gain)} "
        f"(95 %). Calibration: {verdict.chosen.calibration}.",
        "## Data",
        _table(("what", "value"), ((WINDOW[name], value) for name, value in window.items())),
        "## Compared",
        *_compared(verdict),
        "## Slices",
        _table(
            ("slice", "value", "rows", "rate", "mean score", "AUROC"),
            ([row[k] for k in ("slice", "value", "rows", "rate", "mean_score", "auroc")] for row in verdict.slices),
        ),
        "## Columns",
        _table(("which way it may pull", "columns"), _columns(task, verdict)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in LIMITS),
        "## Made by",
        f"```\n{command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _compared(verdict: Verdict) -> Iterator[str]:
    """Every competitor with its figures; where rows are sent together, those of sends in a table of their own."""
    of_sends = "auroc" not in verdict.chosen.figures
    if of_sends:
        yield SENDS
    yield _figures(verdict, [f"send_{name}" for name in FIGURES] if of_sends else FIGURES, "AUROC, 95 %")
    if of_sends:
        yield _figures(verdict, OFFERS)


def _figures(verdict: Verdict, names: Sequence[str], interval: str | None = None) -> str:
    rows = []
    for candidate in verdict.candidates:
        name = f"**{candidate.name}**" if candidate is verdict.chosen else candidate.name
        ends = [_interval(verdict.intervals[candidate.name]["auroc"])] if interval else []
        kind = "baseline" if candidate.baseline else "family"
        rows.append([name, kind, *(candidate.figures[each] for each in names), *ends])
    return _table(("model", "", *names, *([interval] if interval else [])), rows)


def _columns(task: Task, verdict: Verdict) -> Iterator[tuple[str, str]]:
    for sign, words in PULLS.items():
        names = [f"`{name}`" for name in verdict.chosen.columns if task.signs[name] == sign]
        if names:
            yield words, ", ".join(names)


def _interval(ends: tuple[float, float]) -> str:
    return f"{_number(ends[0])} to {_number(ends[1])}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(head), ["---"] * len(head), *([_number(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4f}"
    return str(value)
