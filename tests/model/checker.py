"""A breadth-first model checker in a page: it knows nothing of payments."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from attrs import frozen

W = TypeVar("W", bound=Hashable)


@frozen
class Search(Generic[W]):
    """What a search found.

    Attributes:
        worlds: every one it saw.
        problem: the broken invariant, if there is one.
        path: the steps that lead to it; no shorter ones do.
    """

    worlds: frozenset[W]
    problem: str | None = None
    path: tuple[str, ...] = ()


def explore(
    start: W,
    steps: Callable[[W], Iterable[tuple[str, W]]],
    broken: Callable[[W], str | None],
) -> Search[W]:
    """Visit every world that can be reached, or stop at the first broken one."""
    came_from: dict[W, tuple[W, str] | None] = {start: None}
    todo = deque([start])
    while todo:
        world = todo.popleft()
        for label, after in steps(world):
            if after in came_from:
                continue
            came_from[after] = world, label
            if (problem := broken(after)) is not None:
                return Search(frozenset(came_from), problem, _path(came_from, after))
            todo.append(after)
    return Search(frozenset(came_from))


def _path(came_from: Mapping[W, tuple[W, str] | None], world: W) -> tuple[str, ...]:
    labels: list[str] = []
    while (before := came_from[world]) is not None:
        world, label = before
        labels.append(label)
    return tuple(reversed(labels))
