"""What is wrong with a file, said so that a person can mend it.

A `Problem` names file, line and field and says it in one sentence; a `FileProblem` holds all problems
of a file, not only the first. `sentence` makes such a sentence of an error found by pydantic. Where in
the file that was, the callers know: `checked_yaml` for YAML, `tables` for CSV and Parquet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

SHOWN = 20
"""How many problems a text lists, or known words a suggestion."""

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "fields with values",
    "model_type": "fields with values",
    "model_attributes_type": "fields with values",
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "{le:g} or less",
    "less_than": "less than {lt:g}",
    "string_too_short": "{min_length} or more characters",
    "string_too_long": "at most {max_length} characters",
    "too_short": "{min_length} or more entries",
    "too_long": "at most {max_length} entries",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in one file. `line` counts from 1 (in a Parquet file: the row); 0 is the file as a whole."""

    file: str
    line: int
    field: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.sentence}" if self.line else f"{self.file}: {self.sentence}"


class FileProblem(ValueError):
    """A file that cannot be used, with everything that is wrong in it."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = sorted(problems, key=lambda problem: (problem.file, problem.line))
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"… and {len(self.problems) - SHOWN} more")
        super().__init__("\n".join(lines))


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the known one that was probably meant, else all of them."""
    words = list(known)
    near = get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    listed = ", ".join(f"`{each}`" for each in words[:SHOWN]) + (", …" if len(words) > SHOWN else "")
    return f"expected one of {listed}" if words else "expected none"


def sentence(error: Mapping[str, Any], fields: Sequence[str] = ()) -> str:
    """Pydantic's `error` in our words. `fields` are those known where an unknown one was found.

    The text of a ValueError raised by a validator continues after the field's name (``is `x`; expected …``)
    unless it begins with a backtick: then it stands for itself.
    """
    kind, context, value = error["type"], error.get("ctx") or {}, error.get("input")
    name = field_name(error["loc"])
    subject = f"`{name}` {'holds' if error['loc'] and isinstance(error['loc'][-1], int) else 'is'}"
    if kind == "extra_forbidden":
        unknown = str(error["loc"][-1])
        return f"unknown field `{unknown}`; {suggestion(unknown, fields)}"
    if kind == "missing":
        return f"field `{name}` is missing"
    if kind in ("literal_error", "enum"):
        known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        if not isinstance(value, str):
            return f"{subject} {shown(value, quote=True)}; {suggestion('', known)}"
        return f"unknown value `{shown(value)}` for `{name}`; {suggestion(str(value), known)}"
    if kind == "value_error":
        text = str(context.get("error", error["msg"]))
        return text if text.startswith("`") else f"`{name}` {text}"
    if kind in _EXPECTED:
        quotes = ", so put it in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
        return f"{subject} {shown(value, quote=True)}; expected {_EXPECTED[kind].format(**context)}{quotes}"
    return f"{subject} {shown(value, quote=True)}; {error['msg'][:1].lower()}{error['msg'][1:]}"


def field_name(location: Sequence[int | str]) -> str:
    """The last field that `location` names: of an entry the list it is in, of a key the mapping."""
    names = list(location)
    if names and names[-1] == "[key]":
        names = names[:-2]
    return next((part for part in reversed(names) if isinstance(part, str)), "the file")


def path_of(location: Sequence[int | str]) -> str:
    """`location` as one text, such as `offers[3].valid_until`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text.removesuffix(".[key]")


def shown(value: Any, quote: bool = False) -> str:
    """A value in a sentence, at most 60 characters of it."""
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    text = text if len(text) <= 60 else text[:59] + "…"
    return f"`{text}`" if quote else text
