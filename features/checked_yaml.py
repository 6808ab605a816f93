"""A YAML file into a pydantic model, or every problem in it with its line and a suggestion.

The file is parsed once, into nodes that know their lines; plain data is made of the nodes. Numbers,
`true`, `false` and `null` are what they are in JSON, anything else unquoted is text: the market `no` is
no `False`, the product `007` is not `7`, a date is left to the model's own type. What a field may hold
is the model's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from features.sentences import FileProblem, Problem, path_of, sentence

__all__ = [
    "Checked",
    "Document",
    "FileProblem",
    "OneOf",
    "Problem",
    "Text",
    "Texts",
    "as_text",
    "known_fields",
    "load",
    "parse",
]

M = TypeVar("M", bound=BaseModel)
Location = tuple[int | str, ...]

DEEPEST = 100
"""Levels of brackets; no file of ours has more than five."""

_TAG = "tag:yaml.org,2002:"
_BRACKET = re.compile(r"[\[\]{}]")
_INDENTED = re.compile(rf"^[ \t?:-]{{{4 * DEEPEST},}}", re.MULTILINE)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?")


class Checked(BaseModel):
    """The base of every model of a file: unknown fields are refused, numbers must be finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class OneOf:
    """`Annotated[str, OneOf(names)]`: a text of a closed list, with a suggestion when it is another one."""

    def __init__(self, names: Iterable[str]):
        self.names = list(names)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(self.names)


def as_text(value: Any) -> Any:
    """A whole number where text is expected is that text: ids are often numbers."""
    return str(value) if type(value) is int else value


def _texts(value: Any) -> Any:
    return [str(each) if type(each) is int else each for each in value] if isinstance(value, list) else value


