"""The targets of the project, each with what came out: one row a target, whichever subject measured it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured; `at_least`: more is better."""

    what: str
    target: float
    measured: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.measured >= self.target if self.at_least else self.measured <= self.target


def table(verdicts: Iterable[Verdict]) -> Table:
    table = Table(title="targets")
    for heading in ("what", "target", "measured", "met"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for each in verdicts:
        sign, digits = "≥" if each.at_least else "≤", 2 if each.target < 100 else 0
        table.add_row(
            each.what, f"{sign} {each.target:,g}", f"{each.measured:,.{digits}f}", "yes" if each.met else "no"
        )
    return table
