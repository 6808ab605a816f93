"""Feast is imported in 2 s instead of 7: without the runtime type checks that it wraps around its own classes.

At import Feast has `typeguard` rewrite the source of some 240 of its methods, to check the arguments of those
who write definitions. Ours are checked by mypy and by `feast apply` (the `feast` command imports Feast as it is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def light_feast() -> Iterator[None]:
    """What imports Feast inside this block gets it light; typeguard is itself again afterwards."""
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = _as_it_is
    try:
        yield
    finally:
        typeguard.typechecked = checked


def _as_it_is(target: Any = None, **_options: Any) -> Any:
    """Stands in for `typechecked`, with or without parentheses."""
    if target is not None:
        return target
    keep: Callable[[Any], Any] = lambda decorated: decorated  # noqa: E731
    return keep