Text = Annotated[str, BeforeValidator(as_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
"""Many ids at once, for less time than each of them as `Text`."""


def load(path: Path, model: type[M], bare: str | None = None) -> M:
    """The content of the file at `path` as a `model`; FileProblem names everything that is wrong."""
    return parse(path.name, path.read_bytes(), bare).check(model)


def parse(name: str, content: bytes, bare: str | None = None) -> Document:
    """The document in `content`, called `name` in problems. `bare`: the field whose list may stand alone."""
    try:
        text = content.decode("utf-8-sig")
        _refuse_depth(text)
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        if bare is not None and isinstance(root, yaml.SequenceNode):
            key = yaml.ScalarNode(_TAG + "str", bare, root.start_mark, root.start_mark)
            root = yaml.MappingNode(_TAG + "map", [(key, root)], root.start_mark, root.end_mark)
        twice: list[tuple[Location, int, int]] = []
        data = _plain(root, (), twice) if root is not None else {}
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileProblem([Problem(name, line, "", "text is not UTF-8; save the file as UTF-8")]) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise FileProblem([Problem(name, line, "", f"is no YAML: {error.problem or error.context}")]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FileProblem([Problem(name, line, "", f"is no YAML: {error.reason}")]) from None
    except RecursionError:
        raise FileProblem([Problem(name, 0, "", "is nested too deeply; no field needs that")]) from None
    problems = [
        Problem(name, line, path_of(where), f"field `{where[-1]}` is given twice; first in line {first}")
        for where, line, first in twice
    ]
    return Document(name, root, data, tuple(problems))


@dataclass(frozen=True)
class Document:
    """Parsed YAML: `data` as plain values, and where in the file each of them stands."""

    name: str
    root: yaml.Node | None
    data: Any
    problems: tuple[Problem, ...] = ()
    """What is wrong whatever the model: fields given twice."""

    def check(self, model: type[M]) -> M:
        """The data as a `model`, or FileProblem with all problems."""
        found = list(self.problems)
        try:
            checked = model.model_validate(self.data)
        except ValidationError as error:
            found += self.refused(error, model)
        else:
            found += [self._no_number(where) for where in _truths(self.data) if _is_number(_schema_of(model), where)]
        if found:
            raise FileProblem(found)
        return checked

    def refused(self, error: ValidationError, model: type[BaseModel], within: Location = ()) -> list[Problem]:
        """What pydantic says of the data as a `model`, or of that which stands `within` it, in our words."""
        schema = _schema_of(model)
        found: dict[str, Problem] = {}
        for each in error.errors(include_url=False):
            where = self.located((*within, *each["loc"]), missing=each["type"] in ("missing", "extra_forbidden"))
            if path_of(where) not in found:  # a union complains once for every branch
                text = sentence({**each, "loc": where}, known_fields(schema, where[len(within) : -1]))
                found[path_of(where)] = Problem(self.name, self.line(where), path_of(where), text)
        return list(found.values())

    def _no_number(self, where: Location) -> Problem:
        """Pydantic reads `true` as 1; in a file that is a mistake."""
        error = {"type": "float_type", "loc": where, "input": self._value(where)}
        return self.problem(where, sentence(error))

    def _value(self, where: Location) -> Any:
        value = self.data
        for part in where:
            value = value[part]
        return value

    def problem(self, where: Location, text: str) -> Problem:
        """A problem that only the caller could see, at the line of `where`."""
        return Problem(self.name, self.line(where), path_of(where), text)

    def line(self, where: Location) -> int:
        """The line of what `where` names, or of the nearest thing around it."""
        node, line = self.root, self.root.start_mark.line + 1 if self.root else 1
        for part in where:
            below = _below(node, part)
            if below is None:
                break
            node, mark = below
            line = mark.line + 1
        return line

    def located(self, where: Sequence[int | str], missing: bool = False) -> Location:
        """`where` as pydantic gives it, without the parts that name a branch of a union instead of a field."""
        node, found = self.root, []
        for index, part in enumerate(where):
            below = _below(node, part)
            last = index == len(where) - 1
            if below is not None:
                node = below[0]
            if below is not None or (last and (missing or part == "[key]")):
                found.append(part)
        return tuple(found)


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def known_fields(schema: dict[str, Any], where: Sequence[int | str]) -> list[str]:
    """The fields that a JSON Schema of a model knows at `where`."""
    return list(dict.fromkeys(name for each in _at(schema, where) for name in each.get("properties", {})))


def _is_number(schema: dict[str, Any], where: Location) -> bool:
    """Whether only a number can stand there."""
    kinds = {each.get("type") for each in _at(schema, where)} - {"null"}
    return bool(kinds) and kinds <= {"number", "integer"}


def _truths(value: Any, here: Location = ()) -> Iterator[Location]:
    """Where `true` and `false` stand."""
    if value is True or value is False:
        yield here
    elif isinstance(value, dict | list):
        for name, below in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(below, bool | dict | list):
                yield from _truths(below, (*here, name))


def _at(schema: dict[str, Any], where: Sequence[int | str]) -> list[dict[str, Any]]:
    """What a JSON Schema of a model says of `where`, through references, lists and alternatives."""
    here = _alternatives(schema, schema)
    for part in where:
        below: list[dict[str, Any]] = []
        for each in here:
            inner = each.get("items") if isinstance(part, int) else each.get("properties", {}).get(part)
            inner = inner if inner is not None or isinstance(part, int) else each.get("additionalProperties")
            if isinstance(inner, dict):
                below += _alternatives(inner, schema)
        here = below
    return here


def _alternatives(schema: dict[str, Any], root: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in schema:
        return _alternatives(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    return [each for branch in branches for each in _alternatives(branch, root)] or [schema]


def _below(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node, yaml.Mark] | None:
    """The node that `part` names inside `node`, and the mark of its key."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(part):
                return value, key.start_mark
    return None


def _refuse_depth(text: str) -> None:
    """Raise RecursionError for brackets or indentation of many levels: libyaml would exhaust the C stack on them."""
    depth = 0
    for bracket in _BRACKET.findall(text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        if depth > DEEPEST:
            raise RecursionError
    if _INDENTED.search(text):
        raise RecursionError


def _plain(node: yaml.Node, where: Location, twice: list[tuple[Location, int, int]]) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [
            _scalar(each) if isinstance(each, yaml.ScalarNode) else _plain(each, (*where, index), twice)
            for index, each in enumerate(node.value)
        ]
    data: dict[str, Any] = {}
    first: dict[str, int] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        line = key.start_mark.line + 1
        if name in data:
            twice.append(((*where, name), line, first[name]))
        first.setdefault(name, line)
        data[name] = _plain(value, (*where, name), twice)
    return data


def _scalar(node: yaml.ScalarNode) -> Any:
    tag, value = node.tag, node.value
    if tag == "tag:yaml.org,2002:str":
        return value
    if tag == "tag:yaml.org,2002:int" and _INTEGER.fullmatch(value):
        return int(value)
    if tag == "tag:yaml.org,2002:float" and _DECIMAL.fullmatch(value):
        return float(value)
    if tag == "tag:yaml.org,2002:bool" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return None if tag == "tag:yaml.org,2002:null" else value
