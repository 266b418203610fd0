"""The model of people beside machines: what ships keeps its promises, each old rule breaks one."""

from __future__ import annotations

import functools

import pytest

from tests.model.checker import Search, explore
from tests.model.crowd import BAD, GOOD, PATIENCE, Policy, World, find_problem, list_steps


@functools.cache
def search(policy: Policy) -> Search[World]:
    """Visit every world that can come, once."""
    return explore(
        World(),
        lambda world: list_steps(world, policy),
        lambda world: find_problem(world, policy),
    )


@pytest.mark.slow
@pytest.mark.parametrize("policy", GOOD, ids=lambda policy: policy.name)
def test_shipped_rules_keep_every_promise(policy: Policy) -> None:
    """No platform counts too many calls, people are served soon, and a refusal slows once."""
    found = search(policy)
    print(f"\n{policy.name}: {len(found.worlds)} states, none of them bad")  # noqa: T201 - the figure

    assert found.problem is None, "\n".join(found.path)


@pytest.mark.slow
def test_people_model_is_not_vacuous() -> None:
    """Beside the crowds the whole quota is taken, and there are people who wait the longest."""
    worlds = search(GOOD[0]).worlds

    assert 4 == max(sum(call.frees_at > 0 for call in world.calls) for world in worlds)
    assert PATIENCE == max(person.ticks for world in worlds for person in world.people)


@pytest.mark.slow
def test_refusals_model_is_not_vacuous() -> None:
    """Refusals slow a batch down, and people wait no longer for that."""
    worlds = search(GOOD[-1]).worlds

    assert {2, 3, 4} <= {world.capacity for world in worlds}
    assert any(person.ticks for world in worlds for person in world.people)


@pytest.mark.parametrize("policy", BAD, ids=lambda policy: policy.name)
def test_old_rule_is_found_bad(policy: Policy) -> None:
    """The model can see the mistake, and shows the shortest way to it."""
    found = search(policy)
    print(f"\n{policy.name}: {found.problem}, {len(found.worlds)} states")  # noqa: T201 - the figure
    for number, label in enumerate(found.path, 1):
        print(f"{number:3} {label}")  # noqa: T201 - the counter-example

    assert found.problem is not None
